//! A session's task, and what follows when it panics: the session starts anew from what is stored.

use std::{
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::{sync::mpsc, time::sleep};

use super::{Shared, clock, request::Request, session::Actor};
use crate::{
    machine::{Kept, State, Timings},
    outbox::Waiting,
    store::Stored,
};

/// The wait before a session starts anew after a panic; doubles up to `RESTART_MAX`, because each start may be a login.
const RESTART: Duration = Duration::from_secs(1);
/// The longest such wait.
const RESTART_MAX: Duration = Duration::from_secs(600);
/// How long after a failure the store is asked again for the session.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// A session whose first turn comes at `turn`.
pub(super) fn state(id: String, kept: Kept, turn: Timestamp, timings: Timings) -> State {
    // Only spreads retries; any number will do.
    let seed = RandomState::new().hash_one(&id);
    State::new(id, kept, turn, timings, seed, clock::now())
}

/// Runs a session until it is deleted or the process closes. `state` must be stored already.
pub(super) async fn run(
    shared: Arc<Shared>,
    state: State,
    messages: (Vec<Waiting>, u64),
    mut requests: mpsc::Receiver<Request>,
) {
    let (id, timings, mut wait) = (state.id().to_owned(), state.timings(), RESTART);
    let mut actor = Actor::new(Arc::clone(&shared), state, messages);
    loop {
        let client = Arc::clone(&actor.one_client);
        // Boxed, so that the task of each session has room for one only.
        if AssertUnwindSafe(Box::pin(actor.run(&mut requests))).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(
            session = id,
            "the session's task panicked, which is a bug; it starts anew from what is stored"
        );
        let found = tokio::select! {
            () = shared.closing.cancelled() => return,
            found = async {
                // Two clients of one session would use the same keys. The one that runs was told to stop.
                let _ = client.acquire().await;
                sleep(wait).await;
                stored(&shared, &id).await
            } => found,
        };
        let Some(Stored { kept, waiting, last_sequence, .. }) = found else {
            return shared.feed.sessions.remove(&id);
        };
        wait = (wait * 2).min(RESTART_MAX);
        let state = self::state(id.clone(), clock::from_disk(kept), Timestamp::UNIX_EPOCH, timings);
        actor = Actor::new(Arc::clone(&shared), state, (waiting, last_sequence));
    }
}

/// What the store has of the session; `None` when it was deleted.
async fn stored(shared: &Shared, id: &str) -> Option<Stored> {
    loop {
        match shared.store.reader.session(id).await {
            Ok(found) => return found,
            Err(error) => {
                tracing::error!(session = id, %error, "the session cannot be read to start anew; trying again");
                sleep(READ_AGAIN).await;
            }
        }
    }
}
