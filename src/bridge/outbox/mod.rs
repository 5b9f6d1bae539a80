//! What waits to be sent by one session, as a machine without clock and I/O: [`Outbox::step`] takes what happened and gives what
//! has to be written, and what has to be done once that is on the disk.
//!
//! Invariants:
//!
//! - One message at a time is with the server. So their order is kept. After a crash or a lost connection it is not known whether it
//!   arrived; it goes out again with the id it has, and is the same message to all.
//! - That a message is handed over is on the disk before it is. Until then it may expire and be called back; from then on only the
//!   server's word settles it, or that of the recipient's phone. Where it is certain that nothing came of it, that is written too; an
//!   attempt to which there was no answer stays one, whatever the server says to a later one.
//! - What is for one person goes in order. What cannot be handed over holds up the others for a minute, and then only those for the same
//!   person; what the server says nothing about, for three connections.
//! - Everything but order and expiry of what waits stands on the disk and not in here: a hundred thousand waiting messages
//!   are four megabytes.

mod events;
mod flight;
mod nacks;
mod pace;
mod persons;
mod queue;
mod recipient_failures;
#[cfg(test)]
mod tests;
mod turn;

use jiff::Timestamp;
pub use whatsapp_operator::bridge_api::{BadRecipient, Recipient, RecipientKey};
use whatsapp_operator::bridge_api::{MessageState, Sending, WaitsFor};

pub use self::{
    events::{Effect, Event, Obstacle, Reach, Settled, Waiting, Write},
    nacks::{NEW_CHATS_CAPPED, TIMELOCKED},
};
use self::{
    flight::{Acknowledgement, InFlight},
    pace::Pace,
    persons::Persons,
    queue::Queue,
    recipient_failures::RecipientFailures,
    turn::Plan,
};
use crate::machine::{Chance, later};

/// What one session has to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbox {
    /// In the order in which they were accepted.
    waiting: Queue,
    flying: Option<InFlight>,
    /// Whose the keys of the recipients are.
    persons: Persons,
    reach: Reach,
    pace: Pace,
    /// Nothing goes before then: the server refused for a reason that may pass.
    not_before: Option<Timestamp>,
    /// How often in a row it did.
    refusals: u32,
    /// How many connections were suspected since the server last said anything about a message.
    suspicions: u32,
    /// Who cannot be written to for now.
    recipient_failures: RecipientFailures,
    /// The server refused a message as those of a restricted account are; until then the account is taken for one.
    restricted_until: Option<Timestamp>,
    /// What the last step found. Finding it goes through all that wait while the account is restricted, so it is not done for every
    /// question. None after a change that was no step.
    plan: Option<Plan>,
    chance: Chance,
}

impl Outbox {
    /// What was found on the disk, in order.
    pub fn new(waiting: impl IntoIterator<Item = Waiting>, spec: Sending, seed: u64) -> Self {
        Self {
            waiting: Queue::new(waiting),
            flying: None,
            persons: Persons::default(),
            reach: Reach::Down(WaitsFor::Connection),
            pace: Pace::new(spec),
            not_before: None,
            refusals: 0,
            suspicions: 0,
            recipient_failures: RecipientFailures::default(),
            restricted_until: None,
            plan: None,
            chance: Chance::new(seed),
        }
    }

    /// Takes what happened. What is returned first has to be on the disk before the rest is done. In place, and not a copy as
    /// with a session: there may be a hundred thousand messages. So what could not be written has to be written later.
    pub fn step(&mut self, event: Event, now: Timestamp) -> (Vec<Write>, Vec<Effect>) {
        let (mut writes, mut effects) = (Vec::new(), Vec::new());
        if self.restricted_until.is_some_and(|until| until <= now) {
            self.restricted_until = None;
        }
        self.apply(event, now, &mut writes);
        for sequence in self.waiting.expire(now) {
            writes.push(Write::Settle(sequence, Settled::ended(MessageState::Expired, None, now)));
        }
        if !self.recipient_failures.is_empty() {
            let (waiting, flying) = (&self.waiting, self.flying.map(|flying| flying.message));
            self.recipient_failures
                .retain(|recipient| waiting.iter().chain(&flying).any(|waiting| waiting.recipient == recipient));
        }
        self.proceed(now, &mut writes, &mut effects);
        (writes, effects)
    }

    /// The client is given the message only now: writing that it is took its time.
    pub fn handing_over(&mut self, sequence: u64, now: Timestamp) {
        if let Some(flying) = self.flying_of(sequence) {
            flying.since = now;
        }
    }

    /// Takes back an [`Event::Accepted`] that could not be written: nothing has come of it yet.
    pub fn withdraw(&mut self, sequence: u64) {
        self.plan = None;
        if self.flying_of(sequence).is_some() {
            self.flying = None;
        } else if let Some(position) = self.waiting.position(sequence) {
            self.waiting.remove(position);
        }
    }

