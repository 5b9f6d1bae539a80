//! One object of a list or a watch, fit or not: one that does not parse must not break the watch of all others.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::PartialObjectMeta};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Value, value::RawValue};

/// An object, or what can be read of it. (kube's `DeserializeGuard` is the same, and copies every object twice, field by
/// field, in case it does not fit: for ten thousand of them that is most of a start's time and memory.)
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unfit<K>>);

/// An object that does not fit.
#[derive(Clone, Debug)]
pub struct Unfit<K> {
    /// Why, as serde says it, which may quote values.
    pub error: String,
    /// Whose it is.
    pub metadata: ObjectMeta,
    /// What is left of one that is being deleted and waits for us.
    pub remains: Option<Box<K>>,
}

impl<'de, K: Salvage + Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let object = match serde_json::from_str::<K>(text.get()) {
            Ok(mut object) => {
                // They are not read here, and can be larger than the object.
                object.meta_mut().managed_fields = None;
                Ok(object)
            }
            Err(error) => {
                let rest: PartialObjectMeta<K> = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                let raw = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                let remains = K::remains(&raw, &rest.metadata).map(Box::new);
                Err(Unfit { error: error.to_string(), metadata: rest.metadata, remains })
            }
        };
        Ok(Self(object))
    }
}

/// What can be made of an object that does not parse.
pub trait Salvage: Sized {
    /// Just enough of an object to see it off, when it is being deleted and waits for us: `raw` is its JSON. Without this
    /// our finalizer would never be removed, and its namespace could not go either. Nothing by default.
    fn remains(_raw: &Value, _metadata: &ObjectMeta) -> Option<Self> {
        None
    }
}

impl<T: Resource> Salvage for PartialObjectMeta<T> {}

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
