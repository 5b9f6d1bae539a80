//! What is known of a session.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use whatsapp_operator::{
    bridge_api::{Extra, LastDisconnect, PairingMethod, Restriction, RestrictionKind, SessionReason, SessionSpec},
    model::Sensitive,
};

use super::{Generation, on_write::OnWrite, presented::Outdated};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// From the start of a client to its first code or its login.
    pub connect: Duration,
    /// From the use of a code to the login.
    pub link: Duration,
    /// First wait before a connection is made again; doubles up to `retry_max`.
    pub retry: Duration,
    /// Longest wait before a connection is made again.
    pub retry_max: Duration,
    /// Wait before a window reopens while somebody is expected to use a code.
    pub reopen_expected: Duration,
    /// First wait before a window reopens by itself; doubles up to `reopen_max`.
    pub reopen: Duration,
    /// Longest wait before a window reopens by itself.
    pub reopen_max: Duration,
    /// From one login to a planned next one, see [`State::wake_at`].
    pub log_in_anew: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            link: Duration::from_secs(45),
            retry: Duration::from_secs(1),
            // WhatsApp's own web client goes up to 15 minutes; one keeps the way back short, and a thousand sessions then
            // make 17 attempts a second.
            retry_max: Duration::from_secs(60),
            reopen_expected: Duration::from_secs(1),
            reopen: Duration::from_secs(60),
            reopen_max: Duration::from_secs(3600),
            // The library renews the signed pre-key (due after 21 days) and drops tokens that have expired at a login only.
            log_in_anew: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The part of a session that is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What is wanted.
    pub spec: SessionSpec,
    /// Whether the keys belong to a linked device.
    #[serde(default)]
    pub paired: bool,
    /// The linked account's number.
    #[serde(default)]
    pub phone_number: Option<Sensitive>,
    /// The number of the account that was linked last, also when none is any more: what waits to be sent was accepted for it.
    #[serde(default)]
    pub account: Option<Sensitive>,
    /// The linked account's name.
    #[serde(default)]
    pub push_name: Option<Sensitive>,
    /// What it rests in. A word of a later release, found after going back to this one: whatever is wanted is worked on.
    #[serde(default, deserialize_with = "known")]
    pub rest: Rest,
    /// What WhatsApp refused last as too old. Beside [`Rest::Outdated`], not in it, so that an earlier release reads that.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub outdated: Option<Outdated>,
    /// The keys are worthless and must be deleted before anything else is done with the session.
    #[serde(default)]
    pub keys_doomed: bool,
    /// What WhatsApp forbids for now.
    #[serde(default)]
    pub restriction: Option<Restriction>,
    /// Why and when it last stopped being connected.
    #[serde(default)]
    pub last_disconnect: Option<LastDisconnect>,
    /// How many windows in a row passed unused.
    #[serde(default)]
    pub windows_passed: u32,
    /// What a later release keeps besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is stored, if this release knows how to read it.
fn known<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let stored = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(stored).unwrap_or_default())
}

impl Kept {
    /// When the ban ends, while there is one. A login before that is refused, and counts against the account.
    pub(super) fn banned_until(&self, now: Timestamp) -> Option<Timestamp> {
        let ban = self.restriction.as_ref().filter(|found| found.kind == RestrictionKind::TemporaryBan)?;
        ban.expires_at.filter(|end| *end > now)
    }

    /// A session nobody has worked on yet.
    pub fn new(spec: SessionSpec) -> Self {
        Self {
            spec,
            paired: false,
            phone_number: None,
            account: None,
            push_name: None,
            rest: Rest::None,
            outdated: None,
            keys_doomed: false,
            restriction: None,
            last_disconnect: None,
            windows_passed: 0,
            extra: Extra::default(),
        }
    }
}

/// States that only a wish, or the passing of time, ends: they survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// None: whatever is wanted is being worked on.
    #[default]
    None,
    /// The pairing window passed.
    Expired,
    /// Unlinked.
    LoggedOut,
    /// Another client uses the keys.
    Replaced,
    /// The client is too old for WhatsApp. Another one is tried when the bridge starts, and the same one once a day when it
    /// presents the current version.
    Outdated,
    /// Banned until then.
    Banned(Timestamp),
    /// The account is locked or banned without an end. It is tried again now and then.
    Barred {
        /// Which of the two.
        why: SessionReason,
        /// When it is tried again.
        again: Timestamp,
    },
    /// To be deleted once the device is removed from the account.
    Unlinking,
    /// To be deleted.
    Erasing,
}

