//! Recipients who cannot be written to for now: what goes to them is refused, the server does not say where they are, or they
//! would be a new chat of an account that may not start any.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use whatsapp_operator::{bridge_api::RecipientKey, platform::backoff::doubled};

use super::{Obstacle, Waiting};
use crate::machine::later;

/// How often a message is tried in its turn, for a minute in all, before others overtake it: until then it may as
/// well be the server's fault as the recipient's.
pub(super) const OVERTAKEN_AFTER: u32 = 5;
/// How often the server may report something about a recipient that keeps a message from them, for a quarter of an hour in all, before
/// the message is given up.
const GIVEN_UP_AFTER: u32 = 10;
/// How many connections are given up because nothing is heard about a recipient, before others overtake what is for them.
const SILENT: u32 = 3;
/// How often the server may answer without mentioning a recipient before that means that they have no account.
const NOT_MENTIONED: u32 = 3;
/// How often a message goes out whose recipient's phone could not be keyed, before it is given up.
pub(super) const KEYING_TRIES: u32 = 3;
/// First time for which others overtake what is for a recipient; doubles up to the longest.
const ASIDE: Duration = Duration::from_secs(2);
/// The longest such time.
const ASIDE_MAX: Duration = Duration::from_secs(300);
/// First time for which a recipient who was refused as a new chat is not written to; doubles up to the longest.
const NEW_CHAT: Duration = Duration::from_secs(600);
/// The longest such time.
const NEW_CHAT_MAX: Duration = Duration::from_secs(6 * 3600);
/// When this many recipients were refused as new chats, the account is treated as restricted, even if the server denies it.
const SEVERAL: usize = 3;

/// For so long others overtake a message that was handed over, and of which the server has said nothing on several connections: enough for
/// another one to be handed over.
pub(super) const ASIDE_UNANSWERED: Duration = Duration::from_secs(30);

/// What stands between a session and one person.
#[derive(Clone, Debug, Default, PartialEq)]
struct RecipientFailure {
    /// The message that the next two are about.
    sequence: u64,
    /// How often the server said of them something that keeps it from being sent.
    told: u32,
    /// How often in a row nothing came of a message to them, on this connection.
    tries: u32,
    /// How many connections in a row were given up because nothing was heard about them.
    silent: u32,
    /// How often in a row the server answered without a word about them.
    not_mentioned: u32,
    /// How often in a row their phone could not be keyed.
    unkeyed: u32,
    /// Others overtake until then.
    aside_until: Option<Timestamp>,
    /// How often in a row they were refused as a new chat.
    new_chats: u32,
    /// They are not written to until then, as a new chat.
    locked_until: Option<Timestamp>,
}

/// Whether a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is tried again.
    Again,
    /// They have no account.
    NotOnWhatsApp,
    /// They cannot be reached.
    Unreachable,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RecipientFailures(HashMap<RecipientKey, RecipientFailure>);

impl RecipientFailures {
    /// Nothing came of a message to them, for this reason where it was not the server's refusal.
    pub(super) fn failed(&mut self, message: &Waiting, why: Option<Obstacle>, now: Timestamp) -> Verdict {
        let failure = self.0.entry(message.recipient).or_default();
        failure.tries = failure.tries.saturating_add(1);
        if failure.sequence != message.sequence {
            (failure.sequence, failure.told, failure.not_mentioned) = (message.sequence, 0, 0);
        }
        failure.told += u32::from(matches!(why, Some(Obstacle::Recipient | Obstacle::NotMentioned)));
        failure.not_mentioned = if why == Some(Obstacle::NotMentioned) { failure.not_mentioned + 1 } else { 0 };
        // Longer than the session waits by itself, so that there is time for others.
        let aside = doubled(ASIDE, failure.tries, ASIDE_MAX);
        failure.aside_until = (failure.tries >= OVERTAKEN_AFTER).then(|| later(now, aside));
        if failure.not_mentioned >= NOT_MENTIONED {
            return Verdict::NotOnWhatsApp;
        }
        if failure.told >= GIVEN_UP_AFTER { Verdict::Unreachable } else { Verdict::Again }
    }

    /// A message went out to them, and not to their phone.
    pub(super) fn not_keyed(&mut self, recipient: RecipientKey) -> Verdict {
        let failure = self.0.entry(recipient).or_default();
        failure.unkeyed = failure.unkeyed.saturating_add(1);
        if failure.unkeyed >= KEYING_TRIES { Verdict::Unreachable } else { Verdict::Again }
    }

