//! Which object a uid is, and which objects are an owner's: the API server cannot be asked for an object by its uid, and
//! whoever sends a message does not have to be allowed to read instances.
//!
//! For requests about sessions it is a hint only: what is at the place is read with the caller's own token, and must have the
//! uid. Messages are routed by it; who may send is asked first ([`super::messages`]).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;

use crate::{
    api::{BridgeBinding, Phase, WhatsAppInstance},
    platform::{
        kubernetes::{ObjectRef, version},
        lock,
        watch::{Change, Key},
    },
    rules::link::LinkingLink,
};

/// How long an answer waits at most until messages are routed by what it says. The watch is milliseconds behind, mostly; one that is
/// seconds behind must not make every answer as late.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What the gateway keeps of an instance that its own account may read: no number, no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it is.
    pub place: ObjectRef,
    /// Its uid, which is its session's id.
    pub uid: String,
    /// How new this is: its resource version.
    pub version: u64,
    /// Whose it is.
    pub owner: Option<String>,
    /// Its display name.
    pub name: String,
    /// Whether it is its owner's primary one.
    pub primary: bool,
    /// Where its session is.
    pub bridge: Option<BridgeBinding>,
    /// Whether it can send now.
    pub ready: bool,
    /// Whether it is being deleted.
    pub going: bool,
    /// The link by which its code can be seen: a digest, not the secret.
    pub link: Option<LinkingLink>,
}

impl Known {
    fn of(place: ObjectRef, instance: &WhatsAppInstance) -> Self {
        let status = instance.status.as_ref();
        Self {
            place,
            uid: instance.uid().unwrap_or_default(),
            version: version(instance),
            owner: instance.owner().map(str::to_owned),
            name: instance.spec.name.clone(),
            primary: status.is_some_and(|status| status.primary),
            bridge: status.and_then(|status| status.bridge.clone()),
            ready: status.is_some_and(|status| status.phase == Some(Phase::Connected) && status.is_connected()),
            going: instance.metadata.deletion_timestamp.is_some(),
            link: LinkingLink::of(instance),
        }
    }
}

/// Uids of instances, and where they are. Clones share them.
#[derive(Clone, Default)]
pub struct Index(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: Mutex<Places>,
    listed: watch::Sender<bool>,
    /// Counts up with every change.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Places {
    uids: HashMap<String, Key>,
    known_at: HashMap<Key, Arc<Known>>,
    owned_by: HashMap<String, HashSet<Key>>,
}

impl Index {
    /// Where the instance with this uid is, or was a moment ago.
    pub fn object_ref(&self, uid: &str) -> Option<ObjectRef> {
        lock(&self.0.places).uids.get(uid).map(|key| ObjectRef::clone(key))
    }

    /// What is known of the instance with this uid.
    pub fn known(&self, uid: &str) -> Option<Arc<Known>> {
        let places = lock(&self.0.places);
        places.known_at.get(places.uids.get(uid)?).map(Arc::clone)
    }

    /// What is known of an owner's instances, by uid.
    pub fn of_owner(&self, owner: &str) -> Vec<Arc<Known>> {
        let places = lock(&self.0.places);
        let keys = places.owned_by.get(owner).into_iter().flatten();
        let mut found: Vec<_> = keys.filter_map(|key| places.known_at.get(key)).map(Arc::clone).collect();
        found.sort_by(|one, other| one.uid.cmp(&other.uid));
        found
    }

    /// What is known of the instances that fit.
    pub fn those(&self, fits: impl Fn(&Known) -> bool) -> Vec<Arc<Known>> {
        lock(&self.0.places).known_at.values().filter(|known| fits(known)).map(Arc::clone).collect()
    }