impl Rest {
    /// Whether the wish to be offline ends it, so that going off and on again is a way to try once more.
    pub(super) fn ends_with_going_offline(self) -> bool {
        matches!(self, Self::Replaced | Self::Outdated | Self::Banned(_) | Self::Barred { .. })
    }
}

/// Where a session stands, with the moment something is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    /// Offline by wish.
    Stopped,
    /// Starts when its turn after a restart of the bridge comes.
    Turn { at: Timestamp },
    /// Wants a pairing permit.
    Permit,
    /// A client runs and has no code yet.
    Opening { by: Timestamp },
    /// No client: the next try is due then.
    OpeningLater { at: Timestamp },
    /// A code is shown.
    Awaiting { by: Timestamp },
    /// The phone used the code.
    Linking { by: Timestamp },
    /// A passkey is wanted.
    Passkey { by: Timestamp },
    /// The window passed; it reopens by itself then.
    Expired { reopen: Option<Timestamp> },
    /// A client of a paired session runs and is not logged in yet.
    Connecting { by: Timestamp },
    /// Logged in.
    Connected,
    /// No client of a paired session: the next try is due then.
    Later { at: Timestamp },
    /// Replaced, outdated or barred; it is tried again by itself then.
    Ended { again: Option<Timestamp> },
    /// Banned.
    Banned { until: Timestamp },
    /// Unlinked.
    LoggedOut,
    /// Deletion, or the wish to be unlinked: a client runs to have the device removed; `asked` once the server was.
    Unlinking { by: Timestamp, ready: bool, asked: bool },
    /// The same: the next try is due then.
    UnlinkLater { at: Timestamp },
    /// Deletion: the keys go. `unlink`: a device that is linked in this very moment has to be removed from the account first.
    Erasing { unlink: bool },
    /// Deleted.
    Gone,
}

impl Stage {
    /// A client runs to be linked, and no phone has used its code yet.
    pub(super) fn is_pairing(self) -> bool {
        matches!(self, Self::Opening { .. } | Self::Awaiting { .. } | Self::Passkey { .. })
    }
}

/// The session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// There is none.
    None,
    /// It runs.
    Live(Generation),
    /// It was told to stop, and still may touch the keys.
    Stopping(Generation),
}

/// The session's pairing permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// Not wanted.
    None,
    /// Asked for.
    Requested,
    /// Given.
    Held,
}

/// The code shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) method: PairingMethod,
    pub(super) code: Sensitive,
    pub(super) expires_at: Timestamp,
    pub(super) attempt: u32,
    /// How many there are in the window, when the server said so.
    pub(super) of: Option<u32>,
}

/// The pairing window: it was asked for once, and lasts over every connection made for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// The client that opened it. Its codes are good as long as the server says.
    pub(super) opened_by: Generation,
    /// When it ends for every later client.
    pub(super) ends: Timestamp,
}

/// A session.
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
    /// When a connection that holds is made anew.
    pub(super) log_in_anew_at: Option<Timestamp>,
    pub(super) was_connected: bool,
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
    pub(super) distrust: u32,
    pub(super) timings: Timings,
    seed: u64,
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
            distrust: 0,
            timings,
            // Zero is the one state a xorshift never leaves.
            seed: seed | 1,
        };
        state.stage = state.aim(now);
        if turn > now && (state.wants_client() || state.stage == Stage::Permit) {
            state.stage = Stage::Turn { at: turn };
        }
        state.reason = match state.kept.rest {
            Rest::Replaced => Some(SessionReason::StreamReplaced),
            Rest::Outdated => Some(SessionReason::ClientOutdated),
            Rest::Banned(_) => Some(SessionReason::TemporaryBan),
            Rest::Barred { why, .. } => Some(why),
            Rest::LoggedOut => Some(SessionReason::LoggedOut),
            _ => None,
        };
        state
    }

    /// The id it was created with.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long things may take.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        matches!(self.kept.rest, Rest::Unlinking | Rest::Erasing)
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
        let plain = base.saturating_mul(2_u32.saturating_pow(times.min(16))).min(max);
        let permille = u32::try_from(900 + self.random() % 201).unwrap_or(1000);
        plain.saturating_mul(permille) / 1000
    }

    /// Any time from none to `max`.
    pub(super) fn up_to(&mut self, max: Duration) -> Duration {
        let permille = u32::try_from(self.random() % 1001).unwrap_or(1000);
        max.saturating_mul(permille) / 1000
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

/// `at` plus `wait`, or the end of time.
pub fn later(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
