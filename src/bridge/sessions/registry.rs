//! All sessions of the process: makes them, finds them, closes them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use whatsapp_operator::bridge_api::{PairingMethod, Session, SessionSpec};

use super::{
    Shared,
    session::{Actor, Request},
};
use crate::{
    keys::KeysError,
    machine::{Kept, State, Timings},
    store::{Change, StoreError, Stored},
};

/// Requests to one session that may wait.
const QUEUE: usize = 8;

/// All sessions close at the same time, and each of their clients has 10 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(12);

/// A request was refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The id cannot be one.
    #[error("a session id must be 1 to 64 characters out of A-Z a-z 0-9 . _ - and must not start with a dot")]
    BadId,
    /// A pairing code needs a number.
    #[error(
        "pairing.phoneNumber must be given in international form, such as +15551234567, for the pairing method Code"
    )]
    NoPhoneNumber,
    /// No more sessions fit.
    #[error("this bridge holds {max} sessions, as many as --max-sessions allows: raise it, or use another bridge")]
    Full {
        /// How many fit.
        max: usize,
    },
    /// The session is being deleted.
    #[error("the session is being deleted: wait until it is gone, then create it again")]
    Deleting,
    /// The process is about to end.
    #[error("the bridge is shutting down: try again when it is back")]
    Closing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys could not be deleted.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What the registry does itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// The time between two sessions that resume after a start.
    pub resume_interval: Duration,
    /// Timings of every session.
    pub timings: Timings,
}

struct Entry {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

/// All sessions.
pub struct Registry {
    shared: Arc<Shared>,
    limits: Limits,
    entries: Mutex<Entries>,
    creating: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<String, Entry>,
    closing: bool,
}

impl Registry {
    /// Takes the stored sessions up again, one per `resume_interval`: first those that are linked.
    pub fn resume(shared: Arc<Shared>, limits: Limits, mut stored: Vec<Stored>) -> Self {
        stored.sort_by_key(|stored| !stored.kept.paired);
        let registry = Self { shared, limits, entries: Mutex::default(), creating: tokio::sync::Mutex::default() };
        let now = Timestamp::now();
        for (position, Stored { id, kept }) in (0_u32..).zip(stored) {
            let wait = limits.resume_interval.saturating_mul(position);
            let turn = now.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
            let state = registry.state(id.clone(), kept, turn);
            // Before the first request: a session that is missing from a list counts as lost.
            registry.shared.feed.sessions.show(state.view());
            let entry = registry.spawn(state);
            registry.entries().by_id.insert(id, entry);
        }
        registry
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, id: String, kept: Kept, turn: Timestamp) -> State {
        // Only spreads retries; any number will do.
        let seed = RandomState::new().hash_one(&id);
        State::new(id, kept, turn, self.limits.timings, seed, Timestamp::now())
    }

    fn spawn(&self, state: State) -> Entry {
        let (requests, received) = mpsc::channel(QUEUE);
        let task = tokio::spawn(Actor::new(Arc::clone(&self.shared), state).run(received));
        Entry { requests, task }
    }

    /// Creates session `id` or changes what is wanted of it. Stored when this returns.
    pub async fn put(&self, id: &str, spec: SessionSpec) -> Result<Session, Refusal> {
        check_id(id)?;
        if spec.pairing.method == PairingMethod::Code
            && !spec.pairing.phone_number.as_ref().is_some_and(|number| is_phone_number(number.reveal()))
        {
            return Err(Refusal::NoPhoneNumber);
        }
        loop {
            let Some(requests) = self.find(id)? else {
                self.create(id, spec.clone()).await?;
                continue;
            };
            let (answer, answered) = oneshot::channel();
            if requests.send(Request::Put(Box::new(spec.clone()), answer)).await.is_ok()
                && let Ok(result) = answered.await
            {
                return result?.ok_or(Refusal::Deleting);
            }
            // It was deleted in this very moment: start over.
            tokio::task::yield_now().await;
        }
    }

