//! Instances for tests.

use serde_json::{Value, json};

use crate::api::WhatsAppInstance;

/// Alice's, with these fields.
pub fn instance(spec: Value, status: Value) -> WhatsAppInstance {
    let mut all = json!({"name": "A", "owner": "alice"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": all, "status": status,
    }))
    .unwrap()
}
