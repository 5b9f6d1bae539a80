//! What waits to be sent by one session, as a machine without clock and I/O: [`Outbox::step`] takes what happened and gives what
//! has to be written, and what has to be done once that is on the disk.
//!
//! What carries the weight:
//!
//! - One message at a time is with the server. So their order is kept, and after a crash or a lost connection there is one
//!   message of which nobody knows whether it arrived; it goes out again with the id it has, and is the same message to all.
//! - That a message is handed over is on the disk before it is. Until then it may expire and be called back; from then on
//!   only the server's word settles it. Where it is certain that nothing came of it, that is written too; an attempt to which
//!   there was no answer stays one, whatever the server says to a later one.
//! - What is for one person goes in order. What cannot be handed over holds up the others for a minute, and then only those for
//!   the same person.
//! - Everything but order and expiry of what waits stands on the disk and not in here: a hundred thousand waiting messages
//!   are four megabytes.

mod events;
mod nacks;
mod pace;
#[cfg(test)]
mod tests;
mod troubles;

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
pub use whatsapp_operator::bridge_api::{BadRecipient, Recipient, RecipientKey};
use whatsapp_operator::bridge_api::{MessageCause, MessageState, Sending, WaitsFor};

pub use self::{
    events::{Effect, Event, Link, Obstacle, Settled, Waiting, Write},
    nacks::{NEW_CHATS_CAPPED, TIMELOCKED},
};
use self::{
    nacks::Refusal,
    pace::Pace,
    troubles::{Troubles, Verdict, doubled},
};
use crate::machine::{Generation, later};

/// How long the server may take to acknowledge a message on a connection that works. Real ones take well under a second.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// How long the client may take before it has handed the message over: it may have to ask for the recipient's devices and for
/// their keys.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(60);
/// The same after connections in a row on which nothing was acknowledged: the time doubles up to this, because each of them
/// costs a login.
const ACKNOWLEDGED_WITHIN_MAX: Duration = Duration::from_secs(600);
/// First wait before a message goes again that the server did not take for a reason that may pass; doubles.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest such wait.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// How long a refusal for a restriction keeps new chats back when nobody says whether there is one: then it is tried again.
const RESTRICTION_SUSPECTED: Duration = Duration::from_secs(600);

/// The server's word that it has a message.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Acknowledgement {
    at: Option<Timestamp>,
}

/// The message that is with the server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Flying {
    message: Waiting,
    client: Generation,
    /// Since when what is due next is due: that the client hands it over, and then the server's word.
    since: Timestamp,
    /// It was handed over before, and there was no answer.
    unanswered: bool,
    /// What the client said of the phone's keys, once it did.
    keyed: Option<bool>,
    /// What the server said, when that was faster than the client.
    acknowledged: Option<Acknowledgement>,
    suspected: bool,
}

/// What is next while nothing is with the server, and nothing was due when it was looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plan {
    /// The first message that nothing but its time keeps back.
    candidate: Option<Waiting>,
    /// When another message may be freed: something that keeps it back ends then.
    freed_at: Option<Timestamp>,
}

/// What one session has to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbox {
    /// In the order in which they were accepted.
    waiting: VecDeque<Waiting>,
    flying: Option<Flying>,
    link: Link,
    pace: Pace,
    /// Nothing goes before then: the server refused for a reason that may pass.
    not_before: Option<Timestamp>,
    /// How often in a row it did.
    refusals: u32,
    /// How many connections were suspected since the server last said anything about a message.
    suspicions: u32,
    /// Who cannot be written to for now.
    troubles: Troubles,
    /// The server refused a message as those of a restricted account are; until then the account is taken for one.
    restricted_until: Option<Timestamp>,
    /// No message expires before then.
    next_expiry: Option<Timestamp>,
    /// What the last step found. Finding it goes through all that wait while the account is restricted, so it is not done for every
    /// question. None after a change that was no step.
    plan: Option<Plan>,
    seed: u64,
}

