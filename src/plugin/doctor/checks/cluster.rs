//! The installation: definitions, programs, webhooks, rights.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use crate::{
    api,
    plugin::doctor::seen::{Seen, condition, list, name, text},
};

/// Our definitions are there, served, and know the fields that this program knows.
pub fn definitions(seen: &Seen) -> Vec<Finding> {
    let Ok(found) = &seen.definitions else { return Vec::new() };
    let own = api::crd::all().unwrap_or_default();
    let own = own.iter().filter_map(|definition| serde_json::to_value(definition).ok());
    own.filter_map(|own| {
        let wanted = text(&own, "/metadata/name");
        let Some(theirs) = found.iter().find(|theirs| text(theirs, "/metadata/name") == wanted) else {
            return Some(Finding::wrong(
                format!("the definition {wanted} is not installed"),
                "kubectl apply --server-side -f crds/, or crds.install=true in the chart's values",
            ));
        };
        if condition(theirs, "Established").is_none_or(|condition| condition["status"] != "True") {
            return Some(Finding::wrong(
                format!("the definition {wanted} is installed but not served"),
                format!("kubectl describe crd {wanted} says why"),
            ));
        }
        let (ours, there) = (fields(&own), fields(theirs));
        let missing: Vec<&String> = ours.difference(&there).collect();
        if let Some(first) = missing.first() {
            return Some(Finding::wrong(
                format!(
                    "the definition {wanted} is older than this plugin ({}): it does not know {} of its fields, {first} for example",
                    seen.plugin,
                    missing.len()
                ),
                "upgrade the definitions: helm upgrade with crds.install=true, or kubectl apply --server-side -f crds/; or use the plugin of the operator's release",
            ));
        }
        let more = there.difference(&ours).count();
        (more > 0).then(|| {
            Finding::note(
                format!("the definition {wanted} has {more} fields that this plugin ({}) does not know", seen.plugin),
                "upgrade the plugin",
            )
        })
    })
    .collect()
}

/// Objects that may be stored in a version that is not the one to store: a definition without that version would be refused.
pub fn stored_versions(seen: &Seen) -> Vec<Finding> {
    let found = seen.definitions.as_deref().unwrap_or_default();
    found
        .iter()
        .filter_map(|definition| {
            let typed = serde_json::from_value(definition.clone()).ok()?;
            let (_, old) = api::crd::stored(&typed)?;
            (!old.is_empty()).then(|| {
                Finding::note(
                    format!("objects of {} may be stored as {} still", name(definition), old.join(", ")),
                    "whatsapp-operator migrate-storage, before an upgrade to a release without that version",
                )
            })
        })
        .collect()
}

/// The paths of all fields in a definition's schemas.
fn fields(definition: &Value) -> BTreeSet<String> {
    fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(inner, &path, found);
            found.insert(path);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), found);
        }
    }
    let mut found = BTreeSet::new();
    for version in list(definition, "/spec/versions") {
        walk(&version["schema"]["openAPIV3Schema"], "", &mut found);
    }
    // The API server may add what every object has.
    found.retain(|path| path.starts_with("spec") || path.starts_with("status"));
    found
}

/// Every program of the installation has the replicas it is to have.
pub fn workloads(seen: &Seen) -> Vec<Finding> {
    let Ok(found) = &seen.workloads else { return Vec::new() };
    let mut findings = Vec::new();
    for (component, program) in [("operator", "operator"), ("gateway", "gateway"), ("bridge", "bridge")] {
        let of = |object: &&Value| object["metadata"]["labels"]["app.kubernetes.io/component"] == component;
        let mut own = found.iter().filter(of).peekable();
        if own.peek().is_none() {
            let finding = format!("no {program} is found by the labels of the chart");
            findings.push(match component {
                "operator" => Finding::wrong(
                    finding,
                    "install the chart (docs/install.md); if the operator runs outside of the cluster, or without the chart's labels, look at it there",
                ),
                _ => Finding::note(finding, "nothing, if it runs elsewhere or is switched off"),
            });
        }
        for object in own {
            let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            let pointer = if component == "bridge" { "/status/readyReplicas" } else { "/status/availableReplicas" };
            let available = object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
            let name = name(object);
            if wanted == 0 {
                findings.push(Finding::wrong(format!("{program} {name} is scaled to 0"), "scale it up again"));
            } else if available == 0 || (component == "bridge" && available < wanted) {
                findings.push(Finding::wrong(
                    format!("{program} {name}: {available} of {wanted} pods are ready"),
                    "the pods below say why; kubectl describe pod",
                ));
            } else if available < wanted {
                findings.push(Finding::note(format!("{program} {name}: {available} of {wanted} pods are ready"), ""));
            }
        }
    }
    findings
}

/// Each bridge has one operator.
pub fn operators(seen: &Seen) -> Vec<Finding> {
    let found = seen.workloads.iter().flatten();
    let found: Vec<&Value> =
        found.filter(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == "operator").collect();
    let unselective = found.iter().filter(|operator| !is_told_its_bridges(operator));
    let unselective: Vec<String> = unselective.map(|operator| name(operator)).collect();
    if found.len() < 2 || unselective.is_empty() {
        return Vec::new();
    }
    let all: Vec<String> = found.iter().map(|operator| name(operator)).collect();
    vec![Finding::wrong(
        format!(
            "{} operators are installed ({}), and nobody told {} which bridges are its own: it looks after all that no other installation has made, and all owners",
            all.len(),
            all.join(", "),
            unselective.join(" and ")
        ),
        "one installation serves a cluster: uninstall the others; or give each of them operator.bridgeSelector (docs/operations.md, Two operators on one cluster)",
    )]
}

