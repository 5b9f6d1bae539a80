//! A client tells something, or is over.

use jiff::Timestamp;
use whatsapp_operator::bridge_api::SessionReason;

use super::{
    login, pairing, refused,
    steps::{ACTIVITY_GRAIN, belongs_to, failed},
};
use crate::machine::{
    ClientEvent, End, Generation,
    kept::Parked,
    stage::{Client, Shown, Stage},
    state::State,
    timings::later,
};

pub(super) fn client(state: &mut State, generation: Generation, event: ClientEvent, now: Timestamp) {
    match (state.client, &event) {
        (Client::Live(live), _) if live == generation => {}
        // Told to stop while the phone was using the code: the device is linked all the same.
        (Client::Stopping(live), ClientEvent::Paired { phone_number }) if live == generation => {
            belongs_to(state, phone_number.as_ref());
            return pairing::linked_late(state, now);
        }
        _ => return,
    }
    match event {
        ClientEvent::Code { method, code, valid_for, of } => {
            let shown = Shown { method, code, expires_at: later(now, valid_for), attempt: 1, of };
            pairing::code(state, generation, shown, now);
        }
        ClientEvent::WindowPassed => pairing::codes_used_up(state, now),
        ClientEvent::PairingFailed(reason) => pairing::pairing_failed(state, reason, now),
        ClientEvent::NoCode { refused, pause } => pairing::no_code(state, generation, refused, pause, now),
        ClientEvent::CodeStale { another } => pairing::code_stale(state, another, now),
        ClientEvent::PasskeyWanted => pairing::passkey_wanted(state, now),
        ClientEvent::Paired { phone_number } => pairing::paired(state, phone_number.as_ref(), now),
        ClientEvent::Connected { phone_number, push_name } => login::logged_in(state, phone_number, push_name, now),
        ClientEvent::PushName(name) => state.kept.push_name = Some(name),
        ClientEvent::Traffic => {
            if state.last_active_at.is_none_or(|last| now.duration_since(last) >= ACTIVITY_GRAIN) {
                state.last_active_at = Some(now);
            }
        }
        ClientEvent::LoggedOut => login::logged_out(state, now),
        ClientEvent::Unauthorized => refused::unauthorized(state, now),
        ClientEvent::Progress => login::progress(state, now),
        ClientEvent::Replaced => refused::park(state, Parked::Replaced, SessionReason::StreamReplaced, now),
        ClientEvent::Outdated(presented) => refused::outdated(state, presented, now),
        ClientEvent::Barred(why) => refused::barred(state, why, now),
        ClientEvent::Banned { code, for_ } => refused::banned(state, code, for_, now),
        ClientEvent::Restricted(found) => login::restricted(state, found, now),
        ClientEvent::Unlinked(Ok(())) if matches!(state.stage, Stage::Unlinking { .. }) => {
            login::logged_out(state, now);
        }
        ClientEvent::Unlinked(Err(reason)) if matches!(state.stage, Stage::Unlinking { .. }) => {
            failed(state, reason, now);
        }
        ClientEvent::Unlinked(_) | ClientEvent::Message(_) => {}
    }
}

pub(super) fn ended(state: &mut State, generation: Generation, end: End, now: Timestamp) {
    match state.client {
        Client::Stopping(stopping) if stopping == generation => state.client = Client::None,
        // WhatsApp hangs up on a device it has just linked, and expects it to call again. The library does so by itself,
        // unless the hang-up was faster than our word that it may: then it is for us to do, at once and with nothing to tell.
        Client::Live(live) if live == generation && matches!(state.stage, Stage::Linking { .. }) => {
            state.client = Client::None;
            (state.stage, state.shown) = (Stage::Connecting { by: later(now, state.timings.connect) }, None);
        }
        Client::Live(live) if live == generation => {
            state.client = Client::None;
            let reason = match end {
                End::Failed(reason) => reason,
                End::KeysLost(_) => return login::keys_lost(state, now),
                // Not asked to by the state machine: too much of what it said waited for the store, for example.
                End::Stopped => SessionReason::ConnectionLost,
            };
            failed(state, reason, now);
        }
        _ => {}
    }
}
