//! Tells the API server whom to trust: the leader writes the bundle into the webhook configurations it was given by name.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::api::GROUP;

/// One call to the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon to try again after an error.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the bundle in both configurations named `name` until `stop`: whenever it changes, and whenever somebody else
/// changes them. To be run by the leader only.
pub async fn publish(client: Client, name: String, bundle: watch::Receiver<Option<String>>, stop: CancellationToken) {
    tokio::join!(
        keep(Api::<MutatingWebhookConfiguration>::all(client.clone()), &name, bundle.clone(), stop.clone()),
        keep(Api::<ValidatingWebhookConfiguration>::all(client), &name, bundle, stop),
    );
}

async fn keep<K>(api: Api<K>, name: &str, mut bundle: watch::Receiver<Option<String>>, stop: CancellationToken)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(watcher(api.clone(), config).default_backoff().filter_map(async |event| event.ok()));
    while !stop.is_cancelled() {
        let current = bundle.borrow_and_update().clone();
        let again = match current {
            None => Duration::MAX,
            Some(bundle) => match inject(&api, name, &bundle).await {
                Ok(()) => Duration::MAX,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), name, error, "write the webhook's authorities");
                    RETRY
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(again.min(Duration::from_secs(86_400))) => {}
            Some(_) = changes.next() => {}
            changed = bundle.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes only what differs, by a patch that fails if the list of webhooks has changed meanwhile.
async fn inject<K>(api: &Api<K>, name: &str, bundle: &str) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let within = |answer: Result<Result<_, kube::Error>, _>| match answer {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    // Not installed, or removed for the moment: the watch will tell when it is there.
    let Some(found) = within(timeout(CALL_TIMEOUT, api.get_opt(name)).await)? else { return Ok(()) };
    let found = serde_json::to_value(found).map_err(|error| error.to_string())?;
    let operations = operations(&found, bundle);
    if operations.is_empty() {
        return Ok(());
    }
    let patch = serde_json::from_value(Value::Array(operations)).map_err(|error| error.to_string())?;
    within(
        timeout(CALL_TIMEOUT, api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)))
            .await
            .map(|patched| patched.map(Some)),
    )?;
    tracing::info!(kind = %K::kind(&()), name, "wrote the webhook's authorities");
    Ok(())
}

fn operations(configuration: &Value, bundle: &str) -> Vec<Value> {
    let bundle = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap_or_default();
    let webhooks = configuration["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |webhook: &Value| webhook["name"].as_str().is_some_and(|name| name.ends_with(&format!(".{GROUP}")));
    let stale = webhooks
        .iter()
        .enumerate()
        .filter(|(_, webhook)| ours(webhook) && webhook["clientConfig"]["caBundle"] != bundle);
    stale
        .flat_map(|(at, webhook)| {
            [
                json!({"op": "test", "path": format!("/webhooks/{at}/name"), "value": webhook["name"]}),
                json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": bundle}),
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
        let operations = operations(&configuration, "PEM");
        assert_eq!(operations.len(), 2);
        assert_eq!(operations[1], json!({"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "UEVN"}));
    }
}
