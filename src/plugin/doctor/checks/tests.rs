use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Weight, findings};
use crate::{
    api,
    plugin::doctor::seen::{Access, Seen},
};

/// An installation where all is well.
fn well() -> Seen {
    let served = json!([{"type": "Established", "status": "True"}]);
    let definitions = api::crd::all().unwrap().into_iter().map(|definition| {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["status"] = json!({ "conditions": served });
        definition
    });
    let workload = |kind: &str, component: &str, counted: &str| {
        json!({
            "kind": kind, "metadata": {"namespace": "whatsapp-system", "name": component, "labels": {"app.kubernetes.io/component": component}},
            "spec": {"replicas": 2}, "status": {counted: 2},
        })
    };
    let webhooks = |kind: &str| json!({"kind": kind, "metadata": {"name": "whatsapp-operator"}, "webhooks": [{"clientConfig": {"caBundle": "YQ=="}}]});
    let ready = json!([{"type": "Ready", "status": "True", "reason": "AllShardsReady"}]);
    Seen {
        at: "2026-01-01T00:00:00Z".parse().unwrap(),
        namespace: "n".into(),
        plugin: "0.1.0",
        server: Ok("v1.36.0".into()),
        definitions: Ok(definitions.collect()),
        webhooks: Ok(vec![webhooks("MutatingWebhookConfiguration"), webhooks("ValidatingWebhookConfiguration")]),
        trial: Ok(Ok(())),
        workloads: Ok(vec![
            workload("Deployment", "operator", "availableReplicas"),
            workload("Deployment", "gateway", "availableReplicas"),
            workload("StatefulSet", "bridge", "readyReplicas"),
        ]),
        pods: Ok(vec![]),
        bridges: Ok(vec![json!({
            "metadata": {"name": "builtin", "annotations": {"whatsapp-operator.dev/is-default": "true"}},
            "status": {"version": "0.1.0", "conditions": ready},
        })]),
        owners: Ok(vec![json!({"metadata": {"name": "o"}, "status": {"used": 10, "max": 10}})]),
        instances: Ok(vec![
            json!({"metadata": {"namespace": "n", "name": "a"}, "status": {"phase": "Connected", "conditions": ready}}),
        ]),
        secrets: BTreeMap::from([("whatsapp-system/t".to_owned(), Ok(true))]),
        access: vec![Access { account: "a".into(), secret: "s".into(), allowed: Ok(true) }],
        events: Ok(vec![]),
        pages: BTreeMap::new(),
        logs: BTreeMap::new(),
    }
}

fn first(answer: &mut Result<Vec<Value>, String>) -> &mut Value {
    &mut answer.as_mut().unwrap()[0]
}

type Change = Box<dyn FnOnce(&mut Seen)>;

/// The only finding after this change.
fn only(change: impl FnOnce(&mut Seen)) -> Finding {
    let mut seen = well();
    change(&mut seen);
    let mut found = findings(&seen);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn an_installation_where_all_is_well_has_no_findings() {
    assert_eq!(findings(&well()), []);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let crash = json!({"metadata": {"namespace": "n", "name": "p"}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}});
    let killed = json!({"metadata": {"namespace": "n", "name": "p"}, "status": {"containerStatuses": [{"restartCount": 2, "lastState": {"terminated": {"reason": "OOMKilled"}}}]}});
    let not_ready =
        json!([{"type": "Ready", "status": "False", "reason": "BridgeUnreachable", "message": "No connection."}]);
    let cases: Vec<(Change, &str, &str)> = vec![
        (Box::new(|seen| drop(seen.definitions.as_mut().unwrap().remove(0))), "is not installed", "crds.install"),
        (
            Box::new(|seen| {
                let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
                first(&mut seen.definitions).pointer_mut(schema).unwrap().as_object_mut().unwrap().remove("presence");
            }),
            "does not know 1 of its fields, spec.presence",
            "upgrade the definitions",
        ),
        (Box::new(|seen| first(&mut seen.definitions)["status"] = json!({})), "not served", "describe crd"),
        (Box::new(|seen| first(&mut seen.workloads)["status"] = json!({})), "0 of 2 pods", "describe pod"),
        (
            Box::new(|seen| drop(seen.workloads.as_mut().unwrap().remove(0))),
            "no operator is found",
            "install the chart",
        ),
        (
            Box::new(|seen| {
                let mut second = first(&mut seen.workloads).clone();
                second["metadata"]["namespace"] = "other".into();
                second["spec"]["template"]["spec"]["containers"] =
                    json!([{"args": ["controller", "--bridge-selector=a=b"]}]);
                seen.workloads.as_mut().unwrap().push(second);
            }),
            "2 operators are installed (whatsapp-system/operator, other/operator), and nobody told whatsapp-system/operator",
            "operator.bridgeSelector",
        ),
        (Box::new(move |seen| seen.pods = Ok(vec![crash])), "ImagePullBackOff", "pull secrets"),
        (Box::new(move |seen| seen.pods = Ok(vec![killed])), "for want of memory", "memory limit"),
        (Box::new(|seen| first(&mut seen.webhooks)["webhooks"][0]["clientConfig"] = json!({})), "no caBundle", "ready"),
        (
            Box::new(|seen| seen.trial = Ok(Err("failed calling webhook \"x\": refused".into()))),
            "does not reach the webhooks",
            "NetworkPolicy",
        ),
        (
            Box::new(|seen| drop(seen.secrets.insert("whatsapp-system/t".into(), Ok(false)))),
            "does not exist",
            "create it",
        ),
        (Box::new(|seen| seen.access[0].allowed = Ok(false)), "may not read Secret", "verb get"),
        (
            Box::new(move |seen| first(&mut seen.bridges)["status"]["conditions"] = not_ready),
            "No connection. (BridgeUnreachable)",
            "BridgeUnreachable",
        ),
        (
            Box::new(|seen| first(&mut seen.bridges)["status"] = Value::Null),
            "no operator looks after it",
            "--bridge-selector",
        ),
        (
            Box::new(|seen| {
                let one = first(&mut seen.bridges).clone();
                seen.bridges.as_mut().unwrap().push(one);
            }),
            "2 WhatsAppBridges are the default",
            "all but one",
        ),
        (
            Box::new(
                |seen| first(&mut seen.instances)["status"] = json!({"phase": "BridgeUnavailable", "conditions": [{"type": "Ready", "status": "False", "reason": "ShardNotFound"}]}),
            ),
            "BridgeUnavailable (ShardNotFound): 1 instance: n/a",
            "troubleshooting",
        ),
        (
            Box::new(|seen| first(&mut seen.instances)["status"] = Value::Null),
            "no operator looks after them: 1 instance: n/a",
            "--watch-namespaces",
        ),
    ];
    for (change, says, advises) in cases {
        let finding = only(change);
        assert_eq!(finding.weight, Weight::Wrong, "{finding:?}");
        assert!(finding.what.contains(says) && finding.advice.contains(advises), "{finding:?}");
    }
}