impl Outbox {
    /// What was found on the disk, in order.
    pub fn new(waiting: impl IntoIterator<Item = Waiting>, spec: Sending, seed: u64) -> Self {
        let waiting: VecDeque<Waiting> = waiting.into_iter().collect();
        Self {
            next_expiry: next_expiry(&waiting),
            waiting,
            flying: None,
            link: Link::Down(WaitsFor::Connection),
            pace: Pace::new(spec),
            not_before: None,
            refusals: 0,
            suspicions: 0,
            troubles: Troubles::default(),
            restricted_until: None,
            plan: None,
            seed: seed | 1,
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
        self.expire(now, &mut writes);
        if !self.troubles.is_empty() {
            let (waiting, flying) = (&self.waiting, self.flying.map(|flying| flying.message));
            self.troubles.keep(|recipient| waiting.iter().chain(&flying).any(|waiting| waiting.recipient == recipient));
        }
        self.proceed(now, &mut writes, &mut effects);
        (writes, effects)
    }

    /// The client is given the message only now: writing that it is took its time.
    pub fn begins(&mut self, sequence: u64, now: Timestamp) {
        if let Some(flying) = self.flying_of(sequence) {
            flying.since = now;
        }
    }

    /// Takes back an [`Event::Accepted`] that could not be written: nothing has come of it yet.
    pub fn withdraw(&mut self, sequence: u64) {
        self.plan = None;
        if self.flying_of(sequence).is_some() {
            self.flying = None;
        } else if let Ok(position) = self.position(sequence) {
            self.waiting.remove(position);
        }
    }

    /// Nothing waits any more: what did is settled.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.plan = None;
        (self.flying, self.next_expiry, self.not_before) = (None, None, None);
        (self.refusals, self.suspicions) = (0, 0);
        (self.troubles, self.restricted_until) = (Troubles::default(), None);
    }

