//! Which authorities the webhook configurations tell the API server to trust.

use std::fmt::Debug;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{Api, Client, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::trusted::knows_signer;
use crate::{
    api::GROUP,
    platform::kubernetes::{CALL_TIMEOUT, CallError, call},
};

/// Annotations that ask cert-manager's injector for a `caBundle`.
const INJECTED_BY: [&str; 3] =
    ["cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret", "cert-manager.io/inject-apiserver-ca"];

/// Whether each of our webhooks in the configurations of this name trusts the first authority of `bundle`, PEM. A
/// configuration that does not exist counts as trusting it.
///
/// # Errors
/// When the API server does not say.
pub async fn is_published(client: &Client, name: &str, bundle: &str) -> Result<bool, CallError> {
    let mutating = find(&Api::<MutatingWebhookConfiguration>::all(client.clone()), name).await?;
    let validating = find(&Api::<ValidatingWebhookConfiguration>::all(client.clone()), name).await?;
    let found = [mutating, validating];
    Ok(found.iter().flatten().flat_map(ours).all(|(_, webhook)| knows_signer(&ca_bundle(webhook), bundle)))
}

/// A configuration, if it is installed.
///
/// # Errors
/// When the API server does not say.
pub async fn find<K>(api: &Api<K>, name: &str) -> Result<Option<Value>, CallError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let found = call("read it", CALL_TIMEOUT, api.get_opt(name)).await?;
    // An object that came as JSON can be written as JSON.
    Ok(found.and_then(|found| serde_json::to_value(found).ok()))
}

/// Our webhooks in a configuration, and where they stand in it.
pub fn ours(configuration: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let webhooks = configuration["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |webhook: &Value| webhook["name"].as_str().is_some_and(|name| name.ends_with(&format!(".{GROUP}")));
    webhooks.iter().enumerate().filter(move |(_, webhook)| is_ours(webhook))
}

/// The PEM a webhook trusts; empty when there is none.
pub fn ca_bundle(webhook: &Value) -> String {
    let bundle = serde_json::from_value::<ByteString>(webhook["clientConfig"]["caBundle"].clone());
    bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default()
}

/// Whether cert-manager's injector fills in `caBundle`: then the operator must not.
pub fn is_injected(configuration: &Value) -> bool {
    let annotations = configuration["metadata"]["annotations"].as_object();
    let asked = |name| annotations.and_then(|them| them.get(name)).is_some_and(|value| value != "");
    INJECTED_BY.iter().any(|name| asked(*name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_injected;

    #[test]
    fn cert_managers_injector_is_known_by_its_annotations() {
        let annotated = |annotations| is_injected(&json!({"metadata": {"annotations": annotations}}));
        assert!(annotated(json!({"cert-manager.io/inject-ca-from": "ns/certificate"})));
        assert!(annotated(json!({"other": "x", "cert-manager.io/inject-ca-from-secret": "ns/secret"})));
        assert!(!annotated(json!({"cert-manager.io/inject-ca-from": ""})));
        assert!(!annotated(json!({"other": "x"})) && !is_injected(&json!({"metadata": {}})));
    }
}
