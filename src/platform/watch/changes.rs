//! What becomes of the objects of several watches, as if they were one.

use std::{collections::HashSet, fmt::Debug, marker::PhantomData, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Change, Guarded, Health, Key, Salvage,
    health::{Course, Next},
};
use crate::platform::kubernetes::{ObjectRef, describe};

/// Follows several watches of one kind, and says once when all of them have listed. How they fare is kept in `health`.
pub fn changes<K>(
    apis: Vec<Api<Guarded<K>>>,
    config: &watcher::Config,
    health: &Health,
) -> impl Stream<Item = Vec<Change<K>>> + Send + use<K>
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut merge = Merge::new(apis.len());
    let watches = apis.into_iter().enumerate().map(|(which, api)| {
        let course = health.of(&K::plural(&()));
        steady(api, config.clone(), course).map(move |event| (which, event)).boxed()
    });
    stream::select_all(watches).map(move |(which, event)| match event {
        Ok(event) => merge.take(which, event),
        Err(error) => {
            let kind = K::kind(&());
            tracing::warn!(%kind, error = watch_error(&error), "the watch broke; it is made again");
            Vec::new()
        }
    })
}

/// A watch that pauses after failures, and lists anew when it has been failing for long.
fn steady<K>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    course: Course,
) -> impl Stream<Item = Result<watcher::Event<Guarded<K>>, watcher::Error>> + Send
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let start = move || watcher(api.clone(), config.clone()).boxed();
    stream::unfold((start(), start, course, Duration::ZERO), async |(mut watch, start, mut course, pause)| {
        // A sleep of nothing takes a millisecond all the same: ten thousand objects would be ten seconds.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = watch.next().await?;
        let Next { anew, pause } = course.take(&event, Instant::now());
        if anew {
            watch = start();
        }
        Some((event, (watch, start, course, pause.mul_f64(0.75 + fastrand::f64() / 2.0))))
    })
}

/// Turns the lists and events of several watches into changes: a list made again tells what went meanwhile.
struct Merge<K> {
    seen: Vec<HashSet<Key>>,
    listing: Vec<HashSet<Key>>,
    unlisted: HashSet<usize>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Merge<K> {
    fn new(watches: usize) -> Self {
        Self {
            seen: vec![HashSet::new(); watches],
            listing: vec![HashSet::new(); watches],
            unlisted: (0..watches).collect(),
            kind: PhantomData,
        }
    }

    fn take(&mut self, which: usize, event: watcher::Event<Guarded<K>>) -> Vec<Change<K>> {
        use watcher::Event;
        let mut changes = Vec::new();
        match event {
            Event::Init => self.listing[which].clear(),
            Event::InitApply(object) => {
                let key = Key::new(ObjectRef::of(&object));
                self.listing[which].insert(Key::clone(&key));
                changes.extend(fit(key, object));
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing[which]);
                let before = std::mem::replace(&mut self.seen[which], listed);
                changes.extend(before.difference(&self.seen[which]).cloned().map(Change::Gone));
                if self.unlisted.remove(&which) && self.unlisted.is_empty() {
                    changes.push(Change::Listed);
                }
            }
            Event::Apply(object) => {
                let key = Key::new(ObjectRef::of(&object));
                self.seen[which].insert(Key::clone(&key));
                changes.extend(fit(key, object));
            }
            Event::Delete(object) => {
                let key = Key::new(ObjectRef::of(&object));
                self.seen[which].remove(&key);
                changes.push(Change::Gone(key));
            }
        }
        changes
    }
}

/// One object that does not parse (stored under another schema) is skipped, and said so; the watch goes on. What is left of
/// one that is being deleted is enough to delete it.
fn fit<K: Resource<DynamicType = ()>>(key: Key, object: Guarded<K>) -> Option<Change<K>> {
    match object.0 {
        Ok(object) => Some(Change::Present(key, object)),
        Err(unfit) => {
            tracing::warn!(
                kind = %K::kind(&()),
                object = %key,
                error = without_values(&unfit.error),
                deleted = unfit.remains.is_some(),
                "an object does not fit this version's schema and is skipped, unless it is being deleted; correct or delete it"
            );
            unfit.remains.map(|remains| Change::Present(key, *remains))
        }
    }
}

/// serde quotes the offending value, which may be a code or a phone number.
fn without_values(error: &str) -> String {
    error.split('"').enumerate().map(|(n, part)| if n % 2 == 0 { part } else { "\"...\"" }).collect()
}

/// What broke a watch, without the values of objects.
pub fn watch_error(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => describe(source),
        watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::WhatsAppInstance, platform::watch::Cache};
    use kube::{ResourceExt, runtime::watcher::Event};
    use serde_json::json;

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
        let before = gone.iter().map(|change| watch.1.keep(change).unwrap().name_any());
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
    fn what_is_said_of_a_bad_object_holds_no_values() {
        let text = without_values(r#"invalid type: string "+15550001", expected u32"#);
        assert_eq!(text, r#"invalid type: string "...", expected u32"#);
    }
}
