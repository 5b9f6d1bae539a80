//! What every request goes through, whatever answers it: its id, its log line and counts, the form of refusals, the headers
//! that browsers go by, and whose pages may call.

use std::sync::Arc;

use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use opentelemetry::KeyValue;
use serde_json::json;
use tokio::time::Instant;

use crate::platform::trace::{self, Over, Trace, export};

use super::{
    code::Code,
    failure::Failure,
    state::{Gateway, Shared},
    story::{REQUEST_ID, Story},
};

/// No browser may show an answer as something else, nor give it to a page of another site.
pub const HEADERS: &[(&str, &str)] =
    &[("cross-origin-resource-policy", "same-origin"), ("x-content-type-options", "nosniff")];
/// Answers hold codes and numbers; nothing on the way may keep them. They may be opened as pages of their own.
pub const HEADERS_OF_DOCUMENTS: &[(&str, &str)] = &[
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
];
const HSTS: (&str, &str) = ("strict-transport-security", "max-age=31536000");

/// Marks the answer that is a script or a style of a page, the same for everybody. A page loads some twenty of them before anything is
/// seen: they go without the headers that only documents need, and without the id of the request.
#[derive(Clone, Copy)]
pub struct PartOfAPage;

/// How long a browser may remember that an origin may call.
const PREFLIGHT_SECONDS: &str = "600";

