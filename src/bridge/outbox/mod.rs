//! What waits to be sent by one session, as a machine without clock and I/O: [`Outbox::step`] takes what happened and gives what
//! has to be written, and what has to be done once that is on the disk.
//!
//! What carries the weight:
//!
//! - One message at a time is with the server. So their order is kept, and after a crash or a lost connection there is one
//!   message of which nobody knows whether it arrived; it goes out again with the id it has, and is the same message to all.
//! - That a message is handed over is on the disk before it is. Until then it may expire and be called back; from then on
//!   only the server's word settles it.
//! - Everything but order and expiry of what waits stands on the disk and not in here: a hundred thousand waiting messages
//!   are four megabytes.

mod pace;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
pub use whatsapp_operator::bridge_api::{BadRecipient, Recipient, RecipientKey};
use whatsapp_operator::bridge_api::{MessageCause, MessageState, Sending, WaitsFor};

use self::pace::Pace;
use crate::machine::{Generation, later};

/// How long the server may take to acknowledge a message on a connection that works. Real ones take well under a second.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);
/// The same after connections in a row on which nothing was acknowledged: the time doubles up to this, because each of them
/// costs a login.
const ACKNOWLEDGED_WITHIN_MAX: Duration = Duration::from_secs(600);
/// First wait before a message goes again that the server did not take for a reason that may pass; doubles.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest such wait.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// How long a refusal for a restriction keeps new chats back when nobody confirms the restriction: then it is tried again.
const RESTRICTION_SUSPECTED: Duration = Duration::from_secs(600);
/// How often a message goes out whose recipient's phone could not be keyed, before it is given up.
const KEYING_TRIES: u32 = 3;
/// The server's code for a message that starts a chat while the account may not.
pub const TIMELOCKED: i64 = 463;

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place among the messages of the session.
    pub sequence: u64,
    /// Who is to get it.
    pub recipient: RecipientKey,
    /// Whether this person has got a message of this session before.
    pub known: bool,
    /// Until when it may be handed over.
    pub expires_at: Timestamp,
    /// It was handed over, and the server has not said anything about it: it neither expires nor can it be called back.
    pub handed_over: bool,
}

/// Whether messages can be handed to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They cannot, and this is what they wait for.
    Down(WaitsFor),
    /// They can.
    Up {
        /// By this client.
        client: Generation,
        /// The account may not start chats.
        timelocked: bool,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A message is accepted.
    Accepted(Waiting),
    /// It is called back, if it is not too late.
    CallBack(u64),
    /// Whether messages can be handed over.
    Link(Link),
    /// Another pace.
    Pace(Sending),
    /// [`Outbox::wake_at`] has come. Harmless at any other time.
    Tick,
    /// The client handed it to the server, and could or could not encrypt it for the recipient's phone.
    HandedOver {
        /// Which.
        sequence: u64,
        /// Whether the phone can read it.
        keyed: bool,
    },
    /// The client could not hand it over.
    NotHandedOver {
        /// Which.
        sequence: u64,
        /// Why.
        why: Obstacle,
    },
    /// The server has it.
    Acknowledged {
        /// Which.
        sequence: u64,
        /// When, by the server's clock.
        at: Option<Timestamp>,
    },
    /// The server does not want it.
    Refused {
        /// Which.
        sequence: u64,
        /// Its code.
        code: i64,
    },
}

/// Why a client could not hand a message over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The recipient has no account.
    NotOnWhatsApp,
    /// It cannot be made into a message.
    Unsendable,
    /// The connection is gone or going; nothing was sent, or nobody knows.
    Connection,
}

/// How a message was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Sent, or one of the states that end it.
    pub state: MessageState,
    /// Why it failed.
    pub cause: Option<MessageCause>,
    /// The server's code.
    pub code: Option<i64>,
    /// When.
    pub at: Timestamp,
}

/// What has to be on the disk before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The message is handed over from here on.
    HandOver(u64),
    /// The message is settled.
    Settle(u64, Settled),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have this client hand the message over.
    Send {
        /// Which client.
        client: Generation,
        /// Which message.
        sequence: u64,
        /// The recipient's devices are to be asked for anew.
        fresh: bool,
    },
    /// The server acknowledges nothing any more: this connection is to be made anew.
    Suspect(Generation),
}

