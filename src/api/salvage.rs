//! What is left of an instance that does not fit this version's schema and is being deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{WhatsAppBridge, WhatsAppInstance, WhatsAppOwner, labels};
use crate::platform::watch::Salvage;

impl Salvage for WhatsAppBridge {}
impl Salvage for WhatsAppOwner {}

impl Salvage for WhatsAppInstance {
    /// Where its session runs and what is to become of the device.
    fn remains(raw: &Value, metadata: &ObjectMeta) -> Option<Self> {
        metadata.deletion_timestamp.as_ref()?;
        metadata.finalizers.as_ref()?.iter().find(|name| *name == labels::FINALIZER)?;
        let text = |path: &str| raw.pointer(path).and_then(Value::as_str);
        let mut least = json!({ "metadata": metadata, "spec": { "name": text("/spec/name").unwrap_or("unreadable") } });
        if let Some(owner) = text("/spec/owner") {
            least["spec"]["owner"] = owner.into();
        }
        if let Some(policy @ "Forget") = text("/spec/deletionPolicy") {
            least["spec"]["deletionPolicy"] = policy.into();
        }
        if let (Some(name), Some(shard)) = (text("/status/bridge/name"), text("/status/bridge/shard")) {
            least["status"]["bridge"] = json!({ "name": name, "shard": shard });
        }
        serde_json::from_value(least).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::DeletionPolicy,
        controller::fixtures,
        platform::watch::{Guarded, Unfit},
    };

    fn unfit(change: impl FnOnce(&mut Value)) -> Unfit<WhatsAppInstance> {
        let mut object = serde_json::to_value(fixtures::bound(Default::default())).unwrap();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["spec"]["owner"] = "alice@example.com".into();
        object["spec"]["desiredState"] = "Sideways".into();
        object["status"]["phase"] = "Beyond".into();
        change(&mut object);
        let guarded: Guarded<WhatsAppInstance> = serde_json::from_value(object).unwrap();
        guarded.0.unwrap_err()
    }

    #[test]
    fn what_is_being_deleted_can_be_seen_off_although_it_does_not_fit() {
        let left = unfit(|_| {}).remains.unwrap();
        assert_eq!(left.metadata, unfit(|_| {}).metadata);
        assert_eq!(left.status.unwrap().bridge, Some(fixtures::binding()));
        assert_eq!(left.spec.owner.as_deref(), Some("alice@example.com"));
        assert_eq!(left.spec.deletion_policy, DeletionPolicy::Unlink);
        let forgotten = unfit(|object| object["spec"]["deletionPolicy"] = "Forget".into()).remains.unwrap();
        assert_eq!(forgotten.spec.deletion_policy, DeletionPolicy::Forget);
        let unknown = unfit(|object| object["spec"]["deletionPolicy"] = "Burn".into()).remains.unwrap();
        assert_eq!(unknown.spec.deletion_policy, DeletionPolicy::Unlink);
        for nonsense in [json!(null), json!("main"), json!({ "name": "main" }), json!({ "name": 1, "shard": [] })] {
            let left = unfit(|object| object["status"]["bridge"] = nonsense).remains.unwrap();
            assert!(left.status.is_none_or(|status| status.bridge.is_none()));
        }
        assert!(unfit(|object| object["spec"] = 7.into()).remains.is_some());
    }

    #[test]
    fn what_is_not_being_deleted_or_does_not_wait_for_us_is_left_alone() {
        assert!(unfit(|object| drop(object["metadata"]["deletionTimestamp"].take())).remains.is_none());
        assert!(unfit(|object| object["metadata"]["finalizers"] = json!(["another"])).remains.is_none());
    }
}
