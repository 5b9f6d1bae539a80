//! How many messages may wait, and do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{held_up::HeldUp, refusal::Refusal};

/// The bounds, and how many wait in all sessions. Clones share the count.
#[derive(Clone, Debug)]
pub struct Outboxes {
    per_session: usize,
    per_bridge: usize,
    waiting: Arc<AtomicUsize>,
    /// What they wait for, as their sessions tell.
    pub held_up: HeldUp,
}

/// Room for one message; given back when it is dropped, unless it is kept.
pub struct QueueSlot(Option<Arc<AtomicUsize>>);

/// A message of which it is not known whether the store has taken it, and its slot while that is so.
pub struct Undecided {
    /// Its sequence.
    pub sequence: u64,
    /// The slot.
    pub slot: QueueSlot,
}

impl QueueSlot {
    /// The message waits.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.take() {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Outboxes {
    /// With these bounds.
    pub fn new(per_session: usize, per_bridge: usize) -> Self {
        Self { per_session, per_bridge, waiting: Arc::default(), held_up: HeldUp::default() }
    }

    /// So many were found on the disk.
    pub fn found(&self, waiting: usize) {
        self.waiting.fetch_add(waiting, Ordering::Relaxed);
    }

    /// Room in a session in which so many wait.
    pub fn enter(&self, in_session: usize) -> Result<QueueSlot, Refusal> {
        if in_session >= self.per_session {
            return Err(Refusal::SessionQueueFull { max: self.per_session });
        }
        let entered = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < self.per_bridge).then_some(waiting + 1)
        });
        match entered {
            Ok(_) => Ok(QueueSlot(Some(Arc::clone(&self.waiting)))),
            Err(_) => Err(Refusal::BridgeQueueFull { max: self.per_bridge }),
        }
    }

    /// So many wait no longer. Told by the store when that is written, whatever it was that settled them; also of sessions that could
    /// not be read and whose messages were never counted.
    pub fn leave(&self, count: usize) {
        let less = |waiting: usize| Some(waiting.saturating_sub(count));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_given_back_when_nothing_came_of_them() {
        let outboxes = Outboxes::new(2, 3);
        assert!(matches!(outboxes.enter(2), Err(Refusal::SessionQueueFull { max: 2 })));
        for _ in 0..5 {
            drop(outboxes.enter(0).unwrap());
        }
        (0..3).for_each(|_| outboxes.enter(0).unwrap().keep());
        assert!(matches!(outboxes.enter(0), Err(Refusal::BridgeQueueFull { max: 3 })));
        outboxes.leave(1);
        assert!(outboxes.enter(0).is_ok());
        assert_eq!(outboxes.waiting(), 2);
    }
}
