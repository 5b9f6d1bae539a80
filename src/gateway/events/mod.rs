//! `GET /api/v1/events`: what becomes of sessions, as it happens.
//!
//! Each stream is a watch with the caller's own token, so that Kubernetes says what may be seen, and resuming is Kubernetes'
//! own: the id of an event is the resource version it brought, which every replica of the gateway and every API server
//! understands. How far back a stream can go on is what the API server still remembers, some minutes.

mod follow;
mod told;

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, Uri},
    response::{
        IntoResponse as _, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{caller::Caller, failure::Failure, input::Parameters, sessions::read::which, state::Shared};
use follow::{Follow, Start};

/// Shorter than the idle time of any proxy worth the name.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events on their way to a caller; one that is further behind is slow.
const AHEAD: usize = 32;
/// Proxies that collect answers before they pass them on are asked not to.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Follow sessions
///
/// Server-sent events. First every session as an event `session`, then `ready`, then a `session` or a `deleted` with each
/// change. With `Last-Event-ID` the stream goes on after that event; when that is too long ago, it says `reset` and begins
/// anew. `end` says why the stream ends, for example because the token expired.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "events", tag = "events",
    params(
        ("owner" = Option<String>, Query, min_length = 1, max_length = 253, description = "Whose sessions; the caller's own when not given, * for everybody's."),
        ("namespace" = Option<String>, Query, min_length = 1, max_length = 63, description = "Where; the gateway's default namespace when not given, * for all."),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that arrived."),
    ),
    responses((status = 200, description = "Events until one side ends it.", content_type = "text/event-stream", body = String,
        example = "event: ready\ndata: {\"type\":\"ready\"}\nid: 1234\n\n")),
)]
pub async fn events(
    State(gateway): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["owner", "namespace"])?;
    let which = which(&gateway, &caller, &parameters)?;
    let since = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let open = gateway.streams.open(&caller.user, &gateway.metrics)?;
    let Start { follow, first } = Follow::begin(&which, &caller, since.filter(|id| !id.is_empty()).as_deref()).await?;
    let (send, receive) = mpsc::channel(AHEAD);
    let (expires, closing) = (caller.expires, gateway.closing.clone());
    tokio::spawn(async move {
        follow.run(first, send, expires, closing).await;
        drop(open);
    });
    let events = futures::stream::unfold(receive, |mut receive| async move {
        let event: sse::Event = receive.recv().await?;
        Some((Ok::<_, Infallible>(event), receive))
    });
    let stream = Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([UNBUFFERED], stream).into_response())
}
