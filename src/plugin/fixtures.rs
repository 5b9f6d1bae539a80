//! Instances for the unit tests of this room.

use serde_json::{Value, json};

use crate::api::WhatsAppInstance;

/// An instance "shop" in namespace "team" with these fields of spec and status.
pub fn instance(mut spec: Value, status: Value) -> WhatsAppInstance {
    spec["name"] = json!("Shop");
    let mut object = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "shop", "namespace": "team"}, "spec": spec,
    });
    if !status.is_null() {
        object["status"] = status;
    }
    serde_json::from_value(object).unwrap()
}
