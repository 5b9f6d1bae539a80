//! A session's task, and what follows when it panics: the session starts anew from what is stored.
//!
//! A panic does not end the process: it would disconnect all other sessions too, and for ever when what is stored of one session makes
//! its task panic at each start.

use std::{
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use whatsapp_operator::bridge_api::{Session, SessionPhase};

use super::{
    Shared,
    clock::{self, for_people},
    request::Request,
    session::{Actor, Ended},
};
use crate::{
    machine::{Kept, State, Timings},
    outbox::Waiting,
    store::{Change, StoreError, Stored},
};

/// The wait before a session's client starts after a panic; doubles up to `RESTART_MAX`, because each start may be a login.
const RESTART: Duration = Duration::from_secs(1);
/// The longest such wait.
const RESTART_MAX: Duration = Duration::from_secs(600);
/// A task that ran for so long before it panicked was well, so the wait begins at `RESTART` again.
const WELL: Duration = Duration::from_secs(1800);
/// The task itself starts sooner than the client, after this much of the wait at most, and answers requests. Not at once: what is stored
/// may make it panic again, and again.
const REFUSE_MAX: Duration = Duration::from_secs(10);
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
    let (id, timings, mut wait) = (state.id().to_owned(), state.timings(), None);
    // Also the client of a task that panicked holds it until it is over: two clients of one session would use the same keys.
    let one_client = Arc::new(Semaphore::new(1));
    let mut actor = Actor::new(Arc::clone(&shared), state, messages, Arc::clone(&one_client));
    loop {
        let began = Instant::now();
        // Boxed, so that the task of each session has room for one only.
        let left = match AssertUnwindSafe(Box::pin(actor.run(&mut requests))).catch_unwind().await {
            Ok(Ended::Over) => return,
            Ok(Ended::Anew { waiting }) => Some(waiting),
            Err(_) => None,
        };
        let next = wait_after(wait, began.elapsed());
        wait = Some(next);
        if left.is_none() {
            tracing::error!(
                session = id,
                wait = next.as_secs(),
                "the session's task panicked, which is a bug; it starts anew from what is stored"
            );
        }
        let restored = tokio::select! {
            () = shared.closing.cancelled() => {
                // Its client was told to stop, and closes its keys.
                let _ = one_client.acquire().await;
                return;
            }
            () = refuse(&mut requests) => return,
            restored = restore(&shared, &id, next, timings) => restored,
        };
        let Some((state, messages)) = restored else {
            // After all it was given to another session, which counts them.
            shared.outboxes.leave(left.unwrap_or_default());
            return shared.feed.sessions.remove(&id);
        };
        actor = Actor::new(Arc::clone(&shared), state, messages, Arc::clone(&one_client));
    }
}

/// The wait after a panic of a task that ran for `ran`; `last` was the wait before it.
fn wait_after(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran < WELL => (last * 2).min(RESTART_MAX),
        _ => RESTART,
    }
}

/// Refuses every request: a request that is dropped while the task lives is told that the session is being restarted. Ends when
/// nothing can ask any more.
async fn refuse(requests: &mut mpsc::Receiver<Request>) {
    while requests.recv().await.is_some() {}
}

/// The session from what is stored, to start its client after `wait`; shown as it stands from now on. `None` when it was deleted, or
/// cannot be read.
async fn restore(shared: &Shared, id: &str, wait: Duration, timings: Timings) -> Option<(State, (Vec<Waiting>, u64))> {
    let now = clock::now();
    let turn = now.saturating_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
    let Stored { kept, waiting, last_sequence, .. } = clock::from_disk(stored(shared, id).await?);
    let state = self::state(id.to_owned(), kept, turn, timings);
    if !state.is_transient() {
        shared.feed.sessions.show(for_people(state.view()));
    }
    sleep(wait.min(REFUSE_MAX)).await;
    Some((state, (waiting, last_sequence)))
}

/// What the store has of the session; `None` when it was deleted, or cannot be read, which is as with a row that is found so at the
/// start of the process.
async fn stored(shared: &Shared, id: &str) -> Option<Stored> {
    loop {
        match try_stored(shared, id).await {
            Ok(found) => return found,
            Err(error) if error.is_unreadable() => {
                tracing::error!(session = id, %error, "the session cannot be read to start anew; it is left alone");
                return None;
            }
            Err(error) => {
                tracing::error!(session = id, %error, "the session cannot be read to start anew; trying again");
                if let Some(session) = shared.feed.sessions.get(id).and_then(interrupted) {
                    shared.feed.sessions.show(session);
                }
                sleep(READ_AGAIN).await;
            }
        }
    }
}

async fn try_stored(shared: &Shared, id: &str) -> Result<Option<Stored>, StoreError> {
    // What the task had begun to write is written first, or never.
    shared.store.apply(vec![Change::Nothing]).await?;
    shared.store.reader.session(id).await
}

/// A session whose task is over while the store cannot say how it stands: it has neither a connection nor a code. `None` when it is shown
/// so already.
fn interrupted(shown: Session) -> Option<Session> {
    if shown.phase == SessionPhase::Queued || shown.phase == SessionPhase::Deleting {
        return None;
    }
    let (phase, phase_since) = (SessionPhase::Queued.into(), Timestamp::now());
    Some(Session { phase, phase_since, reason: None, connected_at: None, qr: None, pairing_code: None, ..shown })
}

#[cfg(test)]
mod tests {
    use super::*;
    use whatsapp_operator::bridge_api::SessionSpec;

    #[test]
    fn the_wait_grows_while_panics_come_soon_and_begins_anew_after_a_task_that_was_well() {
        let soon = Duration::from_secs(5);
        assert_eq!(wait_after(None, soon), RESTART);
        let mut wait = RESTART;
        for _ in 0..20 {
            let next = wait_after(Some(wait), soon);
            assert!(next > wait || next == RESTART_MAX, "{next:?}");
            wait = next;
        }
        assert_eq!(wait, RESTART_MAX);
        // The longest wait is part of the time that a task runs, so it alone does not make it well.
        assert_eq!(wait_after(Some(RESTART_MAX), RESTART_MAX * 2), RESTART_MAX);
        assert_eq!(wait_after(Some(RESTART_MAX), WELL), RESTART);
    }

    #[test]
    fn a_session_whose_task_is_over_is_not_shown_as_connected() {
        let now = Timestamp::now();
        let state = state("a".to_owned(), Kept::new(SessionSpec::default()), now, Timings::default());
        let connected = Session { phase: SessionPhase::Connected.into(), connected_at: Some(now), ..state.view() };
        let shown = interrupted(connected).unwrap();
        assert_eq!((shown.phase.known(), shown.connected_at), (Some(SessionPhase::Queued), None));
        assert_eq!(interrupted(shown.clone()), None);
        assert_eq!(interrupted(Session { phase: SessionPhase::Deleting.into(), ..shown }), None);
    }
}
