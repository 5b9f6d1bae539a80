//! The HTTP API (`whatsapp_operator::bridge_api` documents and types it), and the admin endpoints.

mod admin;
mod batch;
mod events;
mod failure;
mod guard;
mod messages;
pub mod serve;
mod sessions;
pub mod token;

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use tokio_util::sync::CancellationToken;
use whatsapp_operator::bridge_api::{LONGEST_BATCH, LONGEST_TEXT, MOST_LOADS};

use self::{failure::Failure, guard::guard, token::Token};
use crate::sessions::{LONGEST_ID, Registry, Shared};

#[cfg(test)]
mod wire_tests;

/// A session's spec is a few hundred bytes; the rest is for fields of later releases.
const MAX_BODY: usize = 16 * 1024;

/// The longest text, every character of which may take twelve bytes in JSON that is ASCII only, and the fields around it.
const MAX_MESSAGE: usize = 12 * LONGEST_TEXT + 16 * 1024;

/// As many sessions as may be asked about, and a recipient.
const LONGEST_LOAD: usize = MOST_LOADS * (LONGEST_ID + 4) + 1024;

/// What requests are answered from.
#[derive(Clone)]
pub struct Api {
    /// The sessions.
    pub registry: Arc<Registry>,
    /// What they share.
    pub shared: Arc<Shared>,
    /// What callers have to show.
    pub token: Arc<Token>,
    /// Whether requests are taken.
    pub ready: Arc<AtomicBool>,
    /// Ends the event streams.
    pub closing: CancellationToken,
}

/// The API, for callers with the token.
pub fn api(api: Api) -> Router {
    Router::new()
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", get(sessions::read).put(sessions::put).delete(sessions::delete))
        .route(
            "/v1/sessions/{id}/messages/{message}",
            get(messages::read)
                .put(messages::put)
                .delete(messages::call_back)
                .layer(DefaultBodyLimit::max(MAX_MESSAGE)),
        )
        .route("/v1/sessions/{id}/messages", get(messages::list))
        .route("/v1/messages/events", get(messages::follow))
        .route("/v1/messages/load", post(messages::load).layer(DefaultBodyLimit::max(LONGEST_LOAD)))
        .route("/v1/messages/batch", post(batch::put).layer(DefaultBodyLimit::max(LONGEST_BATCH)))
        .route("/v1/claims/{key}", get(messages::claimed).put(messages::claim))
        .route("/v1/events", get(events::follow))
        .route("/v1/info", get(sessions::info))
        .fallback(|| async {
            Failure::NotFound(
                "there is no such path: see /v1/sessions, /v1/sessions/ID/messages, /v1/events and /v1/info".to_owned(),
            )
        })
        .method_not_allowed_fallback(|| async { Failure::WrongMethod })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}
