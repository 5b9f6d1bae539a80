//! Rights, and who may reach whom on the network.

use super::*;

/// Every rule of the chart's role for `name` is one that `whatsapp-operator rbac` prints, and with everything on each is there.
#[test]
fn the_rights_are_those_that_the_code_says_it_needs() {
    let text = std::fs::read_to_string(format!("{ROOT}/examples/rbac.yaml")).unwrap();
    let printed: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let objects = with(&[]).unwrap();
    let own = |text: &str| {
        let names = [
            ("whatsapp-bridge-token", "whatsapp-operator-bridge"),
            ("whatsapp-bridge-tls", "whatsapp-operator-bridge-tls"),
        ];
        names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let on_namespaces = |rule: &Value| rule["resources"] == json!(["namespaces"]);
    for role in printed.iter().filter(|object| object["rules"].is_array()) {
        let (kind, name) = (role["kind"].as_str().unwrap(), role["metadata"]["name"].as_str().unwrap());
        let mut wanted: Value = serde_json::from_str(&own(&role["rules"].to_string())).unwrap();
        // A gateway of all namespaces asks after none.
        if name == "whatsapp-operator-gateway" {
            wanted.as_array_mut().unwrap().retain(|rule| !on_namespaces(rule));
        }
        assert_eq!(of(&objects, kind, name)["rules"], wanted, "{kind} {name}: run `make generate`");
    }
    // What is switched off needs no right.
    let without = with(&["bridge.enabled=false", "webhooks.enabled=false"]).unwrap();
    let secrets = of(&without, "Role", "whatsapp-operator")["rules"].to_string();
    assert!(!secrets.contains("\"create\"],\"resources\":[\"secrets\"]") && !secrets.contains("-webhook"), "{secrets}");
    let wide = of(&without, "ClusterRole", "whatsapp-operator")["rules"].to_string();
    assert!(!wide.contains("admissionregistration") && !wide.contains("builtin"), "{wide}");
    let own_secret = with(&["bridge.credentials.existingSecret=own", "bridge.tls.enabled=false"]).unwrap();
    let rules = of(&own_secret, "Role", "whatsapp-operator")["rules"].as_array().unwrap().clone();
    let on_own = rules.iter().find(|rule| rule["resourceNames"] == json!(["own"])).unwrap();
    assert_eq!(on_own["verbs"], json!(["get"]));
}

#[test]
fn a_release_limited_to_namespaces_has_no_right_on_instances_elsewhere() {
    let everywhere = with(&[]).unwrap();
    let limited = with(&["operator.watchNamespaces={team-a,team-b}"]).unwrap();
    let on_instances = |role: &Value| -> Vec<Value> {
        let rules = role["rules"].as_array().into_iter().flatten();
        rules.filter(|rule| rule["resources"].to_string().contains("whatsappinstances")).cloned().collect()
    };
    for name in ["whatsapp-operator", "whatsapp-operator-gateway", "whatsapp-operator-uninstall"] {
        let wanted = on_instances(of(&everywhere, "ClusterRole", name));
        assert!(!wanted.is_empty(), "{name}");
        assert_eq!(on_instances(of(&limited, "ClusterRole", name)), [Value::Null; 0], "{name}");
        for namespace in ["team-a", "team-b"] {
            let there = |kind: &str| {
                let is = |object: &&Value| {
                    let metadata = &object["metadata"];
                    object["kind"] == kind
                        && metadata["namespace"] == namespace
                        && metadata["name"] == format!("{name}-instances")
                };
                limited.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}-instances in {namespace}"))
            };
            assert_eq!(there("Role")["rules"], Value::from(wanted.clone()), "{name}");
            let binding = there("RoleBinding");
            assert_eq!(binding["roleRef"]["name"], format!("{name}-instances"));
            assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
        }
    }
    let gateway = of(&limited, "ClusterRole", "whatsapp-operator-gateway")["rules"].as_array().unwrap();
    assert!(gateway.iter().any(|rule| rule["resources"] == json!(["namespaces"])), "{gateway:?}");
    let webhooks = &of(&limited, "ValidatingWebhookConfiguration", "whatsapp-operator")["webhooks"];
    assert_eq!(webhooks[0]["namespaceSelector"]["matchExpressions"][0]["values"], json!(["team-a", "team-b"]));
    // A selector of one's own narrows that down.
    let both =
        with(&["operator.watchNamespaces={team-a}", "webhooks.namespaceSelector.matchLabels.tier=gold"]).unwrap();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let listed = json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}]);
        assert_eq!(
            of(&both, kind, "whatsapp-operator")["webhooks"][0]["namespaceSelector"],
            json!({"matchLabels": {"tier": "gold"}, "matchExpressions": listed}),
            "{kind}"
        );
    }
    for (kind, name) in [
        ("Deployment", "whatsapp-operator"),
        ("Deployment", "whatsapp-operator-gateway"),
        ("Job", "whatsapp-operator-uninstall"),
    ] {
        assert!(arguments(&limited, kind, name).contains(&"--watch-namespaces=team-a,team-b".to_owned()), "{name}");
    }
}

