//! The Helm chart: what it renders with every example, what it refuses, and what a real API server makes of it. There is no
//! kubelet here; what needs pods is in `tests/cluster`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::support::control_plane::{ControlPlane, Options};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NAMESPACE: &str = "whatsapp-system";

/// A Helm of this major version, made by `tests/chart/helm`.
fn program(major: &str) -> PathBuf {
    let found = Command::new(format!("{ROOT}/tests/chart/helm")).arg(major).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())
}

fn chart() -> String {
    format!("{ROOT}/charts/whatsapp-operator")
}

/// Runs Helm 4; what it printed, or why it refused.
fn helm(arguments: &[&str]) -> Result<String, String> {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    run(HELM.get_or_init(|| program("4")), arguments)
}

fn run(helm: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(helm).args(arguments).env_remove("KUBECONFIG").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What the chart renders, with these further arguments.
fn rendered(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let begin = ["template", "whatsapp-operator", &chart(), "--namespace", NAMESPACE, "--kube-version", "1.36.0"];
    let text = helm(&[&begin[..], arguments].concat())?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// The values files of `examples/helm`, and the chart's own values.
fn examples() -> Vec<(String, Vec<String>)> {
    let files = std::fs::read_dir(format!("{ROOT}/examples/helm")).unwrap().map(|file| file.unwrap().path());
    let mut examples: Vec<_> = files
        .map(|file| {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            (name, vec!["--values".to_owned(), file.display().to_string()])
        })
        .collect();
    assert!(examples.len() >= 4, "{examples:?}");
    examples.push(("defaults".to_owned(), Vec::new()));
    examples.push(("one namespace".to_owned(), sets(&["operator.watchNamespaces={default}"])));
    examples.push((
        "everything off".to_owned(),
        sets(&[
            "gateway.enabled=false",
            "bridge.enabled=false",
            "webhooks.enabled=false",
            "rbac.create=false",
            "rbac.userRoles=false",
            "crds.install=false",
            "uninstall.releaseInstances=false",
        ]),
    ));
    examples
}

fn sets(values: &[&str]) -> Vec<String> {
    values.iter().flat_map(|value| ["--set".to_owned(), (*value).to_owned()]).collect()
}

pub fn with(values: &[&str]) -> Result<Vec<Value>, String> {
    let values = sets(values);
    rendered(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

pub fn of<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The pods that objects make, each with the object's kind and name.
fn pods(objects: &[Value]) -> impl Iterator<Item = (String, &Value)> {
    objects.iter().filter_map(|object| {
        let pod = object.pointer("/spec/template/spec")?;
        Some((format!("{} {}", object["kind"], object["metadata"]["name"]), pod))
    })
}

fn containers(pod: &Value) -> &Vec<Value> {
    pod["containers"].as_array().unwrap()
}

/// The arguments of the only container of a workload.
fn arguments(objects: &[Value], kind: &str, name: &str) -> Vec<String> {
    let container = &of(objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
    container["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_example_is_well_formed_and_passes_lint() {
    for (name, arguments) in examples() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lint = ["lint", "--strict", "--namespace", NAMESPACE, &chart()];
        helm(&[&lint[..], &arguments].concat()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let objects = rendered(&arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        for object in &objects {
            let shown = format!("{name}: {} {}", object["kind"], object["metadata"]["name"]);
            assert!(object["metadata"]["name"].as_str().is_some_and(|name| name.len() <= 63), "{shown}");
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "whatsapp-operator", "{shown}");
            assert!(
                !holds_null(object),
                "{shown}: a null, which is an empty list or object that should not be rendered"
            );
        }
        let mut seen = BTreeSet::new();
        for object in &objects {
            let key = format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]);
            assert!(seen.insert(key.clone()), "{name}: {key} is there twice");
        }
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(holds_null),
        Value::Object(members) => members.values().any(holds_null),
        _ => false,
    }
}

#[test]
fn nothing_privileged_nothing_called_latest_no_password_and_nothing_random() {
    for (name, arguments) in examples() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let objects = rendered(&arguments).unwrap();
        assert_eq!(objects, rendered(&arguments).unwrap(), "{name}: renders something else every time");
        for (shown, pod) in pods(&objects) {
            let shown = format!("{name}: {shown}");
            let pod_context = &pod["securityContext"];
            assert_eq!(pod_context["runAsNonRoot"], true, "{shown}");
            assert_eq!(pod_context["seccompProfile"]["type"], "RuntimeDefault", "{shown}");
            assert!(
                pod.get("hostPID").is_none() && pod.get("hostIPC").is_none() && pod.get("hostNetwork").is_none(),
                "{shown}"
            );
            assert!(
                pod["automountServiceAccountToken"].is_boolean() && pod["serviceAccountName"].is_string(),
                "{shown}"
            );
            for container in containers(pod) {
                let context = &container["securityContext"];
                assert_eq!(
                    (
                        &context["allowPrivilegeEscalation"],
                        &context["readOnlyRootFilesystem"],
                        &context["capabilities"]
                    ),
                    (&json!(false), &json!(true), &json!({"drop": ["ALL"]})),
                    "{shown}"
                );
                let image = container["image"].as_str().unwrap();
                assert!(image.contains(':') && !image.ends_with(":latest"), "{shown}: {image}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{shown}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{shown}");
                if !shown.contains("uninstall") {
                    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{shown}");
                    }
                }
            }
        }
        for object in &objects {
            assert!(
                object["kind"] != "Secret" || (object.get("data").is_none() && object.get("stringData").is_none()),
                "{name}: a Secret with something in it: {object}"
            );
            assert!(
                !object.to_string().contains("caBundle\":\"") || object["kind"] == "CustomResourceDefinition",
                "{name}: {object}"
            );
        }
        let wide = objects.iter().filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role");
        for rule in wide.flat_map(|role| role["rules"].as_array().unwrap()) {
            assert!(!rule.to_string().contains("\"*\""), "{name}: {rule}");
        }
    }
}

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
        (&["bridge.credentials.existingSecret=a"], "needs bridge.tls.existingSecret"),
        (&["operator.adminPort=9443"], "webhooks.port and operator.adminPort are both 9443"),
        (&["operator.adminPort=80"], "/operator/adminPort"),
        (&["webhooks.hostNetwork=true", "networkPolicy.enabled=true"], "needs networkPolicy.nodeCIDRs"),
    ] {
        let refusal = with(values).expect_err(&format!("{values:?} is let in"));
        assert!(refusal.contains(says), "{values:?}: {refusal}");
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

/// What a catalogue of charts shows: the definitions that there are, and examples that are let in.
#[test]
fn what_a_catalogue_shows_is_true() {
    let read = |path: &str| -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap()).unwrap()
    };
    let annotations = read("charts/whatsapp-operator/Chart.yaml")["annotations"].clone();
    let list = |name: &str| -> Vec<Value> {
        let text = annotations[format!("artifacthub.io/{name}")].as_str().unwrap_or_else(|| panic!("no {name}"));
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let shown: BTreeSet<String> =
        list("crds").iter().map(|one| format!("{} {} {}", one["name"], one["kind"], one["version"])).collect();
    let files = std::fs::read_dir(format!("{ROOT}/crds")).unwrap().map(|file| file.unwrap().file_name());
    let there: BTreeSet<String> = files
        .map(|file| {
            let spec = read(&format!("crds/{}", file.to_string_lossy()));
            let (name, spec) = (&spec["metadata"]["name"], &spec["spec"]);
            format!("{name} {} {}", spec["names"]["kind"], spec["versions"][0]["name"])
        })
        .collect();
    assert_eq!(shown, there);
    for example in list("crdsExamples") {
        match example["kind"].as_str().unwrap() {
            "WhatsAppInstance" => {
                let _: whatsapp_operator::api::WhatsAppInstance = serde_json::from_value(example).unwrap();
            }
            "WhatsAppOwner" => {
                let owner: whatsapp_operator::api::WhatsAppOwner = serde_json::from_value(example).unwrap();
                let name = whatsapp_operator::rules::owner::object_name(&owner.spec.owner);
                assert_eq!(owner.metadata.name, Some(name));
            }
            other => panic!("an example of {other}"),
        }
    }
    for change in list("changes") {
        let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
        assert!(kinds.contains(&change["kind"].as_str().unwrap()) && change["description"].is_string(), "{change}");
    }
    for (name, allowed) in [
        ("category", &["integration-delivery", "networking", "monitoring-logging", "security", "skip-prediction"][..]),
        (
            "operatorCapabilities",
            &["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"],
        ),
        ("license", &["Apache-2.0"]),
        ("operator", &["true"]),
    ] {
        let value = annotations[format!("artifacthub.io/{name}")].as_str().unwrap();
        assert!(allowed.contains(&value), "{name}: {value}");
    }
}

/// The docs say which versions the tests run with, and no more.
#[test]
fn the_versions_that_are_tried_are_those_in_the_docs() {
    let version = |path: &str, module: &str| -> String {
        let text = std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
        let line =
            text.lines().map(|line| line.trim().trim_start_matches("require ")).find(|line| line.starts_with(module));
        let version = line.unwrap_or_else(|| panic!("{path}: {module}")).rsplit(" v").next().unwrap();
        version.rsplit_once('.').unwrap().0.to_owned()
    };
    let docs = std::fs::read_to_string(format!("{ROOT}/docs/install.md")).unwrap();
    let chart = std::fs::read_to_string(chart() + "/Chart.yaml").unwrap();
    for tried in [
        format!("Kubernetes {}", version("tests/control-plane/go.mod", "k8s.io/kubernetes ")),
        format!("Helm {}", version("tests/chart/go.mod", "helm.sh/helm/v4 ")),
    ] {
        assert!(docs.contains(&tried) && chart.contains(&tried), "docs/install.md and Chart.yaml do not say {tried}");
    }
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
    assert!(gateway.contains(&"--bridge-selector=operator=blue".to_owned()), "{gateway:?}");
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

/// Whom the API server trusts outlives every renewal: the certificate is signed by an authority that keeps its key.
#[test]
fn cert_manager_signs_the_webhooks_certificate_with_an_authority_that_lasts() {
    let name = "whatsapp-operator-webhook";
    let authority = "whatsapp-operator-webhook-ca";
    let objects = with(&["webhooks.certificate.certManager=true"]).unwrap();
    let certificate = &of(&objects, "Certificate", name)["spec"];
    assert_eq!(certificate["issuerRef"], json!({"kind": "Issuer", "name": authority}));
    assert_eq!(certificate["dnsNames"], json!([format!("{name}.{NAMESPACE}.svc")]));
    assert_eq!(certificate["commonName"], name);
    assert_eq!(of(&objects, "Issuer", authority)["spec"], json!({"ca": {"secretName": authority}}));
    let signs = &of(&objects, "Certificate", authority)["spec"];
    assert_eq!(
        (&signs["isCA"], &signs["secretName"], &signs["duration"]),
        (&json!(true), &json!(authority), &json!("87600h"))
    );
    assert_eq!(signs["privateKey"]["rotationPolicy"], "Never");
    assert_eq!(signs["issuerRef"]["name"], name);
    assert_eq!(of(&objects, "Issuer", name)["spec"], json!({"selfSigned": {}}));
    // The injector takes the authority from where the certificate is.
    let configuration = of(&objects, "ValidatingWebhookConfiguration", "whatsapp-operator");
    assert_eq!(
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        format!("{NAMESPACE}/{name}")
    );

    let own = with(&["webhooks.certificate.certManager=true", "webhooks.certificate.issuerRef.name=ours"]).unwrap();
    let made: Vec<&Value> = own.iter().filter(|one| one["kind"] == "Issuer" || one["kind"] == "Certificate").collect();
    let [certificate] = made[..] else { panic!("{made:?}") };
    assert_eq!(
        (&certificate["metadata"]["name"], &certificate["spec"]["issuerRef"]),
        (&json!(name), &json!({"name": "ours"}))
    );
    assert_eq!(certificate["spec"].get("commonName"), None);
}

#[test]
fn a_gateway_speaks_tls_to_pods_that_speak_tls() {
    let port = |objects: &[Value]| of(objects, "Service", "whatsapp-operator-gateway")["spec"]["ports"][0].clone();
    assert_eq!(port(&with(&[]).unwrap()).get("appProtocol"), None);
    let example = format!("{ROOT}/examples/helm/cert-manager.yaml");
    let objects = rendered(&["--values", &example]).unwrap();
    let port = port(&objects);
    assert_eq!(port["appProtocol"], "https");
    let policy = &of(&objects, "BackendTLSPolicy", "whatsapp-operator-gateway")["spec"];
    let target = &policy["targetRefs"][0];
    assert_eq!((&target["name"], &target["sectionName"]), (&json!("whatsapp-operator-gateway"), &port["name"]));
    let validation = json!({
        "hostname": format!("whatsapp-operator-gateway.{NAMESPACE}.svc"),
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "internal-ca"}],
    });
    assert_eq!(policy["validation"], validation);
    // The name is one that the certificate is for.
    let certificate = &of(&objects, "Certificate", "whatsapp-operator-gateway")["spec"];
    assert!(certificate["dnsNames"].as_array().unwrap().contains(&validation["hostname"]), "{certificate}");
    let public = [
        "gateway.tls.secretName=tls",
        "gateway.httpRoute.enabled=true",
        "gateway.httpRoute.parentRefs[0].name=a",
        "gateway.httpRoute.backendTls.enabled=true",
        "gateway.httpRoute.backendTls.hostname=b.example",
    ];
    let objects = with(&public).unwrap();
    let policy = &of(&objects, "BackendTLSPolicy", "whatsapp-operator-gateway")["spec"];
    assert_eq!(policy["validation"], json!({"hostname": "b.example", "wellKnownCACertificates": "System"}));
}