    /// They were refused as a new chat.
    pub(super) fn not_started(&mut self, recipient: RecipientKey, now: Timestamp) {
        let failure = self.0.entry(recipient).or_default();
        failure.locked_until = Some(later(now, doubled(NEW_CHAT, failure.new_chats, NEW_CHAT_MAX)));
        failure.new_chats = failure.new_chats.saturating_add(1);
    }

    /// Whoever was known as `written` is this person. What keeps messages from them for longer counts.
    pub(super) fn rename(&mut self, written: RecipientKey, person: RecipientKey) {
        let Some(mut failure) = self.0.remove(&written) else { return };
        if let Some(there) = self.0.get(&person) {
            failure.aside_until = failure.aside_until.max(there.aside_until);
            failure.locked_until = failure.locked_until.max(there.locked_until);
            failure.new_chats = failure.new_chats.max(there.new_chats);
        }
        self.0.insert(person, failure);
    }

    /// A message to them is settled.
    pub(super) fn over(&mut self, recipient: RecipientKey) {
        self.0.remove(&recipient);
    }

    /// A connection was given up, because the client heard nothing about them for too long, or the server nothing of a message to them that
    /// was handed over: there may be no word on this one alone.
    pub(super) fn silent(&mut self, recipient: RecipientKey, handed_over: bool, now: Timestamp) {
        let failure = self.0.entry(recipient).or_default();
        failure.silent = failure.silent.saturating_add(1);
        if failure.silent >= SILENT {
            failure.aside_until = Some(later(now, if handed_over { ASIDE_UNANSWERED } else { ASIDE_MAX }));
        }
    }

    /// There is another connection: what failed on the last may have been its fault, so the order is as it was.
    pub(super) fn reconnected(&mut self) {
        for failure in self.0.values_mut() {
            failure.tries = 0;
            failure.aside_until = failure.aside_until.filter(|_| failure.silent >= SILENT);
        }
    }

    /// The server has lifted the account's restriction.
    pub(super) fn unrestricted(&mut self) {
        self.0.values_mut().for_each(|failure| (failure.locked_until, failure.new_chats) = (None, 0));
    }

    /// Whether their devices are to be asked for anew.
    pub(super) fn has_failed(&self, recipient: RecipientKey) -> bool {
        self.0.get(&recipient).is_some_and(|failure| failure.unkeyed + failure.tries + failure.silent > 0)
    }

    /// Whether others overtook what is for them before it failed the last time.
    pub(super) fn was_aside(&self, recipient: RecipientKey) -> bool {
        self.0.get(&recipient).is_some_and(|failure| failure.tries > OVERTAKEN_AFTER)
    }

    /// How many recipients others overtake, if this is one of them.
    pub(super) fn set_aside(&self, recipient: RecipientKey, now: Timestamp) -> Option<u32> {
        self.aside_until(recipient, now)?;
        let set_aside = self.0.values().filter(|failure| failure.aside_until.is_some_and(|until| until > now)).count();
        Some(u32::try_from(set_aside).unwrap_or(u32::MAX))
    }

    /// Until when others overtake what is for them.
    pub(super) fn aside_until(&self, recipient: RecipientKey, now: Timestamp) -> Option<Timestamp> {
        self.0.get(&recipient)?.aside_until.filter(|until| *until > now)
    }

    /// Whether they are not written to as a new chat.
    pub(super) fn is_locked(&self, recipient: RecipientKey, now: Timestamp) -> bool {
        self.0.get(&recipient).is_some_and(|failure| failure.is_locked(now))
    }

    /// Whether so many are that it must be about the account.
    pub(super) fn are_several(&self, now: Timestamp) -> bool {
        self.0.values().filter(|failure| failure.is_locked(now)).nth(SEVERAL - 1).is_some()
    }

    /// When the first of them may be written to again.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let times = self.0.values().flat_map(|failure| [failure.aside_until, failure.locked_until]);
        times.flatten().filter(|at| *at > now).min()
    }

    /// Forgets those to whom nothing waits any more.
    pub(super) fn retain(&mut self, waits: impl Fn(RecipientKey) -> bool) {
        self.0.retain(|recipient, _| waits(*recipient));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl RecipientFailure {
    fn is_locked(&self, now: Timestamp) -> bool {
        self.locked_until.is_some_and(|until| until > now)
    }
}
