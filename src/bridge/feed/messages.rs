//! The topic of the messages: how far each has come.

use std::sync::Arc;

use whatsapp_operator::bridge_api::{Cursor, MessageStatus};

use super::topic::{Heard, Subscription, Topic};

/// How many events can be resumed from. A message makes about four in its life.
const ROOM: usize = 8192;

/// How far messages have come, as it happens.
pub struct Messages(Topic<(), MessageStatus>);

impl Messages {
    pub(super) fn new(incarnation: &Arc<str>) -> Self {
        Self(Topic::new(incarnation, ROOM, ()))
    }

    /// A message has come further.
    pub fn show(&self, status: MessageStatus) {
        self.0.change(|()| Some(status));
    }

    /// A subscription from `cursor` on, or from now on.
    pub fn subscribe(&self, cursor: Option<Cursor>) -> Subscription {
        self.0.subscribe(cursor)
    }

    /// Where a subscription begins; nothing when some were missed before it.
    pub fn begins(&self, subscription: &Subscription) -> Option<Cursor> {
        self.0.begins(subscription)
    }

    /// The next of a subscription, once there is one: a message, or nothing when some were missed.
    pub async fn next(&self, subscription: &mut Subscription) -> Option<(Cursor, Option<MessageStatus>)> {
        let (cursor, heard) = self.0.next(subscription).await?;
        Some(match heard {
            Heard::Event(status) => (cursor, Some(status)),
            Heard::Missed => (cursor, None),
        })
    }
}
