//! What a bridge says of itself, and of requests that failed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Open;

/// What a bridge process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of the program.
    pub version: String,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// How many sessions it holds.
    #[serde(default)]
    pub sessions: u32,
}

/// Something that not every bridge can do. Callers ask for it ([`Capabilities::include`]) before they use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// Pairing by QR code. A bridge that links no devices has neither this nor the next.
    Qr,
    /// Pairing by a code that is typed on the phone.
    PairingCode,
    /// Deleting a session removes the device from the account.
    Unlink,
    /// The event stream.
    Events,
    /// [`SessionSpec::presence`](super::SessionSpec::presence).
    Presence,
    /// [`DesiredState::Unlinked`](crate::api::DesiredState::Unlinked): the device goes, the session stays.
    UnlinkAndKeep,
    /// Messages: an outbox per session, their events, and claims.
    Messages,
    /// Several messages in one request.
    MessageBatches,
    /// [`PairingSpec::refresh_until`](super::PairingSpec::refresh_until).
    RefreshUntil,
    /// [`SessionSpec::instance`](super::SessionSpec::instance).
    Instance,
    /// What only a bridge can do that was started to take over restored data: a session that it does not know yet gets what it has for the
    /// same instance under another id.
    Adopt,
    /// Telling of a claim without making one.
    ClaimLookup,
    /// Messages of plain text to anybody at any time, [`Content::Text`](super::Content::Text).
    FreeText,
    /// Messages made from templates that WhatsApp has approved. Reserved for drivers of business APIs.
    Templates,
    /// Messages to groups. Reserved.
    Groups,
    /// The caller chooses a message's id, which it has at WhatsApp too.
    CallerMessageId,
    /// A message that was accepted is one message to its recipient, whatever breaks meanwhile.
    ExactlyOnce,
}

/// What a bridge can do, words of later releases included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Open<Capability>>);

impl Capabilities {
    /// Whether this is among them.
    pub fn include(&self, capability: Capability) -> bool {
        self.0.contains(&capability.into())
    }

    /// What both can do.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// Their names as they travel.
    pub fn names(&self) -> Vec<String> {
        let name = |capability| serde_json::to_value(capability).ok()?.as_str().map(str::to_owned);
        self.0.iter().filter_map(name).collect()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().map(Open::Known).collect())
    }
}

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorDetail {
    /// For programs.
    pub code: Open<ErrorCode>,
    /// For people: one sentence.
    pub message: String,
    /// After how many seconds another try may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The bridge's process is about to end, and another one starts; what was asked for may have been done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// No token or the wrong one (401).
    Unauthorized,
    /// No such session or path (404).
    NotFound,
    /// The request is not valid (400).
    Invalid,
    /// The session is being deleted (409).
    Deleting,
    /// The session of that id was taken over by its instance, which was created anew and has another id (409).
    TakenOver,
    /// The bridge holds as many sessions as it may (503).
    Full,
    /// No device is linked to the session, so it accepts no message (409).
    NotPaired,
    /// Another message has that id (409).
    Conflict,
    /// The message can no longer be called back (409).
    TooLate,
    /// As many messages wait as may, or they would wait past their own expiry (429).
    QueueFull,
    /// The disk takes nothing more (507).
    StorageFull,
    /// The bridge has the session stored in a form that it cannot read (500).
    SessionUnreadable,
    /// The bridge failed (500), or its process or the session is being restarted (503).
    Internal,
}
