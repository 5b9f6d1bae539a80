//! What the rules need to know of an instance.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::ComparableName;
use crate::api::{InstanceRef, WhatsAppInstance, conditions, labels};

/// What the rules need to know of one existing instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Which one.
    pub key: InstanceRef,
    /// Its uid, the tie-breaker among equally old ones.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it is called.
    pub name: ComparableName,
    /// Its own status says that it was accepted, so it may run.
    pub accepted: bool,
    /// It is connected to WhatsApp.
    pub connected: bool,
    /// Since when it wishes to be primary; absent when it does not.
    pub wish: Option<Timestamp>,
    /// It is being deleted.
    pub terminating: bool,
}

impl InstanceFacts {
    /// What ranks instances: the older first, the uid deciding among those of one second.
    pub fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.uid)
    }
}

impl From<&WhatsAppInstance> for InstanceFacts {
    fn from(instance: &WhatsAppInstance) -> Self {
        let created = instance.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let holds = |kind: &str| {
            let conditions = instance.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
        };
        // A wish without its stamp came in while admission was away; it is as old as the object, for want of better.
        let since = || {
            instance.annotations().get(labels::PRIMARY_SINCE).and_then(|stamp| stamp.parse().ok()).unwrap_or(created)
        };
        Self {
            key: InstanceRef::of(instance),
            uid: instance.uid().unwrap_or_default(),
            created,
            name: ComparableName::of(&instance.spec.name),
            accepted: holds(conditions::ACCEPTED),
            connected: holds(conditions::CONNECTED),
            wish: instance.spec.primary.then(since),
            terminating: instance.metadata.deletion_timestamp.is_some(),
        }
    }
}