/// Helm goes by its own annotation, the others that prune by theirs.
#[test]
fn nothing_deletes_the_definitions() {
    let objects = with(&["commonAnnotations.a=b"]).unwrap();
    let definitions: Vec<&Value> = objects.iter().filter(|one| one["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        let annotations = &definition["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    }
}

#[test]
fn the_job_of_uninstalling_comes_after_its_rights() {
    let objects = with(&["operator.watchNamespaces={default}"]).unwrap();
    let hooks: Vec<&Value> =
        objects.iter().filter(|one| one["metadata"]["annotations"]["helm.sh/hook"] == "post-delete").collect();
    assert_eq!(hooks.len(), 8);
    for hook in hooks {
        let weight = &hook["metadata"]["annotations"]["helm.sh/hook-weight"];
        let wanted = if hook["kind"] == "Job" { Value::Null } else { json!("-1") };
        assert_eq!(*weight, wanted, "{} {}", hook["kind"], hook["metadata"]["name"]);
    }
}

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
    for role in printed.iter().filter(|object| object["rules"].is_array()) {
        let (kind, name) = (role["kind"].as_str().unwrap(), role["metadata"]["name"].as_str().unwrap());
        let wanted: Value = serde_json::from_str(&own(&role["rules"].to_string())).unwrap();
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
    let policies: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "NetworkPolicy").collect();
    assert_eq!(policies.len(), 3);
    for policy in policies {
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
    assert!(operator.contains(&"--admin-listen=0.0.0.0:18080".to_owned()), "{operator:?}");
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

/// Alerts and dashboard ask only for metrics that the programs have.
#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let read = |path: &str| std::fs::read_to_string(format!("{}/files/monitoring/{path}", chart())).unwrap();
    let mut source = String::new();
    for folder in ["src/controller", "src/admission", "src/gateway", "src/bridge"] {
        source += &std::fs::read_to_string(format!("{ROOT}/{folder}/metrics.rs")).unwrap();
    }
    let text = read("alerts.yaml") + &read("dashboard.json");
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let asked: BTreeSet<&str> = text
        .split(|c| !word(c))
        .filter(|word| word.starts_with("whatsapp_") || word.starts_with("controller_runtime_"))
        .collect();
    assert!(asked.len() > 10, "{asked:?}");
    for metric in asked {
        let base = ["_total", "_bucket"].iter().fold(metric, |metric, end| metric.strip_suffix(end).unwrap_or(metric));
        let registered = |name: &str| source.contains(&format!("\"{name}\""));
        // Registries of rooms put their prefix before the name.
        let parts: Vec<usize> = base.match_indices('_').map(|(at, _)| at).collect();
        let known = registered(base) || parts.iter().any(|at| registered(&base[..*at]) && registered(&base[at + 1..]));
        assert!(known, "no program has the metric {metric}");
    }
    let runbook = std::fs::read_to_string(format!("{ROOT}/docs/operations.md")).unwrap();
    let alerts: Value = serde_saphyr::from_str(&read("alerts.yaml")).unwrap();
    for alert in alerts["rules"].as_array().unwrap() {
        let name = alert["alert"].as_str().unwrap();
        assert!(runbook.contains(&format!("### {name}\n")), "docs/operations.md has no section {name}");
    }
}

/// What an expression asks of labels of our metrics: metric, label, and each of the words.
fn asked_of_labels(text: &str) -> Vec<(String, String, String)> {
    let mut asked = Vec::new();
    for (at, _) in text.match_indices('{') {
        let name = |c: char| c.is_ascii_lowercase() || c == '_';
        let metric = text[..at].rsplit(|c| !name(c)).next().unwrap_or_default();
        let ours = ["whatsapp_", "controller_runtime_"].iter().any(|begin| metric.starts_with(begin));
        let Some(end) = text[at..].find('}').filter(|_| ours) else { continue };
        for matcher in text[at + 1..at + end].split(", ").filter(|matcher| !matcher.is_empty()) {
            let (label, words) = matcher.split_once('=').unwrap_or_else(|| panic!("{metric}: {matcher}"));
            for word in words.trim_start_matches('~').trim_matches('"').split('|') {
                asked.push((metric.to_owned(), label.trim_end_matches('!').to_owned(), word.to_owned()));
            }
        }
    }
    asked
}

/// A word that no program says makes an alert that is silent for ever.
#[test]
fn alerts_and_dashboard_ask_for_words_that_the_programs_say() {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let sources = |folder: &str| -> String {
        let files = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|file| file.extension().is_some_and(|end| end == "rs") && !file.ends_with("tests.rs"));
        // Without the tests at a file's end, which say other things too.
        let program = |text: String| text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        files.map(|file| program(std::fs::read_to_string(file).unwrap())).collect()
    };
    let reviews = sources("src/admission") + &sources("src/rules") + &read("src/api/conditions.rs");
    let (controller, bridge) = (read("src/controller/metrics.rs"), read("src/bridge/metrics.rs"));
    let codes = read("docs/reference/errors.md");
    let quoted = |source: &str, word: &str| source.contains(&format!("\"{word}\""));
    let said = |metric: &str, label: &str, word: &str| match (metric, label) {
        ("whatsapp_instances", "phase") => serde_json::from_value::<whatsapp_operator::api::Phase>(json!(word)).is_ok(),
        ("whatsapp_bridge_sessions", "phase") => {
            serde_json::from_value::<whatsapp_operator::bridge_api::SessionPhase>(json!(word)).is_ok()
        }
        ("whatsapp_operator_admission_reviews_total", "answer") => quoted(&reviews, word),
        ("whatsapp_operator_gateway_requests_total", "answer") => {
            codes.contains(&format!("\n| `{word}` | ")) || word == "ok"
        }
        ("whatsapp_owners", "state") => quoted(&controller, word),
        ("whatsapp_bridge_messages_accepted_total", "repeated") => quoted(&bridge, word),
        (metric, "controller") if metric.starts_with("controller_runtime_") => quoted(&controller, word),
        _ => panic!("{metric}: which words does its label {label} have? Say it here"),
    };
    let files = "charts/whatsapp-operator/files/monitoring";
    let alerts: Value = serde_saphyr::from_str(&read(&format!("{files}/alerts.yaml"))).unwrap();
    let expressions = alerts["rules"].as_array().unwrap().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let dashboard = read(&format!("{files}/dashboard.json")).replace("\\\"", "\"");
    let asked: Vec<_> = expressions.chain([dashboard]).flat_map(|text| asked_of_labels(&text)).collect();
    assert!(asked.len() > 15, "{asked:?}");
    for (metric, label, word) in asked {
        assert!(said(&metric, &label, &word), "no program says {label}={word:?} of {metric}");
    }
    assert!(!said("whatsapp_operator_admission_reviews_total", "answer", "Timeout"), "no webhook answers that");
}

