//! Which object a uid is: the API server cannot be asked for an object by its uid. It is a hint only. What is at the place
//! is read with the caller's own token, and must have the uid.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt};
use kube::{Resource, core::PartialObjectMeta};
use tokio::sync::watch;

use crate::{
    api::WhatsAppInstance,
    platform::{
        kubernetes::ObjectRef,
        lock,
        watch::{Change, Key},
    },
};

/// The metadata of an instance: all that the gateway keeps of what its own account may read.
pub type InstanceMeta = PartialObjectMeta<WhatsAppInstance>;

/// Uids of instances, and where they are. Clones share them.
#[derive(Clone, Default)]
pub struct Index(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: Mutex<Places>,
    listed: watch::Sender<bool>,
}

#[derive(Default)]
struct Places {
    by_uid: HashMap<Arc<str>, Key>,
    by_key: HashMap<Key, Arc<str>>,
}

impl Index {
    /// Where the instance with this uid is, or was a moment ago.
    pub fn place(&self, uid: &str) -> Option<ObjectRef> {
        lock(&self.0.places).by_uid.get(uid).map(|key| ObjectRef::clone(key))
    }

    /// Keeps up with `changes` for ever.
    pub async fn follow(self, changes: impl Stream<Item = Vec<Change<InstanceMeta>>> + Send) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changes) = changes.next().await {
            for change in changes {
                self.take(change);
            }
        }
    }

    /// Waits until everything has been listed once.
    pub async fn until_listed(&self) {
        // The sender lives in us.
        let _ = self.0.listed.subscribe().wait_for(|listed| *listed).await;
    }

    fn take(&self, change: Change<InstanceMeta>) {
        match change {
            Change::Present(key, object) => {
                if let Some(uid) = &object.meta().uid {
                    lock(&self.0.places).put(key, uid);
                }
            }
            Change::Gone(key) => lock(&self.0.places).remove(&key),
            Change::Listed => {
                self.0.listed.send_replace(true);
            }
        }
    }
}

impl Places {
    fn put(&mut self, key: Key, uid: &str) {
        if self.by_key.get(&key).is_some_and(|known| **known == *uid) {
            return;
        }
        self.remove(&key);
        let uid: Arc<str> = uid.into();
        self.by_key.insert(Key::clone(&key), Arc::clone(&uid));
        self.by_uid.insert(uid, key);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(uid) = self.by_key.remove(key) {
            self.by_uid.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn present(name: &str, uid: &str) -> Change<InstanceMeta> {
        let object: InstanceMeta =
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}})).unwrap();
        Change::Present(Key::new(ObjectRef::of(&object)), object)
    }

    #[test]
    fn a_uid_leads_to_its_object_until_that_is_gone_or_another_has_its_name() {
        let index = Index::default();
        let name = |uid: &str| index.place(uid).map(|place| place.name);
        index.take(present("a", "1"));
        index.take(present("b", "2"));
        assert_eq!((name("1"), name("2"), name("3")), (Some("a".into()), Some("b".into()), None));
        index.take(present("a", "3"));
        assert_eq!((name("1"), name("3")), (None, Some("a".into())));
        let key = Key::new(ObjectRef { namespace: "ns".into(), name: "b".into() });
        index.take(Change::Gone(key));
        assert_eq!(name("2"), None);
        assert_eq!(lock(&index.0.places).by_key.len(), 1);
    }
}
