//! `owners` and `owner set-limit`: how many instances each owner has and may have.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::{
    args::{ObjectOutput, OwnerLimit, OwnersArgs},
    client::Cluster,
    error::PluginError,
    output::{self, age, printable, table},
};
use crate::api::WhatsAppOwner;

/// Prints the owners.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &OwnersArgs) -> Result<(), PluginError> {
    let mut found = cluster.owners().await?;
    for object in &mut found {
        object.metadata.managed_fields = None;
    }
    let list = || json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": found });
    let text = match args.output {
        Some(ObjectOutput::Json) => output::json(&list())?,
        Some(ObjectOutput::Yaml) => output::yaml(&list())?,
        None if found.is_empty() => return Ok(output::note("No WhatsAppOwners in the cluster.")?),
        None => rows(&found, Timestamp::now()),
    };
    Ok(output::text(&text)?)
}

/// Sets how many instances an owner may have.
///
/// # Errors
/// See [`PluginError`].
pub async fn set_limit(cluster: &Cluster, owner: &str, limit: OwnerLimit) -> Result<(), PluginError> {
    cluster.set_limit(owner, limit.0).await?;
    let limit =
        limit.0.map_or_else(|| "as many instances as the operator's default".to_owned(), |n| format!("{n} instances"));
    Ok(output::line(&format!("owner \"{}\" may have {limit}", printable(owner)))?)
}

fn rows(found: &[WhatsAppOwner], now: Timestamp) -> String {
    let row = |object: &WhatsAppOwner| {
        let status = object.status.clone().unwrap_or_default();
        vec![
            object.spec.owner.clone(),
            status.used.to_string(),
            status.max.to_string(),
            status.connected.to_string(),
            status.primary.map(|primary| format!("{}/{}", primary.namespace, primary.name)).unwrap_or_default(),
            object.creation_timestamp().map(|at| age(at.0, now)).unwrap_or_default(),
        ]
    };
    let lines: Vec<Vec<String>> = found.iter().map(row).collect();
    table(&["OWNER", "USED", "MAX", "CONNECTED", "PRIMARY", "AGE"], &lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::rows;

    #[test]
    fn an_owner_is_a_row_also_before_anything_is_counted() {
        let object = |name: &str, status| {
            let metadata = json!({"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({"metadata": metadata, "spec": {"owner": name}, "status": status})).unwrap()
        };
        let primary = json!({"namespace": "team", "name": "shop"});
        let status = json!({"used": 2, "max": 10, "connected": 1, "primary": primary, "instances": []});
        let text =
            rows(&[object("alice", status), object("bob", json!(null))], "2026-01-01T02:00:00Z".parse().unwrap());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["alice", "2", "10", "1", "team/shop", "120m"]);
        assert_eq!(lines[2], ["bob", "0", "0", "0", "120m"]);
    }
}