/// Metrics that other programs have too are asked for by what only this release's have.
#[test]
fn alerts_and_dashboard_select_this_release() {
    let values =
        |more: &[&'static str]| [&["fullnameOverride=wa", "metrics.prometheusRule.enabled=true"][..], more].concat();
    let objects = with(&values(&["bridge.shards=3", "metrics.dashboard.enabled=true"])).unwrap();
    let expression = |objects: &[Value], alert: &str| -> Option<String> {
        let rules = of(objects, "PrometheusRule", "wa")["spec"]["groups"][0]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["alert"] == alert)?;
        Some(rule["expr"].as_str().unwrap().to_owned())
    };
    let leads = expression(&objects, "WhatsAppOperatorDown").unwrap();
    assert!(leads.contains("{name=\"wa\"}"), "{leads}");
    let shards = expression(&objects, "WhatsAppBridgeShardDown").unwrap();
    assert!(shards.contains(&format!("namespace=\"{NAMESPACE}\", pod=~\"wa-bridge-[0-9]+\"")), "{shards}");
    assert!(shards.ends_with("< 3"), "{shards}");
    let dashboard = of(&objects, "ConfigMap", "wa-dashboard")["data"]["whatsapp-operator.json"].as_str().unwrap();
    assert!(dashboard.contains("leader_election_master_status{name=\\\"wa\\\"}"), "the dashboard");
    for placeholder in ["@LEASE@", "@BRIDGE@", "@NAMESPACE@", "@SHARDS@"] {
        assert!(!objects.iter().any(|object| object.to_string().contains(placeholder)), "{placeholder} is left");
    }
    // Without the chart's bridge there is none to count.
    let without = with(&values(&["bridge.enabled=false"])).unwrap();
    assert_eq!(expression(&without, "WhatsAppBridgeShardDown"), None);
    assert!(expression(&without, "WhatsAppOperatorDown").is_some());
}

