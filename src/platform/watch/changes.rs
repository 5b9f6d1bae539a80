//! What becomes of the objects of several watches, as if they were one.

use std::{fmt::Debug, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    Change, Guarded, Health, Salvage,
    fit::watch_error,
    health::{Course, Next},
    merge::Merge,
    source::Source,
};
use crate::platform::{backoff::spread, namespaces::Standing};

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
        stream::unfold(Steady::new(source, config.clone(), course), Steady::next).map(move |news| (which, news)).boxed()
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

/// What is heard of one watch.
enum News<K> {
    Event(watcher::Event<Guarded<K>>),
    /// Its namespace does not exist.
    Gone,
    /// Its namespace is being deleted and may not be looked into any more.
    Unreadable,
}

/// A watch that pauses after failures, and lists anew after them.
struct Steady<K> {
    source: Source<K>,
    config: watcher::Config,
    watch: BoxStream<'static, Result<watcher::Event<Guarded<K>>, watcher::Error>>,
    course: Course,
    /// What was last logged of the namespace, while nothing else is seen.
    told: Option<Standing>,
    /// Before the next look.
    pause: Duration,
}

impl<K> Steady<K>
where
    K: Salvage + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn new(source: Source<K>, config: watcher::Config, course: Course) -> Self {
        let watch = watcher(source.api.clone(), config.clone()).boxed();
        Self { source, config, watch, course, told: None, pause: Duration::ZERO }
    }

    fn list_anew(&mut self) {
        self.watch = watcher(self.source.api.clone(), self.config.clone()).boxed();
    }

    /// The next news, and the watch after it.
    async fn next(mut self) -> Option<(Result<News<K>, watcher::Error>, Self)> {
        // A sleep of nothing takes a millisecond all the same: ten thousand objects would be ten seconds.
        if !self.pause.is_zero() {
            tokio::time::sleep(spread(self.pause)).await;
        }
        let event = self.watch.next().await?;
        let excuse = match &event {
            Err(error) => self.source.excuse(error).await,
            Ok(_) => None,
        };
        let news = if let Some(standing) = excuse {
            Ok(self.excused(standing))
        } else {
            let Next { anew, pause } = self.course.take(&event, Instant::now());
            self.pause = pause;
            if anew {
                self.list_anew();
            }
            // The beginning of a list says nothing yet.
            if !matches!(event, Ok(watcher::Event::Init)) {
                self.told = None;
            }
            event.map(News::Event)
        };
        Some((news, self))
    }

    fn excused(&mut self, standing: Standing) -> News<K> {
        self.course.excuse();
        if self.told.replace(standing) != Some(standing) {
            self.source.tell(standing, &K::kind(&()));
        }
        self.list_anew();
        self.pause = GONE_PAUSE;
        if standing == Standing::Absent { News::Gone } else { News::Unreadable }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{api::WhatsAppInstance, platform::watch::Cache};

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
}
