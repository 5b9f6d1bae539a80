//! The message that is with the server, and what becomes of it.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::{
    bridge_api::{MessageCause, MessageState},
    platform::backoff::doubled,
};

use super::{
    Obstacle, Outbox, Reach, Settled, Waiting, Write,
    nacks::{self, NackMeaning},
    recipient_failures::Verdict,
};
use crate::machine::{Generation, later};

/// How long the server may take to acknowledge a message on a connection that works. Real ones take well under a second.
pub(super) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);

/// How long the client may take before it has handed the message over: it may have to ask for the recipient's devices and for
/// their keys.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(60);

/// The same after connections in a row on which nothing was acknowledged: the time doubles up to this, because each of them
/// costs a login.
const ACKNOWLEDGED_WITHIN_MAX: Duration = Duration::from_secs(600);

/// First wait before a message goes again that the server did not take for a reason that may pass; doubles.
const AGAIN: Duration = Duration::from_secs(2);

/// Longest such wait.
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(300);

/// How long a refusal for a restriction keeps new chats back when it is not known whether there is one: then one is tried again.
const RESTRICTION_SUSPECTED: Duration = Duration::from_secs(600);

/// The server's word that it has a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Acknowledgement {
    pub(super) at: Option<Timestamp>,
}

/// The message that is with the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct InFlight {
    pub(super) message: Waiting,
    pub(super) client: Generation,
    /// Since when what is due next is due: that the client hands it over, and then the server's word.
    pub(super) since: Timestamp,
    /// It was handed over before, and there was no answer.
    pub(super) unanswered: bool,
    /// What the client said of the phone's keys, once it did.
    pub(super) keyed: Option<bool>,
    /// What the server said, when that was faster than the client.
    pub(super) acknowledged: Option<Acknowledgement>,
    /// The recipient's phone has it.
    pub(super) arrived: bool,
    pub(super) suspected: bool,
}

impl Outbox {
    pub(super) fn flying_of(&mut self, sequence: u64) -> Option<&mut InFlight> {
        self.flying.as_mut().filter(|flying| flying.message.sequence == sequence)
    }

    pub(super) fn reach_changed(&mut self, reach: Reach, now: Timestamp, writes: &mut Vec<Write>) {
        let was = self.flying.filter(|flying| reach.client() != Some(flying.client));
        // What was suspected is over when what was known is, or has run out.
        if self.reach.is_timelocked() && matches!(reach, Reach::Up { timelocked: false, .. }) {
            self.restricted_until = None;
        }
        if reach.client() != self.reach.client() {
            self.not_before = None;
            self.recipient_failures.reconnected();
        }
        self.reach = reach;
        if let Some(InFlight { message, suspected, keyed, .. }) = was
            && !self.has_arrived(message.sequence, now, writes)
        {
            if suspected {
                self.recipient_failures.silent(message.recipient, keyed.is_some(), now);
            }
            // Whatever is with a client that is gone goes out again by the next one.
            self.land();
        }
    }

    /// Puts the message that is with the server back in its place.
    fn land(&mut self) {
        if let Some(InFlight { message, .. }) = self.flying.take() {
            self.waiting.insert(message);
        }
    }

    /// A message is sent when the server has acknowledged it and the recipient's phone can read it.
    pub(super) fn conclude(&mut self, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(InFlight { message, keyed: Some(keyed), acknowledged: Some(Acknowledgement { at }), .. }) =
            self.flying
        else {
            return;
        };
        self.refusals = 0;
        if keyed {
            self.flying = None;
            return self.is_sent(&message, at, now, writes);
        }
        match self.recipient_failures.not_keyed(message.recipient) {
            Verdict::Unreachable | Verdict::NotOnWhatsApp => {
                self.fail(message, MessageCause::RecipientUnreachable, None, now, writes);
            }
            Verdict::Again => {
                self.land();
                self.wait_a_while(now);
            }
        }
    }

    fn is_sent(&mut self, message: &Waiting, at: Option<Timestamp>, now: Timestamp, writes: &mut Vec<Write>) {
        self.recipient_failures.over(message.recipient);
        if !message.known {
            self.mark_known(&[message.recipient]);
        }
        let sent = Settled::ended(MessageState::Sent, None, at.unwrap_or(now));
        writes.push(Write::Settle(message.sequence, Settled { by_server: at.is_some(), ..sent }));
    }

