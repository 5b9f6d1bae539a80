//! Values, what is refused of them, and what they reach.

use super::*;

#[test]
fn what_is_wrong_is_refused_with_what_to_do() {
    for (values, says) in [
        (&["brige.shards=2"][..], "brige"),
        (&["operator.replica=2"], "replica"),
        (&["image.tag=latest"], "/image/tag"),
        (&["bridge.shards=0"], "/bridge/shards"),
        (&["bridge.persistence.accessModes={ReadWriteMany}"], "/bridge/persistence/accessModes"),
        (&["traces.endpoint=collector:4317"], "/traces/endpoint"),
        (&["webhooks.failurePolicy=fail"], "/webhooks/failurePolicy"),
        (&["webhooks.certificate.issuerRef.name=a"], "set webhooks.certificate.certManager to true too"),
        (&["gateway.tls.certManager=true"], "needs gateway.tls.issuerRef"),
        (&["gateway.tls.certManager=true", "gateway.tls.issuerRef.name=a"], "needs gateway.tls.secretName"),
        (&["gateway.ingress.enabled=true"], "at least one name in gateway.ingress.hosts"),
        (&["gateway.httpRoute.enabled=true"], "needs gateway.httpRoute.parentRefs"),
        (&["gateway.httpRoute.backendTls.enabled=true"], "needs gateway.httpRoute.enabled and gateway.tls.secretName"),
        (&["gateway.httpRoute.backendTls.caCertificateRefs={a}"], "/gateway/httpRoute/backendTls/caCertificateRefs/0"),
        (&["bridge.tls.existingSecret=a"], "needs bridge.tls.caBundle"),
        (&["operator.watchNamespaces={team-a}", "gateway.defaultNamespace=team-b"], "Set it to one of: team-a"),
        (&["bridge.allowedNamespaces.from=Selector"], "selector"),
        (&["bridge.credentials.existingSecret=a"], "needs bridge.tls.existingSecret"),
        (&["operator.adminPort=9443"], "webhooks.port and operator.adminPort are both 9443"),
        (&["operator.adminPort=80"], "/operator/adminPort"),
        (&["webhooks.hostNetwork=true", "networkPolicy.enabled=true"], "needs networkPolicy.nodeCIDRs"),
        (&["operator.terminationGracePeriodSeconds=24"], "/operator/terminationGracePeriodSeconds"),
        (&["networkPolicy.apiServerPorts={}"], "/networkPolicy/apiServerPorts"),
        (&["gateway.service.externalTrafficPolicy=local"], "/gateway/service/externalTrafficPolicy"),
        (&[r"operator.bridgeSelector=app\.kubernetes\.io/component=gateway"], "Select by a label of your own"),
        (&[r"operator.bridgeSelector=a=b\,a=c"], "Select by a label of your own"),
    ] {
        let refusal = with(values).expect_err(&format!("{values:?} is let in"));
        assert!(refusal.contains(says), "{values:?}: {refusal}");
    }
    for release in ["9team", "team.a"] {
        let refusal = helm(&["template", release, &chart()]).expect_err(release);
        assert!(refusal.contains("begins with a letter and has no point"), "{release}: {refusal}");
    }
    // What an umbrella chart hands down is none of our business.
    with(&["global.storageClass=x", "enabled=true"]).unwrap();
}

