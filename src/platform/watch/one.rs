//! One object: as it is whenever it has changed, or only that it may have, for those who read it themselves.

use std::{fmt::Debug, future::ready};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{fit::watch_error, pauses::Pauses, watch_config};
use crate::platform::backoff::spread;

/// A watch of one object.
struct One<K> {
    api: Api<K>,
    config: watcher::Config,
    /// What it is to people, for the log.
    what: &'static str,
    watch: BoxStream<'static, Result<Event<K>, watcher::Error>>,
    pauses: Pauses,
}

/// How the object with this name is watched.
fn of_one(name: &str) -> watcher::Config {
    watch_config().fields(&format!("metadata.name={name}"))
}

/// Tells each time that the object with this name may have changed: when it has, when it is gone, and after the API server was away. Then it
/// is looked at anew and not taken up where it was: see [`changes`](super::changes).
pub fn changes_of_one<K>(api: Api<K>, name: &str, what: &'static str) -> impl Stream<Item = ()> + Unpin + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = of_one(name);
    let watch = watcher(api.clone(), config.clone()).boxed();
    let one = One { api, config, what, watch, pauses: Pauses::default() };
    stream::unfold(one, async |mut one| one.next().await.map(|()| ((), one))).boxed()
}

/// The object with this name, as it is whenever it has changed; none when there is none of this name. Errors pass: the watch is made again.
/// As kube's `watch_object`, with watches that are short enough to notice dead connections.
pub fn watch_object<K>(api: Api<K>, name: &str) -> impl Stream<Item = watcher::Result<Option<K>>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut seen = false;
    watcher(api, of_one(name)).default_backoff().filter_map(move |event| {
        ready(match event {
            Ok(Event::Init) => {
                seen = false;
                None
            }
            Ok(Event::InitApply(object)) => {
                seen = true;
                Some(Ok(Some(object)))
            }
            Ok(Event::InitDone) => (!seen).then_some(Ok(None)),
            Ok(Event::Apply(object)) => Some(Ok(Some(object))),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        })
    })
}

impl<K> One<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn next(&mut self) -> Option<()> {
        loop {
            match self.watch.next().await? {
                // The beginning of a list tells nothing yet.
                Ok(Event::Init) => {}
                Ok(_) => return Some(()),
                Err(error) => {
                    tracing::warn!(error = watch_error(&error), "watch {}", self.what);
                    let pause = self.pauses.after_failure(tokio::time::Instant::now());
                    tokio::time::sleep(spread(pause)).await;
                    self.watch = watcher(self.api.clone(), self.config.clone()).boxed();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use axum::{Json, Router, extract::Query, http::StatusCode, response::IntoResponse as _, routing::get};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use serde_json::json;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Asked {
        #[serde(default)]
        watch: bool,
    }

    #[tokio::test]
    async fn after_a_failure_it_is_looked_at_anew() {
        let lists = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lists);
        let answer = async move |Query(asked): Query<Asked>| {
            if asked.watch {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            counted.fetch_add(1, Ordering::Relaxed);
            let one = json!({"metadata": {"namespace": "ns", "name": "one"}});
            Json(json!({"metadata": {"resourceVersion": "1"}, "items": [one]})).into_response()
        };
        let client = Client::new(Router::new().route("/api/v1/namespaces/ns/configmaps", get(answer)), "ns");
        let mut changes = changes_of_one(Api::<ConfigMap>::default_namespaced(client), "one", "a test");
        while lists.load(Ordering::Relaxed) < 2 {
            tokio::time::timeout(Duration::from_secs(30), changes.next()).await.expect("it is told").expect("for ever");
        }
    }
}
