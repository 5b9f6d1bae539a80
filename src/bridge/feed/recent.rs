//! The newest events of a topic, numbered from 1.

use std::collections::VecDeque;

/// So many events as can be resumed from.
pub(super) struct Recent<E> {
    events: VecDeque<E>,
    room: usize,
    newest: u64,
}

/// What comes after an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After<E> {
    /// This one.
    Event(E),
    /// None yet.
    Nothing,
    /// Not known any more, or not to this process.
    Unknown,
}

impl<E: Clone> Recent<E> {
    /// No event yet, and room for so many.
    pub(super) fn new(room: usize) -> Self {
        Self { events: VecDeque::new(), room, newest: 0 }
    }

    /// The number of the newest event.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Adds an event, in the room of the oldest when there is no other, and gives its number.
    pub(super) fn push(&mut self, event: E) -> u64 {
        if self.events.len() == self.room {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.newest += 1;
        self.newest
    }

    /// What comes after event number `number`.
    pub(super) fn after(&self, number: u64) -> After<E> {
        let before_oldest = self.newest - self.events.len() as u64;
        let Some(index) = number.checked_sub(before_oldest).filter(|_| number <= self.newest) else {
            return After::Unknown;
        };
        let event = usize::try_from(index).ok().and_then(|index| self.events.get(index));
        event.map_or(After::Nothing, |event| After::Event(event.clone()))
    }
}
