//! Clusters with rules and networks of their own: OpenShift, quotas, policies, IPv6, drains.

use super::*;

/// Every security context, of pods and of containers.
fn contexts(objects: &[Value]) -> Vec<(String, Value)> {
    pods(objects)
        .flat_map(|(shown, pod)| {
            let own = containers(pod).iter().map(|container| container["securityContext"].clone());
            own.chain([pod["securityContext"].clone()]).map(move |context| (shown.clone(), context)).collect::<Vec<_>>()
        })
        .collect()
}

const CHOSEN: [&str; 4] = ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"];

#[test]
fn where_the_cluster_assigns_users_the_chart_chooses_none() {
    let asked = sets(&["openshift=true", "networkPolicy.enabled=true"]);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let objects = rendered(&asked).unwrap();
    assert_eq!(pods(&objects).count(), 4);
    for (shown, context) in contexts(&objects) {
        assert!(context.is_object() && CHOSEN.iter().all(|part| context.get(part).is_none()), "{shown}: {context}");
    }
    for (shown, pod) in pods(&objects) {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{shown}");
    }
    let dns = |objects: &[Value]| {
        let policies = objects.iter().filter(|object| object["kind"] == "NetworkPolicy");
        policies.map(|policy| policy["spec"]["egress"][0].to_string().contains("5353")).collect::<Vec<_>>()
    };
    assert_eq!(dns(&objects), [true; 3]);
    // Also where nobody says it and the cluster has OpenShift's API; and nowhere else.
    let policy = ["--set", "networkPolicy.enabled=true"];
    let found = rendered(&[&policy[..], &["--api-versions", "security.openshift.io/v1"]].concat()).unwrap();
    assert_eq!(found, objects);
    let plain = rendered(&policy).unwrap();
    assert_eq!(dns(&plain), [false; 3]);
    let refused = [&policy[..], &["--api-versions", "security.openshift.io/v1", "--set", "openshift=false"]].concat();
    assert_eq!(rendered(&refused).unwrap(), plain);
    assert!(pods(&plain).all(|(_, pod)| pod["securityContext"]["runAsUser"] == 65532));
}

