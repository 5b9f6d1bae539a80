//! Has the store forget messages that are over, and idempotency keys whose time has passed, with what they name.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Change, MessageChange, Store};

/// How often it is looked at.
pub const EVERY: Duration = Duration::from_secs(600);
/// How many are forgotten in one go: a few milliseconds in which nothing else can be written.
const AT_ONCE: u32 = 2000;

/// How long messages are remembered after they were over, and how many. What an idempotency key may name leaves a remnant, which
/// counts as forgotten.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// So long.
    pub age: SignedDuration,
    /// So many.
    pub messages: u64,
}

/// Forgets for as long as it is polled: at once, and again after each pause of this length, by this clock.
pub async fn prune(store: Store, history: History, pause: Duration, clock: impl Fn() -> Timestamp) {
    loop {
        look(&store, history, clock()).await;
        tokio::time::sleep(pause).await;
    }
}

/// Forgets what is too old, or too much.
pub(super) async fn look(store: &Store, history: History, now: Timestamp) {
    let old = now.saturating_sub(history.age).unwrap_or(Timestamp::MIN);
    while forget(store, old, now, AT_ONCE).await > 0 {}
    while forget_keys(store, now).await > 0 {}
    let over = store.reader.history().await.unwrap_or(0).saturating_sub(history.messages);
    let mut left = u32::try_from(over).unwrap_or(u32::MAX);
    while left > 0 {
        let forgotten = forget(store, Timestamp::MAX, now, left.min(AT_ONCE)).await;
        if forgotten == 0 {
            break;
        }
        left = left.saturating_sub(forgotten);
    }
}

/// Forgets messages that were over before then; how many. What cannot be forgotten now is at the next look.
async fn forget(store: &Store, before: Timestamp, now: Timestamp, most: u32) -> u32 {
    let found = store.reader.over(before, most).await.unwrap_or(0);
    made(store, MessageChange::Forget { before, now, most }, found).await
}

/// Forgets claims and remnants that cannot be asked for any more; how many.
async fn forget_keys(store: &Store, now: Timestamp) -> u32 {
    let found = store.reader.unnamed(now, AT_ONCE).await.unwrap_or(0);
    made(store, MessageChange::ForgetKeys { now, most: AT_ONCE }, found).await
}

/// Makes the change where so many were found that it is about; how many it was about.
async fn made(store: &Store, change: MessageChange, found: u32) -> u32 {
    if found == 0 || store.apply(vec![Change::Message(change)]).await.is_err() {
        return 0;
    }
    found
}
