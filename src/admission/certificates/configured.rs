//! What the webhook configurations tell the API server of whom to trust.

use std::fmt::Debug;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
};
use kube::{Api, Client, Resource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::GROUP,
    platform::kubernetes::{CALL_TIMEOUT, CallError, call},
};

/// Whether each of our webhooks in the configurations of this name trusts `authority`, PEM. A configuration that is not
/// there has nobody to tell.
///
/// # Errors
/// When the API server does not say.
pub async fn is_published(client: &Client, name: &str, authority: &str) -> Result<bool, CallError> {
    let mutating = find(&Api::<MutatingWebhookConfiguration>::all(client.clone()), name).await?;
    let validating = find(&Api::<ValidatingWebhookConfiguration>::all(client.clone()), name).await?;
    let found = [mutating, validating];
    Ok(found.iter().flatten().flat_map(ours).all(|(_, webhook)| trusts(webhook, authority)))
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

fn trusts(webhook: &Value, authority: &str) -> bool {
    ca_bundle(webhook).contains(authority.trim())
}