#[test]
fn the_gateway_knows_where_people_reach_it() {
    let told = |values: &[&str]| {
        let objects = with(values).unwrap();
        let gateway = objects.iter().find(|object| {
            object["kind"] == "Deployment" && object["metadata"]["name"].as_str().unwrap().ends_with("-gateway")
        });
        let name = gateway.unwrap()["metadata"]["name"].as_str().unwrap();
        let arguments = arguments(&objects, "Deployment", name);
        arguments.iter().find_map(|one| one.strip_prefix("--public-url=").map(str::to_owned))
    };
    let ingress = ["gateway.ingress.enabled=true", "gateway.ingress.hosts={a.example}"];
    assert_eq!(told(&[]), None);
    assert_eq!(told(&["gateway.publicUrl=https://b.example"]).as_deref(), Some("https://b.example"));
    assert_eq!(told(&ingress).as_deref(), Some("http://a.example"));
    let tls = [ingress[0], ingress[1], "gateway.ingress.tlsSecretName=a"];
    assert_eq!(told(&tls).as_deref(), Some("https://a.example"));
    assert_eq!(told(&[ingress[0], "gateway.ingress.hosts={*.example}"]), None);
    let route = [
        "gateway.httpRoute.enabled=true",
        "gateway.httpRoute.parentRefs[0].name=a",
        "gateway.httpRoute.hostnames={c.example}",
    ];
    assert_eq!(told(&route).as_deref(), Some("https://c.example"));
}

#[test]
fn traces_reach_their_collector() {
    let both = [("Deployment", "whatsapp-operator-gateway"), ("StatefulSet", "whatsapp-operator-bridge")];
    let objects = with(&["networkPolicy.enabled=true"]).unwrap();
    for (kind, name) in both {
        assert!(!arguments(&objects, kind, name).iter().any(|argument| argument.starts_with("--otlp")), "{name}");
    }
    for (endpoint, port) in
        [("http://collector.monitoring:4318", 4318), ("http://collector", 80), ("https://[fd00::1]/otlp", 443)]
    {
        let values = ["networkPolicy.enabled=true", &format!("traces.endpoint={endpoint}"), "traces.share=0.25"];
        let objects = with(&values).unwrap();
        for (kind, name) in both {
            let arguments = arguments(&objects, kind, name);
            assert!(arguments.contains(&format!("--otlp-endpoint={endpoint}")), "{name}: {arguments:?}");
            let shares = arguments.contains(&"--otlp-share=0.25".to_owned());
            assert_eq!(shares, name.ends_with("-gateway"), "{name}: {arguments:?}");
            let rules = of(&objects, "NetworkPolicy", name)["spec"]["egress"].as_array().unwrap();
            let mut ports = vec![json!({"port": port, "protocol": "TCP"})];
            ports.extend((port != 4318).then(|| json!({"port": 4318, "protocol": "TCP"})));
            assert!(rules.contains(&json!({"ports": ports})), "{name}, {endpoint}: {rules:?}");
        }
    }
}

/// What is installed says what to do next; `helm template` leaves it out.
#[test]
fn the_notes_say_what_comes_next() {
    let notes = |values: &[&str]| -> String {
        let install = ["install", "whatsapp-operator", &chart(), "--namespace", NAMESPACE, "--dry-run=client"];
        let values = sets(values);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let text = helm(&[&install[..], &values].concat()).unwrap_or_else(|error| panic!("{error}"));
        text.split_once("\nNOTES:\n").expect("there are notes").1.to_owned()
    };
    let default = notes(&[]);
    for line in [
        "  kubectl whatsapp qr first --namespace default ",
        "  kubectl --namespace whatsapp-system port-forward service/whatsapp-operator-gateway 8000:80",
        "http://127.0.0.1:8000/api/v1/sessions/list/",
        "  helm uninstall whatsapp-operator --namespace whatsapp-system",
        "  kubectl get wa,wab,wao -A",
    ] {
        assert!(default.contains(line), "{line}\n{default}");
    }
    let object = default.split_once("<<EOF\n").unwrap().1.split_once("\n  EOF").unwrap().0;
    let object: String = object.lines().map(|line| line.strip_prefix("  ").unwrap().to_owned() + "\n").collect();
    let instance: whatsapp_operator::api::WhatsAppInstance = serde_saphyr::from_str(&object).unwrap();
    assert_eq!(instance.metadata.name.as_deref(), Some("first"));
    let tls = notes(&["gateway.tls.secretName=tls", "webhooks.enabled=false"]);
    for line in ["8000:443", "curl -sS -k ", "https://127.0.0.1:8000/", "Webhooks are off"] {
        assert!(tls.contains(line), "{line}\n{tls}");
    }
    assert!(!tls.contains("plain HTTP"), "{tls}");
    assert!(!notes(&["gateway.enabled=false"]).contains("REST API"));
}

