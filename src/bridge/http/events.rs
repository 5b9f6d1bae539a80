//! The stream of events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{Sse, sse},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use whatsapp_operator::bridge_api::{Cursor, Event};

use super::{Api, failure::Failure};

/// Shorter than the idle time of any proxy worth the name.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct Since {
    since: Option<String>,
}

/// From where on a caller wants to hear events.
pub(super) fn since(Since { since }: Since, headers: &HeaderMap) -> Result<Option<Cursor>, Failure> {
    // The header wins: a browser that reconnects by itself repeats the query and adds the header.
    let given = headers.get("last-event-id").and_then(|value| value.to_str().ok().map(str::to_owned)).or(since);
    match given.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Failure::Invalid("since and Last-Event-ID must be a cursor, as a list or an event gave it".to_owned())
        }),
    }
}

pub(super) async fn follow(
    State(api): State<Api>,
    Query(query): Query<Since>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Failure> {
    let cursor = since(query, &headers)?;
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