    /// Nothing waits any more: what did is settled.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.plan = None;
        (self.flying, self.not_before) = (None, None);
        (self.refusals, self.suspicions) = (0, 0);
        (self.recipient_failures, self.restricted_until) = (RecipientFailures::default(), None);
    }

    /// These people have got a message of this session before.
    pub fn mark_known(&mut self, recipients: &[RecipientKey]) {
        self.plan = None;
        let persons: Vec<RecipientKey> = recipients.iter().map(|key| self.persons.of(*key)).collect();
        self.waiting.mark_known(&persons);
    }

    /// Whoever has one of these keys is this person: what is for them, under whichever key, keeps to one order and one pace.
    pub fn recognize(&mut self, keys: &[RecipientKey], person: RecipientKey) {
        for &key in keys {
            if key == person || !self.persons.learn(key, person) {
                continue;
            }
            self.plan = None;
            self.pace.rename(key, person);
            self.recipient_failures.rename(key, person);
            let mut known = self.waiting.rename(key, person);
            let of_theirs = |flying: &&mut InFlight| [key, person].contains(&flying.message.recipient);
            if let Some(flying) = self.flying.as_mut().filter(of_theirs) {
                flying.message.recipient = person;
                known |= flying.message.known;
            }
            if known {
                self.waiting.mark_known(&[person]);
            }
        }
    }

    /// How many wait, the one that is with the server included.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.flying.is_some())
    }

    /// Whether the server may have one of those that wait.
    pub fn has_unanswered(&self) -> bool {
        self.flying.is_some() || self.waiting.iter().any(|waiting| waiting.handed_over)
    }

    /// How fast it sends.
    pub fn pace(&self) -> Sending {
        self.pace.spec()
    }

    /// Whether messages can be handed over.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether the server stopped to acknowledge messages, as far as is known: a connection was suspected for it, and nothing has
    /// been heard of a message since.
    pub fn is_unacknowledged(&self) -> bool {
        self.suspicions > 0
    }

    fn apply(&mut self, event: Event, now: Timestamp, writes: &mut Vec<Write>) {
        match event {
            Event::Accepted(mut waiting) => {
                waiting.recipient = self.persons.of(waiting.recipient);
                if waiting.known {
                    self.mark_known(&[waiting.recipient]);
                }
                self.waiting.insert(waiting);
            }
            Event::CallBack(sequence) => self.call_back(sequence, now, writes),
            Event::Reach(reach) => self.reach_changed(reach, now, writes),
            Event::Pace(spec) => self.pace.set(spec),
            Event::Unrestricted if self.reach.is_timelocked() => {
                self.restricted_until = None;
                self.recipient_failures.unrestricted();
            }
            // Not believed when several people were refused one after the other.
            Event::Unrestricted if !self.recipient_failures.are_several(now) => self.restricted_until = None,
            Event::Unrestricted => {}
            Event::Tick => {}
            Event::HandedOver { sequence, keyed } => {
                if let Some(flying) = self.flying_of(sequence) {
                    (flying.keyed, flying.since) = (Some(keyed || flying.arrived), now);
                    self.conclude(now, writes);
                }
            }
            Event::Acknowledged { sequence, at } => {
                if let Some(flying) = self.flying_of(sequence) {
                    flying.acknowledged = Some(Acknowledgement { at });
                    self.suspicions = 0;
                    self.conclude(now, writes);
                }
            }
            Event::Arrived { sequence, at } => self.arrived(sequence, at, now, writes),
            Event::NotHandedOver { sequence, why } => self.hindered(sequence, why, now, writes),
            Event::Refused { sequence, code } => self.refused(sequence, code, now, writes),
        }
    }

    fn call_back(&mut self, sequence: u64, now: Timestamp, writes: &mut Vec<Write>) {
        if self.can_be_called_back(sequence)
            && let Some(position) = self.waiting.position(sequence)
        {
            self.waiting.remove(position);
            writes.push(Write::Settle(sequence, Settled::ended(MessageState::Cancelled, None, now)));
        }
    }

    /// Whether a message can still be called back.
    pub fn can_be_called_back(&self, sequence: u64) -> bool {
        let waiting = self.waiting.position(sequence).and_then(|position| self.waiting.get(position));
        waiting.is_some_and(|waiting| !waiting.handed_over)
    }

    /// Hands over what is next, and suspects a connection on which nothing is acknowledged.
    fn proceed(&mut self, now: Timestamp, writes: &mut Vec<Write>, effects: &mut Vec<Effect>) {
        self.plan = None;
        let overdue = |flying: &InFlight| !flying.suspected && later(flying.since, self.patience(flying)) <= now;
        let overdue = self.flying.as_ref().is_some_and(overdue);
        if let Some(flying) = &mut self.flying {
            if overdue {
                flying.suspected = true;
                self.suspicions = self.suspicions.saturating_add(1);
                effects.push(Effect::Suspect(flying.client));
            }
            return;
        }
        let Reach::Up { client, .. } = self.reach else { return };
        let position = self.position_of_candidate(now);
        let candidate = position.and_then(|position| self.waiting.get(position)).copied();
        let due = candidate.is_some_and(|waiting| self.turn_of(&waiting, now) <= now);
        let Some(mut message) = position.filter(|_| due).and_then(|position| self.waiting.remove(position)) else {
            self.plan = Some(Plan { candidate, freed_at: self.recipient_failures.next(now) });
            return;
        };
        let unanswered = message.handed_over;
        if !unanswered {
            message.handed_over = true;
            writes.push(Write::HandOver(message.sequence));
        }
        let jitter = self.chance.any();
        self.pace.spend(message.recipient, now, jitter);
        self.not_before = None;
        self.flying = Some(InFlight {
            message,
            client,
            since: now,
            unanswered,
            keyed: None,
            acknowledged: None,
            arrived: false,
            suspected: false,
        });
        let fresh = self.recipient_failures.has_failed(message.recipient);
        effects.push(Effect::Send { client, sequence: message.sequence, fresh });
    }
}
