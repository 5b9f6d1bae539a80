//! WhatsApp refuses a login.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{Restriction, RestrictionKind, SessionReason};

use super::{
    login::{link_failed, logged_out},
    steps::{failed, held, note_disconnect},
};
use crate::machine::{Presented, kept::Parked, stage::Stage, state::State, timings::later};

/// A login that is refused for good is confirmed after this many doublings: eight seconds.
const CONFIRMED: u32 = 3;

/// A ban without a length would be over at once, and every login during it counts against the account.
const UNTIMED_BAN: Duration = Duration::from_secs(900);

/// Accounts that were banned in one moment must not all come back in one moment: that is what they were banned for. Each
/// waits up to a tenth of the ban longer, within these bounds.
const BAN_SPREAD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// How long the deletion of a session whose account is locked or banned waits before the device is tried to be unlinked again. A deletion
/// by the operator seldom lasts so long: it gives up at its `--deletion-deadline`, and has the session erased. Up to a tenth less, so that sessions that were refused in one moment do not come back in one moment.
const UNLINK_BARRED: Duration = Duration::from_secs(3600);

/// WhatsApp does not accept any more what the client presented.
pub(super) fn outdated(state: &mut State, presented: Presented, now: Timestamp) {
    state.note_outdated(presented, now);
    park(state, Parked::Outdated, SessionReason::ClientOutdated, now);
}

/// The account is banned for a time.
pub(super) fn banned(state: &mut State, code: i64, length: Duration, now: Timestamp) {
    let ban = if length.is_zero() { UNTIMED_BAN } else { length };
    let until = later(now, ban);
    let spread = state.up_to((ban / 10).clamp(BAN_SPREAD.0, BAN_SPREAD.1));
    state.kept.restriction =
        Some(Restriction { kind: RestrictionKind::TemporaryBan.into(), code: Some(code), expires_at: Some(until) });
    park(state, Parked::Banned(later(until, spread)), SessionReason::TemporaryBan, now);
}

/// The first time, nothing but a wait follows, and one more login that asks again: keys that were deleted for a mistake of
/// the server's are lost for good. Such a mistake may last for a moment, so the wait is some seconds.
pub(super) fn unauthorized(state: &mut State, now: Timestamp) {
    let confirmed = state.unauthorized > 0 && !held(state, now);
    if state.kept.paired && confirmed {
        return if state.unproven { link_failed(state, now) } else { logged_out(state, now) };
    }
    // Also where no device is noted: there may be one in the keys, when the process ended before it was noted.
    state.failures = state.failures.max(CONFIRMED);
    failed(state, SessionReason::ServerRefused, now);
    if confirmed {
        // The phone used a code, and the connection broke before WhatsApp had our answer: in the keys there is a device that it does not
        // know. With them the client would log in for ever, and show no code.
        (state.kept.keys_doomed, state.unauthorized) = (true, 0);
    } else {
        state.unauthorized += 1;
    }
}

/// The device is still linked, and its keys are as good as before once the account is.
pub(super) fn barred(state: &mut State, why: SessionReason, now: Timestamp) {
    if !state.kept.paired {
        return failed(state, SessionReason::ServerRefused, now);
    }
    state.unauthorized = 0;
    let barred = state.barred(why, now);
    park(state, barred, why, now);
}

/// Into a state that this client cannot leave.
pub(super) fn park(state: &mut State, parked: Parked, reason: SessionReason, now: Timestamp) {
    note_disconnect(state, reason, now);
    if state.unlinks() {
        failed(state, reason, now);
        let end = match parked {
            // Sooner than a session that stays would be tried again.
            Parked::Barred { .. } if state.is_deleting() => {
                Some(later(now, UNLINK_BARRED.saturating_sub(state.up_to(UNLINK_BARRED / 10))))
            }
            Parked::Barred { again, .. } => Some(again),
            _ => state.kept.banned_until(now),
        };
        if let (Stage::UnlinkLater { at }, Some(end)) = (&mut state.stage, end) {
            *at = end;
        }
        return;
    }
    state.kept.parked = parked;
    state.shown = None;
    state.reason = Some(reason);
    state.stage = match parked {
        Parked::Banned(until) => Stage::Banned { until },
        _ => Stage::Ended { again: state.tried_again_at(now) },
    };
}