/// Definitions of others that the examples use, as far as an API server needs them to know the kind.
fn strangers() -> Vec<Value> {
    let stranger = |group: &str, version: &str, kind: &str, plural: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        })
    };
    vec![
        stranger("cert-manager.io", "v1", "Certificate", "certificates"),
        stranger("cert-manager.io", "v1", "Issuer", "issuers"),
        stranger("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
        stranger("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
        stranger("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
        stranger("gateway.networking.k8s.io", "v1", "BackendTLSPolicy", "backendtlspolicies"),
    ]
}

/// An API server, and Helm and kubectl that talk to it.
struct Cluster {
    plane: ControlPlane,
    kubeconfig: String,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::start(&Options::default()).await.unwrap_or_else(|error| panic!("{error}"));
        let kubeconfig = plane.kubeconfig().display().to_string();
        let cluster = Self { plane, kubeconfig };
        cluster.kubectl(&["create", "namespace", NAMESPACE], "").unwrap();
        cluster
    }

    /// Makes the definitions of others known.
    fn define_strangers(&self) {
        for stranger in strangers() {
            self.kubectl(&["apply", "-f", "-"], &stranger.to_string()).unwrap();
        }
        for definition in strangers() {
            let name = format!("crd/{}", definition["metadata"]["name"].as_str().unwrap());
            self.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=60s"], "").unwrap();
        }
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        use std::io::Write as _;
        let program = self.plane.kubectl().unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command.args(arguments).args(["--kubeconfig", &self.kubeconfig]);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        helm(&[arguments, &self.here()].concat())
    }

    /// The same with Helm 3.
    fn helm_three(&self, arguments: &[&str]) -> Result<String, String> {
        run(&program("3"), &[arguments, &self.here()].concat())
    }

    fn here(&self) -> [&str; 4] {
        ["--namespace", NAMESPACE, "--kubeconfig", &self.kubeconfig]
    }

    fn uids(&self) -> String {
        let instances = self.kubectl(&["get", "wa", "-A", "-o", "jsonpath={.items[*].metadata.uid}"], "").unwrap();
        let path = "jsonpath={.items[*].metadata.uid}";
        instances
            + " "
            + &self.kubectl(&["get", "crd", "-o", path, "-l", "app.kubernetes.io/component=crds"], "").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_takes_every_example_strictly() {
    let cluster = Cluster::start().await;
    cluster.define_strangers();
    for (name, arguments) in examples() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": rendered(&arguments).unwrap()});
        let dry_run = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        cluster.kubectl(&dry_run, &list.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// As the docs say it: what `helm template` prints, without the hooks, is a base of a kustomization.
#[tokio::test(flavor = "multi_thread")]
async fn kustomize_takes_what_helm_prints() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let print = ["template", "whatsapp-operator", &chart(), "--namespace", NAMESPACE, "--kube-version", "1.36.0"];
    write("whatsapp-operator.yaml", &helm(&[&print[..], &["--no-hooks"]].concat()).unwrap());
    write(
        "kustomization.yaml",
        "resources: [whatsapp-operator.yaml]\n\
         replicas: [{name: whatsapp-operator, count: 3}]\n\
         labels: [{pairs: {team: platform}}]\n",
    );
    let folder = dir.path().display().to_string();
    let apply = ["apply", "--server-side", "--field-manager", "kustomize", "-k", &folder];
    // A second time it is no conflict.
    for _ in 0..2 {
        cluster.kubectl(&apply, "").unwrap_or_else(|error| panic!("{error}"));
    }
    let read = |what: &[&str]| cluster.kubectl(&[&["get", "-n", NAMESPACE][..], what].concat(), "").unwrap();
    assert_eq!(
        read(&["deployment/whatsapp-operator", "-o", "jsonpath={.spec.replicas} {.metadata.labels.team}"]),
        "3 platform"
    );
    assert_eq!(read(&["jobs", "-o", "name"]), "", "the hook of the uninstallation runs");
    // Which it would: a hook is an object as any other for whoever is not Helm.
    assert!(helm(&print).unwrap().contains("kind: Job\n"));
}

/// A tool that applies server-side what Helm has installed is told of no conflict: nobody has to force anything to change tools.
/// But on Kubernetes 1.33, whose API server adds an empty `creationTimestamp` to the claim in a StatefulSet, the StatefulSet has to be.
#[tokio::test(flavor = "multi_thread")]
async fn another_tool_may_apply_what_helm_has_installed() {
    let cluster = Cluster::start().await;
    cluster.define_strangers();
    let chart = chart();
    let version = cluster.kubectl(&["version", "-o", "json"], "").unwrap();
    let version = serde_json::from_str::<Value>(&version).unwrap()["serverVersion"]["minor"].clone();
    let minor: u32 = version.as_str().unwrap().trim_end_matches('+').parse().unwrap();
    let mut examples = examples();
    examples.push(("policies".to_owned(), sets(&["networkPolicy.enabled=true", "gateway.tls.secretName=tls"])));
    for (name, arguments) in examples {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cluster.helm(&[&["install", "whatsapp-operator", &chart][..], &arguments].concat()).unwrap();
        let objects = rendered(&[&arguments[..], &["--no-hooks"]].concat()).unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let apply = ["apply", "--server-side", "--field-manager", "another", "-f", "-"];
        if let Err(error) = cluster.kubectl(&apply, &list) {
            let known = minor < 34 && error.contains("1 conflict: conflict with \"helm\": .spec.volumeClaimTemplates");
            assert!(known, "{name}: {error}");
        }
        cluster.helm(&["uninstall", "whatsapp-operator", "--no-hooks"]).unwrap();
    }
}

/// For a cluster in which no operator runs: webhooks would refuse everything.
const WITHOUT_OPERATOR: [&str; 4] = ["--set", "webhooks.enabled=false", "--set", "uninstall.releaseInstances=false"];

/// Nothing that Helm does to the definitions loses an object: installed by it or by hand, switched off and on, uninstalled.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_instances_outlive_whatever_helm_does() {
    let cluster = Cluster::start().await;
    let chart = chart();
    let crds = format!("{ROOT}/crds");
    let install = |more: &[&str]| {
        cluster.helm(&[&["install", "whatsapp-operator", &chart][..], &WITHOUT_OPERATOR, more].concat())
    };
    let upgrade = |more: &[&str]| {
        cluster.helm(&[&["upgrade", "whatsapp-operator", &chart][..], &WITHOUT_OPERATOR, more].concat())
    };

    // By hand first; the chart takes them over.
    cluster.kubectl(&["apply", "--server-side", "-f", &crds], "").unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "").unwrap();
    let example = format!("{ROOT}/examples/instance.yaml");
    cluster.kubectl(&["apply", "-n", "default", "-f", &example], "").unwrap();
    let refusal = install(&[]).unwrap_err();
    assert!(refusal.contains("invalid ownership metadata"), "{refusal}");
    install(&["--take-ownership"]).unwrap();
    let before = cluster.uids();
    assert_eq!(before.split_whitespace().count(), 4, "one instance, three definitions: {before}");

    for flags in [&["--set", "crds.install=false"][..], &[], &["--set", "crds.install=false"]] {
        upgrade(flags).unwrap();
        assert_eq!(cluster.uids(), before, "{flags:?}");
    }
    upgrade(&[]).unwrap();
    cluster.helm(&["rollback", "whatsapp-operator", "1"]).unwrap();
    assert_eq!(cluster.uids(), before);
    cluster.helm(&["uninstall", "whatsapp-operator"]).unwrap();
    assert_eq!(cluster.uids(), before);
    install(&[]).unwrap();
    assert_eq!(cluster.uids(), before);
}

/// A release that Helm 3 installed goes on with Helm 4, and the other way, without anything being made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_one_helm_to_the_other_and_back() {
    let cluster = Cluster::start().await;
    let chart = chart();
    let release = ["whatsapp-operator", &chart];
    let with = |verb: &'static str| [&[verb], &release[..], &WITHOUT_OPERATOR].concat();
    cluster.helm_three(&with("install")).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "").unwrap();
    let example = format!("{ROOT}/examples/instance.yaml");
    cluster.kubectl(&["apply", "-n", "default", "-f", &example], "").unwrap();
    let volumes = || {
        let path = "jsonpath={.items[*].metadata.uid}";
        cluster.kubectl(
            &["get", "statefulset,secret,service", "-n", NAMESPACE, "-o", path, "-l", "app.kubernetes.io/instance"],
            "",
        )
    };
    let before = (cluster.uids(), volumes().unwrap());
    let same = |what: &str| assert_eq!((cluster.uids(), volumes().unwrap()), before, "{what}");

    cluster.helm(&[&with("upgrade")[..], &["--set", "gateway.replicas=3"]].concat()).unwrap();
    same("Helm 4 upgrades what Helm 3 installed");
    cluster.helm(&["rollback", "whatsapp-operator", "1"]).unwrap();
    same("Helm 4 goes back to what Helm 3 installed");
    cluster.helm_three(&with("upgrade")).unwrap();
    same("Helm 3 upgrades what Helm 4 made");
    cluster.helm(&with("upgrade")).unwrap();
    cluster.helm(&["uninstall", "whatsapp-operator"]).unwrap();
    assert_eq!(cluster.uids(), before.0, "definitions and instances stay");
}

