//! What was seen of a cluster: values, as the API server answered.

use std::collections::BTreeMap;

use serde_json::Value;

/// The answer to one question, or a sentence why there is none.
pub type Answer<T> = Result<T, String>;

/// Whether an account may read a bridge's Secret.
#[derive(Clone, Debug)]
pub struct Access {
    /// `NAMESPACE/NAME` of the account.
    pub account: String,
    /// `NAMESPACE/NAME` of the Secret.
    pub secret: String,
    /// The API server's word.
    pub allowed: Answer<bool>,
}

/// Everything that was seen. Lists hold the objects of a list's `items`.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: jiff::Timestamp,
    /// The namespace that it was asked from.
    pub namespace: String,
    /// Version of this program.
    pub plugin: &'static str,
    /// Version of the API server.
    pub server: Answer<String>,
    /// Our three CustomResourceDefinitions, those that are there.
    pub definitions: Answer<Vec<Value>>,
    /// The webhook configurations that are about our kinds, of both kinds of webhook.
    pub webhooks: Answer<Vec<Value>>,
    /// What a dry run of creating an instance answered: whether it passed, and the API server's words when not.
    pub trial: Answer<Result<(), String>>,
    /// Deployments and StatefulSets of an installation.
    pub workloads: Answer<Vec<Value>>,
    /// Their pods.
    pub pods: Answer<Vec<Value>>,
    /// The WhatsAppBridges.
    pub bridges: Answer<Vec<Value>>,
    /// The WhatsAppOwners.
    pub owners: Answer<Vec<Value>>,
    /// The WhatsAppInstances.
    pub instances: Answer<Vec<Value>>,
    /// Of each Secret with a bridge's token, by `NAMESPACE/NAME`: whether it is there. Its data is never read.
    pub secrets: BTreeMap<String, Answer<bool>>,
    /// Who may read them.
    pub access: Vec<Access>,
    /// Events about our objects and of the installation's namespaces, the newest last.
    pub events: Answer<Vec<Value>>,
    /// Pages of pods, by `POD PAGE`: `/readyz` and `/metrics`.
    pub pages: BTreeMap<String, Answer<String>>,
    /// The end of each pod's log.
    pub logs: BTreeMap<String, Answer<String>>,
}

/// The text at a pointer, or nothing.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The members of the list at a pointer.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `NAMESPACE/NAME`, or the name of what has no namespace.
pub fn name(object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}
