//! The part of an API server that knows owners, for tests of who watches them.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

/// What a list or a watch is asked with.
#[derive(serde::Deserialize)]
pub struct Asked {
    /// It is a watch.
    #[serde(default)]
    pub watch: bool,
}

/// A list of owners.
pub fn owner_list(items: Vec<Value>) -> Response {
    Json(json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwnerList",
        "metadata": {"resourceVersion": "1"}, "items": items,
    }))
    .into_response()
}
