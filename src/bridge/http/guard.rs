//! What every request of the API goes through.

use std::time::SystemTime;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use whatsapp_operator::{
    bridge_api::ErrorCode,
    platform::trace::{self, Over, Trace, export},
};

use super::{
    Api,
    failure::{Failure, answer},
};

/// Counts the request, and lets it in when it shows the token.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (method, began) = (request.method().clone(), Began::now());
    let trace = Trace::of(request.headers()).map(|caller| caller.step());
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let admitted = matches!(shown, Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && api.token.accepts(token.trim()));
    let response = match trace {
        _ if !admitted => Failure::Unauthorized.into_response(),
        Some(trace) => typed(trace::within(trace, next.run(request)).await),
        None => typed(next.run(request).await),
    };
    // A caller may send any word as a method; only those that exist become a label.
    let method = match method.as_str() {
        known @ ("GET" | "PUT" | "DELETE" | "HEAD" | "POST" | "PATCH" | "OPTIONS") => known,
        _ => "other",
    };
    let status = response.status().as_u16();
    api.shared.metrics.request(method, &path, status);
    if let Some(trace) = trace.filter(|_| admitted) {
        tell(&trace, method, &path, status, began);
    }
    response
}

/// When a request came, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Began(Instant, SystemTime);

impl Began {
    pub(super) fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }
}

/// Says how long a step of a trace took: to the collector, or in the log. Whoever wants a trace recorded and has no collector finds
/// it without the level debug.
pub(super) fn tell(trace: &Trace, method: &str, path: &str, status: u16, Began(began, at): Began) {
    if export::is_on() && trace.is_sampled() {
        let attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        let (name, failed) = (format!("{method} {path}"), status >= 500);
        export::record(Over { trace: *trace, name, answers: true, began: at, failed, attributes });
    }
    let (id, span, ms) = (trace.id(), trace.span(), began.elapsed().as_millis());
    if trace.is_sampled() && !export::is_on() {
        tracing::info!(trace = id, span, method, path, status, ms, "answered");
    } else {
        tracing::debug!(trace = id, span, method, path, status, ms, "answered");
    }
}

/// Gives the refusals of the HTTP library, which are plain text, the form of all others. They may quote the request, which
/// may hold a number: what they say is said anew.
fn typed(response: Response) -> Response {
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    let status = response.status();
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (code, message) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::Invalid, "the body is longer than this path takes".to_owned()),
        _ if status.is_client_error() => (
            ErrorCode::Invalid,
            "the request cannot be read: its path, query or body is malformed, or a query field is given twice"
                .to_owned(),
        ),
        _ => (ErrorCode::Internal, "the bridge failed".to_owned()),
    };
    answer(status, code, message)
}
