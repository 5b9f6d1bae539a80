//! What every reconcile shares.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, core::PartialObjectMeta};

use super::{
    bridges::{links::Links, own::BridgeMeta},
    events::Events,
    instances::Instances,
    metrics::ReconcileMetrics,
    owners::Owners,
};
use crate::{
    api::{WhatsAppBridge, WhatsAppInstance},
    platform::watch::Cache,
};

/// Clients, caches and tables of the controller.
pub struct Context {
    /// The Kubernetes client.
    pub client: Client,
    /// The objects, as the watch or our own last write showed them.
    pub objects: Cache<WhatsAppInstance>,
    /// What is kept of each instance beside its object.
    pub instances: Arc<Instances>,
    /// The watched bridges.
    pub bridges: Cache<WhatsAppBridge>,
    /// Every bridge there is, those of other operators among them; metadata only.
    pub all_bridges: Cache<BridgeMeta>,
    /// Whether no other operator serves instances of the same namespaces.
    pub namespaces_are_ours: bool,
    /// The watched namespaces, labels only.
    pub namespaces: Cache<PartialObjectMeta<Namespace>>,
    /// The links to the shards.
    pub links: Arc<Links>,
    /// Which instances are accepted, and which are primary.
    pub owners: Arc<Owners>,
    /// Takes Events.
    pub events: Events,
    /// Counters.
    pub metrics: ReconcileMetrics,
    /// How long a deletion waits for its bridge.
    pub deletion_deadline: SignedDuration,
}
