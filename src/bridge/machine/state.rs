//! What is known of a session.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::{bridge_api::SessionReason, platform::backoff::doubled};

use super::{
    Generation,
    jitter::Chance,
    kept::{Kept, Parked},
    on_write::OnWrite,
    stage::{Client, Permit, Shown, Stage, Window},
    timings::Timings,
};

/// A session.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(super) id: Arc<str>,
    /// The part that is stored.
    pub kept: OnWrite<Kept>,
    pub(super) stage: Stage,
    pub(super) since: Timestamp,
    pub(super) reason: Option<SessionReason>,
    pub(super) connected_at: Option<Timestamp>,
    pub(super) last_active_at: Option<Timestamp>,
    /// When the client of a connection that holds is replaced by one that logs in again.
    pub(super) log_in_anew_at: Option<Timestamp>,
    pub(super) was_connected: bool,
    /// A device was linked just now, and has not logged in yet.
    pub(super) unproven: bool,
    pub(super) shown: Option<Arc<Shown>>,
    /// The window, from its first code on, or from the first time that the server refused one.
    pub(super) window: Option<Window>,
    /// The server refused a pairing code and is not asked for one before then.
    pub(super) refused_until: Option<Timestamp>,
    /// Why.
    pub(super) refused_for: Option<SessionReason>,
    pub(super) client: Client,
    pub(super) generation: Generation,
    /// The running client is to be replaced by a fresh one.
    pub(super) renew: bool,
    pub(super) permit: Permit,
    /// The keys are being deleted.
    pub(super) erasing: bool,
    /// Deleting them failed: next try.
    pub(super) erase_at: Option<Timestamp>,
    /// Connections that failed in a row.
    pub(super) failures: u32,
    /// Connections in a row that were lost soon after the login.
    pub(super) flaps: u32,
    /// How often the server did not know the device, since a connection held last.
    pub(super) unauthorized: u32,
    /// Of the failures, how many because the server was not trusted.
    pub(super) untrusted_handshakes: u32,
    pub(super) timings: Timings,
    /// How far the wall clock is ahead of the clock that this state goes by: times that others say are the wall's.
    wall_ahead: SignedDuration,
    chance: Chance,
}

impl State {
    /// A session that was put for the first time, or found in the store when the bridge started; its turn comes at `turn`.
    pub fn new(id: String, mut kept: Kept, turn: Timestamp, timings: Timings, seed: u64, now: Timestamp) -> Self {
        // Releases before this was kept have left the number only.
        kept.account = kept.account.or_else(|| kept.phone_number.clone());
        let mut state = Self {
            id: id.into(),
            kept: OnWrite::new(kept),
            stage: Stage::Stopped,
            since: now,
            reason: None,
            connected_at: None,
            last_active_at: None,
            log_in_anew_at: None,
            was_connected: false,
            unproven: false,
            shown: None,
            window: None,
            refused_until: None,
            refused_for: None,
            client: Client::None,
            generation: 0,
            renew: false,
            permit: Permit::None,
            erasing: false,
            erase_at: None,
            failures: 0,
            flaps: 0,
            unauthorized: 0,
            untrusted_handshakes: 0,
            timings,
            wall_ahead: SignedDuration::ZERO,
            chance: Chance::new(seed),
        };
        state.stage = state.aim(now);
        if turn > now && (state.wants_client() || state.stage == Stage::Permit) {
            state.stage = Stage::Turn { at: turn };
        }
        state.reason = match state.kept.parked {
            Parked::Replaced => Some(SessionReason::StreamReplaced),
            Parked::Outdated => Some(SessionReason::ClientOutdated),
            Parked::Banned(_) => Some(SessionReason::TemporaryBan),
            Parked::Barred { why, .. } => Some(why),
            Parked::LoggedOut => Some(SessionReason::LoggedOut),
            _ => None,
        };
        state
    }

    /// The id it was created with.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The wall clock is so far ahead.
    pub fn set_wall_ahead(&mut self, by: SignedDuration) {
        self.wall_ahead = by;
    }

    /// What the wall clock says at `now`.
    pub(super) fn wall(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.wall_ahead).unwrap_or(now)
    }

    /// How long things may take.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        matches!(self.kept.parked, Parked::Unlinking | Parked::Erasing)
    }

    /// Whether the device is being removed from the account, to delete the session or to keep it without one.
    pub(super) fn unlinks(&self) -> bool {
        self.is_deleting() || (self.kept.paired && self.kept.spec.wants_unlinked())
    }

    /// Whether the account that is linked now is another one than that which was linked before, in `before`.
    pub fn is_another_account_than(&self, before: &Self) -> bool {
        matches!((&before.kept.account, &self.kept.account), (Some(before), Some(now)) if before != now)
    }

    /// Whether it is deleted.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether its client may be started at all: not while the keys wait to be deleted.
    pub(super) fn wants_client(&self) -> bool {
        use Stage as S;
        !self.kept.keys_doomed
            && !self.renew
            && matches!(
                self.stage,
                S::Opening { .. }
                    | S::Awaiting { .. }
                    | S::Linking { .. }
                    | S::Passkey { .. }
                    | S::Connecting { .. }
                    | S::Connected
                    | S::Unlinking { .. }
            )
    }

    pub(super) fn wants_permit(&self) -> bool {
        use Stage as S;
        matches!(self.stage, S::Permit | S::Opening { .. } | S::Awaiting { .. } | S::Linking { .. } | S::Passkey { .. })
    }

    /// Whether what it shows is about to change by itself at once: not worth telling anybody, and for a session without a device not yet
    /// true, because it promises that the keys are gone.
    pub fn is_transient(&self) -> bool {
        let promises = self.stage == Stage::LoggedOut
            || (self.stage == Stage::Stopped && self.kept.spec.wants_unlinked() && !self.kept.paired);
        self.kept.keys_doomed && promises
    }

    /// When [`Event::Tick`](super::Event::Tick) is due. A session that is connected has one about once a week: some of its keys
    /// are renewed at a login only.
    pub fn wake_at(&self) -> Option<Timestamp> {
        use Stage as S;
        let stage = match self.stage {
            S::Turn { at } | S::OpeningLater { at } | S::Later { at } | S::UnlinkLater { at } => Some(at),
            S::Opening { by } | S::Awaiting { by } | S::Linking { by } | S::Passkey { by } => Some(by),
            S::Connecting { by } | S::Unlinking { by, .. } => Some(by),
            S::Banned { until } => Some(until),
            S::Expired { reopen } => reopen,
            S::Ended { again } => again,
            S::Connected => self.log_in_anew_at,
            S::Stopped | S::Permit | S::LoggedOut | S::Erasing { .. } | S::Gone => None,
        };
        let restriction = self.kept.restriction.as_ref().and_then(|restriction| restriction.expires_at);
        [stage, restriction, self.erase_at].into_iter().flatten().min()
    }

    /// `base` doubled `times` times, at most `max`, spread by a tenth to either side.
    pub(super) fn back_off(&mut self, base: Duration, max: Duration, times: u32) -> Duration {
        self.chance.spread(doubled(base, times, max))
    }

    /// Any time from none to `max`.
    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        self.chance.up_to(max)
    }
}