/// Instances that are no longer looked after would keep a finalizer that nobody takes off.
#[tokio::test(flavor = "multi_thread")]
async fn the_namespaces_get_fewer_only_when_nothing_is_left_behind() {
    let cluster = Cluster::start().await;
    let chart = chart();
    let upgrade = |namespaces: &str| {
        let list = format!("operator.watchNamespaces={{{namespaces}}}");
        cluster.helm(&[&["upgrade", "whatsapp-operator", &chart, "--set", &list][..], &WITHOUT_OPERATOR].concat())
    };
    for namespace in ["team-a", "team-b"] {
        cluster.kubectl(&["create", "namespace", namespace], "").unwrap();
    }
    cluster.helm(&[&["install", "whatsapp-operator", &chart][..], &WITHOUT_OPERATOR].concat()).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "").unwrap();
    let instance = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "shop", "namespace": "team-b", "finalizers": ["whatsapp-operator.dev/session"]},
        "spec": {"name": "Shop", "owner": "somebody@example.com"},
    });
    cluster.kubectl(&["apply", "-f", "-"], &instance.to_string()).unwrap();

    let refusal = upgrade("team-a").unwrap_err();
    assert!(refusal.contains("team-b (1)") && refusal.contains("Delete them first"), "{refusal}");
    upgrade("team-a,team-b").unwrap();
    let refusal = upgrade("team-a").unwrap_err();
    assert!(refusal.contains("team-b (1)"), "{refusal}");
    let released = json!({"metadata": {"finalizers": null}}).to_string();
    cluster.kubectl(&["patch", "wa", "shop", "-n", "team-b", "--type=merge", "-p", &released], "").unwrap();
    upgrade("team-a").unwrap();
}

