//! `GET /api/v1/events`: what becomes of sessions and their messages, as it happens.
//!
//! Of sessions, each stream is a watch with the caller's own token, so that Kubernetes says what may be seen, and resuming is Kubernetes'
//! own: the id of an event is the resource version it brought, which every replica of the gateway and every API server
//! understands. How far back a stream can go on is what the API server still remembers, some minutes.
//!
//! Messages are no objects of Kubernetes. The gateway follows each shard once ([`super::feed`]); every stream picks what its
//! caller may read, as reading it would be judged. The id carries the place at each shard as well, and what a stream missed is
//! asked of the bridge's own buffer.

mod follow;
mod moves;
mod told;

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, Uri},
    response::{IntoResponse as _, Response, Sse, sse::KeepAlive},
};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    caller::Caller, code::Code, failure::Failure, feed::Positions, input::Parameters, parameters::WhichSessions,
    sessions::read::which, state::Shared,
};
use follow::{Follow, Start};
use moves::Moves;
use told::{Line, Outgoing, StreamEvent};

/// Shorter than the idle time of any proxy worth the name.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events on their way to a caller; one that is further behind is slow.
const AHEAD: usize = 32;
/// Proxies that collect answers before they pass them on are asked not to.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Where libraries for browsers put the id of the last event when they connect again (event-source-polyfill, reconnecting-eventsource): a page
/// of another site may not send the header to every server.
const IN_QUERY: &str = "lastEventId";

/// Follow sessions and messages
///
/// Server-sent events. First every session as an event `session`, then `ready`, then a `session` or a `deleted` with each
/// change, and a `message` whenever a message of these sessions has come further, with the same object as `GET messages/{id}/`
/// answers, where the caller may read it. With `Last-Event-ID` the stream goes on after that event. When that is too long ago,
/// it says `reset` and begins anew; with the reason `MessagesMissed` only messages were missed, and nothing begins anew.
/// `end` says why the stream ends, for example because the token expired.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "events", tag = "events",
    params(
        WhichSessions,
        ("messages" = Option<bool>, Query, description = "Whether messages are told as well; true when not given."),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that arrived."),
        ("lastEventId" = Option<String>, Query, description = "The same, from clients that put it here; the header counts before it."),
    ),
    responses((status = 200, description = "Events until one side ends it.", content_type = "text/event-stream", body = StreamEvent)),
)]
pub async fn events(
    State(gateway): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["owner", "namespace", "messages", IN_QUERY])?;
    let which = which(&gateway, &caller, &parameters)?;
    let since = last_event_id(&headers, &parameters)?;
    let wants_messages = parameters.flag("messages")?.unwrap_or(true);
    let open = gateway.streams.open(&caller.user, &gateway.metrics)?;
    // An id that cannot be read says nothing of either.
    let (since, positions) = match since.as_deref() {
        None => (None, None),
        Some(id) => Positions::of_id(id).map_or((Some(id), None), |(sessions, positions)| (Some(sessions), positions)),
    };
    // Followed before the sessions are listed, so that nothing is missed.
    let moves = if wants_messages { Some(Moves::begin(&gateway, &which, &caller, positions).await) } else { None };
    let Start { follow, first } = Follow::begin(&which, &caller, since, moves).await?;
    let (send, receive) = mpsc::channel::<Outgoing>(AHEAD);
    let (expires, closing) = (caller.expires, gateway.closing.clone());
    tokio::spawn(async move {
        follow.run(first, Line(send), expires, closing).await;
        drop(open);
    });
    let events = futures::stream::unfold(receive, |mut receive| async move {
        let outgoing = receive.recv().await?;
        Some((Ok::<_, Infallible>(outgoing.event()), receive))
    });
    let stream = Sse::new(events.boxed()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([UNBUFFERED], stream).into_response())
}

/// The id in the header `Last-Event-ID`, if there is one, or else in the query. A value that is no text counts as an id that the gateway
/// never gave.
///
/// # Errors
/// When the header is there twice: it is not known then which of the two events arrived last.
fn last_event_id(headers: &HeaderMap, parameters: &Parameters) -> Result<Option<String>, Failure> {
    let mut given = headers.get_all("last-event-id").iter();
    let first = given.next().map(|value| value.to_str().unwrap_or("?").to_owned());
    if given.next().is_some() {
        return Err(Failure::new(
            Code::BadRequest,
            "the header Last-Event-ID is given twice; give it once, with the id of the last event that arrived",
        ));
    }
    let asked = || parameters.get(IN_QUERY).map(str::to_owned);
    Ok(first.filter(|id| !id.is_empty()).or_else(asked).filter(|id| !id.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_id_is_given_once() {
        let asked = |query: &str, values: &[&str]| {
            let headers = values.iter().map(|value| ("last-event-id".parse().unwrap(), value.parse().unwrap()));
            let parameters = Parameters::of(&format!("/?{query}").parse().unwrap(), &[IN_QUERY]).unwrap();
            last_event_id(&headers.collect(), &parameters)
        };
        let given = |values: &[&str]| asked("", values);
        assert_eq!((given(&[]).unwrap(), given(&[""]).unwrap()), (None, None));
        assert_eq!(given(&["42"]).unwrap().as_deref(), Some("42"));
        assert_eq!(asked("lastEventId=41%7Ea", &[]).unwrap().as_deref(), Some("41~a"));
        assert_eq!(
            asked("lastEventId=41", &["42"]).unwrap().as_deref(),
            Some("42"),
            "a browser's own is the later one"
        );
        assert_eq!(
            (asked("lastEventId=41", &[""]).unwrap().as_deref(), asked("lastEventId=", &[]).unwrap()),
            (Some("41"), None)
        );
        for twice in [&["42", "42"], &["42", "43"], &["", "42"]] {
            assert_eq!(given(twice).unwrap_err().code, Code::BadRequest, "{twice:?}");
        }
    }
}