#[test]
fn people_get_roles_and_nobody_sees_codes_by_default() {
    let role = |objects: &[Value], name: &str| of(objects, "ClusterRole", &format!("whatsapp-operator-{name}")).clone();
    let objects = with(&[]).unwrap();
    let aggregated = |objects: &[Value], name: &str| {
        role(objects, name)["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{name}")] == "true"
    };
    assert!(aggregated(&objects, "edit") && aggregated(&objects, "admin") && !aggregated(&objects, "view"));
    assert!(aggregated(&with(&["rbac.aggregateToView=true"]).unwrap(), "view"));
    assert!(role(&objects, "owner-assigner")["rules"].to_string().contains("assign-owner"));
    assert!(!role(&objects, "edit")["rules"].to_string().contains("messages"));
    assert!(role(&objects, "sender")["rules"].to_string().contains("whatsappinstances/messages"));
}

#[test]
fn policies_name_pods_and_ports_that_exist() {
    let objects = with(&["networkPolicy.enabled=true", "gateway.tls.secretName=tls"]).unwrap();
    for policy in policies(&objects) {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        let selects = |object: &&Value| object.pointer("/spec/selector/matchLabels") == Some(selector);
        let mut workloads = objects.iter().filter(|object| object.pointer("/spec/template/spec").is_some());
        let workload = workloads.find(selects);
        let workload = workload.unwrap_or_else(|| panic!("nothing is selected by {selector}"));
        let ports = workload.pointer("/spec/template/spec/containers/0/ports").unwrap().as_array().unwrap();
        for rule in policy["spec"]["ingress"].as_array().unwrap() {
            for port in rule["ports"].as_array().unwrap() {
                let known =
                    ports.iter().any(|known| known["name"] == port["port"] || known["containerPort"] == port["port"]);
                assert!(known, "{}: {port}", policy["metadata"]["name"]);
            }
        }
    }
}

/// On the network of the node the ports are the node's, and so is the address that the operator calls from.
#[test]
fn the_operator_fits_on_the_network_of_the_node() {
    let update =
        |objects: &[Value]| of(objects, "Deployment", "whatsapp-operator")["spec"]["strategy"]["rollingUpdate"].clone();
    assert_eq!(update(&with(&[]).unwrap()), json!({"maxSurge": 1, "maxUnavailable": 0}));
    let objects = with(&[
        "webhooks.hostNetwork=true",
        "operator.adminPort=18080",
        "networkPolicy.enabled=true",
        "networkPolicy.nodeCIDRs={192.0.2.0/24,10.244.0.0/16}",
    ])
    .unwrap();
    assert_eq!(update(&objects), json!({"maxSurge": 0, "maxUnavailable": 1}));
    let operator = arguments(&objects, "Deployment", "whatsapp-operator");
    assert!(operator.contains(&"--admin-listen=:18080".to_owned()), "{operator:?}");
    let ports = &of(&objects, "Deployment", "whatsapp-operator")["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports[0], json!({"name": "admin", "containerPort": 18080}));
    let service = &of(&objects, "Service", "whatsapp-operator-metrics")["spec"]["ports"][0];
    assert_eq!((&service["name"], &service["port"]), (&json!("admin"), &json!(18080)));
    let bridge = |objects: &[Value]| {
        of(objects, "NetworkPolicy", "whatsapp-operator-bridge")["spec"]["ingress"][0]["from"].clone()
    };
    let blocks = [json!({"ipBlock": {"cidr": "192.0.2.0/24"}}), json!({"ipBlock": {"cidr": "10.244.0.0/16"}})];
    assert_eq!(bridge(&objects).as_array().unwrap()[2..], blocks);
    // Nodes are let in only where the operator is one of them.
    let apart = with(&["networkPolicy.enabled=true", "networkPolicy.nodeCIDRs={192.0.2.0/24}"]).unwrap();
    assert_eq!(bridge(&apart).as_array().unwrap().len(), 2);
}
