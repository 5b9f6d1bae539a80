//! A time has come.

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::bridge_api::SessionReason;

use super::steps::{ACTIVITY_GRAIN, disconnected, failed, go, window_passed};
use crate::machine::{kept::Parked, stage::Stage, state::State, timings::later};

/// Nothing was sent or received for this long: twice the grain in which it is noted.
const QUIET: SignedDuration = SignedDuration::from_mins(30);

/// How long a login that is due waits for a quiet moment.
const WAIT_FOR_QUIET: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn tick(state: &mut State, now: Timestamp) {
    let due = |at: Timestamp| at <= now;
    if state.erase_at.is_some_and(due) {
        state.erase_at = None;
    }
    if state.kept.restriction.as_ref().and_then(|restriction| restriction.expires_at).is_some_and(due) {
        state.kept.restriction = None;
    }
    match state.stage {
        Stage::Turn { at } if due(at) => go(state, now),
        Stage::OpeningLater { at } if due(at) => state.stage = Stage::Permit,
        Stage::Expired { reopen: Some(at) } if due(at) => {
            state.kept.parked = Parked::None;
            state.stage = Stage::Permit;
        }
        Stage::Awaiting { by } | Stage::Passkey { by } if due(by) => window_passed(state, now),
        Stage::Opening { by } | Stage::Linking { by } | Stage::Connecting { by } | Stage::Unlinking { by, .. }
            if due(by) =>
        {
            failed(state, SessionReason::ServerNotAnswering, now);
        }
        Stage::Connected if state.log_in_anew_at.is_some_and(due) => log_in_anew(state, now),
        Stage::Later { at } if due(at) => {
            state.stage = Stage::Connecting { by: later(now, state.timings.connect) };
        }
        Stage::UnlinkLater { at } if due(at) => {
            state.stage = Stage::Unlinking { by: later(now, state.timings.connect), ready: false, asked: false };
        }
        // A try that is refused too ends as the one before it did.
        Stage::Ended { again: Some(at) } if due(at) => {
            state.kept.parked = Parked::None;
            go(state, now);
        }
        Stage::Banned { until } if due(until) => {
            state.kept.parked = Parked::None;
            state.kept.restriction = None;
            go(state, now);
        }
        _ => {}
    }
}

/// A login that is planned and not needed yet: it waits for a quiet moment, but not for ever.
fn log_in_anew(state: &mut State, now: Timestamp) {
    let quiet = state.last_active_at.is_none_or(|last| now.duration_since(last) >= QUIET);
    let due_since = state.connected_at.map(|since| later(since, state.timings.log_in_anew));
    if !quiet && due_since.is_some_and(|due| now.duration_since(due) < WAIT_FOR_QUIET) {
        state.log_in_anew_at = now.checked_add(ACTIVITY_GRAIN).ok();
        return;
    }
    disconnected(state, now);
    state.renew = true;
    state.stage = Stage::Connecting { by: later(now, state.timings.connect) };
}