#[test]
fn schema_and_values_have_the_same_keys() {
    fn keys(schema: &Value, values: &Value, path: &str, missing: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        let Some(values) = values.as_object() else { return };
        for key in properties.keys().filter(|key| !values.contains_key(*key)) {
            missing.push(format!("{path}.{key} is only in the schema"));
        }
        for (key, value) in values {
            match properties.get(key) {
                Some(schema) => keys(schema, value, &format!("{path}.{key}"), missing),
                None => missing.push(format!("{path}.{key} is only in the values")),
            }
        }
    }
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(chart() + "/values.schema.json").unwrap()).unwrap();
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart() + "/values.yaml").unwrap()).unwrap();
    let mut missing = Vec::new();
    keys(&schema, &values, "", &mut missing);
    // `enabled` is for charts that depend on this one; the others are members of objects that are empty by default.
    missing.retain(|line| {
        line != ".enabled is only in the schema"
            && !line.contains("issuerRef.")
            && !line.contains("allowedNamespaces.selector")
    });
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_readme_is_up_to_date() {
    let made = Command::new(format!("{ROOT}/.ci/chart-readme")).output().unwrap();
    let committed = std::fs::read(chart() + "/README.md").unwrap();
    assert!(
        made.status.success() && made.stdout == committed,
        "the chart's README is out of date: run `make generate`"
    );
}

#[test]
fn the_defaults_of_what_is_missing_are_the_values() {
    let file = |name: &str| std::fs::read_to_string(format!("{}/{name}", chart())).unwrap();
    assert!(
        file("files/defaults.yaml") == file("values.yaml"),
        "the chart's defaults are out of date: run `make generate`"
    );
}

/// The values with null for everything that has a default which a null does not take out on purpose.
fn without_values(values: &Value) -> Value {
    let out = ["resources", "podSecurityContext", "securityContext", "labels", "registry", "replicas"];
    let members = values.as_object().into_iter().flatten().filter(|(key, _)| !out.contains(&key.as_str()));
    let nulls = members.map(|(key, value)| {
        // What is a map has to say what it is, and one that is empty has nothing to lose.
        let is_map = value.as_object().is_some_and(|members| !members.is_empty()) && key != "allowedNamespaces";
        (key.clone(), if is_map { without_values(value) } else { Value::Null })
    });
    nulls.collect()
}

/// Helm takes a key that is null out of the values, and `--reuse-values` knows none that came with a newer chart.
#[test]
fn a_value_that_is_missing_has_its_default() {
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart() + "/values.yaml").unwrap()).unwrap();
    let everything =
        &["networkPolicy.enabled=true", "metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true"];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nulls.yaml").display().to_string();
    std::fs::write(&file, without_values(&values).to_string()).unwrap();
    let switches = sets(everything);
    let switches: Vec<&str> = switches.iter().map(String::as_str).collect();
    let nulls = rendered(&[&["--values", file.as_str()], &switches[..]].concat()).unwrap();
    assert_eq!(nulls, with(everything).unwrap());

    // Whole parts; of those with a part that a null takes out, what is left is not the usual.
    let usual = rendered(&[]).unwrap();
    for part in values.as_object().unwrap().keys() {
        let objects = with(&[&format!("{part}=null")]).unwrap_or_else(|error| panic!("{part}: {error}"));
        assert!(objects == usual, "{part}: it is rendered otherwise without it");
    }
}

