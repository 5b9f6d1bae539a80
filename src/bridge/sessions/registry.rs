//! All sessions of the process: makes them, finds them, closes them.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tracing::Instrument as _;
use whatsapp_operator::{
    bridge_api::{Message, MessageCause, MessageState, Session, SessionSpec},
    platform::lock,
};

use super::{
    Shared,
    clock::{self, for_people},
    messages::waits,
    moved_keys::move_keys,
    refusal::{Refusal, check_id, check_spec},
    request::{Asked, MessageRequest, NewMessage, Request},
    task,
};
use crate::{
    machine::{Kept, State, Timings},
    outbox::Waiting,
    store::{Change, Stored},
};

/// Requests to one session that may wait.
const QUEUE: usize = 8;

/// All sessions close at the same time, and each of their clients has 10 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(12);

/// The time between two sessions that resume, unless it is given: gentle to the server that sees all of them come from one address,
const RESUME_INTERVAL: Duration = Duration::from_millis(50);
/// and to people, who wait for the last one: it begins within this time, however many there are.
const RESUME_WITHIN: Duration = Duration::from_secs(20);

/// The time between two sessions when so many resume.
fn resume_interval(given: Option<Duration>, many: usize) -> Duration {
    let shared_out = RESUME_WITHIN / u32::try_from(many).unwrap_or(u32::MAX).max(1);
    given.unwrap_or_else(|| RESUME_INTERVAL.min(shared_out))
}

/// What the registry does itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// The time between two sessions that resume after a start, when it is not to be chosen by how many there are.
    pub resume_interval: Option<Duration>,
    /// Timings of every session.
    pub timings: Timings,
    /// Whether an instance that was created anew gets the session that it had.
    pub adopts: bool,
}

struct Entry {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

/// All sessions.
pub struct Registry {
    pub(super) shared: Arc<Shared>,
    limits: Limits,
    entries: Mutex<Entries>,
    creating: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct Entries {
    by_id: HashMap<String, Entry>,
    pub(super) closing: bool,
}

impl Registry {
    /// Takes the stored sessions up again, one after the other: first those that are linked.
    pub fn resume(shared: Arc<Shared>, limits: Limits, mut stored: Vec<Stored>) -> Self {
        stored.sort_by_key(|stored| !stored.kept.paired);
        let registry = Self { shared, limits, entries: Mutex::default(), creating: tokio::sync::Mutex::default() };
        let now = clock::now();
        let interval = resume_interval(limits.resume_interval, stored.len());
        for (position, Stored { id, kept, waiting, last_sequence }) in (0_u32..).zip(stored) {
            let wait = interval.saturating_mul(position);
            let turn = now.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
            let state = task::state(id.clone(), kept, turn, limits.timings);
            // Before the first request: a session that is missing from a list counts as lost.
            registry.shared.feed.sessions.show(for_people(state.view()));
            let entry = registry.spawn(state, (waiting, last_sequence));
            registry.entries().by_id.insert(id, entry);
        }
        registry
    }

    /// The id of the session that is meant by `id`: one that was taken over is named by its former id in idempotency keys.
    pub async fn now_named<'a>(&self, id: &'a str) -> Result<Cow<'a, str>, Refusal> {
        check_id(id)?;
        let successor = match self.running(id)? {
            Some(_) => None,
            None => self.shared.store.reader.successor(id).await?,
        };
        Ok(successor.map_or(Cow::Borrowed(id), Cow::Owned))
    }

    /// Whether an instance that was created anew gets the session that it had.
    pub fn adopts(&self) -> bool {
        self.limits.adopts
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }

    fn spawn(&self, state: State, messages: (Vec<Waiting>, u64)) -> Entry {
        let (requests, received) = mpsc::channel(QUEUE);
        self.shared.outboxes.found(messages.0.len());
        let task = tokio::spawn(task::run(Arc::clone(&self.shared), state, messages, received));
        Entry { requests, task }
    }

