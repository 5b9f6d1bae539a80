//! What the controller observed of a `WhatsAppInstance`.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IntoDeserializer, value::Error as NoSuchWord},
};

use super::conditions::CONNECTED;
use crate::model::Sensitive;

/// What the controller observed. QR and pairing codes stand here, so reading it means being able to link the account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppInstanceStatus {
    /// The metadata.generation this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where the session stands, in one word. For display only: programs should read the conditions it is derived from.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known")]
    pub phase: Option<Phase>,

    /// Conditions: Accepted, BridgeAvailable, Paired, Connected and their summary Ready ("can send now").
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The session's id on its bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,

    /// Whether this is its owner's primary instance, which messages go through by default.
    #[serde(default)]
    pub primary: bool,

    /// The linked account's phone number in international form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Sensitive>,

    /// The name the linked account shows to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_name: Option<Sensitive>,

    /// Since when the session has been connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<Time>,

    /// When the session was last seen active, coarse: written at most every 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Time>,

    /// The QR code to scan now, absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr: Option<QrStatus>,

    /// The pairing code to type on the phone now, absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing_code: Option<PairingCodeStatus>,

    /// The bridge and shard the session is bound to, recorded before the session first starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeBinding>,

    /// What WhatsApp currently forbids the account, absent when nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restriction: Option<RestrictionStatus>,

    /// Why and when the session last stopped being connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_disconnect: Option<Disconnection>,
}

impl WhatsAppInstanceStatus {
    /// The reason of a condition that is True; none when it is not, or not there.
    pub fn true_because(&self, kind: &str) -> Option<&str> {
        let mut holding = self.conditions.iter().filter(|shown| shown.type_ == kind && shown.status == "True");
        holding.next().map(|shown| shown.reason.as_str())
    }

    /// Whether the session is connected to WhatsApp.
    pub fn is_connected(&self) -> bool {
        self.true_because(CONNECTED).is_some()
    }
}

/// A word of a later release counts as none: it is derived, and the next reconcile writes it anew. An object that cannot be read would
/// stay as it is for ever.
fn known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Phase>, D::Error> {
    let word = Option::<String>::deserialize(from)?;
    Ok(word.and_then(of_word))
}

/// What a word of a closed list stands for; nothing when this release does not know it.
pub(super) fn of_word<T: DeserializeOwned>(word: String) -> Option<T> {
    T::deserialize(IntoDeserializer::<NoSuchWord>::into_deserializer(word)).ok()
}

/// Where a session stands, in one word; derived from the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Phase {
    /// Not yet brought up on its bridge.
    Pending,
    /// A QR or pairing code is waiting for the phone.
    AwaitingPairing,
    /// The pairing window passed; ask for a new one with the refresh annotation.
    PairingExpired,
    /// WhatsApp wants a passkey that only its own website can give.
    AwaitingPasskey,
    /// Linked and on its way to being connected for the first time since start.
    Connecting,
    /// Connected: can send now.
    Connected,
    /// Connection lost, coming back by itself.
    Reconnecting,
    /// Offline, by wish or because another client took the session over.
    Disconnected,
    /// The device was unlinked; a new pairing is needed.
    LoggedOut,
    /// No device is linked, by wish.
    Unlinked,
    /// WhatsApp limits or bans the account for now.
    Restricted,
    /// Not accepted, for example over the owner's limit.
    Rejected,
    /// The bridge cannot be used; the session's own state is unknown.
    BridgeUnavailable,
    /// Being deleted.
    Terminating,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A QR code to scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QrStatus {
    /// The text to draw as a QR code. Whoever scans it controls the session.
    pub code: Sensitive,
    /// When WhatsApp stops accepting this code.
    pub expires_at: Time,
    /// Which code of the pairing window this is, from 1.
    pub attempt: u32,
    /// How many codes the window has.
    pub attempts: u32,
}

/// A pairing code to type on the phone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PairingCodeStatus {
    /// Eight characters to type under "Link with phone number". Whoever types it controls the session.
    pub code: Sensitive,
    /// When WhatsApp stops accepting this code.
    pub expires_at: Time,
}

/// Where a session runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BridgeBinding {
    /// Name of the WhatsAppBridge.
    pub name: String,
    /// Name of the shard in the WhatsAppBridge's list.
    pub shard: String,
}

/// What WhatsApp forbids the account for now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestrictionStatus {
    /// TemporaryBan (cannot connect) or ReachoutTimelock (connected, but cannot start new chats).
    pub kind: String,
    /// WhatsApp's own code for it, when it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// When it ends, when WhatsApp said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// Why and when a session stopped being connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Disconnection {
    /// One of the condition reasons, for example StreamReplaced.
    pub reason: String,
    /// When.
    pub at: Time,
}
