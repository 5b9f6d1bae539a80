//! `WhatsAppBridge`: what a StorageClass is to a claim, for sessions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Where sessions run, owned by the platform team.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "whatsapp-operator.dev",
    version = "v1alpha1",
    kind = "WhatsAppBridge",
    plural = "whatsappbridges",
    singular = "whatsappbridge",
    shortname = "wab",
    category = "whatsapp",
    status = "WhatsAppBridgeStatus",
    derive = "PartialEq",
    doc = "Where WhatsApp sessions run. The one annotated whatsapp-operator.dev/is-default: \"true\" serves instances without spec.bridgeRef.",
    printcolumn(
        name = "Ready",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        type_ = "string",
        description = "Whether every shard answers."
    ),
    printcolumn(
        name = "Version",
        json_path = ".status.version",
        type_ = "string",
        description = "Version of the bridge program."
    ),
    printcolumn(
        name = "Sessions",
        json_path = ".status.sessions.total",
        type_ = "integer",
        description = "Sessions on all shards."
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
#[x_kube(validation = ("has(self.builtin)", "spec must set exactly one of: builtin"))]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppBridgeSpec {
    /// The bridge program that comes with the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinBridge>,

    /// Where the bridge's bearer token is kept.
    pub credentials_secret_ref: SecretKeyRef,

    /// Which namespaces' instances the bridge serves. All of them when not given.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// How much the bridge may hold.
    #[serde(default)]
    pub capacity: BridgeCapacity,
}

impl WhatsAppBridge {
    /// The namespace of the installation that made it, which is that of its Secret; `None` when no installation did.
    pub fn installed_in(&self) -> Option<&str> {
        super::labels::is_of_an_installation(&self.metadata).then_some(&self.spec.credentials_secret_ref.namespace)
    }
}

/// The bridge program that comes with the operator: one or more shards, each with its own volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuiltinBridge {
    /// The shards. A session is bound to one of them for life.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub shards: Vec<Shard>,

    /// PEM certificates to trust for https shards, when they are not signed by a public authority. When not given, those
    /// under the key ca.crt of the Secret in credentialsSecretRef, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
}

/// One process of the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct Shard {
    /// Name of the shard, recorded in the instances bound to it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Base address, without user and password, for example "https://whatsapp-bridge-0.whatsapp-bridge.whatsapp.svc:8443".
    #[schemars(length(max = 2048))]
    #[x_kube(
        validation = ("isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))", "url must be an http or https URL"),
        validation = ("!self.matches('^[^/]*//[^/?#]*@')", "url must not hold a user or a password; the bridge's token is kept in spec.credentialsSecretRef"),
    )]
    pub url: String,
}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SecretKeyRef {
    /// Namespace of the Secret.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret; "token" when not given.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "token".into()
}

/// Which namespaces' instances a bridge serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = ("self.from != 'Selector' || has(self.selector)", "allowedNamespaces.selector must be set when allowedNamespaces.from is Selector"))]
pub struct AllowedNamespaces {
    /// All (the default), or Selector: those whose labels match.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// The labels a namespace must have, when from is Selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// How namespaces are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum NamespacesFrom {
    /// Every namespace.
    #[default]
    All,
    /// Those whose labels match the selector.
    Selector,
}

/// How much a bridge may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BridgeCapacity {
    /// Sessions per shard; 1000 when not given.
    #[serde(default = "default_sessions_per_shard")]
    #[schemars(range(min = 1, max = 100_000))]
    pub sessions_per_shard: u32,
}

impl Default for BridgeCapacity {
    fn default() -> Self {
        Self { sessions_per_shard: default_sessions_per_shard() }
    }
}

/// With 0.3 MB for each idle session, as measured (docs/benchmarks.md), and more for those that send, a thousand fit into the memory that
/// the chart gives a shard.
fn default_sessions_per_shard() -> u32 {
    1000
}

/// What the controller observed of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatsAppBridgeStatus {
    /// The metadata.generation this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions: Ready (every shard answers and takes the token).
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Version of the bridge program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// What the bridge can do, for example "qr", "pairing-code", "events".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub capabilities: Vec<String>,

    /// How many sessions the bridge holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<BridgeSessions>,
}

/// Session counts of a bridge, over all its shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BridgeSessions {
    /// All sessions.
    pub total: u32,
    /// Sessions that no instance claims; see the troubleshooting guide on what to do with them.
    #[serde(default)]
    pub unclaimed: u32,
}
