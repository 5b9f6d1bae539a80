//! One copy of each watched object, as the watch last showed it.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, sync::Mutex};

use futures::{Stream, StreamExt};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::watches::Change;
use crate::{api::InstanceRef, platform::lock};

/// Namespace (empty for what has none) and name of an object. Shared, since several indexes hold it.
pub type Key = Arc<InstanceRef>;

/// The objects of one kind, kept as JSON: parsed, an instance takes twice the memory, and of ten thousand hardly any is
/// looked at in a given second. Parsing one again takes microseconds, every call that follows from it milliseconds.
pub struct Cache<K> {
    shared: Arc<Shared>,
    kind: PhantomData<fn() -> K>,
}

struct Shared {
    objects: Mutex<HashMap<Key, Arc<[u8]>>>,
    listed: watch::Sender<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), kind: PhantomData }
    }
}

impl<K: Resource<DynamicType = ()> + Serialize + DeserializeOwned> Cache<K> {
    /// An empty cache.
    pub fn new() -> Self {
        let shared = Shared { objects: Mutex::default(), listed: watch::Sender::new(false) };
        Self { shared: Arc::new(shared), kind: PhantomData }
    }

    /// The object with this key, if there is one.
    pub fn get(&self, key: &InstanceRef) -> Option<Arc<K>> {
        let text = lock(&self.shared.objects).get(key).cloned()?;
        parsed(&text)
    }

    /// The cluster-scoped object with this name, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<K>> {
        self.get(&InstanceRef { namespace: String::new(), name: name.to_owned() })
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        let texts: Vec<Arc<[u8]>> = lock(&self.shared.objects).values().cloned().collect();
        texts.iter().filter_map(|text| parsed(text)).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        lock(&self.shared.objects).len()
    }

    /// Waits until everything has been listed once.
    pub async fn until_listed(&self) {
        // The sender lives in us.
        let _ = self.shared.listed.subscribe().wait_for(|listed| *listed).await;
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
            Change::Present(key, object) => match serde_json::to_vec(object) {
                Ok(text) => lock(&self.shared.objects).insert(Arc::clone(key), text.into()),
                Err(error) => {
                    tracing::error!(kind = %K::kind(&()), object = %key, %error, "an object cannot be kept");
                    None
                }
            },
            Change::Gone(key) => lock(&self.shared.objects).remove(key),
            Change::Listed => {
                self.shared.listed.send_replace(true);
                None
            }
        };
        before.and_then(|text| parsed(&text))
    }
}

fn parsed<K: Resource<DynamicType = ()> + DeserializeOwned>(text: &[u8]) -> Option<Arc<K>> {
    // What was written by serde is read by it; if not, one object is missing, which its next change mends.
    let object = serde_json::from_slice(text);
    object.inspect_err(|error| tracing::error!(kind = %K::kind(&()), %error, "an object was not kept well")).ok()
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
