//! One copy of each watched object, as the watch last showed it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{Change, Key, recent::Recent};
use crate::platform::{
    kubernetes::{ObjectRef, version},
    lock,
    packed::{Packed, Packer},
};

/// Hears of each change after it is kept, and of the object that was kept before.
type Listener<K> = Box<dyn FnMut(Option<Arc<K>>, Change<K>) + Send>;

/// The objects of one kind. Clones share them.
pub struct Cache<K>(Arc<Shared<K>>);

struct Shared<K> {
    objects: Mutex<Objects<K>>,
    packer: Packer<K>,
    listed: watch::Sender<bool>,
    /// Held while a change is kept and told, so that a listener hears everything in order.
    listener: Mutex<Option<Listener<K>>>,
}

struct Objects<K> {
    by_key: HashMap<Key, Kept<K>>,
    recent: Recent<K>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), recent: Recent::default() }
    }
}

/// An object that was replaced or has ended; unpacked when it is asked for.
enum Before<K> {
    Unpacked(Arc<K>),
    Packed(Arc<Packed<K>>),
}

impl<K: Serialize + DeserializeOwned> Before<K> {
    fn unpack(self) -> Option<Arc<K>> {
        match self {
            Self::Unpacked(object) => Some(object),
            Self::Packed(packed) => packed.value().map(Arc::new),
        }
    }
}

struct Kept<K> {
    object: Arc<Packed<K>>,
    /// The version of our own write, until the watch has shown it.
    ahead: Option<u64>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned> Default for Cache<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned> Cache<K> {
    /// An empty cache.
    pub fn new() -> Self {
        let listed = watch::Sender::new(false);
        Self(Arc::new(Shared {
            objects: Mutex::default(),
            packer: Packer::default(),
            listed,
            listener: Mutex::default(),
        }))
    }

    /// The object with this key, if there is one.
    pub fn get(&self, key: &ObjectRef) -> Option<Arc<K>> {
        let (own_key, packed) = {
            let objects = lock(&self.0.objects);
            if let Some(object) = objects.recent.get(key) {
                return Some(object);
            }
            let (own_key, kept) = objects.by_key.get_key_value(key)?;
            (Key::clone(own_key), Arc::clone(&kept.object))
        };
        let object = packed.value().map(Arc::new)?;
        let mut objects = lock(&self.0.objects);
        if objects.by_key.get(key).is_some_and(|kept| Arc::ptr_eq(&kept.object, &packed)) {
            objects.recent.put(&own_key, Arc::clone(&object));
        }
        Some(object)
    }

    /// The cluster-scoped object with this name, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<K>> {
        self.get(&ObjectRef { namespace: String::new(), name: name.to_owned() })
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        let all: Vec<_> = lock(&self.0.objects).by_key.values().map(|kept| Arc::clone(&kept.object)).collect();
        all.iter().filter_map(|packed| packed.value()).map(Arc::new).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        lock(&self.0.objects).by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until everything has been listed once.
    pub async fn until_listed(&self) {
        // The sender lives in us.
        let _ = self.0.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Tells `told` of everything that is here, as if it had just come, and then of each change.
    pub fn listen(&self, mut told: impl FnMut(Option<Arc<K>>, Change<K>) + Send + 'static) {
        let mut listener = lock(&self.0.listener);
        let here: Vec<_> = lock(&self.0.objects)
            .by_key
            .iter()
            .map(|(key, kept)| (Key::clone(key), Arc::clone(&kept.object)))
            .collect();
        for (key, packed) in here {
            if let Some(object) = packed.value() {
                told(None, Change::Present(key, object));
            }
        }
        if *self.0.listed.borrow() {
            told(None, Change::Listed);
        }
        *listener = Some(Box::new(told));
    }

    /// Keeps up with `changes` for ever.
    pub async fn follow(self, changes: impl Stream<Item = Vec<Change<K>>> + Send) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changes) = changes.next().await {
            for change in changes {
                self.take(change, &mut lock(&self.0.listener));
            }
        }
    }

    fn take(&self, change: Change<K>, listener: &mut Option<Listener<K>>) {
        if self.is_behind(&change) {
            return;
        }
        let before = self.keep(&change);
        if let Some(told) = listener {
            told(before, change);
        }
    }

