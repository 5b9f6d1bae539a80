//! The HTTP API (`whatsapp_operator::bridge_api` documents and types it), and the admin endpoints.

pub mod serve;
pub mod token;

use std::{
    convert::Infallible,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse, sse},
    routing::get,
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use whatsapp_operator::bridge_api::{
    Capability, Cursor, ErrorBody, ErrorCode, ErrorDetail, Event, Info, Session, SessionSpec,
};

use crate::sessions::{Refusal, Registry, Shared, check_id};

use self::token::Token;

#[cfg(test)]
mod wire_tests;

/// A session's spec is a few hundred bytes; the rest is for fields of later releases.
const MAX_BODY: usize = 16 * 1024;
/// Shorter than the idle time of any proxy worth the name.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

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
        .route("/v1/sessions", get(list))
        .route("/v1/sessions/{id}", get(read).put(put).delete(delete))
        .route("/v1/events", get(events))
        .route("/v1/info", get(info))
        .fallback(|| async {
            Failure::NotFound("there is no such path: see /v1/sessions, /v1/events and /v1/info".to_owned())
        })
        .method_not_allowed_fallback(|| async { Failure::WrongMethod })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

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

/// Counts the request, and lets it in when it shows the token.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.split_once(' '));
    let admitted = matches!(shown, Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && api.token.accepts(token.trim()));
    let response = if admitted { typed(next.run(request).await) } else { Failure::Unauthorized.into_response() };
    // A caller may send any word as a method; only those that exist become a label.
    let method = match method.as_str() {
        known @ ("GET" | "PUT" | "DELETE" | "HEAD" | "POST" | "PATCH" | "OPTIONS") => known,
        _ => "other",
    };
    api.shared.metrics.request(method, &path, response.status().as_u16());
    response
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
        StatusCode::PAYLOAD_TOO_LARGE => {
            (ErrorCode::Invalid, format!("the body must be at most {MAX_BODY} bytes long"))
        }
        _ if status.is_client_error() => (
            ErrorCode::Invalid,
            "the request cannot be read: its path, query or body is malformed, or a query field is given twice"
                .to_owned(),
        ),
        _ => (ErrorCode::Internal, "the bridge failed".to_owned()),
    };
    answer(status, code, message)
}

fn answer(status: StatusCode, code: ErrorCode, message: String) -> Response {
    (status, Json(ErrorBody { error: ErrorDetail { code: code.into(), message } })).into_response()
}

async fn list(State(api): State<Api>) -> Response {
    Json(api.shared.feed.sessions.list()).into_response()
}

async fn info(State(api): State<Api>) -> Json<Info> {
    let sessions = api.shared.feed.sessions.count(|_| ()).get(&()).copied().unwrap_or(0);
    use Capability as C;
    let capabilities = [C::Qr, C::PairingCode, C::Unlink, C::Events].into_iter().collect();
    Json(Info { version: env!("CARGO_PKG_VERSION").to_owned(), capabilities, sessions })
}

async fn read(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Session>, Failure> {
    check_id(&id)?;
    api.shared.feed.sessions.get(&id).map(Json).ok_or_else(|| Failure::NotFound(format!("there is no session {id}")))
}

async fn put(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> Result<Json<Session>, Failure> {
    let spec: SessionSpec = serde_json::from_slice(&body).map_err(|error| Failure::Invalid(not_a_spec(&error)))?;
    Ok(Json(api.registry.put(&id, spec).await?))
}

/// Says where the body is wrong without quoting it: it may hold a phone number.
fn not_a_spec(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let kind = match error.classify() {
        Category::Eof => "ends too early",
        Category::Syntax | Category::Io => "is not JSON",
        Category::Data => {
            "does not have the fields of a session spec (desiredState, presence, pairing: method, phoneNumber, autoRefresh, window)"
        }
    };
    format!("the body {kind}, at line {} column {}", error.line(), error.column())
}

#[derive(Deserialize)]
struct Deletion {
    #[serde(default = "yes")]
    unlink: bool,
}

fn yes() -> bool {
    true
}

async fn delete(
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

#[derive(Deserialize)]
struct Since {
    since: Option<String>,
}

async fn events(
    State(api): State<Api>,
    Query(Since { since }): Query<Since>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Failure> {
    // The header wins: a browser that reconnects by itself repeats the query and adds the header.
    let given = headers.get("last-event-id").and_then(|value| value.to_str().ok().map(str::to_owned)).or(since);
    let cursor: Option<Cursor> = match given.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::Invalid("since and Last-Event-ID must be a cursor, as a list or an event gave it".to_owned())
        })?),
    };
    let closing = api.closing.clone().cancelled_owned();
    let subscription = api.shared.feed.sessions.subscribe(cursor);
    let events = stream::unfold((api.shared, subscription), |(shared, mut subscription)| async move {
        let (cursor, event) = shared.feed.sessions.next(&mut subscription).await?;
        Some((Ok(encode(&cursor, &event)), (shared, subscription)))
    });
    Ok(Sse::new(events.take_until(closing)).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE)))
}

fn encode(cursor: &Cursor, event: &Event) -> sse::Event {
    let encoded = sse::Event::default().event(event.name()).id(cursor.to_string());
    // Our own types always serialize; if one day they do not, the reader learns to list again.
    encoded.json_data(event).unwrap_or_else(|_| {
        sse::Event::default().event(Event::Reset.name()).id(cursor.to_string()).data("{\"type\":\"reset\"}")
    })
}

/// A request that failed.
enum Failure {
    Unauthorized,
    NotFound(String),
    Invalid(String),
    WrongMethod,
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        use ErrorCode as E;
        let (status, code, message) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                E::Unauthorized,
                "the request must carry the bridge's token, as Authorization: Bearer TOKEN".to_owned(),
            ),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, E::NotFound, message),
            Self::WrongMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, E::Invalid, "this path does not know this method".to_owned())
            }
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, E::Invalid, message),
            Self::Refused(refusal) => {
                let (status, code) = match &refusal {
                    Refusal::BadId | Refusal::NoPhoneNumber => (StatusCode::BAD_REQUEST, E::Invalid),
                    Refusal::Deleting => (StatusCode::CONFLICT, E::Deleting),
                    Refusal::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, E::Full),
                    Refusal::Closing => (StatusCode::SERVICE_UNAVAILABLE, E::Internal),
                    Refusal::Store(_) | Refusal::Keys(_) => (StatusCode::INTERNAL_SERVER_ERROR, E::Internal),
                };
                (status, code, refusal.to_string())
            }
        };
        answer(status, code, message)
    }
}
