//! The part of a session that is stored.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use whatsapp_operator::{
    bridge_api::{Extra, LastDisconnect, Restriction, RestrictionKind, SessionReason, SessionSpec},
    model::Sensitive,
};

use super::presented::Outdated;

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
    /// Why it does nothing by itself. A word of a later release, found after going back to this one: whatever is wanted is worked on.
    #[serde(default, rename = "rest", deserialize_with = "or_default")]
    pub parked: Parked,
    /// What WhatsApp refused last as too old. Beside [`Parked::Outdated`], not in it, so that an earlier release reads that.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Option::is_none")]
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
    /// The ids that the session had before it was given to an instance that was created anew, the last one last. Its keys may still be where
    /// that one says, and idempotency keys may name any of them; nobody else gets a session of these ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerly: Vec<String>,
    /// What a later release keeps besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is stored, if this release knows how to read it.
fn or_default<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let stored = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(stored).unwrap_or_default())
}

impl Kept {
    /// When the ban ends, while there is one. A login before that is refused, and counts against the account.
    pub(super) fn banned_until(&self, now: Timestamp) -> Option<Timestamp> {
        let ban = self.restriction.as_ref().filter(|found| found.kind == RestrictionKind::TemporaryBan)?;
        ban.expires_at.filter(|end| *end > now)
    }

    /// A new session.
    pub fn new(spec: SessionSpec) -> Self {
        Self {
            spec,
            paired: false,
            phone_number: None,
            account: None,
            push_name: None,
            parked: Parked::None,
            outdated: None,
            keys_doomed: false,
            restriction: None,
            last_disconnect: None,
            windows_passed: 0,
            formerly: Vec::new(),
            extra: Extra::default(),
        }
    }
}

/// States that only a wish, or the passing of time, ends: they survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parked {
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

impl Parked {
    /// Whether the wish to be offline ends it, so that going off and on again is a way to try once more.
    pub(super) fn ends_with_going_offline(self) -> bool {
        matches!(self, Self::Replaced | Self::Outdated | Self::Banned(_) | Self::Barred { .. })
    }
}
