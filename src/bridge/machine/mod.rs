//! The life of one session as a pure function: `step(state, event, now)` gives the next state and what has to be done.
//!
//! No clock, no I/O, no task in here. Time enters as `now`; the caller calls again at [`State::wake_at`]. Randomness (for
//! spreading retries) is part of the state. Three rules carry the weight:
//!
//! - An event changes the facts, then [`converge`](converge::converge) compares what is with what should be and asks for one
//!   thing at a time. So "never two clients on one set of keys" holds in one place, not at every transition.
//! - A client is over only when its end was reported. Until then nothing else starts and no key is deleted.
//! - Whatever must survive a crash is in [`Kept`]; the caller stores it before it carries out the effects.

mod converge;
mod on_write;
mod outdated;
mod presented;
mod state;
#[cfg(test)]
mod tests;
mod transitions;
mod view;

pub use presented::Presented;
pub use state::{Kept, Rest, State, Timings, later};

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::{
    bridge_api::{PairingMethod, Restriction, SessionReason, SessionSpec},
    model::Sensitive,
};

use crate::keys::{Linked, LostKeys};

/// Which client of a session something is about. Grows with every start, so late news of an old client are told apart.
pub type Generation = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The wanted state was put.
    Put(SessionSpec),
    /// The session is to be deleted; with `unlink` only after the device was removed from the account.
    Delete {
        /// Whether WhatsApp has to be told.
        unlink: bool,
    },
    /// [`State::wake_at`] has come. Harmless at any other time.
    Tick,
    /// A pairing permit was given.
    PermitGranted,
    /// News from a client.
    Client(Generation, ClientEvent),
    /// A client is over: no task of it is left and nothing of it touches the keys.
    ClientEnded(Generation, End),
    /// The keys are deleted from the disk.
    Erased,
    /// They could not be deleted.
    EraseFailed,
}

/// News from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// A code to show; valid for this long from now.
    Code {
        /// QR or pairing code.
        method: PairingMethod,
        /// The code.
        code: Sensitive,
        /// How long WhatsApp accepts it.
        valid_for: Duration,
        /// How many codes the server gave references for, when it says so.
        of: Option<u32>,
    },
    /// The server's codes are used up.
    WindowPassed,
    /// No device was linked, or no code can be shown, for this reason.
    PairingFailed(SessionReason),
    /// No pairing code comes, or the one that is shown is of no use any more.
    NoCode {
        /// Why the server refused. Without a reason it has not answered, or could not be asked.
        refused: Option<SessionReason>,
        /// For how long it does not want to be asked again, when it says so.
        pause: Option<Duration>,
    },
    /// The pairing code that is shown is of no use any more.
    CodeStale {
        /// The client asks for another one. If not, that is for a person to do.
        another: bool,
    },
    /// WhatsApp wants a passkey.
    PasskeyWanted,
    /// The phone used the code: the keys belong to a linked device from here on.
    Paired {
        /// The account's number in international form, if it was told.
        phone_number: Option<Sensitive>,
    },
    /// Logged in and ready.
    Connected {
        /// The account's number in international form.
        phone_number: Option<Sensitive>,
        /// The account's name.
        push_name: Option<Sensitive>,
    },
    /// The account's name changed.
    PushName(Sensitive),
    /// Something other than keep-alive came or went. Told at most once a minute.
    Traffic,
    /// The device was unlinked by the phone or the server.
    LoggedOut,
    /// The server does not know the device. It has said so of devices that were linked all the same.
    Unauthorized,
    /// The login is under way and something arrives.
    Progress,
    /// Another client uses the keys.
    Replaced,
    /// WhatsApp does not accept any more what the client presented.
    Outdated(Presented),
    /// WhatsApp has locked the account, or banned it without an end: nobody is let in, whoever it is.
    Barred(SessionReason),
    /// The account is banned for a time.
    Banned {
        /// WhatsApp's code for the cause.
        code: i64,
        /// For how long from now.
        for_: Duration,
    },
    /// What the account may not do while it is connected; `None` lifts it.
    Restricted(Option<Restriction>),
    /// The answer to [`Effect::Unlink`]: the server removed the device, or why not.
    Unlinked(Result<(), SessionReason>),
    /// News of a message that was sent; nothing about the session.
    Message(MessageNews),
}

/// What a device of the recipient tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The phone has it.
    Delivered,
    /// A linked device of the recipient has it.
    CompanionDelivered,
    /// It was read.
    Read,
}

/// News of a message that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageNews {
    /// The server has it, or refused it with a code.
    Answered {
        /// The message's id.
        id: String,
        /// The code of a refusal.
        refused: Option<i64>,
        /// When, by the server's clock.
        at: Option<Timestamp>,
    },
    /// A device of the recipient tells of messages.
    Receipt {
        /// Their ids.
        ids: Vec<String>,
        /// What it tells.
        receipt: Receipt,
        /// When.
        at: Timestamp,
    },
}

/// How a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// By itself.
    Failed(SessionReason),
    /// It could not start: the keys of the linked device are lost, for good.
    KeysLost(LostKeys),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start a client.
    Start(Start),
    /// Tell this client to stop; its end is to be reported.
    Stop(Generation),
    /// Have this client's device removed from the account.
    Unlink(Generation),
    /// Have this client show the account as online, or not.
    ShowOnline(Generation, bool),
    /// Ask for a pairing permit.
    RequestPermit,
    /// Give the pairing permit (or the request for one) back.
    ReleasePermit,
    /// Delete the keys.
    Erase,
    /// The session is gone: forget it and say so.
    Forget,
}

/// What a client needs to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Which client.
    pub generation: Generation,
    /// The linked device, whose keys must be there.
    pub linked: Option<Linked>,
    /// The number to pair with by code, when that is the method and the session is not paired.
    pub pair_with_code: Option<Sensitive>,
    /// The account's name, when known: without it the library waits for the account's settings before it is ready.
    pub push_name: Option<Sensitive>,
    /// Whether the account is shown as online while the session is connected.
    pub shows_online: bool,
}

/// The next state, and what to do once it is stored. `state` stays as it was, so a caller that cannot store the next one
/// keeps it. The copy shares what is stored ([`Kept`]) until the event changes it.
pub fn step(state: &State, event: Event, now: Timestamp) -> (State, Vec<Effect>) {
    let mut next = state.clone();
    let mut effects = Vec::new();
    transitions::apply(&mut next, event, now, &mut effects);
    converge::converge(&mut next, now, &mut effects);
    if next.phase() != state.phase() {
        next.since = now;
    }
    (next, effects)
}