/// The API server would refuse it too, without a word on what to do.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_change_are_refused_with_what_to_do() {
    let cluster = Cluster::start().await;
    let chart = chart();
    let upgrade = |value: &str| {
        let value = format!("bridge.persistence.{value}");
        cluster.helm(&[&["upgrade", "whatsapp-operator", &chart, "--set", &value][..], &WITHOUT_OPERATOR].concat())
    };
    cluster.helm(&[&["install", "whatsapp-operator", &chart][..], &WITHOUT_OPERATOR].concat()).unwrap();
    // The same size in other words.
    upgrade("size=5120Mi").unwrap();
    for (value, says) in [
        ("size=20Gi", "size from 5Gi to 20Gi"),
        ("storageClassName=fast", "storageClassName from \"\" to \"fast\""),
        ("accessModes={ReadWriteOncePod}", "accessModes from ReadWriteOnce to ReadWriteOncePod"),
        ("annotations.a=b", "annotations"),
    ] {
        let refusal = upgrade(value).unwrap_err();
        assert!(refusal.contains(says) && refusal.contains("--cascade=orphan"), "{value}: {refusal}");
        // Only what gets larger is enlarged.
        assert_eq!(refusal.contains("patch pvc"), value == "size=20Gi", "{value}: {refusal}");
    }
    // Nothing here takes the finalizer off that `--cascade=orphan` puts on; there are no pods to be left alone either.
    cluster.kubectl(&["delete", "statefulset", "whatsapp-operator-bridge", "-n", NAMESPACE], "").unwrap();
    upgrade("size=20Gi").unwrap();
    upgrade("size=20Gi").unwrap();
}