    /// Creates session `id` or changes what is wanted of it. Stored when this returns.
    pub async fn put(self: &Arc<Self>, id: &str, spec: SessionSpec) -> Result<Session, Refusal> {
        check_id(id)?;
        check_spec(&spec)?;
        loop {
            let Some(requests) = self.find(id)? else {
                // A caller who gives up does not leave it half done.
                let (registry, id, spec) = (Arc::clone(self), id.to_owned(), spec.clone());
                tokio::spawn(async move { registry.create(&id, spec).await }.in_current_span())
                    .await
                    .unwrap_or(Err(Refusal::Restarting))?;
                continue;
            };
            let (answer, answered) = oneshot::channel();
            if requests.send(Request::Put(Box::new(spec.clone()), answer)).await.is_ok()
                && let Ok(result) = answered.await
            {
                return result?.ok_or(Refusal::Deleting);
            }
            self.unanswered(&requests)?;
            // It was deleted in this very moment: start over.
            tokio::task::yield_now().await;
        }
    }

    /// Stores a new session, then starts it; does nothing when there is one by now. A row that is on the disk already is never
    /// overwritten: it says whose account the session is, and for how long that is banned.
    async fn create(&self, id: &str, spec: SessionSpec) -> Result<(), Refusal> {
        // One at a time, so that the row is not made by another request after it was looked for.
        let _turn = self.creating.lock().await;
        if self.find(id)?.is_some() {
            return Ok(());
        }
        if !self.take_over(id, &spec).await? {
            self.has_room()?;
            self.shared.store.apply(vec![Change::create(id, &Kept::new(spec))?]).await?;
        }
        self.start(id).await
    }

