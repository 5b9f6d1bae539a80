//! Which message is next, and what the others wait for.

use jiff::Timestamp;
use whatsapp_operator::bridge_api::WaitsFor;

use super::{Outbox, Reach, Waiting};
use crate::machine::later;

/// What is next while nothing is with the server, and nothing was due when it was looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    /// The first message that nothing but its time keeps back.
    pub(super) candidate: Option<Waiting>,
    /// When another message may be freed: something that keeps it back ends then.
    pub(super) freed_at: Option<Timestamp>,
}

impl Outbox {
    /// When a message that is accepted now would be sent, by the pace and what waits before it.
    pub fn estimate(&self, now: Timestamp) -> Timestamp {
        self.pace.estimate(self.len(), now)
    }

    /// What a message waits for, and when it is expected to be sent: not before then, where the end of what it waits for is not known.
    /// `None` when it does not wait.
    pub fn waits(&self, sequence: u64, now: Timestamp) -> Option<(WaitsFor, Timestamp)> {
        if self.flying.is_some_and(|flying| flying.message.sequence == sequence) {
            return Some((WaitsFor::Acknowledgement, now));
        }
        let position = self.waiting.position(sequence)?;
        let waiting = self.waiting.get(position)?;
        let by_pace = self.pace.estimate(position + usize::from(self.flying.is_some()), now);
        Some(match self.reach {
            Reach::Down(why) => (why, by_pace),
            Reach::Up { .. } if self.is_locked(waiting, now) => {
                (WaitsFor::Restriction, by_pace.max(self.restricted_until.unwrap_or(now)))
            }
            Reach::Up { .. } if let Some(until) = self.recipient_failures.aside_until(waiting.recipient, now) => {
                (WaitsFor::Pacing, until)
            }
            Reach::Up { .. } => {
                let why = if position == 0 && self.flying.is_none() { WaitsFor::Pacing } else { WaitsFor::Turn };
                (why, by_pace.max(self.not_before.unwrap_or(now)))
            }
        })
    }

    /// What holds up the messages that wait, and how many they are. Those behind others count with the first.
    pub fn held_up(&self, now: Timestamp) -> Option<(WaitsFor, usize)> {
        let first_is_locked = || self.waiting.get(0).is_some_and(|first| self.is_locked(first, now));
        let why = match self.reach {
            Reach::Down(why) => why,
            Reach::Up { .. } if self.flying.is_some() => WaitsFor::Acknowledgement,
            Reach::Up { .. } if first_is_locked() && self.plan(now).candidate.is_none() => WaitsFor::Restriction,
            Reach::Up { .. } => WaitsFor::Pacing,
        };
        (self.len() > 0).then(|| (why, self.len()))
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let acknowledged_by =
            self.flying.filter(|flying| !flying.suspected).map(|flying| later(flying.since, self.patience(&flying)));
        let (turn, again) = match (self.flying, self.reach) {
            (None, Reach::Up { .. }) => {
                let Plan { candidate, freed_at } = self.plan(now);
                (candidate.map(|waiting| self.turn_of(&waiting, now)), freed_at)
            }
            _ => (None, None),
        };
        [acknowledged_by, self.waiting.next_expiry(), self.restricted_until, turn, again].into_iter().flatten().min()
    }

    /// What is next on a connection that works, while nothing is with the server.
    fn plan(&self, now: Timestamp) -> Plan {
        self.plan.unwrap_or_else(|| {
            let position = self.position_of_candidate(now);
            let candidate = position.and_then(|position| self.waiting.get(position)).copied();
            Plan { candidate, freed_at: self.recipient_failures.next(now) }
        })
    }

    /// The first message that nothing but its time keeps back. Only a restriction, and a recipient who cannot be reached, let
    /// others overtake.
    pub(super) fn position_of_candidate(&self, now: Timestamp) -> Option<usize> {
        let is_free = |waiting: &Waiting| {
            !self.is_locked(waiting, now) && self.recipient_failures.aside_until(waiting.recipient, now).is_none()
        };
        self.waiting.iter().position(is_free)
    }

    /// Whether only those who have got a message before are written to.
    pub fn is_restricted(&self) -> bool {
        self.reach.is_timelocked() || self.restricted_until.is_some()
    }

    fn is_locked(&self, waiting: &Waiting, now: Timestamp) -> bool {
        (self.is_restricted() && !waiting.known) || self.recipient_failures.is_locked(waiting.recipient, now)
    }

    pub(super) fn turn_of(&self, waiting: &Waiting, now: Timestamp) -> Timestamp {
        self.pace.next(waiting.recipient, now).max(self.not_before.unwrap_or(now))
    }
}
