//! What Argo CD and Flux make of our resources by the rules of `examples/gitops`, judged by their own engines.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use super::chart::ROOT;
use crate::support::world::target_dir;

/// What Argo CD and Flux say of an instance in each phase that should be connected. Neither waits for a person.
const PHASES: [(Phase, &str, &str); 14] = [
    (Phase::Pending, "Progressing", "InProgress"),
    (Phase::AwaitingPairing, "Suspended", "Current"),
    (Phase::PairingExpired, "Suspended", "Current"),
    (Phase::AwaitingPasskey, "Suspended", "Current"),
    (Phase::Connecting, "Progressing", "InProgress"),
    (Phase::Connected, "Healthy", "Current"),
    (Phase::Reconnecting, "Progressing", "InProgress"),
    // By itself, not by wish.
    (Phase::Disconnected, "Degraded", "Failed"),
    (Phase::LoggedOut, "Degraded", "Failed"),
    (Phase::Unlinked, "Suspended", "Current"),
    (Phase::Restricted, "Degraded", "Failed"),
    (Phase::Rejected, "Degraded", "Failed"),
    (Phase::BridgeUnavailable, "Degraded", "InProgress"),
    (Phase::Terminating, "Progressing", "InProgress"),
];

fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(format!("{ROOT}/examples/gitops/{file}")).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn of_kind(documents: &[Value], kind: &str) -> Value {
    documents.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).clone()
}

/// What both say of objects of a kind: status and message of Argo CD, and status of Flux.
fn judged(kind: &str, objects: &[Value]) -> Vec<(String, String, String)> {
    let settings = of_kind(&documents("argo-cd.yaml"), "ConfigMap");
    let script = &settings["data"][format!("resource.customizations.health.whatsapp-operator.dev_{kind}")];
    assert!(script.is_string(), "{kind}");
    let flux = documents("flux.yaml");
    let checks = flux.iter().find_map(|one| one["spec"]["healthCheckExprs"].as_array()).unwrap();
    // Flux judges other kinds by their conditions.
    let check = checks.iter().find(|check| check["kind"] == kind).unwrap_or(&checks[0]);
    let mut judge = Command::new(target_dir().join("gitops-judge/gitops-judge"));
    let mut judge = judge.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
        panic!("target/gitops-judge/gitops-judge: {error}: `make gitops-judge` builds it");
    });
    let question = json!({"argo": script, "flux": check, "objects": objects});
    judge.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success());
    let said: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    said.iter().map(|one| (word(&one["argo"]["status"]), word(&one["argo"]["message"]), word(&one["flux"]))).collect()
}

fn instance(status: &Value) -> Value {
    json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "shop", "namespace": "default", "generation": 3}, "spec": {"name": "Shop"}, "status": status,
    })
}

#[test]
fn no_sync_waits_for_a_phone_and_what_is_broken_is_seen() {
    let ready = json!([{"type": "Ready", "status": "False", "reason": "R", "message": "What to do."}]);
    let at = |phase: Phase| json!({"phase": phase, "observedGeneration": 3, "conditions": ready});
    let objects: Vec<Value> = PHASES.iter().map(|(phase, ..)| instance(&at(*phase))).collect();
    for ((phase, argo, flux), said) in PHASES.iter().zip(judged("WhatsAppInstance", &objects)) {
        assert_eq!((&*said.0, &*said.1, &*said.2), (*argo, "What to do.", *flux), "{phase}");
    }
    // What the operator has not seen yet is under way, whatever was said of the version before.
    let stale = json!({"phase": "Connected", "observedGeneration": 2});
    let mut new = instance(&Value::Null);
    new.as_object_mut().unwrap().remove("status");
    let said = judged("WhatsAppInstance", &[instance(&stale), new, instance(&json!({}))]);
    let [stale, new, empty] = &said[..] else { panic!("{said:?}") };
    assert_eq!((&*stale.0, &*stale.2), ("Progressing", "InProgress"));
    // Flux cannot tell before there is a status, and looks again.
    assert_eq!((&*new.0, &*new.2), ("Progressing", "Unknown"));
    assert_eq!((&*empty.0, &*empty.2), ("Progressing", "InProgress"));
}