#[test]
fn a_part_of_a_security_context_is_left_out_by_null() {
    for version in ["4", "3"] {
        let values = "bridge.podSecurityContext.runAsUser=null,bridge.podSecurityContext.fsGroup=null,gateway.securityContext=null";
        let arguments = ["template", "whatsapp-operator", &chart(), "--kube-version", "1.36.0", "--set", values];
        let text = run(&program(version), &arguments).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let bridge = &of(&objects, "StatefulSet", "whatsapp-operator-bridge")["spec"]["template"]["spec"];
        let left = bridge["securityContext"].as_object().unwrap().keys().map(String::as_str);
        assert_eq!(left.collect::<Vec<_>>(), ["fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "seccompProfile"]);
        let gateway = &of(&objects, "Deployment", "whatsapp-operator-gateway")["spec"]["template"]["spec"];
        assert!(gateway["containers"][0].get("securityContext").is_none() && gateway["securityContext"].is_object());
    }
}

#[test]
fn what_policies_and_quotas_ask_for_is_there_or_can_be_said() {
    let values = ["operator.resources.limits.cpu=1", "gateway.resources.limits.cpu=1", "bridge.resources.limits.cpu=2"];
    let objects = with(&values).unwrap();
    for (shown, pod) in pods(&objects) {
        for container in containers(pod) {
            assert!(!container["resources"]["limits"]["cpu"].is_null(), "{shown}");
        }
        assert!(!pod.to_string().contains("hostPath"), "{shown}");
    }
    for object in &objects {
        let labels = &object["metadata"]["labels"];
        // The definitions are nobody's.
        if object["kind"] != "CustomResourceDefinition" {
            for label in ["name", "instance", "version", "component", "part-of", "managed-by"] {
                assert!(labels[format!("app.kubernetes.io/{label}")].is_string(), "{label} of {}", object["metadata"]);
            }
        }
        if object["kind"] == "ServiceAccount" {
            assert_eq!(object["automountServiceAccountToken"], false, "{}", object["metadata"]["name"]);
        }
    }
    let bridge = &of(&objects, "StatefulSet", "whatsapp-operator-bridge")["spec"]["template"]["spec"];
    assert_eq!(bridge["automountServiceAccountToken"], false);
}

#[test]
fn services_say_what_they_speak_and_have_the_families_that_are_wished() {
    for (tls, values) in [
        (
            true,
            &["services.ipFamilyPolicy=PreferDualStack", "services.ipFamilies={IPv6,IPv4}", "gateway.tls.secretName=a"]
                [..],
        ),
        (false, &["bridge.tls.enabled=false"]),
    ] {
        let objects = with(values).unwrap();
        let services: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "Service").collect();
        assert_eq!(services.len(), 5);
        for service in services {
            let (spec, name) = (&service["spec"], &service["metadata"]["name"]);
            for port in spec["ports"].as_array().unwrap() {
                let speaks =
                    if port["name"] == "admin" || (!tls && port["name"] != "webhooks") { "http" } else { "https" };
                assert_eq!(port["appProtocol"], speaks, "{name}");
            }
            if tls {
                assert_eq!(spec["ipFamilyPolicy"], "PreferDualStack", "{name}");
                assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]), "{name}");
            } else {
                assert!(spec.get("ipFamilyPolicy").is_none() && spec.get("ipFamilies").is_none(), "{name}");
            }
        }
    }
    // Programs listen on all addresses of both families.
    let objects = with(&[]).unwrap();
    for (shown, pod) in pods(&objects) {
        for argument in containers(pod)[0]["args"].as_array().unwrap().iter().filter_map(Value::as_str) {
            let listens = argument.split_once("listen=").map(|(_, address)| address);
            assert!(listens.is_none_or(|address| address.starts_with(':')), "{shown}: {argument}");
        }
    }
}

#[test]
fn no_budget_holds_up_a_drain_for_ever() {
    let budgets = |values: &[&str]| {
        let objects = with(values).unwrap();
        objects.into_iter().filter(|object| object["kind"] == "PodDisruptionBudget").collect::<Vec<_>>()
    };
    let named = |found: &[Value]| found.iter().map(|one| one["metadata"]["name"].clone()).collect::<Vec<_>>();
    // One shard has none: with it no node of the shard could ever be drained.
    assert_eq!(named(&budgets(&[])), ["whatsapp-operator-gateway", "whatsapp-operator"]);
    assert!(budgets(&["operator.replicas=1", "gateway.replicas=1"]).is_empty());
    let all = budgets(&["bridge.shards=2"]);
    assert_eq!(all.len(), 3);
    for budget in all {
        let spec = &budget["spec"];
        assert_eq!((&spec["maxUnavailable"], &spec["unhealthyPodEvictionPolicy"]), (&json!(1), &json!("AlwaysAllow")));
    }
    let objects = with(&[]).unwrap();
    let bridge = &of(&objects, "StatefulSet", "whatsapp-operator-bridge")["spec"]["template"];
    let volumes = bridge["spec"]["volumes"].as_array().unwrap();
    let evicted = &bridge["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"];
    let local = volumes.iter().filter(|volume| volume.get("emptyDir").is_some()).map(|volume| &volume["name"]);
    assert_eq!(local.collect::<Vec<_>>(), [evicted]);
}

#[test]
fn further_ways_out_are_open_to_all_programs() {
    let objects = with(&["networkPolicy.enabled=true", "networkPolicy.extraEgress[0].ports[0].port=3128"]).unwrap();
    for policy in policies(&objects) {
        let rules = policy["spec"]["egress"].as_array().unwrap();
        assert!(rules.contains(&json!({"ports": [{"port": 3128}]})), "{policy}");
    }
}