fn is_told_its_bridges(operator: &Value) -> bool {
    list(operator, "/spec/template/spec/containers").iter().any(|container| {
        let arguments: Vec<&str> = list(container, "/args").iter().filter_map(Value::as_str).collect();
        let flag =
            arguments.iter().enumerate().any(|(at, argument)| match argument.strip_prefix("--bridge-selector") {
                Some("") => arguments.get(at + 1).is_some_and(|value| !value.is_empty()),
                Some(rest) => rest.len() > 1,
                None => false,
            });
        let variable = |one: &Value| one["name"] == "WHATSAPP_OPERATOR_BRIDGE_SELECTOR" && one["value"] != "";
        flag || list(container, "/env").iter().any(variable)
    })
}

/// Pods that cannot start, or start again and again.
pub fn pods(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pod in seen.pods.iter().flatten() {
        let name = name(pod);
        if let Some(scheduled) = condition(pod, "PodScheduled").filter(|condition| condition["status"] == "False") {
            let why = text(scheduled, "/message");
            findings
                .push(Finding::wrong(format!("pod {name} has no node: {why}"), "give the cluster what it asks for"));
        }
        for container in list(pod, "/status/containerStatuses") {
            let (why, last) =
                (text(container, "/state/waiting/reason"), text(container, "/lastState/terminated/reason"));
            let restarts = container["restartCount"].as_i64().unwrap_or(0);
            if last == "OOMKilled" {
                findings.push(Finding::wrong(
                    format!("pod {name} was killed for want of memory ({restarts} restarts)"),
                    "raise its memory limit in the chart's values (bridge.resources, operator.resources)",
                ));
            } else if [
                "CrashLoopBackOff",
                "ImagePullBackOff",
                "ErrImagePull",
                "ErrImageNeverPull",
                "CreateContainerConfigError",
            ]
            .contains(&why)
            {
                let advice = match why {
                    "CrashLoopBackOff" => "its log says why: kubectl logs --previous",
                    "CreateContainerConfigError" => "a Secret or ConfigMap that it names is missing",
                    _ => "check the image's name and digest, and the pull secrets",
                };
                findings.push(Finding::wrong(format!("pod {name} does not start: {why}"), advice));
            } else if restarts > 3 {
                findings.push(Finding::note(
                    format!("pod {name} was restarted {restarts} times"),
                    "its log says why: kubectl logs --previous",
                ));
            }
        }
    }
    findings
}

/// The configurations of the webhooks say whom to trust.
pub fn webhooks(seen: &Seen) -> Vec<Finding> {
    let Ok(found) = &seen.webhooks else { return Vec::new() };
    let mut findings = Vec::new();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let mut own = found.iter().filter(|object| object["kind"] == kind).peekable();
        if own.peek().is_none() {
            findings.push(Finding::note(
                format!("there is no {kind} for our kinds: what breaks a rule is let in, and repaired afterwards"),
                "nothing, if that is meant (webhooks.enabled=false)",
            ));
        }
        for object in own {
            let name = name(object);
            let empty =
                list(object, "/webhooks").iter().filter(|webhook| text(webhook, "/clientConfig/caBundle").is_empty());
            let empty = empty.count();
            if empty > 0 {
                findings.push(Finding::wrong(
                    format!("{kind} {name}: {empty} webhooks have no caBundle, so the API server cannot trust them"),
                    "an operator that is ready fills it in within seconds: look at the operator's pods and log; with cert-manager, at its Certificate and cainjector",
                ));
            }
        }
    }
    findings
}

/// The API server reaches the webhooks.
pub fn trial(seen: &Seen) -> Vec<Finding> {
    match &seen.trial {
        Ok(Err(said)) if is_unreachable(said) => vec![Finding::wrong(
            format!("the API server does not reach the webhooks, so no instance can be created or changed: {said}"),
            "are the operator's pods ready? May the API server reach their port (NetworkPolicy, firewall; webhooks.hostNetwork where it cannot reach pods)?",
        )],
        _ => Vec::new(),
    }
}

/// Whether the API server says that it could not ask a webhook, as opposed to one that said no.
pub fn is_unreachable(said: &str) -> bool {
    said.contains("failed calling webhook")
}

/// The Secrets with the bridges' tokens are there.
pub fn secrets(seen: &Seen) -> Vec<Finding> {
    let missing = seen.secrets.iter().filter(|(_, there)| **there == Ok(false));
    missing
        .map(|(name, _)| {
            Finding::wrong(
                format!("Secret {name}, which a WhatsAppBridge takes its token from, does not exist"),
                "create it with the key of credentialsSecretRef; of the chart's own Secrets the operator makes the content",
            )
        })
        .collect()
}

/// Operator and gateway may read them.
pub fn access(seen: &Seen) -> Vec<Finding> {
    let denied = seen.access.iter().filter(|access| access.allowed == Ok(false));
    denied
        .map(|access| {
            Finding::wrong(
                format!("account {} may not read Secret {}", access.account, access.secret),
                "bind it a Role with the verb get on that Secret (docs/reference/rbac.md)",
            )
        })
        .collect()
}
