//! `list`: instances as a table, as objects, or by name.

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};

use super::{
    args::{ListArgs, ListOutput},
    client::{Cluster, resource_name},
    error::PluginError,
    output::{self, age, table},
};

/// The CRD's printer columns: heading, where the value stands, whether only `-o wide` has it. A test compares them.
const COLUMNS: [(&str, &str, bool); 8] = [
    ("NAME", "/spec/name", false),
    ("OWNER", "/spec/owner", false),
    ("PRIMARY", "/status/primary", false),
    ("PHASE", "/status/phase", false),
    ("PHONE", "/status/phoneNumber", false),
    ("BRIDGE", "/status/bridge/name", true),
    ("SHARD", "/status/bridge/shard", true),
    ("SESSION", "/status/sessionId", true),
];

/// Prints the instances.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &ListArgs) -> Result<(), PluginError> {
    let mut found = cluster.list(args.all_namespaces, args.owner.as_deref(), args.selector.as_deref()).await?;
    for object in &mut found {
        object.metadata.managed_fields = None;
    }
    let text = match args.output {
        Some(ListOutput::Json) => output::json(&as_list(&found))?,
        Some(ListOutput::Yaml) => output::yaml(&as_list(&found))?,
        Some(ListOutput::Name) => found.iter().map(|object| resource_name(&object.name_any()) + "\n").collect(),
        None | Some(ListOutput::Wide) if found.is_empty() => {
            let place =
                if args.all_namespaces { "the cluster".into() } else { format!("namespace \"{}\"", cluster.namespace) };
            let chosen = if args.owner.is_some() || args.selector.is_some() { " that fit" } else { "" };
            return Ok(output::note(&format!("No WhatsAppInstances{chosen} in {place}."))?);
        }
        None | Some(ListOutput::Wide) => {
            rows(&found, args.all_namespaces, args.output == Some(ListOutput::Wide), Timestamp::now())
        }
    };
    Ok(output::text(&text)?)
}

fn as_list(found: &[DynamicObject]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": found })
}

fn headings(all_namespaces: bool, wide: bool) -> Vec<&'static str> {
    let first = if all_namespaces { vec!["NAMESPACE", "INSTANCE"] } else { vec!["INSTANCE"] };
    let columns = COLUMNS.iter().filter(|(_, _, only_wide)| wide || !only_wide).map(|(heading, _, _)| *heading);
    let last = if wide { vec!["REASON", "AGE"] } else { vec!["AGE"] };
    first.into_iter().chain(columns).chain(last).collect()
}

fn rows(found: &[DynamicObject], all_namespaces: bool, wide: bool, now: Timestamp) -> String {
    let mut lines = Vec::with_capacity(found.len());
    for object in found {
        let mut line = Vec::new();
        if all_namespaces {
            line.push(object.namespace().unwrap_or_default());
        }
        line.push(object.name_any());
        for (_, path, only_wide) in COLUMNS {
            if wide || !only_wide {
                line.push(object.data.pointer(path).map(cell).unwrap_or_default());
            }
        }
        if wide {
            line.push(reason(object).unwrap_or_default());
        }
        line.push(object.creation_timestamp().map(|time| age(time.0, now)).unwrap_or_default());
        lines.push(line);
    }
    table(&headings(all_namespaces, wide), &lines)
}

fn reason(object: &DynamicObject) -> Option<String> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    ready.get("reason").map(cell)
}

fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{headings, rows};

    fn printed(wide: bool) -> Vec<String> {
        let crd = serde_json::to_value(crate::api::crd::all().unwrap().remove(0)).unwrap();
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
        let shown = columns.iter().filter(|column| wide || column["priority"].as_i64().unwrap_or(0) == 0);
        shown.map(|column| column["name"].as_str().unwrap().to_uppercase()).collect()
    }

    #[test]
    fn the_columns_are_those_of_the_definition() {
        assert_eq!(headings(false, false)[1..], printed(false));
        assert_eq!(headings(true, true)[2..], printed(true));
    }

    #[test]
    fn an_object_of_another_shape_has_a_row_too() {
        let object = |name: &str, spec, status| {
            let metadata = json!({"name": name, "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"});
            serde_json::from_value(
                json!({"apiVersion": "v", "kind": "k", "metadata": metadata, "spec": spec, "status": status}),
            )
            .unwrap()
        };
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Connected"}]);
        let status = json!({"phase": "Connected", "primary": true, "phoneNumber": "+15550001", "conditions": ready});
        let found = [object("shop", json!({"name": "Shop"}), status), object("odd", json!(5), json!("?"))];
        let text = rows(&found, true, true, "2026-01-01T02:00:00Z".parse().unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().next(), Some("NAMESPACE"));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["team", "shop", "Shop", "true", "Connected", "+15550001", "Connected", "120m"]
        );
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["team", "odd", "120m"]);
    }
}
