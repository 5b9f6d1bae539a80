//! Messages, and the claims of idempotency keys.

use std::convert::Infallible;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response, Sse, sse},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use whatsapp_operator::bridge_api::{Claim, LoadList, LoadQuery, MOST_LOADS, Message, MessageList, MessageSpec};

use super::{
    Api,
    events::{KEEP_ALIVE, Since, since},
    failure::Failure,
};
use crate::{
    outbox::Recipient,
    sessions::{Refusal, certain, check_id, check_message, same_message},
    store::{Change, Told},
};

/// Messages on a page, when the caller does not say.
const PAGE: usize = 50;
/// Messages on a page at most.
const LONGEST_PAGE: usize = 500;

pub(super) async fn put(
    State(api): State<Api>,
    Path((session, id)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Failure> {
    let spec: MessageSpec = serde_json::from_slice(&body)
        .map_err(|error| Failure::misfit(&error, "a message (to, content: type \"text\" with text, expiresAt)"))?;
    let (status, message) = accept(&api, &session, &id, spec).await?;
    Ok((status, Json(message)).into_response())
}

/// Accepts a message; with the status that tells whether it is new.
pub(super) async fn accept(
    api: &Api,
    session: &str,
    id: &str,
    spec: MessageSpec,
) -> Result<(StatusCode, Message), Failure> {
    let session = &*api.registry.now_named(session).await?;
    let message = match check_message(id, spec.clone()) {
        Err(Refusal::BadExpiry) => return expired(api, session, id, spec).await,
        message => message?,
    };
    let again = message.clone();
    let (message, new) = match api.registry.send(session, message).await? {
        Some(accepted) => accepted,
        // A repetition is answered whatever has become of the session.
        None => {
            let reader = &api.shared.store.reader;
            let before =
                reader.accepted(session, id, again.recipient.key(), &again.spec).await.map_err(Refusal::from)?;
            let before = before.ok_or_else(|| Failure::NotFound(format!("there is no session {session}")))?;
            (same_message(before, &again)?, false)
        }
    };
    api.shared.metrics.accepted(new);
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, message))
}

/// A message whose time is over, or would be too long: a repetition of one that was accepted is answered all the same.
async fn expired(api: &Api, session: &str, id: &str, spec: MessageSpec) -> Result<(StatusCode, Message), Failure> {
    let again = check_message(id, MessageSpec { expires_at: None, ..spec })?;
    let reader = &api.shared.store.reader;
    let before = reader.accepted(session, id, again.recipient.key(), &again.spec).await.map_err(Refusal::from)?;
    let before = same_message(before.ok_or(Refusal::BadExpiry)?, &again)?;
    api.shared.metrics.accepted(false);
    Ok((StatusCode::OK, before))
}

pub(super) async fn read(
    State(api): State<Api>,
    Path((session, id)): Path<(String, String)>,
) -> Result<Json<Message>, Failure> {
    let session = api.registry.now_named(&session).await?;
    let found = api.shared.store.reader.message(&session, &id).await.map_err(Refusal::from)?;
    let mut messages = [found.ok_or_else(|| Failure::NotFound(format!("session {session} has no message {id}")))?];
    api.registry.describe(&session, &mut messages).await?;
    let [message] = messages;
    Ok(Json(message))
}

#[derive(Deserialize)]
pub(super) struct Page {
    before: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Path(session): Path<String>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<MessageList>, Failure> {
    check_id(&session)?;
    let Query(Page { before, limit }) =
        query.map_err(|_| Failure::Invalid("before and limit must be numbers that are not negative".to_owned()))?;
    let limit = limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE);
    let (mut items, more) = api.shared.store.reader.page(&session, before, limit).await.map_err(Refusal::from)?;
    api.registry.describe(&session, &mut items).await?;
    let next = items.last().filter(|_| more).map(|message| message.status.sequence);
    Ok(Json(MessageList { items, next }))
}

pub(super) async fn load(State(api): State<Api>, body: Bytes) -> Result<Json<LoadList>, Failure> {
    let LoadQuery { to, mut sessions } = serde_json::from_slice(&body)
        .map_err(|error| Failure::misfit(&error, "a question about load (to, sessions)"))?;
    if sessions.len() > MOST_LOADS {
        return Err(Failure::Invalid(format!("sessions must be at most {MOST_LOADS}")));
    }
    let recipient = to.map(|to| Recipient::parse(to.reveal()).map_err(Refusal::from)).transpose()?;
    let person = recipient.map(|recipient| api.shared.people.all_keys(recipient.key())).unwrap_or_default();
    sessions.retain(|session| api.shared.feed.sessions.get(session).is_some());
    let items = api.shared.store.reader.load(sessions, person).await.map_err(Refusal::from)?;
    Ok(Json(LoadList { items }))
}

pub(super) async fn call_back(
    State(api): State<Api>,
    Path((session, id)): Path<(String, String)>,
) -> Result<Json<Message>, Failure> {
    let missing = || Failure::NotFound(format!("session {session} has no message {id}"));
    let message = api.registry.call_back(&session, id.clone()).await?.ok_or_else(missing)?;
    Ok(Json(message))
}

pub(super) async fn claim(State(api): State<Api>, Path(key): Path<String>, body: Bytes) -> Result<Response, Failure> {
    check_id(&key)?;
    let of = "a claim (fingerprint, session, place, message, expiresAt)";
    let claim: Claim = serde_json::from_slice(&body).map_err(|error| Failure::misfit(&error, of))?;
    let change = Change::Claim { key, claim, now: certain() };
    let told = api.shared.store.apply(vec![change]).await.map_err(Refusal::from)?;
    match told.into_iter().next() {
        Some(Told::Claim { claim, new: true }) => Ok((StatusCode::CREATED, Json(claim)).into_response()),
        Some(Told::Claim { claim, new: false }) => Ok(Json(claim).into_response()),
        _ => Err(Refusal::Closing.into()),
    }
}

pub(super) async fn claimed(State(api): State<Api>, Path(key): Path<String>) -> Result<Json<Claim>, Failure> {
    check_id(&key)?;
    let found = api.shared.store.reader.claim(&key, certain()).await.map_err(Refusal::from)?;
    found.map(Json).ok_or_else(|| Failure::NotFound("there is no such claim".to_owned()))
}

pub(super) async fn follow(
    State(api): State<Api>,
    Query(query): Query<Since>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Failure> {
    let closing = api.closing.clone().cancelled_owned();
    let subscription = api.shared.feed.messages.subscribe(since(query, &headers)?);
    // A follower that starts now can resume from here, though nothing has happened yet.
    let begins = api
        .shared
        .feed
        .messages
        .begins(&subscription)
        .map(|cursor| Ok::<_, Infallible>(sse::Event::default().event("place").id(cursor.to_string()).data("{}")));
    let events = stream::unfold((api.shared, subscription), |(shared, mut subscription)| async move {
        let (cursor, status) = shared.feed.messages.next(&mut subscription).await?;
        let event = sse::Event::default().id(cursor.to_string());
        let reset = || sse::Event::default().id(cursor.to_string()).event("reset").data("{}");
        let event = match status {
            Some(status) => event.event("message").json_data(status).unwrap_or_else(|_| reset()),
            None => reset(),
        };
        Some((Ok(event), (shared, subscription)))
    });
    let events = stream::iter(begins).chain(events);
    Ok(Sse::new(events.take_until(closing)).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE)))
}
