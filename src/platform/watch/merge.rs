//! What several watches show, as the changes of one set of objects.

use std::{collections::HashSet, marker::PhantomData};

use kube::{Resource, runtime::watcher};
use serde::de::DeserializeOwned;

use super::{Change, Guarded, Key, fit::fit};
use crate::platform::kubernetes::ObjectRef;

/// Turns the lists and events of several watches into changes: a list made again shows what was deleted meanwhile.
pub(super) struct Merge<K> {
    seen: Vec<HashSet<Key>>,
    listing: Vec<HashSet<Key>>,
    unlisted: HashSet<usize>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Merge<K> {
    pub(super) fn new(watches: usize) -> Self {
        Self {
            seen: vec![HashSet::new(); watches],
            listing: vec![HashSet::new(); watches],
            unlisted: (0..watches).collect(),
            kind: PhantomData,
        }
    }

    pub(super) fn take(&mut self, which: usize, event: watcher::Event<Guarded<K>>) -> Vec<Change<K>> {
        use watcher::Event;
        let mut changes = Vec::new();
        match event {
            Event::Init => {
                self.listing[which].clear();
                changes.push(Change::Listing);
            }
            Event::InitApply(object) => {
                let key = Key::new(ObjectRef::of(&object));
                self.listing[which].insert(Key::clone(&key));
                let known = self.seen[which].contains(&key);
                changes.extend(fit(key, object, known));
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing[which]);
                let before = std::mem::replace(&mut self.seen[which], listed);
                changes.extend(before.difference(&self.seen[which]).cloned().map(Change::Gone));
                changes.extend(self.listed(which));
            }
            Event::Apply(object) => {
                let key = Key::new(ObjectRef::of(&object));
                let known = !self.seen[which].insert(Key::clone(&key));
                changes.extend(fit(key, object, known));
            }
            Event::Delete(object) => {
                let key = Key::new(ObjectRef::of(&object));
                self.seen[which].remove(&key);
                changes.push(Change::Gone(key));
            }
        }
        changes
    }

    /// What this watch is of does not exist, and so nothing in it.
    pub(super) fn gone(&mut self, which: usize) -> Vec<Change<K>> {
        self.listing[which].clear();
        self.take(which, watcher::Event::InitDone)
    }

    /// Nothing more will be seen by this watch for now. What it has shown is all there is to know.
    pub(super) fn unreadable(&mut self, which: usize) -> Vec<Change<K>> {
        self.listing[which].clear();
        self.listed(which).into_iter().collect()
    }

    /// Says once that all of them have listed.
    fn listed(&mut self, which: usize) -> Option<Change<K>> {
        (self.unlisted.remove(&which) && self.unlisted.is_empty()).then_some(Change::Listed)
    }
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt, runtime::watcher::Event};
    use serde_json::json;

    use super::*;
    use crate::{api::WhatsAppInstance, platform::watch::Cache};

    fn object(namespace: &str, name: &str, spec: serde_json::Value) -> Guarded<WhatsAppInstance> {
        serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec })).unwrap()
    }

    fn good(name: &str) -> Guarded<WhatsAppInstance> {
        object("ns", name, json!({ "name": "Good" }))
    }

    fn bad(name: &str) -> Guarded<WhatsAppInstance> {
        object("ns", name, json!({ "name": 7, "desiredState": "Sideways" }))
    }

    struct Watch(Merge<WhatsAppInstance>, Cache<WhatsAppInstance>);

    impl Watch {
        fn over(watches: usize) -> Self {
            Self(Merge::new(watches), Cache::new())
        }

        fn run(&mut self, which: usize, events: Vec<Event<Guarded<WhatsAppInstance>>>) {
            for event in events {
                for change in self.0.take(which, event) {
                    self.1.keep(&change);
                }
            }
        }

        fn is_synced(&self) -> bool {
            futures::FutureExt::now_or_never(self.1.until_listed()).is_some()
        }
    }

    fn names(watch: &Watch) -> Vec<String> {
        let mut names: Vec<_> = watch.1.all().iter().map(|object| object.name_any()).collect();
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
        let told = watch.0.take(0, Event::Apply(bad("worst")));
        assert!(matches!(&told[..], [Change::Unfit(key, _)] if key.name == "worst"), "{told:?}");
        // An object that was good stays as it was while what is stored now makes no sense, and can still be deleted.
        watch.run(0, vec![Event::Apply(bad("one"))]);
        assert_eq!(names(&watch), ["one", "two"]);
        watch.run(0, vec![Event::Delete(bad("one"))]);
        assert_eq!(names(&watch), ["two"]);
    }

    #[test]
    fn what_is_gone_before_everything_is_listed_is_told_with_what_it_was() {
        let mut watch = Watch::over(2);
        watch.run(0, vec![Event::Init, Event::InitApply(good("one")), Event::InitApply(good("two")), Event::InitDone]);
        let mut gone = watch.0.take(0, Event::Delete(good("one")));
        for event in [Event::Init, Event::InitDone] {
            gone.extend(watch.0.take(0, event));
        }
        let before = gone.iter().filter_map(|change| watch.1.keep(change)).map(|object| object.name_any());
        assert_eq!(before.collect::<Vec<_>>(), ["one", "two"]);
        assert!(!watch.is_synced());
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
    fn a_namespace_that_is_gone_counts_as_empty_and_one_that_is_going_as_it_was() {
        let mut watch = Watch::over(3);
        let other = || object("other", "three", json!({ "name": "Good" }));
        watch.run(0, vec![Event::Init, Event::InitApply(good("one")), Event::InitDone]);
        // Half a list, and then a refusal.
        watch.run(1, vec![Event::Init, Event::InitApply(other())]);
        let told = watch.0.unreadable(1);
        assert!(told.is_empty(), "{told:?}");
        for change in watch.0.gone(2) {
            watch.1.keep(&change);
        }
        assert!(watch.is_synced());
        assert_eq!(names(&watch), ["one", "three"]);
        // Later the first one goes.
        for change in watch.0.gone(0) {
            watch.1.keep(&change);
        }
        assert_eq!(names(&watch), ["three"]);
        // And comes back.
        watch.run(0, vec![Event::Init, Event::InitApply(good("two")), Event::InitDone]);
        assert_eq!(names(&watch), ["three", "two"]);
    }
}