/// The path as routes are written: those below `/api/v1/sessions/` and `/api/v1/messages/` end with a slash, others do not. Both forms are the same;
/// so are several slashes and one, which come of an address that ends with a slash and a path that begins with one.
pub fn canonical(mut request: Request) -> Request {
    let given = request.uri().path();
    let names: Vec<&str> = given.split('/').filter(|name| !name.is_empty()).collect();
    let mut path = format!("/{}", names.join("/"));
    if matches!(names[..], ["api", "v1", "sessions" | "messages", _, ..]) {
        path.push('/');
    }
    // What is no path, as the target of `OPTIONS *`, stays.
    if !given.starts_with('/') || path == given {
        return request;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{path}{query}").parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// No such path.
pub async fn no_such_route() -> Failure {
    missing_route()
}

fn missing_route() -> Failure {
    Failure::new(Code::NoSuchRoute, "there is no such path; /api/v1/openapi.json lists those there are")
}

/// What is counted as the answer to a caller who did not wait for one.
const GONE: &str = "gone";

/// Around every request.
pub async fn edge(State(gateway): State<Shared>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let story = Story::begin(request.headers());
    let trace = Trace::of(request.headers()).map_or_else(Trace::begin, |caller| caller.step());
    request.extensions_mut().insert(story.clone());
    let method = known(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let origin = allowed_origin(&gateway, request.headers());
    let mut gone =
        Gone { gateway: Arc::clone(&gateway), story: story.clone(), method, route: route.clone(), answered: false };
    let mut response = if origin.is_some() && is_preflight(&request) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        trace::within(Some(trace), next.run(request)).await
    };
    gone.answered = true;
    let failure = response.extensions_mut().remove::<Failure>().or_else(|| of_the_library(&response));
    if let Some(failure) = &failure {
        response = written(failure, &story, response);
    }
    let is_part = response.extensions().get::<PartOfAPage>().is_some();
    decorate(&gateway, (!is_part).then_some(&story), origin, response.headers_mut());

    let (took, answer) = (began.elapsed(), failure.as_ref().map_or("ok", |failure| failure.code.entry().word));
    gateway.metrics.answered(method, &route, answer, took);
    let (status, ms) = (response.status().as_u16(), took.as_millis());
    let (id, caller, instance) = (story.id(), story.caller(), story.instance());
    // Without a token, a client does not decide which traces go to the collector.
    if trace.is_sent() && !story.caller().is_empty() {
        export::record(told(Over::answer(trace, took, method, &route, status), &story, answer));
    }
    let (trace, span) = (trace.id(), trace.span());
    // Reading is what most requests do, over and over.
    if method == "GET" && failure.is_none() {
        tracing::debug!(request = id, trace, span, caller, instance, method, route, status, answer, ms, "answered");
    } else {
        tracing::info!(request = id, trace, span, caller, instance, method, route, status, answer, ms, "answered");
    }
    response
}

/// A request whose caller may be gone before it is answered: it is dropped then, and something may have come of it.
struct Gone {
    gateway: Shared,
    story: Story,
    method: &'static str,
    route: String,
    answered: bool,
}

impl Drop for Gone {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let Self { gateway, story, method, route, .. } = self;
        let took = story.began().elapsed();
        gateway.metrics.answered(method, route, GONE, took);
        let (id, caller, instance, ms) = (story.id(), story.caller(), story.instance(), took.as_millis());
        tracing::info!(
            request = id,
            caller,
            instance,
            method,
            route,
            answer = GONE,
            ms,
            "the caller is gone; what was asked for may be done"
        );
    }
}

/// The step of a request with what is known of it besides. Who called stays out, and so does what callers name their requests: traces
/// are read by more people than logs.
fn told(mut step: Over, story: &Story, answer: &str) -> Over {
    let instance = story.instance();
    if !instance.is_empty() {
        step.attributes.push(KeyValue::new("whatsapp.instance", instance));
    }
    if answer != "ok" {
        step.attributes.push(KeyValue::new("error.type", answer.to_owned()));
    }
    step
}

/// The refusals of the HTTP library, in our words: its own may quote the request.
fn of_the_library(response: &Response) -> Option<Failure> {
    let is_json =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    let status = response.status();
    match status {
        _ if is_json || !(status.is_client_error() || status.is_server_error()) => None,
        StatusCode::METHOD_NOT_ALLOWED => Some(Failure::new(
            Code::MethodNotAllowed,
            "the path exists, the method does not; the header Allow has those that do",
        )),
        StatusCode::NOT_FOUND => Some(missing_route()),
        _ if status.is_client_error() => {
            Some(Failure::new(Code::BadRequest, "the request cannot be read: its path, query or headers are malformed"))
        }
        _ => Some(Failure::new(Code::Internal, "the gateway failed; its log has the request's id")),
    }
}

/// The refusal with its body, keeping what `answered` says in headers.
fn written(failure: &Failure, story: &Story, answered: Response) -> Response {
    let entry = failure.code.entry();
    let body = json!({"success": false, "error": {
        "code": entry.word,
        "message": failure.message,
        "retryable": entry.retryable,
        "retryAfter": failure.retry_after,
        "requestId": story.id(),
    }});
    let status = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = answered.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Adds what every answer has; without a story it is a part of a page.
fn decorate(gateway: &Gateway, story: Option<&Story>, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    let tls = gateway.settings.https.then_some(&HSTS);
    let of_documents = story.map_or(&[][..], |_| HEADERS_OF_DOCUMENTS);
    for (name, value) in HEADERS.iter().chain(of_documents).chain(tls) {
        // A page has a policy of its own.
        headers.entry(*name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(Ok(id)) = story.map(|story| HeaderValue::try_from(story.id())) {
        headers.insert(REQUEST_ID, id);
    }
    if !gateway.settings.origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = origin {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                // The last three are added by libraries for traces and event streams. None of a proxy's, which the gateway goes by.
                "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, X-Request-Id, Baggage, Cache-Control, Tracestate",
            ),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Idempotent-Replayed, Location, Retry-After, X-Request-Id"),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    }
}

/// The origin of the page that calls, if such pages may.
fn allowed_origin(gateway: &Gateway, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    gateway.settings.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// A caller may send any word as a method; only those that exist become a label.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn both_forms_of_a_path_are_one() {
        for (given, path) in [
            ("/api/v1/sessions/list", "/api/v1/sessions/list/"),
            ("/api/v1/sessions/list/", "/api/v1/sessions/list/"),
            ("/api/v1/sessions/qr/a?wait=1", "/api/v1/sessions/qr/a/?wait=1"),
            ("/api/v1/events/", "/api/v1/events"),
            ("/api/v1/events/?owner=a", "/api/v1/events?owner=a"),
            ("/api/v1/openapi.json", "/api/v1/openapi.json"),
            ("/", "/"),
            ("//", "/"),
            ("//api/v1/me", "/api/v1/me"),
            ("//api//v1/sessions//list//?owner=a//b", "/api/v1/sessions/list/?owner=a//b"),
            ("/api/v1/sessions/status/a%2F%2Fb", "/api/v1/sessions/status/a%2F%2Fb/"),
            ("/api/v1/sessions/", "/api/v1/sessions"),
            ("http://a.example//api/v1/me", "http://a.example/api/v1/me"),
            ("*", "*"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            assert_eq!(canonical(request).uri(), path);
        }
    }
}
