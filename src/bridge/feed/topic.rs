//! One topic: what is so now, and the stream of its changes.
//!
//! Both live under one lock, so what is read and the cursor that goes with it always fit together.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use whatsapp_operator::{bridge_api::Cursor, platform::lock};

use super::recent::{After, Recent};

/// What is so now (`S`), and events of type `E` about it.
pub(super) struct Topic<S, E> {
    incarnation: Arc<str>,
    inner: Mutex<Inner<S, E>>,
    newest: watch::Sender<u64>,
}

struct Inner<S, E> {
    now: S,
    recent: Recent<E>,
}

/// What a subscription gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<E> {
    /// An event.
    Event(E),
    /// Events were missed: read what is so now.
    Missed,
}

/// A resume point that moves on.
pub struct Subscription {
    newest: watch::Receiver<u64>,
    sent: u64,
    missed: bool,
}

impl<S, E: Clone> Topic<S, E> {
    /// Starts with `now`; so many events can be resumed from.
    pub(super) fn new(incarnation: &Arc<str>, room: usize, now: S) -> Self {
        let inner = Mutex::new(Inner { now, recent: Recent::new(room) });
        Self { incarnation: Arc::clone(incarnation), inner, newest: watch::Sender::new(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S, E>> {
        lock(&self.inner)
    }

    /// Makes a change, and sends the event it gives.
    pub(super) fn change(&self, change: impl FnOnce(&mut S) -> Option<E>) {
        let number = {
            let mut inner = self.inner();
            let Some(event) = change(&mut inner.now) else { return };
            inner.recent.push(event)
        };
        self.newest.send_if_modified(|newest| {
            let newer = number > *newest;
            *newest = number.max(*newest);
            newer
        });
    }

    /// What is so now, and where the events after that start.
    pub(super) fn read<T>(&self, read: impl FnOnce(&S) -> T) -> (T, Cursor) {
        let inner = self.inner();
        (read(&inner.now), self.cursor(inner.recent.newest()))
    }

    fn cursor(&self, sequence: u64) -> Cursor {
        Cursor { incarnation: self.incarnation.as_ref().to_owned(), sequence }
    }

    /// A subscription from `cursor` on, or from now on. A cursor this process cannot serve has missed something.
    pub(super) fn subscribe(&self, cursor: Option<Cursor>) -> Subscription {
        let newest = self.newest.subscribe();
        let inner = self.inner();
        let (sent, missed) = match cursor {
            None => (inner.recent.newest(), false),
            Some(cursor)
                if *cursor.incarnation == *self.incarnation
                    && !matches!(inner.recent.after(cursor.sequence), After::Unknown) =>
            {
                (cursor.sequence, false)
            }
            Some(_) => (inner.recent.newest(), true),
        };
        Subscription { newest, sent, missed }
    }

    /// Where a subscription begins; nothing when it has missed something already.
    pub(super) fn begins(&self, subscription: &Subscription) -> Option<Cursor> {
        (!subscription.missed).then(|| self.cursor(subscription.sent))
    }

    /// The next of a subscription, once there is one. `None` when the topic is gone.
    pub(super) async fn next(&self, subscription: &mut Subscription) -> Option<(Cursor, Heard<E>)> {
        loop {
            if std::mem::take(&mut subscription.missed) {
                return Some((self.cursor(subscription.sent), Heard::Missed));
            }
            subscription.newest.borrow_and_update();
            let after = {
                let inner = self.inner();
                let after = inner.recent.after(subscription.sent);
                if matches!(after, After::Unknown) {
                    // Too slow: the events it has not seen were dropped.
                    subscription.sent = inner.recent.newest();
                }
                after
            };
            match after {
                After::Event(event) => {
                    subscription.sent += 1;
                    return Some((self.cursor(subscription.sent), Heard::Event(event)));
                }
                After::Unknown => subscription.missed = true,
                After::Nothing => subscription.newest.changed().await.ok()?,
            }
        }
    }
}
