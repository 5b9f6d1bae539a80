//! Whether a namespace that may not be looked into exists, is being deleted, or is gone.
//!
//! Where rights are given namespace by namespace, they are objects of that namespace: they are deleted with it, and before objects
//! that wait for a finalizer. A refusal does not say so, and so the API server is asked.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::PartialObjectMeta};

use super::kubernetes::{CallError, call};

/// Whether a namespace exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Active,
    /// It is being deleted, which cannot be taken back.
    Ending,
    /// There is none of this name, so there is nothing in it.
    Absent,
}

impl Standing {
    /// Whether this alone is why a process with rights in this namespace only is refused. Where it exists, the rights
    /// have been taken away, or not been given yet.
    pub fn explains_a_refusal(self) -> bool {
        self != Self::Active
    }
}

/// Asks for the standing of the namespace `name`, for which the right to list namespaces is enough.
///
/// # Errors
/// When the API server does not answer within `limit`, or refuses.
pub async fn standing(client: &Client, name: &str, limit: Duration) -> Result<Standing, CallError> {
    let params = ListParams::default().fields(&format!("metadata.name={name}"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = call("look whether a namespace exists", limit, namespaces.list_metadata(&params)).await?;
    Ok(of(name, &found.items))
}

/// The standing of a namespace that an owner's ledger names. `None` when the API server did not say within `limit`; callers
/// then keep what the ledger says.
pub async fn standing_in_ledger(client: &Client, namespace: &str, limit: Duration) -> Option<Standing> {
    let standing = standing(client, namespace, limit).await;
    standing.inspect_err(|error| tracing::warn!(namespace, %error, "look after a namespace of a ledger")).ok()
}

fn of(name: &str, found: &[PartialObjectMeta<Namespace>]) -> Standing {
    match found.iter().find(|namespace| namespace.name_any() == name) {
        None => Standing::Absent,
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => Standing::Ending,
        Some(_) => Standing::Active,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_is_there_or_going_or_gone() {
        let namespace = |name: &str, deleted: Option<&str>| {
            serde_json::from_value::<PartialObjectMeta<Namespace>>(
                json!({"metadata": {"name": name, "deletionTimestamp": deleted}}),
            )
            .unwrap()
        };
        let ending = namespace("a", Some("2026-01-01T00:00:00Z"));
        for (found, expected, explains) in [
            (vec![], Standing::Absent, true),
            (vec![namespace("b", None)], Standing::Absent, true),
            (vec![ending], Standing::Ending, true),
            (vec![namespace("a", None)], Standing::Active, false),
        ] {
            let standing = of("a", &found);
            assert_eq!((standing, standing.explains_a_refusal()), (expected, explains));
        }
    }
}
