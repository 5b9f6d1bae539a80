//! What callers wish: a new spec, or the session's deletion.

use jiff::Timestamp;
use whatsapp_operator::bridge_api::SessionSpec;

use super::steps::{disconnected, erase_and_go, go, restart_window, unlink_first};
use crate::machine::{kept::Parked, stage::Stage, state::State};

/// What a new wish changes.
#[allow(clippy::struct_excessive_bools)] // each is a question of its own
struct Changed {
    /// A window is asked for.
    opens: bool,
    /// No device is linked, and one is to be linked in another way than before.
    pairs_otherwise: bool,
    /// Whether, or for how long, windows reopen by themselves.
    refresh_turned: bool,
    /// Whether it is to be online, when that or the wish to be unlinked has changed.
    turned: Option<bool>,
    /// It is to be unlinked, or not any more. Linking a device again is for those who wish it: what became of the one before is over.
    starts_over: bool,
}

impl Changed {
    fn between(old: &SessionSpec, new: &SessionSpec, paired: bool) -> Self {
        let refresh = |spec: &SessionSpec| (spec.pairing.auto_refresh, spec.pairing.refresh_until);
        let wish = |spec: &SessionSpec| (spec.wants_online(), spec.wants_unlinked());
        Self {
            // An empty name asks for nothing: a caller that forgot the last one does not want another window.
            opens: !new.pairing.window.is_empty() && new.pairing.window != old.pairing.window,
            pairs_otherwise: !paired
                && (new.pairing.method != old.pairing.method || new.pairing.phone_number != old.pairing.phone_number),
            refresh_turned: refresh(new) != refresh(old),
            turned: (wish(new) != wish(old)).then_some(new.wants_online()),
            starts_over: new.wants_unlinked() != old.wants_unlinked(),
        }
    }
}

pub(super) fn put(state: &mut State, spec: SessionSpec, now: Timestamp) {
    if state.is_deleting() {
        return;
    }
    let old = std::mem::replace(&mut state.kept.spec, spec);
    let changed = Changed::between(&old, &state.kept.spec, state.kept.paired);
    if changed.opens || changed.pairs_otherwise {
        state.window = None;
    }
    if changed.pairs_otherwise {
        // What the server refused was a code for that number.
        state.refused_until = None;
    }
    if changed.opens {
        state.kept.windows_passed = 0;
        state.failures = 0;
        if state.kept.parked != Parked::None {
            state.kept.parked = Parked::None;
            state.reason = None;
        }
    }
    if changed.starts_over && !state.kept.paired {
        (state.kept.parked, state.reason, state.kept.windows_passed) = (Parked::None, None, 0);
    }
    match changed.turned {
        Some(false) => turn_off(state, now),
        Some(true) => go(state, now),
        None if changed.opens => open(state, now),
        None if changed.pairs_otherwise => {
            if state.stage.is_pairing() {
                restart_window(state, now);
            }
        }
        None => {
            if changed.refresh_turned && matches!(state.stage, Stage::Expired { .. }) {
                state.stage = state.expired(now);
            }
        }
    }
}

/// The session is not to be online any more, or only until its device is unlinked.
fn turn_off(state: &mut State, now: Timestamp) {
    // A client that is logged in can ask at once; one on its way is waited for.
    if state.kept.spec.wants_unlinked() && state.kept.paired {
        state.reason = None;
        let ready = state.stage == Stage::Connected;
        go_offline(state, now);
        state.stage = state.unlinking(ready, now);
        return;
    }
    // Going off and on again is the way to try once more after another client took over.
    if state.kept.parked.ends_with_going_offline() {
        state.kept.parked = Parked::None;
    }
    if state.kept.parked != Parked::LoggedOut {
        state.reason = None;
    }
    go(state, now);
}

/// A window is asked for.
fn open(state: &mut State, now: Timestamp) {
    match state.stage {
        Stage::Awaiting { .. } | Stage::Passkey { .. } => restart_window(state, now),
        Stage::Permit | Stage::Turn { .. } | Stage::Opening { .. } | Stage::Linking { .. } => {}
        Stage::Connecting { .. } | Stage::Connected | Stage::Stopped => {}
        Stage::Unlinking { .. } | Stage::UnlinkLater { .. } => {}
        _ => go(state, now),
    }
}

/// Nothing is shown of a session that is being unlinked, nor waited for.
fn go_offline(state: &mut State, now: Timestamp) {
    if state.kept.parked.ends_with_going_offline() {
        state.kept.parked = Parked::None;
    }
    disconnected(state, now);
    (state.shown, state.window, state.was_connected) = (None, None, false);
}

pub(super) fn delete(state: &mut State, unlink: bool, now: Timestamp) {
    match &mut state.stage {
        Stage::Gone => return,
        Stage::Erasing { unlink: wanted } => return *wanted &= unlink,
        _ => {}
    }
    if !unlink || !state.kept.paired {
        return erase_and_go(state, unlink);
    }
    if state.kept.parked == Parked::Unlinking {
        return;
    }
    let ready = state.stage == Stage::Connected;
    unlink_first(state, ready, now);
}