    /// Tells when something has changed, from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Keeps up with `changes` for ever.
    pub async fn follow(self, changes: impl Stream<Item = Vec<Change<WhatsAppInstance>>> + Send) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changes) = changes.next().await {
            for change in changes {
                self.take(change);
            }
            self.0.changes.send_modify(|count| *count += 1);
        }
    }

    /// Waits until everything has been listed once.
    pub async fn until_listed(&self) {
        // The sender lives in us.
        let _ = self.0.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Waits until these are known as they are here, or newer, for a second at most. Who is told that a session is the primary one,
    /// or offline, sends their next message by that: it has to be routed by it too, though the caller read the API server and
    /// messages are routed by a watch.
    pub async fn catch_up(&self, told: impl IntoIterator<Item = &WhatsAppInstance>) {
        let told = told.into_iter().map(|told| (told.uid().unwrap_or_default(), version(told)));
        let is_behind = |uid: &str, version: u64| self.known(uid).is_none_or(|known| known.version < version);
        let mut behind: Vec<_> = told.collect();
        let mut changes = self.0.changes.subscribe();
        let caught_up = changes.wait_for(|_| {
            behind.retain(|(uid, version)| is_behind(uid, *version));
            behind.is_empty()
        });
        // The sender lives in us; when the time is up, the answer is given all the same.
        let _ = tokio::time::timeout(CATCH_UP, caught_up).await;
    }

    /// Waits until the instance with this uid is not known any more, for a second at most: after an answer that it is gone, nothing is
    /// sent through it.
    pub async fn forget(&self, uid: &str) {
        let mut changes = self.0.changes.subscribe();
        // As in catch_up.
        let _ = tokio::time::timeout(CATCH_UP, changes.wait_for(|_| self.known(uid).is_none())).await;
    }

    fn take(&self, change: Change<WhatsAppInstance>) {
        match change {
            Change::Present(key, object) => {
                if object.meta().uid.is_some() {
                    let known = Known::of(ObjectRef::clone(&key), &object);
                    lock(&self.0.places).put(key, known);
                }
            }
            Change::Gone(key) => lock(&self.0.places).remove(&key),
            Change::Unfit(..) | Change::Listing => {}
            Change::Listed => {
                self.0.listed.send_replace(true);
            }
        }
    }
}

impl Places {
    fn put(&mut self, key: Key, known: Known) {
        self.remove(&key);
        self.uids.insert(known.uid.clone(), Key::clone(&key));
        if let Some(owner) = &known.owner {
            self.owned_by.entry(owner.clone()).or_default().insert(Key::clone(&key));
        }
        self.known_at.insert(key, Arc::new(known));
    }

    fn remove(&mut self, key: &Key) {
        let Some(known) = self.known_at.remove(key) else { return };
        self.uids.remove(&known.uid);
        if let Some(owner) = &known.owner
            && let Some(keys) = self.owned_by.get_mut(owner)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.owned_by.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;

    fn present(name: &str, uid: &str) -> Change<WhatsAppInstance> {
        let object: WhatsAppInstance = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "uid": uid}, "spec": {"name": name, "owner": "alice"},
        }))
        .unwrap();
        Change::Present(Key::new(ObjectRef::of(&object)), object)
    }

    #[test]
    fn a_uid_leads_to_its_object_until_that_is_gone_or_another_has_its_name() {
        let index = Index::default();
        let name = |uid: &str| index.object_ref(uid).map(|place| place.name);
        index.take(present("a", "1"));
        index.take(present("b", "2"));
        assert_eq!((name("1"), name("2"), name("3")), (Some("a".into()), Some("b".into()), None));
        index.take(present("a", "3"));
        assert_eq!((name("1"), name("3")), (None, Some("a".into())));
        let key = Key::new(ObjectRef { namespace: "ns".into(), name: "b".into() });
        index.take(Change::Gone(key));
        assert_eq!(name("2"), None);
        assert_eq!(index.of_owner("alice").iter().map(|known| &*known.uid).collect::<Vec<_>>(), ["3"]);
        assert_eq!(index.known("3").unwrap().name, "a");
        assert!(index.of_owner("bob").is_empty());
    }

    #[tokio::test]
    async fn an_answer_waits_until_what_it_says_is_known_but_not_for_ever() {
        let at = |version: u64| {
            let Change::Present(key, mut object) = present("a", "1") else { unreachable!() };
            object.metadata.resource_version = Some(version.to_string());
            (object.clone(), Change::Present(key, object))
        };
        let index = Index::default();
        let known = async |version: u64| {
            index.clone().follow(futures::stream::iter([vec![at(version).1]])).await;
        };
        known(7).await;
        assert!(index.catch_up([&at(6).0, &at(7).0]).now_or_never().is_some());
        assert!(index.catch_up([]).now_or_never().is_some());
        let told = [at(9).0];
        let mut waiting = std::pin::pin!(index.catch_up(&told));
        assert!(futures::poll!(&mut waiting).is_pending());
        known(8).await;
        assert!(futures::poll!(&mut waiting).is_pending());
        known(9).await;
        assert!(futures::poll!(&mut waiting).is_ready());
        index.catch_up([&at(10).0]).await;

        let mut waiting = std::pin::pin!(index.forget("1"));
        assert!(futures::poll!(&mut waiting).is_pending());
        let Change::Present(key, _) = at(9).1 else { unreachable!() };
        index.clone().follow(futures::stream::iter([vec![Change::Gone(key)]])).await;
        assert!(futures::poll!(&mut waiting).is_ready());
    }
}