#[test]
fn operators_that_are_told_their_bridges_may_be_many() {
    for told in [
        json!([{"args": ["--bridge-selector=a=b"]}]),
        json!([{"args": ["--bridge-selector", "a=b"]}]),
        json!([{"env": [{"name": "WHATSAPP_OPERATOR_BRIDGE_SELECTOR", "value": "a=b"}]}]),
    ] {
        let mut seen = well();
        let first = first(&mut seen.workloads);
        first["spec"]["template"]["spec"]["containers"] = told;
        let second = first.clone();
        seen.workloads.as_mut().unwrap().push(second);
        assert_eq!(findings(&seen), []);
    }
}

#[test]
fn what_is_no_fault_is_only_noted() {
    let waiting = json!({"phase": "AwaitingPairing", "conditions": [{"type": "Ready", "status": "False", "reason": "AwaitingPairing"}]});
    let unlinked =
        json!({"phase": "Unlinked", "conditions": [{"type": "Ready", "status": "False", "reason": "Unlinked"}]});
    let ownerless = json!({"phase": "Connected", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Connected"}, {"type": "Accepted", "status": "True", "reason": "NoOwner"},
    ]});
    let stray = json!({"type": "SessionsClaimed", "status": "False", "reason": "UnclaimedSessions", "message": "It holds others."});
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(move |seen| first(&mut seen.instances)["status"] = waiting), "want a person"),
        (Box::new(move |seen| first(&mut seen.instances)["status"] = unlinked), "Unlinked (Unlinked): 1 instance: n/a"),
        (Box::new(move |seen| first(&mut seen.instances)["status"] = ownerless), "without an owner"),
        (Box::new(|seen| first(&mut seen.owners)["status"]["used"] = 11.into()), "more instances than they may"),
        (Box::new(|seen| first(&mut seen.workloads)["status"]["availableReplicas"] = 1.into()), "1 of 2 pods"),
        (Box::new(|seen| seen.plugin = "0.2.0"), "runs version 0.1.0"),
        (
            Box::new(move |seen| first(&mut seen.bridges)["status"]["conditions"].as_array_mut().unwrap().push(stray)),
            "WhatsAppBridge builtin: It holds others.",
        ),
        (
            Box::new(|seen| first(&mut seen.bridges)["status"]["capabilities"] = json!(["qr", "adopt"])),
            "WhatsAppBridge builtin takes over restored data",
        ),
        (
            Box::new(|seen| first(&mut seen.definitions)["status"]["storedVersions"] = json!(["v1alpha0", "v1alpha1"])),
            "may be stored as v1alpha0 still",
        ),
        (Box::new(|seen| seen.instances = Err("you may not".into())), "not looked at: WhatsAppInstances (you may not)"),
        (Box::new(|seen| seen.trial = Ok(Err("has 10 of 10 instances".into()))), ""),
    ];
    for (change, says) in cases {
        let mut seen = well();
        change(&mut seen);
        let found = findings(&seen);
        assert!(found.iter().all(|finding| finding.weight == Weight::Note), "{found:?}");
        assert!(says.is_empty() == found.is_empty(), "{says}: {found:?}");
        assert!(found.iter().any(|finding| finding.what.contains(says)) || says.is_empty(), "{says}: {found:?}");
    }
}

#[test]
fn instances_of_ones_own_namespace_are_named_first() {
    let mut seen = well();
    let waiting = |namespace: &str, name: usize| {
        let ready = json!([{"type": "Ready", "status": "False", "reason": "AwaitingPairing"}]);
        json!({
            "metadata": {"namespace": namespace, "name": name.to_string()},
            "status": {"phase": "AwaitingPairing", "conditions": ready},
        })
    };
    seen.instances = Ok((0..9).map(|name| waiting("a", name)).chain([waiting("n", 1)]).collect());
    let found = findings(&seen);
    assert!(found[0].what.contains("10 instances: n/1, a/0, a/1, a/2, a/3 and 5 more"), "{found:?}");
}
