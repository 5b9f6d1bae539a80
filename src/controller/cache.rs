//! One copy of each watched object, as the watch last showed it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::watches::Change;
use crate::{
    api::InstanceRef,
    platform::{lock, packed::Packed},
};

/// Namespace (empty for what has none) and name of an object. Shared, since several indexes hold it.
pub type Key = Arc<InstanceRef>;

/// The objects of one kind.
pub struct Cache<K>(Arc<Shared<K>>);

struct Shared<K> {
    objects: Mutex<HashMap<Key, Arc<Packed<K>>>>,
    listed: watch::Sender<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Cache<K> {
    /// An empty cache.
    pub fn new() -> Self {
        Self(Arc::new(Shared { objects: Mutex::default(), listed: watch::Sender::new(false) }))
    }

    /// The object with this key, if there is one.
    pub fn get(&self, key: &InstanceRef) -> Option<Arc<K>> {
        let packed = lock(&self.0.objects).get(key).cloned()?;
        packed.value().map(Arc::new)
    }

    /// The cluster-scoped object with this name, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<K>> {
        self.get(&InstanceRef { namespace: String::new(), name: name.to_owned() })
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        let all: Vec<_> = lock(&self.0.objects).values().cloned().collect();
        all.iter().filter_map(|packed| packed.value()).map(Arc::new).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        lock(&self.0.objects).len()
    }

    /// Waits until everything has been listed once.
    pub async fn until_listed(&self) {
        // The sender lives in us.
        let _ = self.0.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Keeps up with `changes` for ever; `told` hears of each after it is kept, and of what was kept before.
    pub async fn follow(
        self,
        changes: impl Stream<Item = Vec<Change<K>>> + Send,
        mut told: impl FnMut(Option<Arc<K>>, Change<K>) + Send,
    ) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changes) = changes.next().await {
            for change in changes {
                let before = self.keep(&change);
                told(before, change);
            }
        }
    }

    /// Takes a change in; returns the object it replaces or ends.
    pub fn keep(&self, change: &Change<K>) -> Option<Arc<K>> {
        let before = match change {
            Change::Present(key, object) => {
                let packed = Packed::of(object).map(Arc::new);
                packed.and_then(|packed| lock(&self.0.objects).insert(Arc::clone(key), packed))
            }
            Change::Gone(key) => lock(&self.0.objects).remove(key),
            Change::Listed => {
                self.0.listed.send_replace(true);
                None
            }
        };
        before.and_then(|packed| packed.value()).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::WhatsAppInstance, controller::fixtures};

    #[test]
    fn an_object_comes_back_as_it_was_until_it_is_gone() {
        let cache = Cache::new();
        let object = fixtures::bound(Default::default());
        let key = fixtures::key(&object);
        assert!(cache.keep(&Change::Present(Arc::clone(&key), object.clone())).is_none());
        assert_eq!(cache.get(&key).as_deref(), Some(&object));
        assert_eq!((cache.len(), cache.all()), (1, vec![Arc::new(object.clone())]));
        let before: Option<Arc<WhatsAppInstance>> = cache.keep(&Change::Gone(Arc::clone(&key)));
        assert_eq!((before.as_deref(), cache.get(&key)), (Some(&object), None));
    }
}
