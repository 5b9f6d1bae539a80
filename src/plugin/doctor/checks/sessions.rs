//! What the installation is for: bridges, instances, owners, as their conditions tell.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Finding;
use crate::{
    api::{conditions::reason, labels},
    plugin::doctor::seen::{Seen, condition, name, text},
};

/// Instances named in one sentence; the file has all of them.
const NAMED: usize = 5;

/// Every bridge is ready, of this release, and holds the sessions of instances alone.
pub fn bridges(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for bridge in seen.bridges.iter().flatten() {
        let name = name(bridge);
        match condition(bridge, "Ready") {
            Some(ready) if ready["status"] == "True" => {}
            Some(ready) => findings.push(Finding::wrong(
                format!("WhatsAppBridge {name} is not ready: {} ({})", text(ready, "/message"), text(ready, "/reason")),
                format!("docs/troubleshooting.md says what to do about {}", text(ready, "/reason")),
            )),
            None => findings.push(Finding::wrong(
                format!("WhatsAppBridge {name} has no status: no operator looks after it"),
                "is an operator running, and does its --bridge-selector match this bridge?",
            )),
        }
        if let Some(stray) = condition(bridge, "SessionsClaimed").filter(|claimed| claimed["status"] == "False") {
            findings.push(Finding::note(
                format!("WhatsAppBridge {name}: {}", text(stray, "/message")),
                format!("docs/troubleshooting.md, {}", text(stray, "/reason")),
            ));
        }
        let can = bridge["status"]["capabilities"].as_array();
        if can.is_some_and(|can| can.iter().any(|one| *one == "adopt")) {
            findings.push(Finding::note(
                format!("WhatsAppBridge {name} takes over restored data (--adopt-data)"),
                "once the sessions of a restore are back, set bridge.adoptData to false; docs/operations.md, Backup",
            ));
        }
        let version = text(bridge, "/status/version");
        if !version.is_empty() && version != seen.plugin {
            findings.push(Finding::note(
                format!("WhatsAppBridge {name} runs version {version}, this plugin is {}", seen.plugin),
                "nothing while an upgrade is under way; neighbouring releases work together",
            ));
        }
    }
    findings
}

/// Instances that name no bridge find exactly one.
pub fn default_bridge(seen: &Seen) -> Vec<Finding> {
    let Ok(bridges) = &seen.bridges else { return Vec::new() };
    let default = |bridge: &&Value| bridge["metadata"]["annotations"][labels::IS_DEFAULT_BRIDGE] == "true";
    let names: Vec<String> = bridges.iter().filter(default).map(name).collect();
    match names.len() {
        1 => Vec::new(),
        0 => vec![Finding::note(
            "no WhatsAppBridge is the default: instances have to name one in spec.bridgeRef",
            format!("kubectl annotate wab NAME {}=true", labels::IS_DEFAULT_BRIDGE),
        )],
        _ => vec![Finding::wrong(
            format!("{} WhatsAppBridges are the default: {}", names.len(), names.join(", ")),
            format!("take the annotation from all but one: kubectl annotate wab NAME {}-", labels::IS_DEFAULT_BRIDGE),
        )],
    }
}

/// Instances that are not Ready, by reason; those that only wait for a person are no fault.
pub fn instances(seen: &Seen) -> Vec<Finding> {
    let mut by_reason: BTreeMap<(String, String), Vec<&Value>> = BTreeMap::new();
    let mut unseen = Vec::new();
    // Those of one's own namespace are named first: a cluster may have hundreds of others.
    let own = |instance: &&Value| text(instance, "/metadata/namespace") == seen.namespace;
    let (own, others): (Vec<&Value>, Vec<&Value>) = seen.instances.iter().flatten().partition(own);
    for instance in own.into_iter().chain(others) {
        let Some(ready) = condition(instance, "Ready") else {
            unseen.push(name(instance));
            continue;
        };
        if ready["status"] != "True" {
            let key = (text(instance, "/status/phase").to_owned(), text(ready, "/reason").to_owned());
            by_reason.entry(key).or_default().push(instance);
        }
    }
    let mut findings: Vec<Finding> = by_reason
        .into_iter()
        .map(|((phase, reason), instances)| {
            let what =
                format!("{phase} ({reason}): {}: {}", counted(instances.len()), named(instances.into_iter().map(name)));
            let advice = format!("docs/troubleshooting.md, {reason}");
            match phase.as_str() {
                "AwaitingPairing" | "PairingExpired" | "AwaitingPasskey" | "LoggedOut" => Finding::note(
                    format!("{what}; they want a person"),
                    "kubectl whatsapp qr NAME, with --refresh where the code has expired",
                ),
                "Disconnected" | "Unlinked" | "Connecting" | "Pending" | "Terminating" => Finding::note(what, advice),
                _ => Finding::wrong(what, advice),
            }
        })
        .collect();
    if !unseen.is_empty() {
        findings.push(Finding::wrong(
            format!(
                "without a status, so no operator looks after them: {}: {}",
                counted(unseen.len()),
                named(unseen.into_iter())
            ),
            "is an operator running, and does its --watch-namespaces include theirs?",
        ));
    }
    findings
}

/// Instances that came in past the webhooks without an owner: no rule holds for them.
pub fn ownerless(seen: &Seen) -> Vec<Finding> {
    let nobodys = |instance: &&Value| {
        condition(instance, "Accepted").is_some_and(|accepted| accepted["reason"] == reason::NO_OWNER)
    };
    let names: Vec<String> = seen.instances.iter().flatten().filter(nobodys).map(name).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![Finding::note(
        format!(
            "without an owner, so no limit and no unique name holds for them: {}: {}",
            counted(names.len()),
            named(names.into_iter())
        ),
        format!("set spec.owner; docs/troubleshooting.md, {}", reason::NO_OWNER),
    )]
}

/// Owners who have more than they may.
pub fn owners(seen: &Seen) -> Vec<Finding> {
    let over = |owner: &&Value| {
        let number = |pointer| owner.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        number("/status/used") > number("/status/max")
    };
    let names: Vec<String> = seen.owners.iter().flatten().filter(over).map(name).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![Finding::note(
        format!(
            "{} owners have more instances than they may, since their limit was lowered: {}",
            names.len(),
            named(names.into_iter())
        ),
        "nothing that runs is stopped; kubectl whatsapp owners shows the numbers",
    )]
}

fn counted(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

fn named(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
