//! `GET messages/{id}/`, `GET messages/list/` and `POST messages/cancel/{id}/`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::message::{Message, parts};
use crate::{
    api::BridgeBinding,
    bridge_api::BridgeError,
    drivers,
    gateway::{
        access::Verb,
        answer::{self, Success},
        bridges::of_bridge,
        caller::{Caller, Id},
        code::Code,
        failure::Failure,
        index::Known,
        input::{Fields, Parameters, body},
        parameters::OneMessage,
        state::{Gateway, Shared},
    },
};

/// Messages on a page.
const PAGE: u64 = 50;

/// Messages of a session, newest first.
#[derive(Serialize, ToSchema)]
pub struct Messages {
    /// The messages.
    pub messages: Vec<Message>,
    /// What `cursor` has to be for the next page; null on the last.
    #[schema(example = json!(null))]
    pub next_cursor: Option<String>,
}

fn no_such_message() -> Failure {
    Failure::new(Code::MessageNotFound, "there is no such message, or you may not see it; check its id")
}

/// The instance of a session, if the caller may do this with its messages; else it is `missing`.
async fn known(
    gateway: &Gateway,
    caller: &Caller,
    session: &str,
    verb: Verb,
    missing: fn() -> Failure,
) -> Result<Arc<Known>, Failure> {
    let known = gateway.index.known(drivers::instance_uid(session)).ok_or_else(missing)?;
    if !gateway.access.may(&caller.identity, verb, known.owner.as_deref(), &known.place.namespace).await? {
        return Err(missing());
    }
    caller.story.is_about(known.place.clone());
    Ok(known)
}

/// The shard of a session. One that has none has no messages.
fn shard(known: &Known) -> Result<&BridgeBinding, Failure> {
    known.bridge.as_ref().ok_or_else(|| of_bridge(&BridgeError::NotFound))
}

/// One message
///
/// How far it has come.
#[utoipa::path(
    get, path = "/api/v1/messages/{id}/", operation_id = "message", tag = "messages",
    params(OneMessage),
    responses((status = 200, description = "The message.", body = Success<Message>)),
)]
pub async fn message(State(gateway): State<Shared>, caller: Caller, Id(id): Id, uri: Uri) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    let (session, message) = parts(&id)?;
    let known = known(&gateway, &caller, session, Verb::Get, no_such_message).await?;
    let uid = known.uid.as_str();
    let found = gateway
        .bridges
        .ask_through_restart(&caller.story, shard(&known)?, |shard| async move { shard.read(uid, message).await })
        .await?;
    Ok(answer::with(StatusCode::OK, Message::of(&found)))
}

/// Messages of a session
///
/// Newest first, page by page.
#[utoipa::path(
    get, path = "/api/v1/messages/list/", operation_id = "messages", tag = "messages",
    params(
        ("session_id" = String, Query, min_length = 1, max_length = 64, description = "Whose messages."),
        ("cursor" = Option<String>, Query, min_length = 1, max_length = 19, pattern = "^[0-9]+$", description = "`next_cursor` of the page before."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 50, description = "Messages on the page at most; 50 when not given. Where the texts are long there are fewer: `next_cursor` tells whether there are more."),
    ),
    responses((status = 200, description = "A page.", body = Success<Messages>)),
)]
pub async fn list(State(gateway): State<Shared>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["session_id", "cursor", "limit"])?;
    let bad = |message: &str| Failure::new(Code::BadRequest, message);
    let session = parameters.get("session_id").filter(|id| !id.is_empty());
    let session = session.ok_or_else(|| bad("query parameter \"session_id\" is missing; give the session's id"))?;
    let before = parameters.number("cursor")?;
    let limit = parameters.number("limit")?.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(bad("query parameter \"limit\" must be a number from 1 to 50"));
    }
    let known = known(&gateway, &caller, session, Verb::Get, Failure::not_found).await?;
    // A session that no bridge runs yet exists and has sent nothing, so its page is empty; MessageNotFound would say that it is gone.
    let Some(shard) = &known.bridge else {
        return Ok(answer::with(StatusCode::OK, Messages { messages: Vec::new(), next_cursor: None }));
    };
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let uid = known.uid.as_str();
    let page = gateway
        .bridges
        .ask_through_restart(&caller.story, shard, |shard| async move { shard.list(uid, before, limit).await })
        .await?;
    let next_cursor = page.next.map(|next| next.to_string());
    let page = Messages { messages: page.items.iter().map(Message::of).collect(), next_cursor };
    Ok(answer::with(StatusCode::OK, page))
}

/// Call a message back
///
/// Until it is handed to WhatsApp. Again: the same answer.
#[utoipa::path(
    post, path = "/api/v1/messages/cancel/{id}/", operation_id = "cancel", tag = "messages",
    params(OneMessage),
    responses((status = 200, description = "It will not be sent.", body = Success<Message>)),
)]
pub async fn cancel(
    State(gateway): State<Shared>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    Parameters::of(&uri, &[])?;
    Fields::none(body(&headers, content).await?.as_deref())?;
    let (session, message) = parts(&id)?;
    let known = known(&gateway, &caller, session, Verb::Create, no_such_message).await?;
    let uid = known.uid.as_str();
    let found = gateway
        .bridges
        .ask_through_restart(&caller.story, shard(&known)?, |shard| async move { shard.call_back(uid, message).await })
        .await?;
    tracing::info!(request = caller.story.id(), caller = caller.user, message_id = id, "message called back");
    Ok(answer::with(StatusCode::OK, Message::of(&found)))
}
