//! A client is logged in, or its device is linked no longer.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::{
    bridge_api::{Restriction, RestrictionKind, SessionReason},
    model::Sensitive,
};

use super::steps::{belongs_to, erase_and_go, go, note_disconnect};
use crate::machine::{kept::Parked, stage::Stage, state::State, timings::later};

/// A restriction without an end would last until WhatsApp speaks of it again, which it may never do.
const UNTIMED_RESTRICTION: Duration = Duration::from_secs(600);

/// A login takes as long as the server has something to say: a backlog of messages can take minutes.
pub(super) fn progress(state: &mut State, now: Timestamp) {
    let until = later(now, state.timings.connect);
    if let Stage::Connecting { by } | Stage::Linking { by } | Stage::Unlinking { by, ready: false, .. } =
        &mut state.stage
    {
        *by = (*by).max(until);
    }
}

/// The client is logged in.
pub(super) fn logged_in(
    state: &mut State,
    phone_number: Option<Sensitive>,
    push_name: Option<Sensitive>,
    now: Timestamp,
) {
    belongs_to(state, phone_number.as_ref());
    (state.kept.paired, state.unproven) = (true, false);
    state.kept.phone_number = phone_number.or(state.kept.phone_number.take());
    state.kept.push_name = push_name.or(state.kept.push_name.take());
    if let Stage::Unlinking { ready, .. } = &mut state.stage {
        *ready = true;
    } else {
        connected(state, now);
    }
}

fn connected(state: &mut State, now: Timestamp) {
    state.stage = Stage::Connected;
    state.shown = None;
    state.reason = None;
    state.failures = 0;
    state.untrusted_handshakes = 0;
    state.was_connected = true;
    state.connected_at = Some(now);
    state.last_active_at = Some(now);
    // Spread by a tenth: those that logged in together after a restart do not do so again a week later.
    let anew = state.timings.log_in_anew;
    state.log_in_anew_at = Some(later(now, state.back_off(anew, anew, 0)));
    state.kept.parked = Parked::None;
    state.kept.outdated = None;
    if state.kept.restriction.as_ref().is_some_and(|found| found.kind == RestrictionKind::TemporaryBan) {
        state.kept.restriction = None;
    }
}

/// What the account may not do while it is connected; `None` lifts it.
pub(super) fn restricted(state: &mut State, found: Option<Restriction>, now: Timestamp) {
    let Some(found) = found else {
        state.kept.restriction = None;
        return;
    };
    // Told once more without an end, it is the same one: every refused message tells of it.
    let known = state.kept.restriction.take().filter(|known| known.kind == found.kind);
    let end = found.expires_at.or(known.and_then(|known| known.expires_at));
    let expires_at = end.or_else(|| Some(later(now, UNTIMED_RESTRICTION)));
    state.kept.restriction = Some(Restriction { expires_at, ..found });
}

pub(super) fn logged_out(state: &mut State, now: Timestamp) {
    state.unauthorized = 0;
    note_disconnect(state, SessionReason::LoggedOut, now);
    forget_device(state);
    state.shown = None;
    if state.is_deleting() {
        return erase_and_go(state, false);
    }
    state.kept.keys_doomed = true;
    // The device may have been removed by the phone, too: the wish is fulfilled either way.
    if state.kept.spec.wants_unlinked() {
        (state.stage, state.reason) = (Stage::Stopped, None);
        return;
    }
    state.kept.parked = Parked::LoggedOut;
    state.reason = Some(SessionReason::LoggedOut);
    state.stage = Stage::LoggedOut;
}

/// Without its keys a session is gone for good: no login can bring it back. The keys that are of no use are replaced with the first
/// client that starts.
pub(super) fn keys_lost(state: &mut State, now: Timestamp) {
    link_anew(state, SessionReason::SessionLost, now);
}

/// The phone used a code, and WhatsApp does not know the device that came of it: our answer did not reach it. The person with the phone
/// is still there, so there is another code, and not the word that a device was unlinked.
pub(super) fn link_failed(state: &mut State, now: Timestamp) {
    state.unauthorized = 0;
    state.kept.keys_doomed = true;
    link_anew(state, SessionReason::PairingFailed, now);
}

/// A device is linked as to a session that never had one; the reason stays until that is done.
fn link_anew(state: &mut State, reason: SessionReason, now: Timestamp) {
    note_disconnect(state, reason, now);
    forget_device(state);
    state.kept.windows_passed = 0;
    (state.failures, state.flaps, state.unauthorized) = (0, 0, 0);
    // Without keys there is no login, so the device cannot be removed from the account.
    if state.is_deleting() {
        return erase_and_go(state, false);
    }
    go(state, now);
    // Where none is wanted the wish is fulfilled.
    state.reason = (!state.kept.spec.wants_unlinked()).then_some(reason);
}

/// No device is linked any more.
fn forget_device(state: &mut State) {
    (state.kept.paired, state.unproven) = (false, false);
    state.kept.phone_number = None;
    state.kept.push_name = None;
    state.kept.restriction = None;
}
