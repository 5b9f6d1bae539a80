//! The messages of a session that wait to be handed over, in the order in which they were accepted.

use std::collections::{VecDeque, vec_deque};

use jiff::Timestamp;

use super::{RecipientKey, Waiting};

/// The messages that wait.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// No message expires before then. Some may expire later than that.
    next_expiry: Option<Timestamp>,
}

impl Queue {
    /// These messages, in order.
    pub(super) fn new(waiting: impl IntoIterator<Item = Waiting>) -> Self {
        let waiting: VecDeque<Waiting> = waiting.into_iter().collect();
        Self { next_expiry: next_expiry(&waiting), waiting }
    }

    /// Puts a message in its place.
    pub(super) fn insert(&mut self, message: Waiting) {
        if let Some(at) = expiry(&message) {
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
        let position = self.waiting.partition_point(|other| other.sequence < message.sequence);
        self.waiting.insert(position, message);
    }

    /// Takes the message out that is at this position.
    pub(super) fn remove(&mut self, position: usize) -> Option<Waiting> {
        self.waiting.remove(position)
    }

    /// Where a message is.
    pub(super) fn position(&self, sequence: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&sequence, |waiting| waiting.sequence).ok()
    }

    /// The message at a position.
    pub(super) fn get(&self, position: usize) -> Option<&Waiting> {
        self.waiting.get(position)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> vec_deque::Iter<'_, Waiting> {
        self.waiting.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.next_expiry = None;
    }

    /// These people have got a message of this session before.
    pub(super) fn mark_known(&mut self, recipients: &[RecipientKey]) {
        // There may be as many of them as messages.
        let mut recipients = recipients.to_vec();
        recipients.sort_unstable();
        for waiting in &mut self.waiting {
            waiting.known |= recipients.binary_search(&waiting.recipient).is_ok();
        }
    }

    /// Whoever was known as `written` is this person; whether some message is marked that they have got one before.
    pub(super) fn rename(&mut self, written: RecipientKey, person: RecipientKey) -> bool {
        let mut known = false;
        for waiting in &mut self.waiting {
            if waiting.recipient == written {
                waiting.recipient = person;
            }
            known |= waiting.known && waiting.recipient == person;
        }
        known
    }

    /// Takes out what has expired, and gives the sequences.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<u64> {
        let mut expired = Vec::new();
        if self.next_expiry.is_none_or(|at| at > now) {
            return expired;
        }
        self.waiting.retain(|waiting| {
            let over = expiry(waiting).is_some_and(|at| at <= now);
            if over {
                expired.push(waiting.sequence);
            }
            !over
        });
        self.next_expiry = next_expiry(&self.waiting);
        expired
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.next_expiry
    }
}

/// When a message expires: not once it was handed over.
fn expiry(message: &Waiting) -> Option<Timestamp> {
    (!message.handed_over).then_some(message.expires_at)
}

fn next_expiry(waiting: &VecDeque<Waiting>) -> Option<Timestamp> {
    waiting.iter().filter_map(expiry).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, expires_at: i64, handed_over: bool) -> Waiting {
        let expires_at = Timestamp::from_second(expires_at).unwrap();
        Waiting { sequence, recipient: sequence, known: false, expires_at, handed_over }
    }

    #[test]
    fn messages_are_in_order_and_expire_unless_they_were_handed_over() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut queue = Queue::new([message(2, 50, false), message(4, 20, true)]);
        assert_eq!(queue.next_expiry(), Some(at(50)));
        queue.insert(message(3, 30, false));
        queue.insert(message(1, 10, true));
        assert_eq!(queue.iter().map(|waiting| waiting.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((queue.next_expiry(), queue.position(3), queue.position(5)), (Some(at(30)), Some(2), None));
        assert!(queue.expire(at(29)).is_empty());
        assert_eq!(queue.expire(at(30)), [3]);
        assert_eq!((queue.next_expiry(), queue.len()), (Some(at(50)), 3));
        queue.mark_known(&[2, 9]);
        assert_eq!(queue.iter().map(|waiting| waiting.known).collect::<Vec<_>>(), [false, true, false]);
        queue.clear();
        assert_eq!((queue.next_expiry(), queue.len()), (None, 0));
    }
}
