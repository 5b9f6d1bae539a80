//! The sessions, and what the bridge says of itself.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use whatsapp_operator::bridge_api::{Capability, Info, Session, SessionSpec};

use super::{Api, failure::Failure};
use crate::sessions::check_id;

pub(super) async fn list(State(api): State<Api>) -> Response {
    Json(api.shared.feed.sessions.list()).into_response()
}

pub(super) async fn info(State(api): State<Api>) -> Json<Info> {
    let sessions = api.shared.feed.sessions.count(|_| ()).get(&()).copied().unwrap_or(0);
    use Capability as C;
    let messages = [C::Messages, C::MessageBatches, C::ClaimLookup, C::FreeText, C::CallerMessageId, C::ExactlyOnce];
    let capabilities = [C::Qr, C::PairingCode, C::Unlink, C::Events, C::Presence, C::UnlinkAndKeep, C::RefreshUntil];
    let adopts = api.registry.adopts().then_some(C::Adopt);
    let capabilities = capabilities.into_iter().chain([C::Instance]).chain(adopts).chain(messages).collect();
    Json(Info { version: env!("CARGO_PKG_VERSION").to_owned(), capabilities, sessions })
}

pub(super) async fn read(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Session>, Failure> {
    check_id(&id)?;
    api.shared.feed.sessions.get(&id).map(Json).ok_or_else(|| Failure::NotFound(format!("there is no session {id}")))
}

pub(super) async fn put(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> Result<Json<Session>, Failure> {
    let spec: SessionSpec = serde_json::from_slice(&body).map_err(|error| {
        Failure::misfit(&error, "a session spec (desiredState, presence, pairing: method, phoneNumber, autoRefresh, window, sending: perMinute, burst, instance: namespace, name, owner)")
    })?;
    Ok(Json(api.registry.put(&id, spec).await?))
}

#[derive(Deserialize)]
pub(super) struct Deletion {
    #[serde(default = "yes")]
    unlink: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn delete(
    State(api): State<Api>,
    Path(id): Path<String>,
    query: Result<Query<Deletion>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(Deletion { unlink }) = query.map_err(|_| Failure::Invalid("unlink must be true or false".to_owned()))?;
    Ok(match api.registry.delete(&id, unlink).await? {
        Some(session) => (StatusCode::ACCEPTED, Json(session)).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}
