//! `WhatsAppOwner`: what a ResourceQuota is to a namespace, for a person.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    instance::{PRINTABLE, TRIMMED},
    status::of_word,
};
use crate::platform::kubernetes::ObjectRef;

/// The limit of one owner, and the ledger of what counts against it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "whatsapp-operator.dev",
    version = "v1alpha1",
    kind = "WhatsAppOwner",
    plural = "whatsappowners",
    singular = "whatsappowner",
    shortname = "wao",
    category = "whatsapp",
    status = "WhatsAppOwnerStatus",
    derive = "PartialEq",
    selectable = ".spec.owner",
    doc = "The limit of one owner of WhatsAppInstances, and the ledger of what counts against it.",
    printcolumn(name = "Owner", json_path = ".spec.owner", type_ = "string", description = "Who."),
    printcolumn(name = "Used", json_path = ".status.used", type_ = "integer", description = "Instances that count."),
    printcolumn(name = "Max", json_path = ".status.max", type_ = "integer", description = "Instances allowed."),
    printcolumn(
        name = "Connected",
        json_path = ".status.connected",
        type_ = "integer",
        description = "Instances connected."
    ),
    printcolumn(
        name = "Primary",
        json_path = ".status.primary.name",
        type_ = "string",
        description = "The primary instance."
    ),
    printcolumn(
        name = "Age",
        json_path = ".metadata.creationTimestamp",
        type_ = "date",
        description = "Time since creation."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppOwnerSpec {
    /// The owner, as written in the instances' spec.owner. Immutable.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = ("self == oldSelf", "spec.owner must not change; create a WhatsAppOwner for the other owner instead"),
        validation = (PRINTABLE, "spec.owner must not hold control characters or characters that change the direction of text"),
        validation = (TRIMMED, "spec.owner must not begin or end with white space")
    )]
    pub owner: String,

    /// How many instances the owner may have across the cluster. The operator's default (10) when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_instances: Option<i64>,
}

/// What counts against the owner's limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppOwnerStatus {
    /// The ledger: every slot taken, by an existing instance or one being created.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub instances: Vec<LedgerEntry>,

    /// How many slots are taken. Instances that wait for a slot or a name do not count.
    #[serde(default)]
    pub used: i64,

    /// How many slots there are.
    #[serde(default)]
    pub max: i64,

    /// How many of the instances are connected.
    #[serde(default)]
    pub connected: i64,

    /// The owner's primary instance, which messages go through by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<InstanceRef>,
}

/// One slot taken in an owner's ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Namespace of the instance.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the instance.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The instance's spec.name, normalised for comparison.
    #[schemars(length(max = 400))]
    pub display_name: String,
    /// When the slot, or the name in renamingTo, was taken, while the instance has not been seen with it yet.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable_time")]
    pub reserved_at: Option<Time>,
    /// The name a change under way gives the instance, normalised; it is kept free until the change is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub renaming_to: Option<String>,
    /// Why the instance is not accepted: it exists, but has to wait. Absent when it holds its slot.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "waiting")]
    pub waiting: Option<Waiting>,
    /// Whether the instance is connected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connected: bool,
    /// Since when the instance wishes to be primary. Absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub primary_since: Option<String>,
}

/// A time that no clock shows counts as none: the API server takes an offset of 99 hours, and what cannot be read could not be
/// repaired.
fn readable_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Time>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.and_then(|text| text.parse().ok()).map(Time))
}

/// A word of a later release counts as the wait for a slot: the instance is not accepted, and the next settlement says why.
fn waiting<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Waiting>, D::Error> {
    let word = Option::<String>::deserialize(from)?;
    Ok(word.map(|word| of_word(word).unwrap_or(Waiting::LimitExceeded)))
}

/// What an instance that is not accepted waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Waiting {
    /// A slot: the owner has as many instances as allowed.
    LimitExceeded,
    /// Its name: another instance of the owner has it.
    NameTaken,
}

/// Names one instance.
pub type InstanceRef = ObjectRef;