    /// What a list shows counts, also where it is older than our own write before it: the cluster was restored from a backup then.
    fn expect_a_list(&self) {
        for kept in lock(&self.0.objects).by_key.values_mut() {
            kept.ahead = None;
        }
    }

    /// Whether a change is our own write come back, or from before it: nothing new.
    fn is_behind(&self, change: &Change<K>) -> bool {
        let Change::Present(key, object) = change else { return false };
        let mut objects = lock(&self.0.objects);
        let Some(kept) = objects.by_key.get_mut(key) else { return false };
        let Some(ahead) = kept.ahead else { return false };
        if version(object) >= ahead {
            kept.ahead = None;
        }
        version(object) <= ahead
    }

    /// Takes a change in; returns the object it replaces or ends.
    pub fn keep(&self, change: &Change<K>) -> Option<Arc<K>> {
        match change {
            Change::Present(key, object) => self.put(key, object, None).and_then(Before::unpack),
            Change::Gone(key) => self.remove(key).and_then(Before::unpack),
            Change::Unfit(..) => None,
            Change::Listing => {
                self.expect_a_list();
                None
            }
            Change::Listed => {
                self.0.listed.send_replace(true);
                None
            }
        }
    }

    fn put(&self, key: &Key, object: &K, ahead: Option<u64>) -> Option<Before<K>> {
        let packed = Arc::new(self.0.packer.pack(object)?);
        let object = Arc::new(object.clone());
        let mut objects = lock(&self.0.objects);
        let unpacked = objects.recent.get(key);
        objects.recent.put(key, object);
        let before = objects.by_key.insert(Key::clone(key), Kept { object: packed, ahead })?;
        Some(unpacked.map_or(Before::Packed(before.object), Before::Unpacked))
    }

    fn remove(&self, key: &ObjectRef) -> Option<Before<K>> {
        let mut objects = lock(&self.0.objects);
        let unpacked = objects.recent.get(key);
        objects.recent.forget(key);
        let before = objects.by_key.remove(key)?;
        Some(unpacked.map_or(Before::Packed(before.object), Before::Unpacked))
    }

    /// Takes in an object as a write of our own returned it, ahead of the watch, and tells of it. One that is not here (any
    /// more) stays away: the watch may have told of its end before the answer came.
    pub fn learn(&self, object: &K) {
        let key = Key::new(ObjectRef::of(object));
        let mut listener = lock(&self.0.listener);
        let Some(known) = self.get(&key).filter(|known| version(&**known) < version(object)) else { return };
        self.put(&key, object, Some(version(object)));
        if let Some(told) = &mut *listener {
            told(Some(known), Change::Present(key, object.clone()));
        }
    }

    /// Takes in an object as a write or a read of our own returned it, unless a newer version is here. Listeners are not told: nor
    /// are they when the watch shows that version, which is not new then. Returns the object that is here now because of it, and the
    /// one before it.
    pub fn keep_newer(&self, mut object: K) -> Option<(Option<Arc<K>>, K)> {
        // As the guard does for what the watch shows: they are not read here, and can be larger than the object.
        object.meta_mut().managed_fields = None;
        let key = Key::new(ObjectRef::of(&object));
        if self.get(&key).is_some_and(|known| version(&*known) >= version(&object)) {
            return None;
        }
        let before = self.put(&key, &object, Some(version(&object)));
        Some((before.and_then(Before::unpack), object))
    }

