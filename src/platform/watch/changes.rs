//! What becomes of the objects of several watches, as if they were one.

use std::{collections::HashSet, fmt::Debug, marker::PhantomData, time::Duration};

use futures::{Stream, StreamExt, stream};
use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Change, Guarded, Health, Key, Salvage,
    health::{Course, Next},
};
use crate::platform::{
    backoff::spread,
    kubernetes::{CALL_TIMEOUT, ObjectRef, describe},
    namespaces::{Standing, standing},
};

/// The pause before a namespace that is gone, or going, is looked at again.
const GONE_PAUSE: Duration = Duration::from_secs(5);

/// Follows several watches of one kind, and says once when all of them have listed. How they fare is kept in `health`.
pub fn changes<K>(
    apis: Vec<Api<Guarded<K>>>,
    config: &watcher::Config,
    health: &Health,
) -> impl Stream<Item = Vec<Change<K>>> + Send + use<K>
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    merged(apis.into_iter().map(|api| Source { api, within: None }).collect(), config, health)
}

/// Follows one kind in these namespaces, in all when there are none, as [`changes`] does. One that does not exist counts as
/// listed and empty; one that is being deleted and may not be looked into any more, as listed and as it was seen last. So none
/// of them holds up the others.
pub fn changes_in<K>(
    client: &Client,
    namespaces: &[String],
    config: &watcher::Config,
    health: &Health,
) -> impl Stream<Item = Vec<Change<K>>> + Send + use<K>
where
    K: Salvage
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let within = |namespace: &String| Source {
        api: Api::namespaced(client.clone(), namespace),
        within: Some((client.clone(), namespace.clone())),
    };
    let mut sources: Vec<_> = namespaces.iter().map(within).collect();
    if sources.is_empty() {
        sources.push(Source { api: Api::all(client.clone()), within: None });
    }
    merged(sources, config, health)
}

fn merged<K>(
    sources: Vec<Source<K>>,
    config: &watcher::Config,
    health: &Health,
) -> impl Stream<Item = Vec<Change<K>>> + Send + use<K>
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut merge = Merge::new(sources.len());
    let watches = sources.into_iter().enumerate().map(|(which, source)| {
        let course = health.of(&K::plural(&()));
        steady(source, config.clone(), course).map(move |news| (which, news)).boxed()
    });
    stream::select_all(watches).map(move |(which, news)| match news {
        Ok(News::Event(event)) => merge.take(which, event),
        Ok(News::Gone) => merge.gone(which),
        Ok(News::Unreadable) => merge.unreadable(which),
        Err(error) => {
            let kind = K::kind(&());
            tracing::warn!(%kind, error = watch_error(&error), "the watch broke; it is made again");
            Vec::new()
        }
    })
}

/// What is watched.
struct Source<K> {
    api: Api<Guarded<K>>,
    /// The namespace, and who can be asked how it stands with it; none when the rights to this watch are not a namespace's.
    within: Option<(Client, String)>,
}

impl<K> Source<K> {
    /// How it stands with the namespace, when that explains why the watch is refused.
    async fn excuse(&self, error: &watcher::Error) -> Option<Standing> {
        let (client, namespace) = self.within.as_ref().filter(|_| is_refusal(error))?;
        standing(client, namespace, CALL_TIMEOUT).await.ok().filter(|standing| standing.explains_a_refusal())
    }

    fn tell(&self, standing: Standing, kind: &str) {
        let namespace = self.within.as_ref().map_or("", |(_, namespace)| namespace);
        if standing == Standing::Ending {
            tracing::error!(
                namespace,
                kind,
                "this namespace is being deleted, and the rights in it went first: its objects that wait for this operator wait for ever. Have an administrator run: whatsapp-operator release-instances --watch-namespaces {namespace}"
            );
        } else {
            tracing::warn!(namespace, kind, "this namespace does not exist; it counts as empty until it does");
        }
    }
}

/// What is heard of one watch.
enum News<K> {
    Event(watcher::Event<Guarded<K>>),
    /// Its namespace does not exist.
    Gone,
    /// Its namespace is being deleted and may not be looked into any more.
    Unreadable,
}

/// Whether the API server does not allow a watch.
fn is_refusal(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code == 403,
        watcher::Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}

