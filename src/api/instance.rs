//! `WhatsAppInstance`: one WhatsApp Web session, declared.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::status::WhatsAppInstanceStatus;
use crate::model::Sensitive;

/// CEL: the text acts on no terminal that shows it; the same characters as `rules::text::is_unprintable`.
pub(super) const PRINTABLE: &str = r"!self.matches('[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]')";
/// CEL: nothing but spaces at neither end. Other white space is not [`PRINTABLE`], or is refused by admission.
pub(super) const TRIMMED: &str = "self.trim() == self";

/// One WhatsApp Web session: a device linked to a WhatsApp account, kept connected by a bridge.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "whatsapp-operator.dev",
    version = "v1alpha1",
    kind = "WhatsAppInstance",
    plural = "whatsappinstances",
    singular = "whatsappinstance",
    shortname = "wa",
    category = "whatsapp",
    namespaced,
    status = "WhatsAppInstanceStatus",
    derive = "PartialEq",
    selectable = ".spec.owner",
    validation = ("!has(oldSelf.status) || !has(oldSelf.status.bridge) || (has(self.status) && has(self.status.bridge) && self.status.bridge == oldSelf.status.bridge)", "status.bridge must not change or be removed once it is set"),
    doc = "One WhatsApp Web session: a device linked to a WhatsApp account, kept connected by a bridge.",
    printcolumn(name = "Name", json_path = ".spec.name", type_ = "string", description = "Display name."),
    printcolumn(
        name = "Owner",
        json_path = ".spec.owner",
        type_ = "string",
        description = "Who the instance belongs to."
    ),
    printcolumn(
        name = "Primary",
        json_path = ".status.primary",
        type_ = "boolean",
        description = "Whether it is its owner's primary instance."
    ),
    printcolumn(
        name = "Phase",
        json_path = ".status.phase",
        type_ = "string",
        description = "Where the session stands."
    ),
    printcolumn(
        name = "Phone",
        json_path = ".status.phoneNumber",
        type_ = "string",
        description = "Number of the linked account."
    ),
    printcolumn(
        name = "Bridge",
        json_path = ".status.bridge.name",
        type_ = "string",
        description = "Bridge that runs the session.",
        priority = 1
    ),
    printcolumn(
        name = "Shard",
        json_path = ".status.bridge.shard",
        type_ = "string",
        description = "Shard of the bridge.",
        priority = 1
    ),
    printcolumn(
        name = "Session",
        json_path = ".status.sessionId",
        type_ = "string",
        description = "Session id on the bridge.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        type_ = "string",
        description = "Why it is or is not ready.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        json_path = ".metadata.creationTimestamp",
        type_ = "date",
        description = "Time since creation."
    )
)]
#[x_kube(
    validation = ("has(self.owner) == has(oldSelf.owner) || !has(oldSelf.owner)", "spec.owner must not be removed"),
    validation = ("has(self.bridgeRef) == has(oldSelf.bridgeRef)", "spec.bridgeRef must not be added or removed after creation; delete and create the instance instead")
)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppInstanceSpec {
    /// Display name, for example "Business Account": 1 to 100 characters, not blank, no control characters, unique per owner.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(
        validation = ("self.trim() != ''", "spec.name must not be blank"),
        validation = (PRINTABLE, "spec.name must not hold control characters or characters that change the direction of text")
    )]
    pub name: String,

    /// Who the instance belongs to: a user name as Kubernetes knows it, for example "alice@example.com", or
    /// "system:serviceaccount:NAMESPACE:NAME". Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = ("self == oldSelf", "spec.owner must not change; delete the instance and create it for the other owner"),
        validation = (PRINTABLE, "spec.owner must not hold control characters or characters that change the direction of text"),
        validation = (TRIMMED, "spec.owner must not begin or end with white space")
    )]
    pub owner: Option<String>,

    /// The wish that this instance be its owner's primary one, which apps send through by default. What came of the
    /// wish stands in status.primary.
    #[serde(default)]
    pub primary: bool,

    /// Connected (the default) keeps the session online; Disconnected takes it offline but leaves the device linked, so
    /// that connecting again needs no scan; Unlinked removes the device from the WhatsApp account and deletes its keys, and
    /// keeps the instance, its name and its place: Connected again then asks for a new scan.
    #[serde(default)]
    pub desired_state: DesiredState,

    /// Hidden (the default) never shows the account as online because of this session, so that WhatsApp keeps notifying the
    /// owner's phone; Visible shows it as online while the session is connected, and WhatsApp may then stop notifying the
    /// phone.
    #[serde(default)]
    pub presence: Presence,

    /// The WhatsAppBridge that runs the session. The default WhatsAppBridge when not given. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "spec.bridgeRef must not change; delete and create the instance instead"))]
    pub bridge_ref: Option<BridgeRef>,

    /// How the device gets linked.
    #[serde(default)]
    pub pairing: Pairing,

    /// How fast messages are sent.
    #[serde(default)]
    pub sending: Sending,

    /// What deletion does to the linked device: Unlink (the default) removes it from the account; Forget deletes the
    /// keys only and leaves an entry in the phone's "Linked devices".
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Whether a session should be online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DesiredState {
    /// Online, reconnecting by itself.
    #[default]
    Connected,
    /// Offline, still linked.
    Disconnected,
    /// No device is linked: one that was is removed from the account.
    Unlinked,
}

/// Whether an account is shown as online because of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Presence {
    /// Never: the owner's phone goes on notifying.
    #[default]
    Hidden,
    /// While the session is connected.
    Visible,
}

/// How fast an instance sends. WhatsApp bans numbers that send like a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sending {
    /// Messages a minute on average (default 20, about what a person types in a busy chat). 0: as fast as WhatsApp takes
    /// them, at the risk of the number.
    #[schemars(range(min = 0, max = 6000))]
    pub per_minute: u32,
    /// How many messages may go out at once after a pause (default 5).
    #[schemars(range(min = 1, max = 6000))]
    pub burst: u32,
}

impl Default for Sending {
    fn default() -> Self {
        Self { per_minute: 20, burst: 5 }
    }
}

/// What deletion does to the linked device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Remove the device from the WhatsApp account, then delete the keys.
    #[default]
    Unlink,
    /// Delete the keys only.
    Forget,
}

/// A reference to a WhatsAppBridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BridgeRef {
    /// Name of the WhatsAppBridge.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the device gets linked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("self.method != 'Code' || has(self.phoneNumber)", "spec.pairing.phoneNumber must be set when spec.pairing.method is Code"))]
#[serde(rename_all = "camelCase")]
pub struct Pairing {
    /// QR (the default) shows a code to scan; Code shows eight characters to type on the phone, and needs phoneNumber.
    #[serde(default)]
    pub method: PairingMethod,

    /// The account's phone number in international form, for example "+15551234567". Only method Code uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^\+[1-9][0-9]{6,14}$"))]
    pub phone_number: Option<Sensitive>,

    /// Whether a new pairing window opens by itself after one has passed unused, at growing intervals. Off by default:
    /// nobody may be looking, and WhatsApp sees every attempt.
    #[serde(default)]
    pub auto_refresh: bool,
}

/// The two ways to link a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PairingMethod {
    /// A QR code, scanned with the phone.
    #[default]
    #[serde(rename = "QR")]
    Qr,
    /// A pairing code, typed on the phone.
    Code,
}
impl WhatsAppInstance {
    /// Whose instance it is; nobody's without `spec.owner`.
    pub fn owner(&self) -> Option<&str> {
        self.spec.owner.as_deref().filter(|owner| !owner.is_empty())
    }
}