    fn position(&self, sequence: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&sequence, |waiting| waiting.sequence)
    }

    /// These people have got a message of this session before.
    pub fn knows(&mut self, recipients: &[RecipientKey]) {
        self.plan = None;
        for waiting in &mut self.waiting {
            waiting.known |= recipients.contains(&waiting.recipient);
        }
    }

    /// How many wait, the one that is with the server included.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.flying.is_some())
    }

    /// How fast it sends.
    pub fn pace(&self) -> Sending {
        self.pace.spec()
    }

    /// Whether messages can be handed over.
    pub fn link(&self) -> Link {
        self.link
    }

    /// When a message that is accepted now would be sent, by the pace and what waits before it.
    pub fn estimate(&self, now: Timestamp) -> Timestamp {
        self.pace.estimate(self.len(), now)
    }

    /// What a message waits for, and when it is expected to be sent: not before then, where nobody knows the end of what it waits for.
    /// `None` when it does not wait.
    pub fn waits(&self, sequence: u64, now: Timestamp) -> Option<(WaitsFor, Timestamp)> {
        if self.flying.is_some_and(|flying| flying.message.sequence == sequence) {
            return Some((WaitsFor::Acknowledgement, now));
        }
        let position = self.position(sequence).ok()?;
        let waiting = self.waiting.get(position)?;
        let by_pace = self.pace.estimate(position + usize::from(self.flying.is_some()), now);
        Some(match self.link {
            Link::Down(why) => (why, by_pace),
            Link::Up { .. } if self.is_locked(waiting, now) => {
                (WaitsFor::Restriction, by_pace.max(self.restricted_until.unwrap_or(now)))
            }
            Link::Up { .. } if let Some(until) = self.troubles.aside_until(waiting.recipient, now) => {
                (WaitsFor::Pacing, until)
            }
            Link::Up { .. } => {
                let why = if position == 0 && self.flying.is_none() { WaitsFor::Pacing } else { WaitsFor::Turn };
                (why, by_pace.max(self.not_before.unwrap_or(now)))
            }
        })
    }

    /// What holds up the messages that wait, and how many they are. Those behind others count with the first.
    pub fn held_up(&self, now: Timestamp) -> Option<(WaitsFor, usize)> {
        let first_is_locked = || self.waiting.front().is_some_and(|first| self.is_locked(first, now));
        let why = match self.link {
            Link::Down(why) => why,
            Link::Up { .. } if self.flying.is_some() => WaitsFor::Acknowledgement,
            Link::Up { .. } if first_is_locked() && self.plan(now).candidate.is_none() => WaitsFor::Restriction,
            Link::Up { .. } => WaitsFor::Pacing,
        };
        (self.len() > 0).then(|| (why, self.len()))
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let acknowledged_by =
            self.flying.filter(|flying| !flying.suspected).map(|flying| later(flying.since, self.patience(&flying)));
        let (turn, again) = match (self.flying, self.link) {
            (None, Link::Up { .. }) => {
                let Plan { candidate, freed_at } = self.plan(now);
                (candidate.map(|waiting| self.turn_of(&waiting, now)), freed_at)
            }
            _ => (None, None),
        };
        [acknowledged_by, self.next_expiry, self.restricted_until, turn, again].into_iter().flatten().min()
    }

    fn apply(&mut self, event: Event, now: Timestamp, writes: &mut Vec<Write>) {
        match event {
            Event::Accepted(waiting) => {
                self.may_expire(waiting.expires_at);
                if waiting.known {
                    self.knows(&[waiting.recipient]);
                }
                self.line_up(waiting);
            }
            Event::CallBack(sequence) => self.call_back(sequence, now, writes),
            Event::Link(link) => self.linked(link, now),
            Event::Pace(spec) => self.pace.set(spec),
            Event::Unrestricted if self.link.is_timelocked() => {
                self.restricted_until = None;
                self.troubles.unrestricted();
            }
            // Not believed when several people were refused one after the other.
            Event::Unrestricted if !self.troubles.are_several(now) => self.restricted_until = None,
            Event::Unrestricted => {}
            Event::Tick => {}
            Event::HandedOver { sequence, keyed } => {
                if let Some(flying) = self.flying_of(sequence) {
                    (flying.keyed, flying.since) = (Some(keyed), now);
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
            Event::NotHandedOver { sequence, why } => self.hindered(sequence, why, now, writes),
            Event::Refused { sequence, code } => self.refused(sequence, code, now, writes),
        }
    }

    fn flying_of(&mut self, sequence: u64) -> Option<&mut Flying> {
        self.flying.as_mut().filter(|flying| flying.message.sequence == sequence)
    }

    fn call_back(&mut self, sequence: u64, now: Timestamp, writes: &mut Vec<Write>) {
        if self.can_be_called_back(sequence)
            && let Ok(position) = self.position(sequence)
        {
            self.waiting.remove(position);
            writes.push(Write::Settle(sequence, Settled::ended(MessageState::Cancelled, None, now)));
        }
    }

    /// Whether a message can still be called back.
    pub fn can_be_called_back(&self, sequence: u64) -> bool {
        self.position(sequence)
            .is_ok_and(|position| self.waiting.get(position).is_some_and(|waiting| !waiting.handed_over))
    }

    fn linked(&mut self, link: Link, now: Timestamp) {
        let was = self.flying.filter(|flying| link.client() != Some(flying.client));
        // What was suspected is over when what was known is, or has run out.
        if self.link.is_timelocked() && matches!(link, Link::Up { timelocked: false, .. }) {
            self.restricted_until = None;
        }
        if link.client() != self.link.client() {
            self.not_before = None;
            self.troubles.reconnected();
        }
        self.link = link;
        if let Some(Flying { message, suspected, keyed, .. }) = was {
            if suspected && keyed.is_none() {
                self.troubles.silent(message.recipient, now);
            }
            // Whatever is with a client that is gone goes out again by the next one.
            self.land();
        }
    }

    /// Puts the message that is with the server back in its place.
    fn land(&mut self) {
        if let Some(Flying { message, .. }) = self.flying.take() {
            self.line_up(message);
        }
    }

    fn line_up(&mut self, message: Waiting) {
        let position = self.waiting.partition_point(|other| other.sequence < message.sequence);
        self.waiting.insert(position, message);
    }

    fn may_expire(&mut self, at: Timestamp) {
        self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
    }

    /// A message is sent when the server has acknowledged it and the recipient's phone can read it.
    fn conclude(&mut self, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(Flying { message, keyed: Some(keyed), acknowledged: Some(Acknowledgement { at }), .. }) = self.flying
        else {
            return;
        };
        self.refusals = 0;
        if keyed {
            self.flying = None;
            self.troubles.over(message.recipient);
            if !message.known {
                self.knows(&[message.recipient]);
            }
            let sent = Settled::ended(MessageState::Sent, None, at.unwrap_or(now));
            let settled = Settled { by_server: at.is_some(), ..sent };
            return writes.push(Write::Settle(message.sequence, settled));
        }
        match self.troubles.not_keyed(message.recipient) {
            Verdict::Unreachable | Verdict::NotOnWhatsApp => {
                self.fail(message, MessageCause::RecipientUnreachable, None, now, writes);
            }
            Verdict::Again => {
                self.land();
                self.wait_a_while(now);
            }
        }
    }

    fn hindered(&mut self, sequence: u64, why: Obstacle, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(Flying { message, .. }) = self.flying_of(sequence).copied() else { return };
        match why {
            Obstacle::NotOnWhatsApp => self.fail(message, MessageCause::NotOnWhatsApp, None, now, writes),
            Obstacle::Unsendable => self.fail(message, MessageCause::Unsendable, None, now, writes),
            Obstacle::NotMentioned | Obstacle::Recipient | Obstacle::Passing => self.again(Some(why), now, writes),
            Obstacle::Connection => {
                self.troubles.failed(&message, Some(why), now);
                self.land();
                self.wait_a_while(now);
            }
        }
    }

    fn refused(&mut self, sequence: u64, code: i64, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(Flying { message, .. }) = self.flying_of(sequence).copied() else { return };
        self.suspicions = 0;
        match nacks::meaning(code) {
            Refusal::NewChat => {
                self.troubles.not_started(message.recipient, now);
                // Whoever runs the session asks whether it is restricted, and may get no answer.
                self.restricted_until = Some(later(now, RESTRICTION_SUSPECTED));
                self.take_back(writes);
            }
            Refusal::Passing => self.again(None, now, writes),
            Refusal::Final(cause) => self.fail(message, cause, Some(code), now, writes),
        }
    }

    /// Nothing came of the message that is with the server, and that is certain: it goes again later, if it is not given up.
    fn again(&mut self, why: Option<Obstacle>, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(Flying { message, .. }) = self.flying else { return };
        match self.troubles.failed(&message, why, now) {
            Verdict::NotOnWhatsApp => self.fail(message, MessageCause::NotOnWhatsApp, None, now, writes),
            Verdict::Unreachable => self.fail(message, MessageCause::RecipientUnreachable, None, now, writes),
            Verdict::Again => {
                self.take_back(writes);
                self.wait_a_while(now);
            }
        }
    }

    /// Puts the message that is with the server back in its place, because nothing came of it: as if it had not been handed over,
    /// unless it was before and there was no answer.
    fn take_back(&mut self, writes: &mut Vec<Write>) {
        let Some(Flying { mut message, unanswered, .. }) = self.flying.take() else { return };
        if !unanswered {
            message.handed_over = false;
            self.may_expire(message.expires_at);
            writes.push(Write::TakeBack(message.sequence));
        }
        self.line_up(message);
    }

    fn fail(
        &mut self,
        message: Waiting,
        cause: MessageCause,
        code: Option<i64>,
        now: Timestamp,
        writes: &mut Vec<Write>,
    ) {
        self.flying = None;
        self.refusals = 0;
        self.troubles.over(message.recipient);
        let settled = Settled { code, ..Settled::ended(MessageState::Failed, Some(cause), now) };
        writes.push(Write::Settle(message.sequence, settled));
    }

    /// Whether the server stopped to acknowledge messages, as far as is known: a connection was suspected for it, and nothing has
    /// been heard of a message since.
    pub fn is_unacknowledged(&self) -> bool {
        self.suspicions > 0
    }

    fn patience(&self, flying: &Flying) -> Duration {
        let first = if flying.keyed.is_some() { ACKNOWLEDGED_WITHIN } else { HANDED_OVER_WITHIN };
        doubled(first, self.suspicions, ACKNOWLEDGED_WITHIN_MAX)
    }

    fn wait_a_while(&mut self, now: Timestamp) {
        self.not_before = Some(later(now, doubled(AGAIN, self.refusals, AGAIN_MAX)));
        self.refusals = self.refusals.saturating_add(1);
    }

    fn expire(&mut self, now: Timestamp, writes: &mut Vec<Write>) {
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        self.waiting.retain(|waiting| {
            let over = !waiting.handed_over && waiting.expires_at <= now;
            if over {
                writes.push(Write::Settle(waiting.sequence, Settled::ended(MessageState::Expired, None, now)));
            }
            !over
        });
        self.next_expiry = next_expiry(&self.waiting);
    }

    /// Hands over what is next, and suspects a connection on which nothing is acknowledged.
    fn proceed(&mut self, now: Timestamp, writes: &mut Vec<Write>, effects: &mut Vec<Effect>) {
        self.plan = None;
        let overdue = |flying: &Flying| !flying.suspected && later(flying.since, self.patience(flying)) <= now;
        let overdue = self.flying.as_ref().is_some_and(overdue);
        if let Some(flying) = &mut self.flying {
            if overdue {
                flying.suspected = true;
                self.suspicions = self.suspicions.saturating_add(1);
                effects.push(Effect::Suspect(flying.client));
            }
            return;
        }
        let Link::Up { client, .. } = self.link else { return };
        let position = self.position_of_candidate(now);
        let candidate = position.and_then(|position| self.waiting.get(position)).copied();
        let due = candidate.is_some_and(|waiting| self.turn_of(&waiting, now) <= now);
        let Some(mut message) = position.filter(|_| due).and_then(|position| self.waiting.remove(position)) else {
            self.plan = Some(Plan { candidate, freed_at: self.troubles.next(now) });
            return;
        };
        let unanswered = message.handed_over;
        if !unanswered {
            message.handed_over = true;
            writes.push(Write::HandOver(message.sequence));
        }
        let jitter = self.random();
        self.pace.spend(message.recipient, now, jitter);
        self.not_before = None;
        self.flying =
            Some(Flying { message, client, since: now, unanswered, keyed: None, acknowledged: None, suspected: false });
        let fresh = self.troubles.are_with(message.recipient);
        effects.push(Effect::Send { client, sequence: message.sequence, fresh });
    }

    /// What is next on a connection that works, while nothing is with the server.
    fn plan(&self, now: Timestamp) -> Plan {
        self.plan.unwrap_or_else(|| {
            let position = self.position_of_candidate(now);
            let candidate = position.and_then(|position| self.waiting.get(position)).copied();
            Plan { candidate, freed_at: self.troubles.next(now) }
        })
    }

    /// The first message that nothing but its time keeps back. Only a restriction, and a recipient who cannot be reached, let
    /// others overtake.
    fn position_of_candidate(&self, now: Timestamp) -> Option<usize> {
        let is_free = |waiting: &Waiting| {
            !self.is_locked(waiting, now) && self.troubles.aside_until(waiting.recipient, now).is_none()
        };
        self.waiting.iter().position(is_free)
    }

    /// Whether only those who have got a message before are written to.
    pub fn is_restricted(&self) -> bool {
        self.link.is_timelocked() || self.restricted_until.is_some()
    }

    fn is_locked(&self, waiting: &Waiting, now: Timestamp) -> bool {
        (self.is_restricted() && !waiting.known) || self.troubles.is_locked(waiting.recipient, now)
    }

    fn turn_of(&self, waiting: &Waiting, now: Timestamp) -> Timestamp {
        self.pace.next(waiting.recipient, now).max(self.not_before.unwrap_or(now))
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

fn next_expiry(waiting: &VecDeque<Waiting>) -> Option<Timestamp> {
    waiting.iter().filter(|waiting| !waiting.handed_over).map(|waiting| waiting.expires_at).min()
}