/// A watch that pauses after failures, and lists anew when it has been failing for long.
fn steady<K>(
    source: Source<K>,
    config: watcher::Config,
    course: Course,
) -> impl Stream<Item = Result<News<K>, watcher::Error>> + Send
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let api = source.api.clone();
    let start = move || watcher(api.clone(), config.clone()).boxed();
    let first = (start(), start, course, source, None, Duration::ZERO);
    stream::unfold(first, async |(mut watch, start, mut course, source, mut told, pause)| {
        // A sleep of nothing takes a millisecond all the same: ten thousand objects would be ten seconds.
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = watch.next().await?;
        let excuse = match &event {
            Err(error) => source.excuse(error).await,
            Ok(_) => None,
        };
        let (news, pause) = if let Some(standing) = excuse {
            course.excuse();
            if told.replace(standing) != Some(standing) {
                source.tell(standing, &K::kind(&()));
            }
            watch = start();
            (Ok(if standing == Standing::Absent { News::Gone } else { News::Unreadable }), GONE_PAUSE)
        } else {
            let Next { anew, pause } = course.take(&event, Instant::now());
            if anew {
                watch = start();
            }
            // The beginning of a list says nothing yet.
            if !matches!(event, Ok(watcher::Event::Init)) {
                told = None;
            }
            (event.map(News::Event), pause)
        };
        Some((news, (watch, start, course, source, told, spread(pause))))
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
    fn gone(&mut self, which: usize) -> Vec<Change<K>> {
        self.listing[which].clear();
        self.take(which, watcher::Event::InitDone)
    }

    /// Nothing more will be seen by this watch for now. What it has shown is all there is to know.
    fn unreadable(&mut self, which: usize) -> Vec<Change<K>> {
        self.listing[which].clear();
        self.listed(which).into_iter().collect()
    }

    /// Says once that all of them have listed.
    fn listed(&mut self, which: usize) -> Option<Change<K>> {
        (self.unlisted.remove(&which) && self.unlisted.is_empty()).then_some(Change::Listed)
    }
}

/// One object that does not parse (stored under another schema) is skipped, and said so; the watch goes on. What is left of
/// one that is being deleted is enough to delete it. One that is `known` stays as it was: what it uses is not free, and whoever
/// works on it by its old copy is refused each write as outdated, which says nothing of why. So it is said here.
fn fit<K: Resource<DynamicType = ()>>(key: Key, object: Guarded<K>, known: bool) -> Option<Change<K>> {
    match object.0 {
        Ok(object) => Some(Change::Present(key, object)),
        Err(unfit) if known && unfit.remains.is_none() => {
            tracing::error!(
                kind = %K::kind(&()),
                object = %key,
                error = without_values(&unfit.error),
                "an object has been changed so that it does not fit this version's schema; it counts as it was before, and nothing is written to it until it is corrected or deleted"
            );
            None
        }
        Err(unfit) => {
            tracing::warn!(
                kind = %K::kind(&()),
                object = %key,
                error = without_values(&unfit.error),
                deleted = unfit.remains.is_some(),
                "an object does not fit this version's schema and is skipped, unless it is being deleted; correct or delete it"
            );
            Some(match unfit.remains {
                Some(remains) => Change::Present(key, *remains),
                None => Change::Unfit(key, unfit.metadata.uid),
            })
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

    /// An API server on which `there` exists and `gone` does not, where we may look into `there` only.
    fn with_one_namespace() -> Client {
        use axum::{
            Json, Router,
            extract::{Path, Query},
            http::StatusCode,
            response::IntoResponse as _,
            routing::get,
        };
        #[derive(serde::Deserialize)]
        struct Asked {
            #[serde(default)]
            watch: bool,
        }
        let instances = async |Path(namespace): Path<String>, Query(asked): Query<Asked>| {
            if namespace == "gone" {
                let refused =
                    json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": ""});
                return (StatusCode::FORBIDDEN, Json(refused)).into_response();
            }
            if asked.watch {
                std::future::pending::<()>().await;
            }
            let one = json!({"metadata": {"namespace": "there", "name": "one"}, "spec": {"name": "One"}});
            Json(json!({"metadata": {"resourceVersion": "1"}, "items": [one]})).into_response()
        };
        let namespaces = async || {
            Json(json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"resourceVersion": "1"}, "items": [],
            }))
        };
        let api = Router::new()
            .route("/apis/whatsapp-operator.dev/v1alpha1/namespaces/{namespace}/whatsappinstances", get(instances))
            .route("/api/v1/namespaces", get(namespaces));
        Client::new(api, "ns")
    }

    #[tokio::test]
    async fn a_namespace_that_does_not_exist_keeps_nobody_from_being_seen_and_no_watch_is_blind() {
        let health = Health::with_patience(Duration::ZERO);
        let cache = Cache::<WhatsAppInstance>::new();
        let namespaces = ["gone".to_owned(), "there".to_owned()];
        let changes = changes_in(&with_one_namespace(), &namespaces, &watcher::Config::default(), &health);
        tokio::spawn(cache.clone().follow(changes));
        tokio::time::timeout(Duration::from_secs(60), cache.until_listed()).await.expect("everything is listed");
        assert_eq!(cache.len(), 1);
        assert_eq!(health.follow().changed().await, None);
    }

    #[test]
    fn what_is_said_of_a_bad_object_holds_no_values() {
        let text = without_values(r#"invalid type: string "+15550001", expected u32"#);
        assert_eq!(text, r#"invalid type: string "...", expected u32"#);
    }
}
