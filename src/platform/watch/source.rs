//! One watch: what is watched, and what explains that the API server refuses it.

use kube::{Api, Client, runtime::watcher};

use super::Guarded;
use crate::platform::{
    kubernetes::CALL_TIMEOUT,
    namespaces::{Standing, standing},
};

/// What is watched.
pub(super) struct Source<K> {
    pub(super) api: Api<Guarded<K>>,
    /// The namespace, and the client to ask for its standing; `None` when the rights to this watch do not depend on a namespace.
    pub(super) within: Option<(Client, String)>,
}

impl<K> Source<K> {
    /// The standing of the namespace, when that explains why the watch is refused.
    pub(super) async fn excuse(&self, error: &watcher::Error) -> Option<Standing> {
        let (client, namespace) = self.within.as_ref().filter(|_| is_refusal(error))?;
        standing(client, namespace, CALL_TIMEOUT).await.ok().filter(|standing| standing.explains_a_refusal())
    }

    pub(super) fn tell(&self, standing: Standing, kind: &str) {
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
