//! The watches: one cached copy of each object, a guard against objects that do not parse, several namespaces in one store.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;

/// What became of one object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is there, like this.
    Present(K),
    /// It is gone.
    Gone(K),
    /// Everything has been listed once.
    Synced,
}

/// Follows several watches of one kind, and says once when all of them have listed.
pub fn changes<K>(
    apis: Vec<Api<DeserializeGuard<K>>>,
    config: &watcher::Config,
) -> impl Stream<Item = Vec<Change<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut merge = Merge::new(apis.len());
    let watches = apis
        .into_iter()
        .enumerate()
        .map(|(which, api)| watcher(api, config.clone()).default_backoff().map(move |event| (which, event)).boxed());
    stream::select_all(watches).map(move |(which, event)| match event {
        Ok(event) => merge.take(which, event),
        Err(error) => {
            let kind = K::kind(&());
            tracing::warn!(%kind, error = watch_error(&error), "the watch broke; it is made again");
            Vec::new()
        }
    })
}

/// Keeps a store as the changes say. Its readers see nothing before everything has been listed once.
pub struct Keeper<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    unlisted: Option<HashMap<Key, K>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Keeper<K> {
    /// A keeper of an empty store.
    pub fn new() -> Self {
        Self { writer: Writer::new(()), unlisted: Some(HashMap::new()) }
    }

    /// What others read from.
    pub fn store(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// Follows `changes` for ever; `told` hears of each after the store has it, and of what the store had before.
    pub async fn follow(
        mut self,
        changes: impl Stream<Item = Vec<Change<K>>> + Send,
        mut told: impl FnMut(Option<Arc<K>>, Change<K>) + Send,
    ) {
        let mut changes = std::pin::pin!(changes);
        while let Some(changes) = changes.next().await {
            for change in changes {
                let before = match &change {
                    Change::Present(object) | Change::Gone(object) => self.store().get(&ObjectRef::from_obj(object)),
                    Change::Synced => None,
                };
                self.keep(&change);
                told(before, change);
            }
        }
    }

    fn keep(&mut self, change: &Change<K>) {
        use watcher::Event;
        match (change, &mut self.unlisted) {
            (Change::Present(object), None) => self.writer.apply_watcher_event(&Event::Apply(object.clone())),
            (Change::Gone(object), None) => self.writer.apply_watcher_event(&Event::Delete(object.clone())),
            (Change::Present(object), Some(unlisted)) => drop(unlisted.insert(key(object), object.clone())),
            (Change::Gone(object), Some(unlisted)) => drop(unlisted.remove(&key(object))),
            (Change::Synced, _) => {
                self.writer.apply_watcher_event(&Event::Init);
                for object in self.unlisted.take().into_iter().flat_map(HashMap::into_values) {
                    self.writer.apply_watcher_event(&Event::InitApply(object));
                }
                self.writer.apply_watcher_event(&Event::InitDone);
            }
        }
    }
}

type Key = (Option<String>, String);

/// Turns the lists and events of several watches into changes: a list made again tells what went meanwhile.
struct Merge<K> {
    seen: Vec<HashSet<Key>>,
    listing: Vec<HashSet<Key>>,
    unlisted: HashSet<usize>,
    template: std::marker::PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Merge<K> {
    fn new(watches: usize) -> Self {
        Self {
            seen: vec![HashSet::new(); watches],
            listing: vec![HashSet::new(); watches],
            unlisted: (0..watches).collect(),
            template: std::marker::PhantomData,
        }
    }

    fn take(&mut self, which: usize, event: watcher::Event<DeserializeGuard<K>>) -> Vec<Change<K>> {
        use watcher::Event;
        let mut changes = Vec::new();
        match event {
            Event::Init => self.listing[which].clear(),
            Event::InitApply(guard) => {
                self.listing[which].insert(key(&guard));
                changes.extend(parsed(guard).map(Change::Present));
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing[which]);
                let before = std::mem::replace(&mut self.seen[which], listed);
                for gone in before.difference(&self.seen[which]) {
                    changes.extend(named(gone).map(Change::Gone));
                }
                if self.unlisted.remove(&which) && self.unlisted.is_empty() {
                    changes.push(Change::Synced);
                }
            }
            Event::Apply(guard) => {
                self.seen[which].insert(key(&guard));
                changes.extend(parsed(guard).map(Change::Present));
            }
            Event::Delete(guard) => {
                let key = key(&guard);
                self.seen[which].remove(&key);
                changes.extend(guard.0.ok().or_else(|| named(&key)).map(Change::Gone));
            }
        }
        changes
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.meta().namespace.clone(), object.meta().name.clone().unwrap_or_default())
}

/// One object that does not parse (stored under another schema) is skipped, and said so; the watch goes on.
fn parsed<K: Resource<DynamicType = ()>>(guard: DeserializeGuard<K>) -> Option<K> {
    match guard.0 {
        Ok(mut object) => {
            // Nobody here reads them, and they can be larger than the object.
            object.meta_mut().managed_fields = None;
            Some(object)
        }
        Err(invalid) => {
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = without_values(&invalid.error),
                "skipped an object that does not fit this version's schema; correct or delete it"
            );
            None
        }
    }
}

