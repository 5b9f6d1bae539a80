//! The life of one session as a pure function: `step(state, event, now)` gives the next state and what has to be done.
//!
//! No clock, no I/O, no task in here. Time enters as `now`; the caller calls again at [`State::wake_at`]. Randomness (for
//! spreading retries) is part of the state. Invariants:
//!
//! - An event changes the facts, then [`converge`](converge::converge) compares what is with what should be and asks for one
//!   thing at a time. So "never two clients on one set of keys" holds in one place, not at every transition.
//! - A client is over only when its end was reported. Until then nothing else starts and no key is deleted.
//! - Whatever must survive a crash is in [`Kept`]; the caller stores it before it carries out the effects.

mod client_event;
mod converge;
mod effect;
mod jitter;
mod kept;
mod on_write;
mod presented;
mod retry_after_refusal;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod timings;
mod transitions;
mod view;

pub use self::{
    client_event::{ClientEvent, End, MessageNews, Receipt},
    effect::{Effect, Start},
    jitter::Chance,
    kept::{Kept, Parked},
    presented::Presented,
    state::State,
    timings::{Timings, later},
};

use jiff::Timestamp;
use whatsapp_operator::bridge_api::SessionSpec;

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
