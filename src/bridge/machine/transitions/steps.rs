//! What several events do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::{
    bridge_api::{LastDisconnect, SessionReason},
    model::Sensitive,
};

use crate::machine::{
    kept::Parked,
    stage::{Client, Stage},
    state::State,
    timings::later,
};

/// `status.lastActiveAt` may be written at most this often.
pub(super) const ACTIVITY_GRAIN: SignedDuration = SignedDuration::from_mins(15);

/// A connection that held this long counts as stable; WhatsApp's own web client uses the same 30 s.
const STABLE: SignedDuration = SignedDuration::from_secs(30);

/// After a refusal for too many tries, the wait starts at this many doublings: half a minute.
pub(super) const TOO_MANY: u32 = 5;

/// The library announces the end of a window by itself; this much later we end it in its place.
pub(super) const WINDOW_GRACE: Duration = Duration::from_secs(5);

/// Sets out for what is wanted.
pub(super) fn go(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.window = None;
    disconnected(state, now);
    state.stage = state.aim(now);
    if state.stage == Stage::Stopped {
        state.was_connected = false;
    }
    // A client that runs already belongs to a stage that was left: the new one gets its own.
    if state.client != Client::None && matches!(state.stage, Stage::Opening { .. } | Stage::Connecting { .. }) {
        state.renew = true;
    }
}

pub(super) fn restart_window(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.renew = state.client != Client::None;
    state.stage = Stage::Opening { by: later(now, state.timings.connect) };
}

pub(super) fn window_passed(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.window = None;
    forget_reason(state);
    state.failures = 0;
    state.kept.parked = Parked::Expired;
    state.kept.windows_passed = state.kept.windows_passed.saturating_add(1);
    state.stage = state.expired(now);
}

pub(super) fn unlink_first(state: &mut State, ready: bool, now: Timestamp) {
    state.kept.parked = Parked::Unlinking;
    state.shown = None;
    state.stage = state.unlinking(ready, now);
}

pub(super) fn erase_and_go(state: &mut State, unlink: bool) {
    state.kept.parked = Parked::Erasing;
    state.kept.keys_doomed = true;
    state.shown = None;
    state.connected_at = None;
    state.stage = Stage::Erasing { unlink };
}

/// The client is of no use any more, or will not be: try again later.
pub(super) fn failed(state: &mut State, reason: SessionReason, now: Timestamp) {
    if !held(state, now) && state.connected_at.is_some() {
        state.flaps = state.flaps.saturating_add(1);
    }
    note_disconnect(state, reason, now);
    state.untrusted_handshakes =
        if reason == SessionReason::ServerNotTrusted { state.untrusted_handshakes + 1 } else { 0 };
    // A linked device first tries the short handshake with the certificate it remembers. When the server has a new one
    // that fails once, and rightly so; the full handshake that follows tells.
    let excused = state.kept.paired && state.untrusted_handshakes == 1;
    state.reason = Some(if excused { SessionReason::ConnectionLost } else { reason });
    // A login that does not hold counts like one that fails: accounts are banned for logging in again and again.
    let times = if excused { 0 } else { state.failures.max(state.flaps.saturating_sub(1)) };
    let times = if reason == SessionReason::TooManyRequests { times.max(TOO_MANY) } else { times };
    let wait = state.back_off(state.timings.retry, state.timings.retry_max, times);
    let at = match state.refused_until {
        Some(refused) if !state.kept.paired => later(now, wait).max(refused),
        _ => later(now, wait),
    };
    state.failures = state.failures.saturating_add(1);
    state.shown = None;
    // The few seconds that would be left of the window are not worth a connection.
    if !state.kept.paired && state.window.is_some_and(|window| window.ends <= later(at, WINDOW_GRACE)) {
        return window_passed(state, now);
    }
    state.stage = match state.stage {
        stage if stage.is_pairing() && !state.kept.paired => Stage::OpeningLater { at },
        stage if stage.is_pairing() => Stage::Later { at },
        Stage::Linking { .. } | Stage::Connecting { .. } | Stage::Connected => Stage::Later { at },
        Stage::Unlinking { .. } => Stage::UnlinkLater { at },
        other => other,
    };
}

/// There is no connection any more, by whosever wish. One that held has shown that the login is good, and that logins hold.
pub(super) fn disconnected(state: &mut State, now: Timestamp) {
    if held(state, now) {
        (state.flaps, state.unauthorized) = (0, 0);
    }
    state.connected_at = None;
}

/// Whether the connection that there is has held for long enough to be believed.
pub(super) fn held(state: &State, now: Timestamp) -> bool {
    state.connected_at.is_some_and(|since| now.duration_since(since) >= STABLE)
}

/// The connection works. Why no device is linked is said until one is.
pub(super) fn forget_reason(state: &mut State) {
    state.reason = state.reason.filter(|reason| reason.is_about_the_link());
}

/// Notes whose device is linked, where that was told.
pub(super) fn belongs_to(state: &mut State, number: Option<&Sensitive>) {
    if let Some(number) = number {
        state.kept.account = Some(number.clone());
    }
}

pub(super) fn note_disconnect(state: &mut State, reason: SessionReason, now: Timestamp) {
    let was_connected = state.connected_at.is_some();
    disconnected(state, now);
    if was_connected {
        state.kept.last_disconnect = Some(LastDisconnect { reason: reason.into(), at: now });
    }
}
