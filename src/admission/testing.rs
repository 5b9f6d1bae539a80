//! Reviews as an API server sends them.

use serde_json::{Value, json};

pub fn create(user: &str, name: &str, spec: Value) -> Value {
    review(user, "CREATE", object(name, spec), Value::Null)
}

pub fn update(user: &str, name: &str, old: Value, new: Value) -> Value {
    review(user, "UPDATE", object(name, new), object(name, old))
}

fn object(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    })
}

fn review(user: &str, operation: &str, object: Value, old: Value) -> Value {
    let name = object["metadata"]["name"].clone();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "whatsapp-operator.dev", "version": "v1alpha1", "kind": "WhatsAppInstance"},
            "resource": {"group": "whatsapp-operator.dev", "version": "v1alpha1", "resource": "whatsappinstances"},
            "name": name, "namespace": "shop", "operation": operation, "dryRun": false,
            "userInfo": {"username": user, "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "options": null,
        },
    })
}
