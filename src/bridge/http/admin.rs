//! Health and metrics.

use std::sync::atomic::Ordering;

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::Api;
use crate::sessions::Shared;

/// Health and metrics, for anybody who can reach the admin address.
pub fn admin(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(api)
}

async fn readyz(State(api): State<Api>) -> (StatusCode, &'static str) {
    if !api.ready.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n")
    } else if api.shared.store.works().await {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: sessions cannot be stored; the log says why\n")
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    let counts = api.shared.feed.sessions.count(|session| format!("{:?}", session.phase));
    api.shared.metrics.data(data_bytes(&api.shared).await);
    match api.shared.metrics.text(|phase| counts.get(&format!("{phase:?}")).copied().unwrap_or(0)) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What the disk holds, by kind. What cannot be read now is not shown anew.
async fn data_bytes(shared: &Shared) -> Vec<(&'static str, u64)> {
    let mut bytes = Vec::new();
    if let Ok(keys) = shared.keys.bytes().await {
        bytes.push(("keys", keys));
    }
    if let Ok((directory, database)) = shared.data.bytes().await {
        bytes.extend([("directory", directory), ("database", database)]);
    }
    bytes
}
