//! One object of a list or a watch, fit or not: one that does not parse must not break the watch of all others.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, json, value::RawValue};

use crate::api::labels;

/// An object, or what can be told of it. (kube's `DeserializeGuard` is the same, and copies every object twice, field by
/// field, in case it does not fit: for ten thousand of them that is most of a start's time and memory.)
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unfit<K>>);

/// An object that does not fit.
#[derive(Clone, Debug)]
pub struct Unfit<K> {
    /// Why, in serde's words, which may quote values.
    pub error: String,
    /// Whose it is.
    pub metadata: ObjectMeta,
    /// What is left of one that is being deleted and waits for us.
    pub remains: Option<Box<K>>,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let object = match serde_json::from_str::<K>(text.get()) {
            Ok(mut object) => {
                // Nobody here reads them, and they can be larger than the object.
                object.meta_mut().managed_fields = None;
                Ok(object)
            }
            Err(error) => {
                let rest: PartialObjectMeta<K> = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                let remains = remains(text.get(), &rest.metadata).map(Box::new);
                Err(Unfit { error: error.to_string(), metadata: rest.metadata, remains })
            }
        };
        Ok(Self(object))
    }
}

/// Just enough of an object to see it off: where its session runs and what is to become of the device. Without this nobody
/// would ever take our finalizer off, and its namespace could not go either.
fn remains<K: DeserializeOwned>(text: &str, metadata: &ObjectMeta) -> Option<K> {
    metadata.deletion_timestamp.as_ref()?;
    metadata.finalizers.as_ref()?.iter().find(|name| *name == labels::FINALIZER)?;
    let raw: Value = serde_json::from_str(text).ok()?;
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

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unfit| &unfit.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unfit| &mut unfit.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{DeletionPolicy, WhatsAppInstance},
        controller::fixtures,
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
