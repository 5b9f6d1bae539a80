//! Tells the API server whom to trust, by the webhook configurations of one name.
//!
//! The leader keeps our bundle in them, exactly. The other replicas mend only what would let no certificate of ours pass,
//! so that a caBundle that somebody empties or replaces is repaired at once, also while the leader changes; they read the
//! Secret first, so that nobody brings back what is out of date.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{Event, watcher},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    CertificateSecret,
    configured::{ca_bundle, find, ours},
};
use crate::platform::{
    kubernetes::{CALL_TIMEOUT, call},
    watch::{watch_config, watch_error},
};

/// How soon to try again after an error; it doubles up to [`LAST_RETRY`]. The first is a patch that came too late, because
/// the list of webhooks changed under it.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Nothing to do until somebody says something.
const NEVER: Duration = Duration::from_secs(86_400);

/// Keeps what the Secret's authorities are in both configurations.
#[derive(Clone)]
pub struct Publisher {
    /// Reaches the configurations.
    pub client: Client,
    /// Their name.
    pub name: String,
    /// Where the authorities are.
    pub secret: CertificateSecret,
    /// The bundle as this process last saw it.
    pub bundle: watch::Receiver<Option<String>>,
    /// Whether this process leads.
    pub leads: watch::Receiver<bool>,
}

impl Publisher {
    /// Publishes whenever bundle or leadership changes, and whenever somebody else changes the configurations, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(
            self.clone().keep(Api::<MutatingWebhookConfiguration>::all(self.client.clone()), &stop),
            self.clone().keep(Api::<ValidatingWebhookConfiguration>::all(self.client.clone()), &stop),
        );
    }

    async fn keep<K>(mut self, api: Api<K>, stop: &CancellationToken)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let config = watch_config().fields(&format!("metadata.name={}", self.name));
        let mut changes =
            Box::pin(watcher(api.clone(), config).default_backoff().filter_map(async |event| match event {
                // The beginning of a list tells nothing yet.
                Ok(Event::Init) => None,
                Ok(_) => Some(()),
                Err(error) => {
                    tracing::warn!(error = watch_error(&error), "watch the webhook configurations");
                    None
                }
            }));
        let mut retry = FIRST_RETRY;
        while !stop.is_cancelled() {
            let (current, leads) = (self.bundle.borrow_and_update().clone(), *self.leads.borrow_and_update());
            let done = match &current {
                None => Ok(()),
                Some(bundle) if leads => self.inject(&api, bundle, |found, bundle| found != bundle).await,
                Some(bundle) => self.mend(&api, bundle).await,
            };
            let again = match done {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    NEVER
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), name = self.name, error, "write the webhook's authorities");
                    let again = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    again
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(again) => {}
                Some(()) = changes.next() => {}
                changed = self.bundle.changed() => if changed.is_err() { return },
                changed = self.leads.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What a replica does that does not lead: only where no certificate of ours would pass.
    async fn mend<K>(&self, api: &Api<K>, known: &str) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let is_useless = |found: &str, bundle: &str| !found.contains(signing_authority(bundle));
        let found = find(api, &self.name).await.map_err(|error| error.to_string())?;
        let Some(found) = found.filter(|found| !operations(found, known, is_useless).is_empty()) else { return Ok(()) };
        tracing::info!(kind = %K::kind(&()), name = self.name, "the webhooks' caBundle is of no use; mending it");
        match self.secret.bundle().await.map_err(|error| error.to_string())? {
            Some(fresh) => self.patch(api, &found, &fresh, is_useless).await,
            None => Ok(()),
        }
    }

    async fn inject<K>(&self, api: &Api<K>, bundle: &str, is_stale: fn(&str, &str) -> bool) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        // Not installed, or removed for the moment: the watch will tell when it is there.
        let found = find(api, &self.name).await.map_err(|error| error.to_string())?;
        match found {
            Some(found) => self.patch(api, &found, bundle, is_stale).await,
            None => Ok(()),
        }
    }

    /// Writes only what is stale, by a patch that fails if the list of webhooks has changed meanwhile.
    async fn patch<K>(
        &self,
        api: &Api<K>,
        found: &Value,
        bundle: &str,
        is_stale: impl Fn(&str, &str) -> bool,
    ) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let operations = operations(found, bundle, is_stale);
        if operations.is_empty() {
            return Ok(());
        }
        let patch = serde_json::from_value(Value::Array(operations)).map_err(|error| error.to_string())?;
        let (parameters, patch) = (PatchParams::default(), Patch::<()>::Json(patch));
        call("patch it", CALL_TIMEOUT, api.patch(&self.name, &parameters, &patch))
            .await
            .map_err(|error| error.to_string())?;
        tracing::info!(kind = %K::kind(&()), name = self.name, "wrote the webhook's authorities");
        Ok(())
    }
}

/// The authority that signs: the first of a bundle.
fn signing_authority(bundle: &str) -> &str {
    bundle.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or(bundle).trim()
}

fn operations(configuration: &Value, bundle: &str, is_stale: impl Fn(&str, &str) -> bool) -> Vec<Value> {
    let new = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap_or_default();
    let stale = ours(configuration).filter(|(_, webhook)| is_stale(&ca_bundle(webhook), bundle));
    stale
        .flat_map(|(at, webhook)| {
            [
                json!({"op": "test", "path": format!("/webhooks/{at}/name"), "value": webhook["name"]}),
                json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": new}),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::operations;

    #[test]
    fn only_our_webhooks_that_lack_the_bundle_are_patched() {
        let configuration = json!({"webhooks": [
            {"name": "validate.whatsappinstances.whatsapp-operator.dev", "clientConfig": {}},
            {"name": "other.example.com", "clientConfig": {}},
            {"name": "validate.whatsappowners.whatsapp-operator.dev", "clientConfig": {"caBundle": "UEVN"}},
        ]});
        let operations = operations(&configuration, "PEM", |found, bundle| found != bundle);
        assert_eq!(operations.len(), 2);
        assert_eq!(operations[1], json!({"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "UEVN"}));
    }
}