/// What is the operator's own survives however often a GitOps tool applies the same again, client-side or server-side: after the second
/// time not even the resource version changes, so the hundredth finds what the third found.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_take_nothing_from_the_operator_however_many_there_are() {
    let cluster = Cluster::start().await;
    let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Secret"];
    let mut objects = rendered(&[]).unwrap();
    objects.retain(|object| kinds.contains(&object["kind"].as_str().unwrap_or_default()));
    let text = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let get = |path: &str| {
        let names = [
            "mutatingwebhookconfiguration/whatsapp-operator",
            "validatingwebhookconfiguration/whatsapp-operator",
            "secret/whatsapp-operator-bridge",
        ];
        cluster.kubectl(&[&["get", "-n", NAMESPACE, "-o", path][..], &names].concat(), "").unwrap()
    };
    let held = || get("jsonpath={.items[*].webhooks[*].clientConfig.caBundle} {.items[*].data}");
    let versions = || get("jsonpath={.items[*].metadata.resourceVersion}");
    let sync = |server_side: bool| {
        let how = if server_side { "--server-side=true" } else { "--server-side=false" };
        cluster
            .kubectl(&["apply", how, "--field-manager", "gitops", "-f", "-"], &text)
            .unwrap_or_else(|error| panic!("{error}"));
    };
    for server_side in [false, true] {
        cluster.kubectl(&["delete", "--ignore-not-found", "-f", "-"], &text).unwrap();
        sync(server_side);
        // As the operator does it.
        for (kind, webhooks) in [("mutatingwebhookconfiguration", 1), ("validatingwebhookconfiguration", 2)] {
            for n in 0..webhooks {
                let patch =
                    json!([{"op": "add", "path": format!("/webhooks/{n}/clientConfig/caBundle"), "value": PEM}]);
                cluster
                    .kubectl(&["patch", kind, "whatsapp-operator", "--type=json", "-p", &patch.to_string()], "")
                    .unwrap();
            }
        }
        let data = json!({"data": {"token": "c2VjcmV0", "accepted": "c2VjcmV0"}}).to_string();
        cluster.kubectl(&["patch", "secret", "whatsapp-operator-bridge", "-n", NAMESPACE, "-p", &data], "").unwrap();
        let before = held();
        assert!(before.len() > 3 * PEM.len() && before.contains("accepted"), "{before:?}");
        for _ in 0..2 {
            sync(server_side);
            assert_eq!(held(), before, "server-side: {server_side}");
        }
        let settled = versions();
        for _ in 0..2 {
            sync(server_side);
            assert_eq!(versions(), settled, "a sync that changes nothing writes nothing; server-side: {server_side}");
        }
    }
}

/// A certificate that the API server takes for an authority; base64 of PEM.
const PEM: &str = include_str!("../chart/authority.base64");
