//! What callers want of a session.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Capabilities, Capability, Extra, Open};
pub use crate::api::{DesiredState, PairingMethod, Presence, Sending};
use crate::model::Sensitive;

/// What is wanted of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSpec {
    /// Online or offline; offline keeps the link, Unlinked does not and is asked of bridges with [`Capability::UnlinkAndKeep`].
    /// A bridge that does not know the word keeps the session offline.
    #[serde(default)]
    pub desired_state: Open<DesiredState>,
    /// Whether the account's contacts see it online because of this session; asked of bridges with
    /// [`Capability::Presence`]. A bridge that does not know the word hides the account. Not written when it is the
    /// default: a bridge of the first release refuses fields that it does not know.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presence: Open<Presence>,
    /// How the device gets linked.
    #[serde(default)]
    pub pairing: PairingSpec,
    /// How fast it sends; asked of bridges with [`Capability::Messages`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub sending: Sending,
    /// Whose session it is; asked of bridges with [`Capability::Instance`]. A bridge with [`Capability::Adopt`] gives a session that it
    /// does not know yet the one that it has for the same instance under another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Box<SessionInstance>>,
    /// What a later release wants besides.
    #[serde(flatten)]
    pub extra: Extra,
}

impl SessionSpec {
    /// Whether the session should be online.
    pub fn wants_online(&self) -> bool {
        self.desired_state == DesiredState::Connected
    }

    /// Whether no device should be linked.
    pub fn wants_unlinked(&self) -> bool {
        self.desired_state == DesiredState::Unlinked
    }

    /// Whether the account should be shown as online while the session is connected.
    pub fn shows_online(&self) -> bool {
        self.presence == Presence::Visible
    }

    /// What of it a bridge that `can` do this may be told: nothing new is asked of a bridge that does not know it.
    #[must_use]
    pub fn within(self, can: &Capabilities) -> Self {
        let unlinks = can.include(Capability::UnlinkAndKeep) || !self.wants_unlinked();
        let presence = if can.include(Capability::Presence) { self.presence } else { Open::default() };
        let sending = if can.include(Capability::Messages) { self.sending } else { Sending::default() };
        let refresh_until = self.pairing.refresh_until.filter(|_| can.include(Capability::RefreshUntil));
        let pairing = PairingSpec { refresh_until, ..self.pairing };
        let instance = self.instance.filter(|_| can.include(Capability::Instance));
        let desired_state = if unlinks { self.desired_state } else { DesiredState::Disconnected.into() };
        Self { desired_state, presence, pairing, sending, instance, ..self }
    }

    /// Whether this is what `wanted` asks for, as far as this release can tell: a later bridge may answer with more.
    pub fn fulfils(&self, wanted: &Self) -> bool {
        let Self { desired_state, presence, pairing, sending, instance, extra: _ } = wanted;
        let PairingSpec { method, phone_number, auto_refresh, refresh_until, window, extra: _ } = pairing;
        (&self.desired_state, &self.presence, &self.pairing.method) == (desired_state, presence, method)
            && (&self.pairing.phone_number, self.pairing.auto_refresh) == (phone_number, *auto_refresh)
            && (&self.pairing.refresh_until, &self.pairing.window, &self.sending) == (refresh_until, window, sending)
            // A bridge that is not to be told may know it from a later release.
            && (instance.is_none() || self.instance == *instance)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The WhatsAppInstance that a session belongs to, as it can be known again when it is created anew and has another uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInstance {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its owner: a person, so neither logs nor metrics show it.
    pub owner: Sensitive,
}

/// How the device gets linked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingSpec {
    /// QR or pairing code. A bridge that does not know the word shows QR codes.
    #[serde(default)]
    pub method: Open<PairingMethod>,
    /// The account's number in international form; required for [`PairingMethod::Code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Sensitive>,
    /// Whether windows reopen by themselves, at growing intervals.
    #[serde(default)]
    pub auto_refresh: bool,
    /// Until when somebody is expected to use a code: till then windows reopen by themselves, at once. Asked of bridges with
    /// [`Capability::RefreshUntil`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_until: Option<Timestamp>,
    /// Names the pairing window that is wanted. A value the session has not seen yet opens a new window when the session
    /// is not paired, and starts it afresh when it ended for another reason (replaced, outdated, banned). The same value again does nothing, nor
    /// does an empty one.
    #[serde(default)]
    pub window: String,
    /// What a later release wants besides.
    #[serde(flatten)]
    pub extra: Extra,
}