impl Effect {
    /// Whether it has this message handed over.
    pub fn sends(&self, message: u64) -> bool {
        matches!(self, Self::Send { sequence, .. } if *sequence == message)
    }
}

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
    since: Timestamp,
    /// What the client said of the phone's keys, once it did.
    keyed: Option<bool>,
    /// What the server said, when that was faster than the client.
    acknowledged: Option<Acknowledgement>,
    suspected: bool,
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
    /// How often the first message was sent without its recipient's phone.
    unkeyed: u32,
    /// How many connections were suspected since the server last said anything about a message.
    suspicions: u32,
    /// Recipients whose messages were refused, known or not, while the account is restricted.
    locked: HashSet<RecipientKey>,
    /// The server refused a message as those of a restricted account are; until then the account is taken for one.
    restricted_until: Option<Timestamp>,
    /// No message expires before then.
    next_expiry: Option<Timestamp>,
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
            unkeyed: 0,
            suspicions: 0,
            locked: HashSet::new(),
            restricted_until: None,
            seed: seed | 1,
        }
    }

    /// Takes what happened. What is returned first has to be on the disk before the rest is done. In place, and not a copy as
    /// with a session: there may be a hundred thousand messages. So what could not be written has to be written later.
    pub fn step(&mut self, event: Event, now: Timestamp) -> (Vec<Write>, Vec<Effect>) {
        let (mut writes, mut effects) = (Vec::new(), Vec::new());
        if self.restricted_until.is_some_and(|until| until <= now) {
            self.unrestricted();
        }
        self.apply(event, now, &mut writes);
        self.expire(now, &mut writes);
        self.proceed(now, &mut writes, &mut effects);
        (writes, effects)
    }

    /// Takes back an [`Event::Accepted`] that could not be written: nothing has come of it yet.
    pub fn withdraw(&mut self, sequence: u64) {
        if self.flying_of(sequence).is_some() {
            self.flying = None;
        } else if let Ok(position) = self.position(sequence) {
            self.waiting.remove(position);
        }
    }

    /// Nothing waits any more: what did is settled.
    pub fn clear(&mut self) {
        self.waiting.clear();
        (self.flying, self.next_expiry, self.not_before) = (None, None, None);
        (self.refusals, self.unkeyed, self.suspicions) = (0, 0, 0);
        self.unrestricted();
    }

    fn position(&self, sequence: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&sequence, |waiting| waiting.sequence)
    }

    /// These people have got a message of this session before.
    pub fn knows(&mut self, recipients: &[RecipientKey]) {
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

    /// Whether it is among those that wait.
    pub fn holds(&self, sequence: u64) -> bool {
        self.flying.is_some_and(|flying| flying.message.sequence == sequence) || self.position(sequence).is_ok()
    }

    /// When a message that is accepted now would be sent, by the pace and what waits before it.
    pub fn estimate(&self, now: Timestamp) -> Timestamp {
        self.pace.estimate(self.len(), now)
    }

    /// What a message waits for, and when it is expected to be sent; `None` when it does not wait.
    pub fn waits(&self, sequence: u64, now: Timestamp) -> Option<(WaitsFor, Option<Timestamp>)> {
        if self.flying.is_some_and(|flying| flying.message.sequence == sequence) {
            return Some((WaitsFor::Acknowledgement, None));
        }
        let position = self.position(sequence).ok()?;
        let waiting = self.waiting.get(position)?;
        Some(match self.link {
            Link::Down(why) => (why, None),
            Link::Up { .. } if self.is_locked(waiting) => (WaitsFor::Restriction, None),
            Link::Up { .. } => {
                let why = if position == 0 && self.flying.is_none() { WaitsFor::Pacing } else { WaitsFor::Turn };
                (why, Some(self.pace.estimate(position + usize::from(self.flying.is_some()), now)))
            }
        })
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let acknowledged_by =
            self.flying.filter(|flying| !flying.suspected).map(|flying| later(flying.since, self.patience()));
        let turn = match (self.flying, self.candidate()) {
            (None, Some(position)) => self.waiting.get(position).map(|waiting| self.turn_of(waiting, now)),
            _ => None,
        };
        [acknowledged_by, self.next_expiry, self.restricted_until, turn].into_iter().flatten().min()
    }

    fn apply(&mut self, event: Event, now: Timestamp, writes: &mut Vec<Write>) {
        match event {
            Event::Accepted(waiting) => {
                self.may_expire(waiting.expires_at);
                // At the end, but for one that the disk had taken when it seemed not to.
                self.line_up(waiting);
            }
            Event::CallBack(sequence) => self.call_back(sequence, now, writes),
            Event::Link(link) => self.linked(link),
            Event::Pace(spec) => self.pace.set(spec),
            Event::Tick => {}
            Event::HandedOver { sequence, keyed } => {
                if let Some(flying) = self.flying_of(sequence) {
                    flying.keyed = Some(keyed);
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

    fn linked(&mut self, link: Link) {
        let client = |link| if let Link::Up { client, .. } = link { Some(client) } else { None };
        // Whatever is with a client that is gone goes out again by the next one.
        if self.flying.is_some_and(|flying| client(link) != Some(flying.client)) {
            self.land();
        }
        // What was suspected is over when what was known is.
        let known = |link| matches!(link, Link::Up { timelocked: true, .. });
        if known(self.link) && matches!(link, Link::Up { timelocked: false, .. }) {
            self.unrestricted();
        }
        if client(link) != client(self.link) {
            self.not_before = None;
        }
        self.link = link;
    }

    fn unrestricted(&mut self) {
        self.restricted_until = None;
        self.locked.clear();
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
            self.unkeyed = 0;
            if !message.known {
                let others = self.waiting.iter_mut().filter(|waiting| waiting.recipient == message.recipient);
                others.for_each(|waiting| waiting.known = true);
            }
            let settled = Settled { state: MessageState::Sent, cause: None, code: None, at: at.unwrap_or(now) };
            return writes.push(Write::Settle(message.sequence, settled));
        }
        self.unkeyed += 1;
        if self.unkeyed >= KEYING_TRIES {
            self.fail(message.sequence, MessageCause::RecipientUnreachable, None, now, writes);
        } else {
            self.land();
            self.wait_a_while(now);
        }
    }

    fn hindered(&mut self, sequence: u64, why: Obstacle, now: Timestamp, writes: &mut Vec<Write>) {
        if self.flying_of(sequence).is_none() {
            return;
        }
        match why {
            Obstacle::NotOnWhatsApp => self.fail(sequence, MessageCause::NotOnWhatsApp, None, now, writes),
            Obstacle::Unsendable => self.fail(sequence, MessageCause::Unsendable, None, now, writes),
            Obstacle::Connection => {
                self.land();
                self.wait_a_while(now);
            }
        }
    }

    fn refused(&mut self, sequence: u64, code: i64, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(flying) = self.flying_of(sequence).copied() else { return };
        self.suspicions = 0;
        match code {
            TIMELOCKED => {
                // Whoever runs the session asks whether it is restricted, and may get no answer.
                self.locked.insert(flying.message.recipient);
                self.restricted_until = Some(later(now, RESTRICTION_SUSPECTED));
                self.land();
                // The server has said that it did not take it.
                self.no_longer_handed_over(sequence);
            }
            429 | 500..=599 => {
                self.land();
                self.no_longer_handed_over(sequence);
                self.wait_a_while(now);
            }
            _ => self.fail(sequence, MessageCause::RefusedByServer, Some(code), now, writes),
        }
    }

    fn no_longer_handed_over(&mut self, sequence: u64) {
        if let Ok(position) = self.position(sequence)
            && let Some(waiting) = self.waiting.get_mut(position)
        {
            waiting.handed_over = false;
            let expires_at = waiting.expires_at;
            self.may_expire(expires_at);
        }
    }

    fn fail(&mut self, sequence: u64, cause: MessageCause, code: Option<i64>, now: Timestamp, writes: &mut Vec<Write>) {
        self.flying = None;
        self.unkeyed = 0;
        self.refusals = 0;
        let settled = Settled { code, ..Settled::ended(MessageState::Failed, Some(cause), now) };
        writes.push(Write::Settle(sequence, settled));
    }

    /// Whether the server stopped to acknowledge messages, as far as is known: a connection was suspected for it, and nothing has
    /// been heard of a message since.
    pub fn is_unacknowledged(&self) -> bool {
        self.suspicions > 0
    }

    fn patience(&self) -> Duration {
        let doubled = ACKNOWLEDGED_WITHIN.saturating_mul(2_u32.saturating_pow(self.suspicions.min(16)));
        doubled.min(ACKNOWLEDGED_WITHIN_MAX)
    }

    fn wait_a_while(&mut self, now: Timestamp) {
        let wait = AGAIN.saturating_mul(2_u32.saturating_pow(self.refusals.min(16))).min(AGAIN_MAX);
        self.refusals = self.refusals.saturating_add(1);
        self.not_before = Some(later(now, wait));
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
        let patience = self.patience();
        if let Some(flying) = &mut self.flying {
            if !flying.suspected && later(flying.since, patience) <= now {
                flying.suspected = true;
                self.suspicions = self.suspicions.saturating_add(1);
                effects.push(Effect::Suspect(flying.client));
            }
            return;
        }
        let Link::Up { client, .. } = self.link else { return };
        let Some(position) = self.candidate() else { return };
        let due = self.waiting.get(position).is_some_and(|waiting| self.turn_of(waiting, now) <= now);
        if !due {
            return;
        }
        let Some(mut message) = self.waiting.remove(position) else { return };
        if !message.handed_over {
            message.handed_over = true;
            writes.push(Write::HandOver(message.sequence));
        }
        let jitter = self.random();
        self.pace.spend(message.recipient, now, jitter);
        self.not_before = None;
        self.flying = Some(Flying { message, client, since: now, keyed: None, acknowledged: None, suspected: false });
        effects.push(Effect::Send { client, sequence: message.sequence, fresh: self.unkeyed > 0 });
    }

    /// The first message that nothing but its time keeps back. Only a restriction lets others overtake.
    fn candidate(&self) -> Option<usize> {
        let Link::Up { .. } = self.link else { return None };
        self.waiting.iter().position(|waiting| !self.is_locked(waiting))
    }

    /// Whether only those who have got a message before are written to.
    pub fn is_restricted(&self) -> bool {
        matches!(self.link, Link::Up { timelocked: true, .. }) || self.restricted_until.is_some()
    }

    fn is_locked(&self, waiting: &Waiting) -> bool {
        self.is_restricted() && (!waiting.known || self.locked.contains(&waiting.recipient))
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

impl Settled {
    fn ended(state: MessageState, cause: Option<MessageCause>, at: Timestamp) -> Self {
        Self { state, cause, code: None, at }
    }
}

fn next_expiry(waiting: &VecDeque<Waiting>) -> Option<Timestamp> {
    waiting.iter().filter(|waiting| !waiting.handed_over).map(|waiting| waiting.expires_at).min()
}