/// Just enough of an object to take it out of a store: which is gone is known by name only.
fn named<K: DeserializeOwned>(key: &Key) -> Option<K> {
    let metadata = serde_json::json!({ "namespace": key.0, "name": key.1 });
    let minimal = serde_json::json!({
        "metadata": metadata,
        "spec": { "name": "gone", "owner": "gone", "credentialsSecretRef": { "namespace": "gone", "name": "gone" } },
    });
    serde_json::from_value(minimal).ok()
}

/// serde quotes the offending value, which may be a code or a phone number.
fn without_values(error: &str) -> String {
    error.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "\"...\"" }).collect()
}

fn watch_error(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => super::error::describe(source),
        watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WhatsAppInstance;
    use kube::{ResourceExt, runtime::watcher::Event};
    use serde_json::json;

    fn object(namespace: &str, name: &str, spec: serde_json::Value) -> DeserializeGuard<WhatsAppInstance> {
        serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec })).unwrap()
    }

    fn good(name: &str) -> DeserializeGuard<WhatsAppInstance> {
        object("ns", name, json!({ "name": "Good" }))
    }

    fn bad(name: &str) -> DeserializeGuard<WhatsAppInstance> {
        object("ns", name, json!({ "name": 7, "desiredState": "Sideways" }))
    }

    struct Watch(Merge<WhatsAppInstance>, Keeper<WhatsAppInstance>);

    impl Watch {
        fn over(watches: usize) -> Self {
            Self(Merge::new(watches), Keeper::new())
        }

        fn run(&mut self, which: usize, events: Vec<Event<DeserializeGuard<WhatsAppInstance>>>) {
            for event in events {
                for change in self.0.take(which, event) {
                    self.1.keep(&change);
                }
            }
        }

        fn is_synced(&self) -> bool {
            self.1.unlisted.is_none()
        }
    }

    fn names(watch: &Watch) -> Vec<String> {
        let mut names: Vec<_> = watch.1.store().state().iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_bad_object_is_skipped_and_the_watch_goes_on() {
        let mut watch = Watch::over(1);
        watch.run(
            0,
            vec![
                Event::Init,
                Event::InitApply(bad("bad")),
                Event::InitApply(good("one")),
                Event::InitDone,
                Event::Apply(bad("worse")),
                Event::Apply(good("two")),
            ],
        );
        assert!(watch.is_synced());
        assert_eq!(names(&watch), ["one", "two"]);
        // An object that was good stays as it was while what is stored now makes no sense, and can still be deleted.
        watch.run(0, vec![Event::Apply(bad("one"))]);
        assert_eq!(names(&watch), ["one", "two"]);
        watch.run(0, vec![Event::Delete(bad("one"))]);
        assert_eq!(names(&watch), ["two"]);
    }

    #[test]
    fn several_namespaces_fill_one_store_which_is_ready_when_all_are_listed() {
        let mut watch = Watch::over(2);
        let other = || object("other", "three", json!({ "name": "Good" }));
        watch.run(0, vec![Event::Init, Event::InitApply(good("one")), Event::InitDone]);
        assert!(!watch.is_synced());
        watch.run(1, vec![Event::Init, Event::InitApply(other()), Event::InitDone]);
        assert!(watch.is_synced());
        assert_eq!(names(&watch), ["one", "three"]);
        // One watch lists again; what it misses is gone, what the other one holds is not.
        watch.run(0, vec![Event::Init, Event::InitApply(good("two")), Event::InitDone]);
        assert_eq!(names(&watch), ["three", "two"]);
    }

    #[test]
    fn what_is_said_of_a_bad_object_holds_no_values() {
        let text = without_values(r#"invalid type: string "+15550001", expected u32"#);
        assert_eq!(text, r#"invalid type: string "...", expected u32"#);
    }
}