    /// Drops an object that a call of our own found gone, unless another of its name is here. Returns what was dropped.
    pub fn drop_gone(&self, gone: &K) -> Option<Arc<K>> {
        let key = ObjectRef::of(gone);
        self.get(&key).filter(|known| known.meta().uid == gone.meta().uid)?;
        self.remove(&key).and_then(Before::unpack)
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(version: u32) -> ConfigMap {
        let meta = serde_json::json!({"metadata": {"namespace": "ns", "name": "one", "uid": "1", "resourceVersion": version.to_string()}});
        serde_json::from_value(meta).unwrap()
    }

    fn present(object: &ConfigMap) -> Change<ConfigMap> {
        Change::Present(Key::new(ObjectRef::of(object)), object.clone())
    }

    #[test]
    fn an_object_comes_back_as_it_was_until_it_is_gone() {
        let (cache, object) = (Cache::new(), object(1));
        let key = Key::new(ObjectRef::of(&object));
        assert!(cache.keep(&present(&object)).is_none());
        assert_eq!(cache.get(&key).as_deref(), Some(&object));
        assert_eq!((cache.len(), cache.all()), (1, vec![Arc::new(object.clone())]));
        let before = cache.keep(&Change::Gone(Arc::clone(&key)));
        assert_eq!((before.as_deref(), cache.get(&key)), (Some(&object), None));
    }

    #[test]
    fn our_own_write_is_kept_when_it_is_newer_than_what_the_watch_showed() {
        let cache = Cache::new();
        let shown = || cache.all().first().map(|object| version(&**object));
        cache.keep_newer(object(2));
        assert_eq!(shown(), Some(2));
        cache.keep(&present(&object(4)));
        cache.keep_newer(object(3));
        assert_eq!(shown(), Some(4));
        let mut another = object(1);
        another.metadata.uid = Some("2".to_owned());
        cache.drop_gone(&another);
        assert_eq!(shown(), Some(4), "an older one of the same name");
        cache.drop_gone(&object(4));
        assert_eq!(shown(), None);
    }

    type Heard = Arc<Mutex<Vec<(Option<u64>, Option<u64>)>>>;

    /// What a listener of `cache` hears: the version before, the version now.
    fn hear(cache: &Cache<ConfigMap>) -> Heard {
        let heard = Heard::default();
        let told = Arc::clone(&heard);
        cache.listen(move |before: Option<Arc<ConfigMap>>, change| {
            let before = before.map(|before| version(&*before));
            lock(&told).push(match change {
                Change::Present(_, object) => (before, Some(version(&object))),
                Change::Unfit(..) | Change::Gone(_) | Change::Listing | Change::Listed => (before, None),
            });
        });
        heard
    }

    async fn follow(cache: &Cache<ConfigMap>, versions: &[u32]) {
        let changes: Vec<_> = versions.iter().map(|at| vec![present(&object(*at))]).collect();
        cache.clone().follow(futures::stream::iter(changes)).await;
    }

    #[tokio::test]
    async fn who_listens_late_hears_what_is_there_and_then_everything_once() {
        let cache = Cache::new();
        cache.keep(&present(&object(1)));
        cache.keep(&Change::Listed);
        let heard = hear(&cache);
        follow(&cache, &[2]).await;
        assert_eq!(*lock(&heard), [(None, Some(1)), (None, None), (Some(1), Some(2))]);
    }

    #[tokio::test]
    async fn our_own_write_is_told_once_and_never_undone_by_the_watch() {
        let cache = Cache::new();
        follow(&cache, &[1]).await;
        let heard = hear(&cache);
        cache.learn(&object(5));
        follow(&cache, &[3, 5, 6]).await;
        assert_eq!(*lock(&heard), [(None, Some(1)), (Some(1), Some(5)), (Some(5), Some(6))]);
        // A cluster that was restored from a backup counts from an older version again.
        follow(&cache, &[2]).await;
        assert_eq!(lock(&heard).last(), Some(&(Some(6), Some(2))));
    }

    #[tokio::test]
    async fn a_list_undoes_our_own_write_before_it_and_not_the_one_that_came_meanwhile() {
        let cache = Cache::new();
        let shown = || cache.all().first().map(|object| version(&**object));
        follow(&cache, &[1]).await;
        cache.learn(&object(9));
        follow(&cache, &[5]).await;
        assert_eq!(shown(), Some(9), "what the watch shows is older");
        cache.keep(&Change::Listing);
        follow(&cache, &[5]).await;
        assert_eq!(shown(), Some(5));
        cache.keep(&Change::Listing);
        cache.learn(&object(7));
        follow(&cache, &[6]).await;
        assert_eq!(shown(), Some(7));
    }

    #[test]
    fn the_answer_to_our_write_does_not_bring_a_deleted_object_back() {
        let cache = Cache::new();
        cache.keep(&present(&object(1)));
        cache.keep(&Change::Gone(Key::new(ObjectRef::of(&object(1)))));
        cache.learn(&object(2));
        assert!(cache.is_empty());
    }
}
