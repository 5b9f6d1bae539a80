//! Tells the API server whom to trust, by the webhook configurations of one name.
//!
//! The leader keeps our bundle in them, and what it finds beside it for a while ([`trusted`](super::trusted)). The other replicas
//! mend only what would let no certificate of ours pass, so that a caBundle that is emptied or replaced is repaired at
//! once, also while the leader changes; they read the Secret first, so that none of them brings back what is out of date. Where
//! cert-manager's injector has been asked for a caBundle, it is left to the injector.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    CertificateSecret,
    configured::{ca_bundle, find, is_injected, ours},
    trusted::{Memory, knows_signer, with_others},
};
use crate::{
    api::labels::FIELD_MANAGER,
    platform::{
        backoff::{Backoff, spread},
        kubernetes::{CALL_TIMEOUT, call},
        watch::changes_of_one,
    },
};

/// How soon to try again after an error; it doubles up to [`LAST_RETRY`]. The first is a patch that came too late, because
/// the configuration changed under it.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How long the leader keeps the authorities of others, in overlaps: a day, when those last an hour.
const OTHERS: u32 = 24;
/// Nothing to do until something changes.
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
    /// Publishes whenever bundle or leadership changes, and whenever the configurations are changed by others, until `stop`.
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
        let mut changes = changes_of_one(api.clone(), &self.name, "the webhook configurations");
        let (mut backoff, mut memory, mut injected) = (Backoff::new(FIRST_RETRY, LAST_RETRY), Memory::default(), false);
        while !stop.is_cancelled() {
            let (current, leads) = (self.bundle.borrow_and_update().clone(), *self.leads.borrow_and_update());
            let done = match &current {
                None => Ok(NEVER),
                Some(bundle) => self.look(&api, bundle, leads, &mut memory, &mut injected).await,
            };
            let again = match done {
                Ok(again) => {
                    backoff.reset();
                    again
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), name = self.name, error, "write the webhook's authorities");
                    spread(backoff.pause())
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

    /// Looks once, and writes what is due. Answers how long nothing will be.
    async fn look<K>(
        &self,
        api: &Api<K>,
        bundle: &str,
        leads: bool,
        memory: &mut Memory,
        injected: &mut bool,
    ) -> Result<Duration, String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        memory.own(bundle);
        if !leads {
            memory.forget();
        }
        // Not installed, or removed for the moment: the watch will tell when it is there.
        let Some(found) = find(api, &self.name).await.map_err(|error| error.to_string())? else { return Ok(NEVER) };
        let was_injected = std::mem::replace(injected, is_injected(&found));
        if *injected {
            if !was_injected {
                tracing::info!(kind = %K::kind(&()), name = self.name, "left the webhooks' caBundle to cert-manager's injector");
            }
            return Ok(NEVER);
        }
        if !leads {
            self.mend(api, &found, bundle).await?;
            return Ok(NEVER);
        }
        let (now, keep) = (Instant::now(), self.secret.lifetimes.overlap.saturating_mul(OTHERS));
        let bundles: Vec<String> = ours(&found).map(|(_, webhook)| ca_bundle(webhook)).collect();
        memory.see(bundles.iter().map(String::as_str), now);
        let wanted = |found: &str| with_others(bundle, found, |other| memory.keeps(other, keep, now));
        self.patch(api, &found, wanted).await?;
        Ok(memory.next(keep, now).unwrap_or(NEVER).max(FIRST_RETRY))
    }

    /// What a replica does that does not lead: only where no certificate of ours would pass.
    async fn mend<K>(&self, api: &Api<K>, found: &Value, known: &str) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        if ours(found).all(|(_, webhook)| knows_signer(&ca_bundle(webhook), known)) {
            return Ok(());
        }
        tracing::info!(kind = %K::kind(&()), name = self.name, "the webhooks' caBundle is of no use; mending it");
        let Some(fresh) = self.secret.bundle().await.map_err(|error| error.to_string())? else { return Ok(()) };
        let wanted = |found: &str| {
            if knows_signer(found, &fresh) { found.to_owned() } else { with_others(&fresh, found, |_| true) }
        };
        self.patch(api, found, wanted).await
    }

    /// Writes only what is not as wanted.
    async fn patch<K>(&self, api: &Api<K>, found: &Value, wanted: impl Fn(&str) -> String) -> Result<(), String>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let operations = operations(found, wanted);
        if operations.is_empty() {
            return Ok(());
        }
        let patch = serde_json::from_value(Value::Array(operations)).map_err(|error| error.to_string())?;
        let patch = Patch::<()>::Json(patch);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        call("patch it", CALL_TIMEOUT, api.patch(&self.name, &parameters, &patch))
            .await
            .map_err(|error| error.to_string())?;
        tracing::info!(kind = %K::kind(&()), name = self.name, "wrote the webhook's authorities");
        Ok(())
    }
}

/// A patch that makes of each bundle of ours what is wanted, given what it is; none when it is so already. It fails when the
/// configuration has been written since: an authority that joined a bundle meanwhile would be lost.
fn operations(configuration: &Value, wanted: impl Fn(&str) -> String) -> Vec<Value> {
    let stale = ours(configuration).filter_map(|(at, webhook)| {
        let found = ca_bundle(webhook);
        let wanted = wanted(&found);
        let new = serde_json::to_value(ByteString(wanted.clone().into_bytes())).unwrap_or_default();
        let path = format!("/webhooks/{at}/clientConfig/caBundle");
        (wanted != found).then(|| json!({"op": "add", "path": path, "value": new}))
    });
    let mut operations: Vec<Value> = stale.collect();
    if !operations.is_empty() {
        let version = &configuration["metadata"]["resourceVersion"];
        operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    }
    operations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::operations;

    #[test]
    fn only_our_webhooks_that_lack_the_bundle_are_patched_and_only_as_they_were_read() {
        let configuration = json!({"metadata": {"resourceVersion": "7"}, "webhooks": [
            {"name": "validate.whatsappinstances.whatsapp-operator.dev", "clientConfig": {}},
            {"name": "other.example.com", "clientConfig": {}},
            {"name": "validate.whatsappowners.whatsapp-operator.dev", "clientConfig": {"caBundle": "UEVN"}},
        ]});
        let version = json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"});
        let bundle = json!({"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "UEVN"});
        assert_eq!(operations(&configuration, |_| "PEM".to_owned()), [version, bundle]);
        assert_eq!(operations(&configuration, str::to_owned), Vec::<serde_json::Value>::new());
    }
}
