//! A device is being linked.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::{bridge_api::SessionReason, model::Sensitive};

use super::steps::{TOO_MANY, WINDOW_GRACE, belongs_to, failed, forget_reason, go, unlink_first, window_passed};
use crate::machine::{
    Generation,
    kept::Parked,
    stage::{Shown, Stage, Window},
    state::State,
    timings::later,
};

/// WhatsApp gives codes for this long: one for 60 s and five for 20 s each.
const WINDOW: Duration = Duration::from_secs(160);

/// A pause that the server wants before the next pairing code is believed up to this length.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// WhatsApp gives no time for the passkey; this long a person may look for it.
const PASSKEY: Duration = Duration::from_secs(300);

/// A code comes.
pub(super) fn code(state: &mut State, generation: Generation, shown: Shown, now: Timestamp) {
    if shown.method == state.kept.spec.pairing.method.known().unwrap_or_default()
        && matches!(state.stage, Stage::Opening { .. } | Stage::Awaiting { .. })
    {
        show(state, generation, shown, now);
    }
}

fn show(state: &mut State, generation: Generation, mut shown: Shown, now: Timestamp) {
    let fresh = Window { opened_by: generation, ends: later(now, WINDOW).max(shown.expires_at) };
    let window = *state.window.get_or_insert(fresh);
    if window.opened_by != generation {
        if window.ends <= now {
            return window_passed(state, now);
        }
        shown.expires_at = shown.expires_at.min(window.ends);
    }
    shown.attempt = match &state.shown {
        Some(before) if before.code == shown.code => before.attempt,
        Some(before) => before.attempt + 1,
        None => 1,
    };
    // The first code proves little: a server that gives one and hangs up would be asked again every second.
    if shown.attempt > 1 {
        state.failures = 0;
    }
    state.stage = Stage::Awaiting { by: later(shown.expires_at, WINDOW_GRACE) };
    state.shown = Some(shown.into());
    state.refused_until = None;
    forget_reason(state);
    state.untrusted_handshakes = 0;
}

/// The server's codes are used up.
pub(super) fn codes_used_up(state: &mut State, now: Timestamp) {
    if state.window.is_none() && matches!(state.stage, Stage::Opening { .. }) {
        // Before one was shown: the server gave none that can be read.
        failed(state, SessionReason::PairingCodesUnusable, now);
    } else if state.stage.is_pairing() {
        window_passed(state, now);
    }
}

/// No device was linked, or no code can be shown.
pub(super) fn pairing_failed(state: &mut State, reason: SessionReason, now: Timestamp) {
    if state.kept.paired || !state.stage.is_pairing() {
        return;
    }
    if reason != SessionReason::CoexistenceNotSupported {
        return failed(state, reason, now);
    }
    // No further code would work either: there is none until a caller asks for one.
    window_passed(state, now);
    state.stage = Stage::Expired { reopen: None };
    state.reason = Some(reason);
}

/// No pairing code comes, or the server has refused what the phone made of the one that is shown.
pub(super) fn no_code(
    state: &mut State,
    generation: Generation,
    refused: Option<SessionReason>,
    pause: Option<Duration>,
    now: Timestamp,
) {
    if state.kept.paired || !state.stage.is_pairing() {
        return;
    }
    let Some(reason) = refused else {
        // A server that does not answer shows when the time is up, as it does without a pairing code.
        if state.shown.is_some() {
            failed(state, SessionReason::PairingFailed, now);
        }
        return;
    };
    // The server throttles codes by number, under more than one status, and each further question makes it worse.
    let pause = match pause {
        Some(asked) => {
            let asked = asked.min(LONGEST_PAUSE);
            asked + state.up_to(asked / 10)
        }
        None => state.back_off(state.timings.retry, state.timings.retry_max, TOO_MANY.saturating_add(state.failures)),
    };
    (state.refused_until, state.refused_for) = (Some(later(now, pause)), Some(reason));
    // It was asked for a code, so the window is open, and ends also when there never is one.
    state.window.get_or_insert(Window { opened_by: generation, ends: later(now, WINDOW) });
    failed(state, reason, now);
    // Keep this reason even if the window has just ended: it ended because WhatsApp refused, not because nobody scanned.
    state.reason = Some(reason);
}

/// Removes the code that became stale. The window still ends at its fixed time, however many codes the server replaces.
pub(super) fn code_stale(state: &mut State, another: bool, now: Timestamp) {
    if !matches!(state.stage, Stage::Awaiting { .. }) {
        return;
    }
    if !another || state.window.is_none_or(|window| window.ends <= now) {
        return window_passed(state, now);
    }
    state.shown = None;
    state.stage = Stage::Opening { by: later(now, state.timings.connect) };
}

/// WhatsApp wants a passkey.
pub(super) fn passkey_wanted(state: &mut State, now: Timestamp) {
    if matches!(state.stage, Stage::Awaiting { .. } | Stage::Opening { .. }) {
        state.shown = None;
        state.stage = Stage::Passkey { by: later(now, PASSKEY) };
    }
}

/// The phone used the code.
pub(super) fn paired(state: &mut State, phone_number: Option<&Sensitive>, now: Timestamp) {
    belongs_to(state, phone_number);
    just_linked(state);
    (state.kept.windows_passed, state.failures) = (0, 0);
    if state.stage.is_pairing() {
        state.stage = Stage::Linking { by: later(now, state.timings.link) };
    }
}

/// The phone used the code of a client that was being stopped.
pub(super) fn linked_late(state: &mut State, now: Timestamp) {
    match state.stage {
        Stage::Erasing { unlink: true } => {
            state.kept.paired = true;
            state.kept.keys_doomed = false;
            unlink_first(state, false, now);
        }
        _ if state.is_deleting() => {}
        _ => {
            just_linked(state);
            state.kept.parked = Parked::None;
            go(state, now);
        }
    }
}

/// What was refused before was no login of this device.
fn just_linked(state: &mut State) {
    (state.kept.paired, state.unproven, state.unauthorized) = (true, true, 0);
}
