//! What every request of the API goes through.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
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
    let (method, began) = (request.method().clone(), Instant::now());
    let trace = Trace::of(request.headers()).map(|caller| caller.step());
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let admitted = matches!(shown, Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && api.token.accepts(token.trim()));
    let response = if admitted {
        typed(trace::within(trace, next.run(request)).await)
    } else {
        Failure::Unauthorized.into_response()
    };
    // A caller may send any word as a method; only those that exist become a label.
    let method = match method.as_str() {
        known @ ("GET" | "PUT" | "DELETE" | "HEAD" | "POST" | "PATCH" | "OPTIONS") => known,
        _ => "other",
    };
    let status = response.status().as_u16();
    api.shared.metrics.request(method, &path, status);
    if let Some(trace) = trace.filter(|_| admitted) {
        tell(trace, method, &path, status, began);
    }
    response
}

/// Says how long a step of a trace took: to the collector, or in the log. Whoever wants a trace recorded and has no collector finds
/// it without the level debug.
pub(super) fn tell(trace: Trace, method: &str, path: &str, status: u16, began: Instant) {
    let took = began.elapsed();
    if trace.is_sent() {
        export::record(Over::answer(trace, took, method, path, status));
    }
    let (id, span, ms) = (trace.id(), trace.span(), took.as_millis());
    if trace.is_sampled() && !trace.is_sent() {
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