    /// The recipient's phone has a message: by the attempt that is under way, or by one before it to which there was no answer.
    pub(super) fn arrived(&mut self, sequence: u64, at: Timestamp, now: Timestamp, writes: &mut Vec<Write>) {
        if let Some(flying) = self.flying_of(sequence) {
            flying.arrived = true;
            flying.acknowledged.get_or_insert(Acknowledgement { at: Some(at) });
            // With the client's word comes who the recipient is, by which what is next goes. It may be slower than the phone's.
            flying.keyed = flying.keyed.map(|_| true);
            self.suspicions = 0;
            return self.conclude(now, writes);
        }
        let Some(position) = self.waiting.position(sequence) else { return };
        if self.waiting.get(position).is_some_and(|waiting| waiting.handed_over)
            && let Some(message) = self.waiting.remove(position)
        {
            // Those behind it waited for it to go again.
            if position == 0 {
                self.not_before = None;
            }
            self.is_sent(&message, Some(at), now, writes);
        }
    }

    /// Settles the message that is with the server if the recipient's phone has it, whatever else is said of it; whether that is so.
    fn has_arrived(&mut self, sequence: u64, now: Timestamp, writes: &mut Vec<Write>) -> bool {
        let Some(flying) = self.flying_of(sequence).filter(|flying| flying.arrived) else { return false };
        flying.keyed = Some(true);
        self.conclude(now, writes);
        true
    }

    pub(super) fn hindered(&mut self, sequence: u64, why: Obstacle, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(InFlight { message, .. }) = self.flying_of(sequence).copied() else { return };
        if self.has_arrived(sequence, now, writes) {
            return;
        }
        match why {
            Obstacle::NotOnWhatsApp => self.fail(message, MessageCause::NotOnWhatsApp, None, now, writes),
            Obstacle::Unsendable => self.fail(message, MessageCause::Unsendable, None, now, writes),
            Obstacle::NotMentioned | Obstacle::Recipient | Obstacle::Passing => self.again(Some(why), now, writes),
            Obstacle::Connection => {
                self.recipient_failures.failed(&message, Some(why), now);
                self.land();
                self.wait_a_while(now);
            }
        }
    }

    pub(super) fn refused(&mut self, sequence: u64, code: i64, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(InFlight { message, .. }) = self.flying_of(sequence).copied() else { return };
        self.suspicions = 0;
        if self.has_arrived(sequence, now, writes) {
            return;
        }
        match nacks::meaning(code) {
            NackMeaning::NewChat => {
                self.recipient_failures.not_started(message.recipient, now);
                // The client asks whether the account is restricted, and may get no answer.
                self.restricted_until = Some(later(now, RESTRICTION_SUSPECTED));
                self.take_back(writes);
            }
            NackMeaning::Passing => self.again(None, now, writes),
            NackMeaning::Final(cause) => self.fail(message, cause, Some(code), now, writes),
        }
    }

    /// Nothing came of the message that is with the server, and that is certain: it goes again later, if it is not given up.
    fn again(&mut self, why: Option<Obstacle>, now: Timestamp, writes: &mut Vec<Write>) {
        let Some(InFlight { message, .. }) = self.flying else { return };
        match self.recipient_failures.failed(&message, why, now) {
            Verdict::NotOnWhatsApp => self.fail(message, MessageCause::NotOnWhatsApp, None, now, writes),
            Verdict::Unreachable => self.fail(message, MessageCause::RecipientUnreachable, None, now, writes),
            Verdict::Again => {
                self.take_back(writes);
                if !self.recipient_failures.was_aside(message.recipient) {
                    self.wait_a_while(now);
                }
                // It is this recipient's fault, by all that is known: the others need not wait for it. What fails next begins with a short
                // wait again, longer by those who are set aside: where they are many, it may be the server's fault after all.
                if let Some(set_aside) = self.recipient_failures.set_aside(message.recipient, now) {
                    self.refusals = set_aside;
                }
            }
        }
    }

    /// Puts the message that is with the server back in its place, because nothing came of it: as if it had not been handed over,
    /// unless it was before and there was no answer.
    fn take_back(&mut self, writes: &mut Vec<Write>) {
        let Some(InFlight { mut message, unanswered, .. }) = self.flying.take() else { return };
        if !unanswered {
            message.handed_over = false;
            writes.push(Write::TakeBack(message.sequence));
        }
        self.waiting.insert(message);
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
        self.recipient_failures.over(message.recipient);
        let settled = Settled { code, ..Settled::ended(MessageState::Failed, Some(cause), now) };
        writes.push(Write::Settle(message.sequence, settled));
    }

    pub(super) fn patience(&self, flying: &InFlight) -> Duration {
        let first = if flying.keyed.is_some() { ACKNOWLEDGED_WITHIN } else { HANDED_OVER_WITHIN };
        doubled(first, self.suspicions, ACKNOWLEDGED_WITHIN_MAX)
    }

    fn wait_a_while(&mut self, now: Timestamp) {
        self.not_before = Some(later(now, doubled(AGAIN, self.refusals, AGAIN_MAX)));
        self.refusals = self.refusals.saturating_add(1);
    }
}
