//! The public state of all sessions, and the stream of its changes.
//!
//! Both live under one lock, so a list and the cursor it carries always fit together.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use whatsapp_operator::bridge_api::{Cursor, Event, Session, SessionList};

/// How many events can be resumed from. A session in a pairing window makes about one every 20 s, an idle one none.
const KEPT: usize = 4096;

/// The sessions as callers see them.
pub struct Board {
    incarnation: String,
    inner: Mutex<Inner>,
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    sessions: BTreeMap<String, Session>,
    events: VecDeque<Event>,
    /// The number of the newest event.
    sequence: u64,
}

impl Board {
    /// An empty board; `incarnation` tells this run of the process from every other.
    pub fn new(incarnation: String) -> Self {
        Self { incarnation, inner: Mutex::default(), news: watch::Sender::new(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows `session`; an event goes out if that is a change.
    pub fn show(&self, session: Session) {
        let mut inner = self.inner();
        if inner.sessions.get(&session.id) == Some(&session) {
            return;
        }
        inner.sessions.insert(session.id.clone(), session.clone());
        self.push(inner, Event::Session { session: Box::new(session) });
    }

    /// Takes session `id` off.
    pub fn remove(&self, id: &str) {
        let mut inner = self.inner();
        if inner.sessions.remove(id).is_some() {
            self.push(inner, Event::Deleted { id: id.to_owned() });
        }
    }

    fn push(&self, mut inner: MutexGuard<'_, Inner>, event: Event) {
        if inner.events.len() == KEPT {
            inner.events.pop_front();
        }
        inner.events.push_back(event);
        inner.sequence += 1;
        let sequence = inner.sequence;
        drop(inner);
        self.news.send_if_modified(|newest| {
            let newer = sequence > *newest;
            *newest = sequence.max(*newest);
            newer
        });
    }

    /// Session `id`.
    pub fn get(&self, id: &str) -> Option<Session> {
        self.inner().sessions.get(id).cloned()
    }

    /// All sessions, and where the events after that start.
    pub fn list(&self) -> SessionList {
        let inner = self.inner();
        SessionList {
            items: inner.sessions.values().cloned().collect(),
            cursor: self.cursor(inner.sequence),
            unreadable: Vec::new(),
        }
    }

    /// What `of` gives of every session, counted.
    pub fn count<K: Ord>(&self, of: impl Fn(&Session) -> K) -> BTreeMap<K, u32> {
        let mut counts = BTreeMap::new();
        for session in self.inner().sessions.values() {
            *counts.entry(of(session)).or_insert(0) += 1;
        }
        counts
    }

    fn cursor(&self, sequence: u64) -> Cursor {
        Cursor { incarnation: self.incarnation.clone(), sequence }
    }

    /// A subscription from `cursor` on, or from now on. A cursor this process cannot serve starts with a reset.
    pub fn subscribe(&self, cursor: Option<Cursor>) -> Subscription {
        let news = self.news.subscribe();
        let inner = self.inner();
        let oldest = inner.sequence - inner.events.len() as u64;
        let (sent, reset) = match cursor {
            None => (inner.sequence, false),
            Some(cursor)
                if cursor.incarnation == self.incarnation && (oldest..=inner.sequence).contains(&cursor.sequence) =>
            {
                (cursor.sequence, false)
            }
            Some(_) => (inner.sequence, true),
        };
        Subscription { news, sent, reset }
    }

    /// The next event of a subscription, once there is one. `None` when the board is gone.
    pub async fn next(&self, subscription: &mut Subscription) -> Option<(Cursor, Event)> {
        loop {
            if std::mem::take(&mut subscription.reset) {
                return Some((self.cursor(subscription.sent), Event::Reset));
            }
            subscription.news.borrow_and_update();
            {
                let inner = self.inner();
                let oldest = inner.sequence - inner.events.len() as u64;
                if subscription.sent < oldest {
                    // Too slow: the events it has not seen were dropped.
                    subscription.sent = inner.sequence;
                    subscription.reset = true;
                    continue;
                }
                let place = usize::try_from(subscription.sent - oldest).unwrap_or(usize::MAX);
                if let Some(event) = inner.events.get(place) {
                    subscription.sent += 1;
                    return Some((self.cursor(subscription.sent), event.clone()));
                }
            }
            subscription.news.changed().await.ok()?;
        }
    }
}

/// A place in the stream.
pub struct Subscription {
    news: watch::Receiver<u64>,
    sent: u64,
    reset: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Kept, State, Timings};
    use jiff::Timestamp;
    use whatsapp_operator::{bridge_api::SessionSpec, model::Sensitive};

    fn session(id: &str, name: &str) -> Session {
        let kept = Kept { push_name: Some(Sensitive::new(name)), ..Kept::new(SessionSpec::default()) };
        State::new(id.to_owned(), kept, Timestamp::UNIX_EPOCH, Timings::default(), 1, Timestamp::UNIX_EPOCH).view()
    }

    #[tokio::test]
    async fn a_cursor_resumes_without_loss_or_repetition() {
        let board = Board::new("run".to_owned());
        board.show(session("a", "1"));
        let cursor = board.list().cursor;
        board.show(session("a", "2"));
        board.show(session("a", "2"));
        board.remove("a");
        let mut subscription = board.subscribe(Some(cursor));
        let (first, event) = board.next(&mut subscription).await.unwrap();
        assert_eq!((first.to_string().as_str(), event.name()), ("run-2", "session"));
        let (second, event) = board.next(&mut subscription).await.unwrap();
        assert_eq!((second.to_string().as_str(), event.name()), ("run-3", "deleted"));
        let mut again = board.subscribe(Some(first));
        assert_eq!(board.next(&mut again).await.unwrap(), (second, event));
    }

    #[tokio::test]
    async fn a_cursor_of_another_process_or_of_the_future_is_reset() {
        let board = Board::new("run".to_owned());
        board.show(session("a", "1"));
        for cursor in ["other-0", "run-9"] {
            let mut subscription = board.subscribe(cursor.parse().ok());
            let (at, event) = board.next(&mut subscription).await.unwrap();
            assert_eq!((at.to_string().as_str(), event), ("run-1", Event::Reset));
        }
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_is_reset_once() {
        let board = Board::new("run".to_owned());
        board.show(session("a", "start"));
        let mut subscription = board.subscribe(None);
        for turn in 0..=KEPT {
            board.show(session("a", &turn.to_string()));
        }
        assert_eq!(board.next(&mut subscription).await.unwrap().1, Event::Reset);
        board.remove("a");
        assert_eq!(board.next(&mut subscription).await.unwrap().1.name(), "deleted");
    }
}