    /// Stores a new session, then starts it; does nothing when there is one by now.
    async fn create(&self, id: &str, spec: SessionSpec) -> Result<(), Refusal> {
        // One at a time: the row of a session that somebody else has just made must not be overwritten.
        let _turn = self.creating.lock().await;
        if self.find(id)?.is_some() {
            return Ok(());
        }
        let kept = Kept::new(spec);
        self.shared.store.apply(vec![Change::save(id, &kept)?]).await?;
        let mut entries = self.entries();
        if entries.closing {
            return Err(Refusal::Closing);
        }
        let entry = self.spawn(self.state(id.to_owned(), kept, Timestamp::UNIX_EPOCH));
        entries.by_id.insert(id.to_owned(), entry);
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Option<mpsc::Sender<Request>>, Refusal> {
        let mut entries = self.entries();
        if entries.closing {
            return Err(Refusal::Closing);
        }
        entries.by_id.retain(|_, entry| !entry.task.is_finished());
        match entries.by_id.get(id) {
            Some(entry) => Ok(Some(entry.requests.clone())),
            None if entries.by_id.len() >= self.limits.max_sessions => {
                Err(Refusal::Full { max: self.limits.max_sessions })
            }
            None => Ok(None),
        }
    }

    /// Has session `id` deleted. `None` when there is none, and then nothing of one is left on the disk either.
    pub async fn delete(&self, id: &str, unlink: bool) -> Result<Option<Session>, Refusal> {
        check_id(id)?;
        if let Some(session) = self.tell(id, unlink).await? {
            return Ok(Some(session));
        }
        // A creation that was cut off half-way left a row, and an unreadable row keeps its keys: both would be a session
        // again after the next start. One at a time, so that nobody makes the session under our hands.
        let _turn = self.creating.lock().await;
        if let Some(session) = self.tell(id, unlink).await? {
            return Ok(Some(session));
        }
        self.shared.store.apply(vec![Change::remove(id)]).await?;
        self.shared.keys.erase(id).await?;
        Ok(None)
    }

    /// Tells the task of session `id` to delete it; `None` when it has none.
    async fn tell(&self, id: &str, unlink: bool) -> Result<Option<Session>, Refusal> {
        let requests = {
            let entries = self.entries();
            if entries.closing {
                return Err(Refusal::Closing);
            }
            entries.by_id.get(id).filter(|entry| !entry.task.is_finished()).map(|entry| entry.requests.clone())
        };
        let Some(requests) = requests else { return Ok(None) };
        let (answer, answered) = oneshot::channel();
        if requests.send(Request::Delete { unlink, answer }).await.is_ok()
            && let Ok(result) = answered.await
        {
            return Ok(Some(result?));
        }
        // Its task has ended: because the session was deleted, or because the process ends and the session stays.
        if self.entries().closing { Err(Refusal::Closing) } else { Ok(None) }
    }

    /// Closes every connection and ends every task. No request is taken any more. What hangs is left to itself: the process
    /// has to end.
    pub async fn close(&self) {
        let entries = {
            let mut entries = self.entries();
            entries.closing = true;
            std::mem::take(&mut entries.by_id)
        };
        self.shared.closing.cancel();
        let tasks = futures::future::join_all(entries.into_values().map(|entry| entry.task));
        if tokio::time::timeout(CLOSE_TIMEOUT, tasks).await.is_err() {
            tracing::warn!("some sessions did not close in time");
        }
    }
}

/// Whether `id` may name a session: it becomes a directory and part of a path.
pub fn check_id(id: &str) -> Result<(), Refusal> {
    let good = !id.is_empty()
        && id.len() <= 64
        && !id.starts_with('.')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if good { Ok(()) } else { Err(Refusal::BadId) }
}

/// International form (E.164): a plus and up to 15 digits.
fn is_phone_number(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::{Refusal, check_id, is_phone_number};
    use crate::{
        machine::End,
        sessions::tests::{Bench, told_to_stop},
    };

    #[test]
    fn ids_cannot_climb() {
        for good in ["a", "6f1c2a3e-0000", "A.b_c-9", &"x".repeat(64)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", "%2e", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn phone_numbers_are_international() {
        assert!(is_phone_number("+15551234567"));
        for bad in ["15551234567", "+1555123456a", "+1", "", "+1234567890123456"] {
            assert!(!is_phone_number(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_deletion_that_meets_the_end_of_the_process_is_not_called_done() {
        let mut bench = Bench::fresh();
        let mut client = bench.linked("a").await;
        // In this order: the task of the session reads the end before the deletion.
        let ((), deleted, ()) = tokio::join!(
            async {
                bench.registry.shared.closing.cancel();
            },
            bench.registry.delete("a", true),
            async {
                told_to_stop(&mut client).await;
                bench.registry.entries().closing = true;
                client.ends(End::Stopped);
            }
        );
        assert!(matches!(deleted, Err(Refusal::Closing)), "{:?}", deleted.err());
    }
}