/// Offline by wish is where it should be, offline against it is not; what the operator has not seen yet is under way.
#[test]
fn offline_is_as_healthy_as_it_is_wished() {
    let offline = |desired: &str, generation: i64| {
        let mut object = instance(&json!({"phase": "Disconnected", "observedGeneration": generation}));
        object["spec"]["desiredState"] = json!(desired);
        object
    };
    let wishes = [("Disconnected", 3), ("Unlinked", 3), ("Connected", 3), ("Connected", 2), ("Disconnected", 2)];
    let objects: Vec<Value> = wishes.iter().map(|(desired, generation)| offline(desired, *generation)).collect();
    let said = judged("WhatsAppInstance", &objects);
    let said: Vec<(&str, &str)> = said.iter().map(|(argo, _, flux)| (&**argo, &**flux)).collect();
    let under_way = ("Progressing", "InProgress");
    let (wished, ended) = (("Suspended", "Current"), ("Degraded", "Failed"));
    assert_eq!(said, [wished, wished, ended, under_way, under_way]);
    // One whose device is still being removed will be connected again.
    let unlinking =
        json!([{"type": "Connected", "status": "False", "reason": "Unlinking", "message": "It is being unlinked."}]);
    let mut unlinking = instance(&json!({"phase": "Disconnected", "observedGeneration": 3, "conditions": unlinking}));
    unlinking["spec"]["desiredState"] = json!("Connected");
    let said = judged("WhatsAppInstance", &[unlinking]);
    assert_eq!((&*said[0].0, &*said[0].2), under_way);
    // An ending of the version before says nothing of this one.
    let mut stale = instance(&json!({"phase": "LoggedOut", "observedGeneration": 2}));
    stale["spec"]["desiredState"] = json!("Connected");
    let said = judged("WhatsAppInstance", &[stale]);
    assert_eq!((&*said[0].0, &*said[0].2), under_way);
}

#[test]
fn a_bridge_is_as_healthy_as_its_condition_says() {
    let bridge = |conditions: Value| {
        json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppBridge", "metadata": {"name": "builtin"},
            "status": {"conditions": conditions},
        })
    };
    let ready = |status: &str| bridge(json!([{"type": "Ready", "status": status, "message": "Why."}]));
    let said = judged("WhatsAppBridge", &[ready("True"), ready("False"), ready("Unknown"), bridge(json!([]))]);
    let said: Vec<&str> = said.iter().map(|(argo, ..)| &**argo).collect();
    assert_eq!(said, ["Healthy", "Degraded", "Progressing", "Progressing"]);
}

#[test]
fn what_flux_waits_for_is_there_to_be_waited_for() {
    let documents = [documents("flux.yaml"), documents("flux/release.yaml")].concat();
    let named =
        |kind: &str, name: &Value| documents.iter().any(|one| one["kind"] == kind && one["metadata"]["name"] == *name);
    for one in documents.iter().filter(|one| one["kind"] == "Kustomization" || one["kind"] == "HelmRelease") {
        for other in one["spec"]["dependsOn"].as_array().into_iter().flatten() {
            assert!(
                named(one["kind"].as_str().unwrap(), &other["name"]),
                "{other}: Flux looks for one of the same kind"
            );
        }
        let source =
            one["spec"].pointer("/sourceRef").or_else(|| one["spec"].pointer("/chart/spec/sourceRef")).unwrap();
        assert!(named(source["kind"].as_str().unwrap(), &source["name"]), "{source}");
    }
}

/// Instances that are applied before the webhooks are there are nobody's: they wait for the release, which is tried again until it is.
#[test]
fn flux_applies_instances_after_the_release_and_tries_that_again() {
    let flux = documents("flux.yaml");
    let kustomization = |name: &str| {
        let is = |one: &&Value| one["kind"] == "Kustomization" && one["metadata"]["name"] == name;
        flux.iter().find(is).unwrap_or_else(|| panic!("no Kustomization {name}"))["spec"].clone()
    };
    let release = kustomization("whatsapp-operator");
    assert_eq!((&release["wait"], &release["path"]), (&json!(true), &json!("./examples/gitops/flux")));
    assert_eq!(kustomization("whatsapp-instances")["dependsOn"], json!([{"name": "whatsapp-operator"}]));
    let release = of_kind(&documents("flux/release.yaml"), "HelmRelease");
    for action in ["install", "upgrade"] {
        assert_eq!(release["spec"][action]["strategy"]["name"], "RetryOnFailure", "{action}");
    }
}

/// Argo CD knows its ConfigMap by a label; applied without it, the ConfigMap loses it.
#[test]
fn argo_cd_finds_its_settings() {
    let settings = of_kind(&documents("argo-cd.yaml"), "ConfigMap");
    assert_eq!(settings["metadata"]["labels"], json!({"app.kubernetes.io/part-of": "argocd"}));
}
