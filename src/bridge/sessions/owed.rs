//! What the store has failed to write.

use std::time::Duration;

use tokio::time::Instant;

use super::outboxes::Undecided;
use crate::{
    machine::Event,
    outbox,
    store::{Change, StoreError},
};

/// An event that has happened, or changes that follow from one, which the store has failed to write. Until they are written the session
/// takes no other event; changes of messages that come up meanwhile are added to those that are owed.
pub(super) struct Unstored {
    /// Taken after the messages, because it may end those that wait.
    pub(super) event: Option<Event>,
    pub(super) messages: Owed,
    pub(super) error: StoreError,
    pub(super) wait: Duration,
    pub(super) again: Instant,
}

/// What is owed to the store, and to those who wait for messages.
#[derive(Default)]
pub(super) struct Owed {
    /// Changes of messages.
    pub(super) changes: Vec<Change>,
    /// What follows from them.
    pub(super) effects: Vec<outbox::Effect>,
    /// Messages of which it is not known whether the store has taken them: it was too slow to answer.
    pub(super) undecided: Vec<Undecided>,
}

impl Owed {
    /// These changes, and what follows from them.
    pub(super) fn of(changes: Vec<Change>, effects: Vec<outbox::Effect>) -> Self {
        Self { changes, effects, undecided: Vec::new() }
    }
}

/// What is to be done once changes of messages are on the disk.
pub(super) enum Then {
    /// Nothing follows from them, so nothing waits for the disk.
    GoOn,
    /// The session waits for the disk, and then does this.
    CarryOut(Vec<outbox::Effect>),
}
