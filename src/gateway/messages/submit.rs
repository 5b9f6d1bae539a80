//! Gives a message to its bridge, and waits until it is settled.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    destination::Destination,
    message::Message,
    refused::{expired, never_accepted, refused},
};
use crate::{
    bridge_api::{self, BridgeError, ErrorCode, MessageSpec, Open},
    drivers,
    gateway::{bridges::Unanswered, caller::Caller, failure::Failure, feed::Waiter, state::Gateway},
};

/// How long a bridge may take to say once more how a message stands, when the time to wait for it is up.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Has the bridge accept a message, and waits for at most `wait` until it is settled.
///
/// # Errors
/// When the bridge did not accept it, or that is not known.
pub async fn submit(
    gateway: &Gateway,
    caller: &Caller,
    to: &Destination,
    spec: &MessageSpec,
    wait: Duration,
) -> Result<Message, Failure> {
    let deadline = caller.story.until(wait);
    // It begins to listen before the message is there, so that it misses nothing.
    let waiter = (!wait.is_zero()).then(|| gateway.feeds.wait(&to.bridge, &to.uid, &to.id));
    let accepted = accepted(gateway, caller, to, spec).await?;
    gateway.feeds.accepted(&accepted);
    let message = Message::of(&accepted);
    // Now, since the caller may be gone before there is an answer.
    tracing::info!(
        request = caller.story.id(),
        caller = caller.user,
        message_id = message.id,
        replayed = to.replayed,
        "message accepted"
    );
    match waiter.filter(|_| !message.is_settled()) {
        Some(waiter) => Ok(until_settled(gateway, caller, to, &waiter, deadline).await.unwrap_or(message)),
        None => Ok(message),
    }
}

/// The message as its bridge has accepted it.
async fn accepted(
    gateway: &Gateway,
    caller: &Caller,
    to: &Destination,
    spec: &MessageSpec,
) -> Result<bridge_api::Message, Failure> {
    // The id is fixed, so the message is one however often it is asked for.
    let asked = gateway
        .bridges
        .ask_through_restart(&caller.story, &to.bridge, |shard| async move { shard.send(&to.uid, &to.id, spec).await });
    match asked.await {
        Ok((accepted, _)) => Ok(accepted),
        Err(Unanswered::Unasked(failure)) => Err(failure),
        Err(Unanswered::Bridge(error)) => not_accepted(gateway, caller, to, &error).await,
    }
}

/// The message once it is settled, or as it is at the deadline; none when the bridge does not say then.
async fn until_settled(
    gateway: &Gateway,
    caller: &Caller,
    to: &Destination,
    waiter: &Waiter,
    deadline: Instant,
) -> Option<Message> {
    let look = async || read(gateway, caller, to).await.ok().as_ref().map(Message::of);
    let settled = async {
        loop {
            waiter.notified().await;
            if let Some(message) = look().await.filter(Message::is_settled) {
                return message;
            }
        }
    };
    let settled = tokio::select! {
        settled = tokio::time::timeout_at(deadline, settled) => settled.ok(),
        () = gateway.closing.cancelled() => None,
    };
    match settled {
        Some(message) => Some(message),
        None => tokio::time::timeout(LAST_LOOK, look()).await.ok().flatten(),
    }
}

/// What follows from a refusal to accept the message: it was accepted before, or the caller is refused.
async fn not_accepted(
    gateway: &Gateway,
    caller: &Caller,
    to: &Destination,
    error: &BridgeError,
) -> Result<bridge_api::Message, Failure> {
    match error {
        // A bridge of the release before does not look for a message of a session that it has no more.
        BridgeError::NotFound if to.replayed => match read(gateway, caller, to).await {
            Err(Unanswered::Bridge(error)) => Err(refused(&error, to, stays(gateway, to))),
            found => Ok(found?),
        },
        // The bridge has looked for it, and knows of none.
        BridgeError::Refused { code: Open::Known(ErrorCode::Invalid), .. } if to.expires_at <= Timestamp::now() => {
            Err(if to.replayed { never_accepted() } else { expired() })
        }
        error => Err(refused(error, to, stays(gateway, to))),
    }
}

/// Whether the instance that sends is there to stay.
fn stays(gateway: &Gateway, to: &Destination) -> bool {
    gateway.index.known(drivers::instance_uid(&to.uid)).is_some_and(|known| !known.going)
}

/// The message as its bridge has it.
async fn read(gateway: &Gateway, caller: &Caller, to: &Destination) -> Result<bridge_api::Message, Unanswered> {
    gateway
        .bridges
        .ask_through_restart(&caller.story, &to.bridge, |shard| async move { shard.read(&to.uid, &to.id).await })
        .await
}
