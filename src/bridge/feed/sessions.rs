//! The topic of the sessions: their public state, and the events of its changes.

use std::{collections::BTreeMap, sync::Arc};

use whatsapp_operator::bridge_api::{Cursor, Event, Session, SessionList};

use super::topic::{Heard, Subscription, Topic};

/// How many events can be resumed from. A session in a pairing window makes about one every 20 s, an idle one none.
pub(super) const ROOM: usize = 4096;

/// The sessions as callers see them.
pub struct Sessions(Topic<BTreeMap<String, Session>, Event>);

impl Sessions {
    pub(super) fn new(incarnation: &Arc<str>) -> Self {
        Self(Topic::new(incarnation, ROOM, BTreeMap::new()))
    }

    /// Shows `session`; an event goes out if that is a change.
    pub fn show(&self, session: Session) {
        self.0.change(|sessions| {
            if sessions.get(&session.id) == Some(&session) {
                return None;
            }
            sessions.insert(session.id.clone(), session.clone());
            Some(Event::Session { session: Box::new(session) })
        });
    }

    /// Takes session `id` off.
    pub fn remove(&self, id: &str) {
        self.0.change(|sessions| sessions.remove(id).map(|_| Event::Deleted { id: id.to_owned() }));
    }

    /// Session `id`.
    pub fn get(&self, id: &str) -> Option<Session> {
        self.0.read(|sessions| sessions.get(id).cloned()).0
    }

    /// All sessions, and where the events after that start.
    pub fn list(&self) -> SessionList {
        let (items, cursor) = self.0.read(|sessions| sessions.values().cloned().collect());
        SessionList { items, cursor, unreadable: Vec::new() }
    }

    /// What `of` gives of every session, counted.
    pub fn count<K: Ord>(&self, of: impl Fn(&Session) -> K) -> BTreeMap<K, u32> {
        let count = |sessions: &BTreeMap<String, Session>| {
            let mut counts = BTreeMap::new();
            for session in sessions.values() {
                *counts.entry(of(session)).or_insert(0) += 1;
            }
            counts
        };
        self.0.read(count).0
    }

    /// A subscription from `cursor` on, or from now on. A cursor this process cannot serve starts with a reset.
    pub fn subscribe(&self, cursor: Option<Cursor>) -> Subscription {
        self.0.subscribe(cursor)
    }

    /// The next event of a subscription, once there is one. `None` when the topic is gone.
    pub async fn next(&self, subscription: &mut Subscription) -> Option<(Cursor, Event)> {
        let (cursor, heard) = self.0.next(subscription).await?;
        let event = match heard {
            Heard::Event(event) => event,
            Heard::Missed => Event::Reset,
        };
        Some((cursor, event))
    }
}