#[test]
fn an_autoscaler_is_left_the_number_of_replicas() {
    // Helm 4 leaves a null of an umbrella chart's values out before this chart hears of it.
    for left in [["gateway.replicas=null", "operator.replicas=null"], ["gateway.replicas=", "operator.replicas="]] {
        let objects = with(&left).unwrap();
        for name in ["whatsapp-operator", "whatsapp-operator-gateway"] {
            assert_eq!(of(&objects, "Deployment", name)["spec"].get("replicas"), None, "{name}");
            of(&objects, "PodDisruptionBudget", name);
        }
    }
    assert!(with(&["gateway.replicas=1"]).unwrap().iter().all(|object| {
        object["kind"] != "PodDisruptionBudget" || object["metadata"]["name"] != "whatsapp-operator-gateway"
    }));
}

/// YAML takes some words for numbers, for true, or for nothing.
#[test]
fn names_that_are_words_of_yaml_stay_names() {
    for name in ["42", "1e3", "0x1f", "true", "on", "null", "y"] {
        // No name of a Service begins with a digit.
        let full = if name.starts_with(|first: char| first.is_ascii_digit()) { "wa" } else { name };
        let override_name = Some(format!("fullnameOverride={full}"));
        let chart = chart();
        let mut arguments = vec!["template", name, &chart, "--namespace", name];
        for value in override_name.iter().map(String::as_str).chain([
            "operator.priorityClassName=on",
            "bridge.persistence.storageClassName=off",
            "bridge.name=true",
            "gateway.ingress.className=no",
        ]) {
            arguments.extend(["--set-string", value]);
        }
        let others = [
            "gateway.ingress.enabled=true",
            "gateway.ingress.hosts={a.example}",
            "metrics.serviceMonitor.enabled=true",
        ];
        arguments.extend(others.iter().flat_map(|value| ["--set", *value]));
        let text = helm(&arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap().iter().filter(|object| !object.is_null()) {
            names_are_texts(object, "", name);
        }
    }
}

/// Every name and every label is a text; booleans and numbers stand where they belong only.
fn names_are_texts(value: &Value, at: &str, release: &str) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let is_label = ["labels", "matchLabels", "annotations", "nodeSelector"].contains(&at);
                let is_name = ["name", "namespace", "serviceAccountName", "secretName", "priorityClassName"]
                    .contains(&key.as_str())
                    || ["storageClassName", "ingressClassName", "serviceName"].contains(&key.as_str());
                let is_schema = value.is_object() || value.is_array();
                assert!(is_schema || value.is_string() || !(is_label || is_name), "{release}: {at}.{key} is {value}");
                names_are_texts(value, key, release);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names_are_texts(value, at, release)),
        _ => {}
    }
}

#[test]
fn what_kubernetes_wants_as_text_is_asked_for_as_text() {
    for value in [
        "operator.extraEnv[0].name=A,operator.extraEnv[0].value=5",
        "gateway.extraEnv[0].name=A,gateway.extraEnv[0].value=true",
        "bridge.extraEnv[0].value=a",
        "bridge.tolerations[0].key=a,bridge.tolerations[0].value=true",
        "operator.extraArgs[0]=5",
    ] {
        let refusal = with(&[value]).expect_err(value);
        let key = value.split(['[', '.']).nth(1).unwrap();
        assert!(refusal.contains(&format!("/{key}/0")), "{value}: {refusal}");
    }
    with(&["operator.extraEnv[0].name=A,operator.extraEnv[0].valueFrom.fieldRef.fieldPath=spec.nodeName"]).unwrap();
    with(&["bridge.tolerations[0].operator=Exists,bridge.tolerations[0].tolerationSeconds=30"]).unwrap();
}