    /// Starts a session that is stored.
    async fn start(&self, id: &str) -> Result<(), Refusal> {
        // Read back, because a creation that was cut off half-way may have left a row; and a session of this id that was deleted has left
        // its messages behind.
        let found = match self.shared.store.reader.session(id).await {
            Err(error) if error.is_unreadable() => {
                tracing::error!(session = id, %error, "{}", Refusal::Unreadable);
                return Err(Refusal::Unreadable);
            }
            found => found?.map(clock::from_disk),
        };
        let Some(stored) = found else {
            let successor = self.shared.store.reader.successor(id).await?;
            return Err(if successor.is_some() { Refusal::TakenOver } else { Refusal::Deleting });
        };
        move_keys(&*self.shared.keys, &stored).await?;
        let Stored { kept, waiting, last_sequence, .. } = stored;
        let mut entries = self.entries();
        if entries.closing {
            return Err(Refusal::Closing);
        }
        let state = task::state(id.to_owned(), kept, Timestamp::UNIX_EPOCH, self.limits.timings);
        let entry = self.spawn(state, (waiting, last_sequence));
        entries.by_id.insert(id.to_owned(), entry);
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Option<mpsc::Sender<Request>>, Refusal> {
        let mut entries = self.entries();
        if entries.closing {
            return Err(Refusal::Closing);
        }
        entries.by_id.retain(|_, entry| !entry.task.is_finished());
        Ok(entries.by_id.get(id).map(|entry| entry.requests.clone()))
    }

    /// Whether one more session may be created.
    fn has_room(&self) -> Result<(), Refusal> {
        let max = self.limits.max_sessions;
        if self.entries().by_id.len() < max { Ok(()) } else { Err(Refusal::Full { max }) }
    }

    /// Has session `id` deleted. `None` when there is none, and then nothing of one is left on the disk either.
    pub async fn delete(self: &Arc<Self>, id: &str, unlink: bool) -> Result<Option<Session>, Refusal> {
        check_id(id)?;
        if let Some(session) = self.tell(id, unlink).await? {
            return Ok(Some(session));
        }
        // A caller who gives up does not leave it half done.
        let (registry, id) = (Arc::clone(self), id.to_owned());
        tokio::spawn(async move { registry.delete_remains(&id, unlink).await }.in_current_span())
            .await
            .unwrap_or(Err(Refusal::Restarting))
    }

    /// Deletes what there may be of a session that does not run.
    async fn delete_remains(&self, id: &str, unlink: bool) -> Result<Option<Session>, Refusal> {
        // A creation that was cut off half-way left a row, and an unreadable row keeps its keys: both would be a session
        // again after the next start. One at a time, so that no other request creates the session meanwhile.
        let _turn = self.creating.lock().await;
        if let Some(session) = self.tell(id, unlink).await? {
            return Ok(Some(session));
        }
        let reader = &self.shared.store.reader;
        // Its keys are another session's by now.
        if reader.successor(id).await?.is_some() {
            return Ok(None);
        }
        // It was taken over, and its keys could not be moved: it may be linked.
        let found = match reader.session(id).await {
            Err(error) if error.is_unreadable() => None,
            found => found?,
        };
        if found.is_some_and(|stored| !stored.kept.formerly.is_empty()) {
            self.start(id).await?;
            return self.tell(id, unlink).await;
        }
        let changes = vec![Change::remove(id), Change::abandon(id, MessageCause::SessionDeleted)];
        self.shared.store.apply(changes).await?;
        self.shared.keys.erase(id, true).await?;
        Ok(None)
    }

    /// Accepts a message of session `id`; on the disk when this returns, with whether it is new. `None`: there is no session.
    pub async fn send(&self, id: &str, message: NewMessage) -> Result<Option<(Message, bool)>, Refusal> {
        self.ask_about(id, |answer| MessageRequest::Accept(Asked { message: Box::new(message), answer }))
            .await?
            .transpose()
    }

    /// Calls a message back. `None`: there is no session, or no such message.
    pub async fn call_back(&self, id: &str, message: String) -> Result<Option<Message>, Refusal> {
        Ok(self.ask_about(id, |answer| MessageRequest::CallBack(message, answer)).await?.transpose()?.flatten())
    }

    /// Adds to messages of session `id` what they wait for.
    pub async fn describe(&self, id: &str, messages: &mut [Message]) -> Result<(), Refusal> {
        let queued = |message: &&mut Message| message.status.state == MessageState::Queued;
        let sequences: Vec<u64> = messages.iter_mut().filter(queued).map(|message| message.status.sequence).collect();
        if sequences.is_empty() {
            return Ok(());
        }
        let found = self.ask_about(id, |answer| MessageRequest::Waits(sequences, answer)).await?.unwrap_or_default();
        for (message, found) in messages.iter_mut().filter(queued).zip(found) {
            if let Some(wait) = found {
                waits(&mut message.status, wait);
            }
        }
        Ok(())
    }

    /// Asks the task of session `id` about its messages; `None` when it has none.
    async fn ask_about<T>(
        &self,
        id: &str,
        request: impl FnOnce(oneshot::Sender<T>) -> MessageRequest,
    ) -> Result<Option<T>, Refusal> {
        check_id(id)?;
        let Some(requests) = self.running(id)? else { return Ok(None) };
        let (answer, answered) = oneshot::channel();
        if requests.send(Request::Message(request(answer))).await.is_ok()
            && let Ok(answer) = answered.await
        {
            return Ok(Some(answer));
        }
        self.unanswered(&requests).map(|()| None)
    }

    /// What became of a request without an answer: an error, unless the task of its session has ended because the session was deleted.
    pub(super) fn unanswered(&self, requests: &mpsc::Sender<Request>) -> Result<(), Refusal> {
        if self.entries().closing {
            Err(Refusal::Closing)
        } else if requests.is_closed() {
            Ok(())
        } else {
            Err(Refusal::Restarting)
        }
    }

    /// The way to the task of session `id`; `None` when it has none.
    pub(super) fn running(&self, id: &str) -> Result<Option<mpsc::Sender<Request>>, Refusal> {
        let entries = self.entries();
        if entries.closing {
            return Err(Refusal::Closing);
        }
        Ok(entries.by_id.get(id).filter(|entry| !entry.task.is_finished()).map(|entry| entry.requests.clone()))
    }

    /// Tells the task of session `id` to delete it; `None` when it has none.
    async fn tell(&self, id: &str, unlink: bool) -> Result<Option<Session>, Refusal> {
        let Some(requests) = self.running(id)? else { return Ok(None) };
        let (answer, answered) = oneshot::channel();
        if requests.send(Request::Delete { unlink, answer }).await.is_ok()
            && let Ok(result) = answered.await
        {
            return Ok(Some(result?));
        }
        self.unanswered(&requests).map(|()| None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_many_sessions_waits_no_longer_than_people_do() {
        for many in [0, 1, 400, 401, 1000, 20_000] {
            let interval = resume_interval(None, many);
            let last = interval * u32::try_from(many).unwrap();
            assert!(interval <= RESUME_INTERVAL && last <= RESUME_WITHIN, "{many}: {interval:?}");
        }
        assert_eq!(resume_interval(None, 400), RESUME_INTERVAL);
        assert_eq!(resume_interval(None, 1000), Duration::from_millis(20));
        // Whoever gives a time gets it.
        assert_eq!(resume_interval(Some(Duration::from_secs(1)), 1000), Duration::from_secs(1));
    }
}