#[test]
fn names_follow_the_release_and_fit() {
    let long = "a-release-with-a-name-of-fifty-three-characters-xxxxx";
    let begin = ["template", long, &chart(), "--namespace", "a-namespace"];
    let text = helm(&begin).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let full = "a-release-with-a-name-of-fifty-three-cha";
    let bridge = arguments(&objects, "Deployment", full);
    assert!(bridge.contains(&format!("--bridge-hosts=*.{full}-bridge.a-namespace.svc")), "{bridge:?}");
    // A pod's name is a host name: with the number of its shard it must not be longer than 63 characters.
    assert!(objects.iter().all(|object| object["metadata"]["name"].as_str().is_none_or(|name| name.len() <= 58)));
    let manifest = of(&objects, "ConfigMap", &format!("{full}-bridge"))["data"]["bridge.yaml"].as_str().unwrap();
    assert!(manifest.contains(&format!("https://{full}-bridge-0.{full}-bridge.a-namespace.svc:8443")), "{manifest}");
}

/// Kustomize, and whoever else reads YAML strictly, takes no key twice.
#[test]
fn a_label_stands_once_whoever_sets_it() {
    assert!(serde_saphyr::from_str::<Value>("a: 1\na: 2\n").is_err(), "what follows would find no key twice");
    let objects = with(&[
        r"commonLabels.app\.kubernetes\.io/part-of=platform",
        "commonLabels.team=a",
        "operator.podLabels.team=b",
        r"operator.podLabels.app\.kubernetes\.io/name=other",
        "metrics.serviceMonitor.enabled=true",
        "metrics.serviceMonitor.labels.team=c",
    ])
    .unwrap();
    let operator = of(&objects, "Deployment", "whatsapp-operator");
    let (own, pods) = (&operator["metadata"]["labels"], &operator["spec"]["template"]["metadata"]["labels"]);
    assert_eq!((&own["team"], &own["app.kubernetes.io/part-of"]), (&json!("a"), &json!("platform")));
    assert_eq!((&pods["team"], &pods["app.kubernetes.io/part-of"]), (&json!("b"), &json!("platform")));
    assert_eq!(pods["app.kubernetes.io/name"], "whatsapp-operator", "pods are selected by it");
    let monitor = objects.iter().find(|object| object["kind"] == "ServiceMonitor").unwrap();
    assert_eq!(monitor["metadata"]["labels"]["team"], "c");
    // Also on what the operator makes of the chart's words.
    let objects = with(&["commonLabels.team=a", "commonAnnotations.note=b"]).unwrap();
    let bridge = of(&objects, "ConfigMap", "whatsapp-operator-bridge")["data"]["bridge.yaml"].as_str().unwrap();
    let bridge: Value = serde_saphyr::from_str(bridge).unwrap();
    let (labels, annotations) = (&bridge["metadata"]["labels"], &bridge["metadata"]["annotations"]);
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/component"]), (&json!("a"), &json!("bridge")));
    assert_eq!((&annotations["note"], &annotations["whatsapp-operator.dev/is-default"]), (&json!("b"), &json!("true")));
}

#[test]
fn the_service_of_the_gateway_is_the_load_balancer_that_is_wanted() {
    let spec = |values: &[&str]| {
        let objects = with(values).unwrap();
        of(&objects, "Service", "whatsapp-operator-gateway")["spec"].clone()
    };
    let usual = spec(&[]);
    let members: Vec<&String> = usual.as_object().unwrap().keys().collect();
    assert_eq!(members, ["ports", "selector", "type"]);
    assert_eq!(usual["ports"][0].get("nodePort"), None);
    let asked = spec(&[
        "gateway.service.type=LoadBalancer",
        "gateway.service.loadBalancerClass=example.com/internal",
        "gateway.service.loadBalancerSourceRanges={10.0.0.0/8,fd00::/8}",
        "gateway.service.externalTrafficPolicy=Local",
        "gateway.service.nodePort=30080",
    ]);
    assert_eq!(asked["loadBalancerClass"], "example.com/internal");
    assert_eq!(asked["loadBalancerSourceRanges"], json!(["10.0.0.0/8", "fd00::/8"]));
    assert_eq!((&asked["externalTrafficPolicy"], &asked["ports"][0]["nodePort"]), (&json!("Local"), &json!(30080)));
}

#[test]
fn values_reach_the_programs() {
    let objects = with(&[
        "operator.watchNamespaces={a,b}",
        "operator.bridgeSelector=operator=blue",
        "operator.maxInstancesPerOwner=3",
        "webhooks.certificate.certManager=true",
        "gateway.tls.secretName=tls",
        "gateway.corsOrigins={https://a.example,https://b.example}",
        "bridge.shards=3",
        "bridge.sessionsPerShard=50",
        "bridge.tls.enabled=false",
        "bridge.credentials.existingSecret=own",
        "global.imageRegistry=registry.example.com",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ])
    .unwrap();
    let operator = arguments(&objects, "Deployment", "whatsapp-operator");
    for wanted in [
        "--watch-namespaces=a,b",
        "--bridge-selector=operator=blue",
        "--max-instances-per-owner=3",
        "--webhook-certificate-dir=/etc/whatsapp-operator/webhook",
        "--default-bridge=/etc/whatsapp-operator/bridge/bridge.yaml",
    ] {
        assert!(operator.iter().any(|argument| argument == wanted), "{wanted}: {operator:?}");
    }
    // What somebody else keeps, the operator does not.
    assert!(
        !operator.iter().any(|argument| argument.starts_with("--bridge-t") || argument.starts_with("--webhook-secret"))
    );
    let gateway = arguments(&objects, "Deployment", "whatsapp-operator-gateway");
    assert!(gateway.contains(&"--cors-origins=https://a.example,https://b.example".to_owned()), "{gateway:?}");
    assert!(gateway.contains(&"--tls-key=/etc/whatsapp-operator/tls/tls.key".to_owned()), "{gateway:?}");
    for wanted in ["--bridge-selector=operator=blue", "--max-instances-per-owner=3", "--namespace=a"] {
        assert!(gateway.iter().any(|argument| argument == wanted), "{wanted}: {gateway:?}");
    }
    let bridge = of(&objects, "ConfigMap", "whatsapp-operator-bridge")["data"]["bridge.yaml"].as_str().unwrap();
    let bridge: Value = serde_saphyr::from_str(bridge).unwrap();
    assert_eq!(bridge["metadata"]["labels"]["operator"], "blue", "the operator serves its own bridge");
    let service = of(&objects, "Service", "whatsapp-operator-gateway");
    assert_eq!(
        (&service["spec"]["ports"][0]["name"], &service["spec"]["ports"][0]["port"]),
        (&json!("https"), &json!(443))
    );
    let bridge = arguments(&objects, "StatefulSet", "whatsapp-operator-bridge");
    assert!(
        bridge.contains(&"--max-sessions=50".to_owned()) && !bridge.iter().any(|one| one.starts_with("--tls")),
        "{bridge:?}"
    );
    assert_eq!(of(&objects, "StatefulSet", "whatsapp-operator-bridge")["spec"]["replicas"], 3);
    assert!(bridge.contains(&"--place=$(POD_NAMESPACE)/$(POD_NAME)".to_owned()), "{bridge:?}");
    let manifest = of(&objects, "ConfigMap", "whatsapp-operator-bridge")["data"]["bridge.yaml"].as_str().unwrap();
    let manifest: whatsapp_operator::api::WhatsAppBridge = serde_saphyr::from_str(manifest).unwrap();
    assert_eq!(manifest.spec.builtin.unwrap().shards.len(), 3);
    assert_eq!(
        (manifest.spec.credentials_secret_ref.name.as_str(), manifest.spec.capacity.sessions_per_shard),
        ("own", 50)
    );
    for (shown, pod) in pods(&objects) {
        let image = containers(pod)[0]["image"].as_str().unwrap();
        assert!(image.starts_with("registry.example.com/whatsapp-operator/whatsapp-"), "{shown}: {image}");
        assert!(image.contains("@sha256:000") || shown.contains("StatefulSet"), "{shown}: {image}");
    }
}
