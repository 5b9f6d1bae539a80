//! The Helm chart: what it renders with every example, what it refuses, and what a real API server makes of it. There is no
//! kubelet here; what needs pods is in `tests/cluster`.

mod catalogue;
mod certificates;
mod clusters;
mod environments;
mod rights;
mod values;
mod watching;

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
/// The NetworkPolicies: one for each program.
fn policies(objects: &[Value]) -> Vec<&Value> {
    let policies: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "NetworkPolicy").collect();
    assert_eq!(policies.len(), 3);
    policies
}

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
                assert!(container["resources"]["requests"]["cpu"].is_string(), "{shown}");
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

/// A certificate that the API server takes for an authority; base64 of PEM.
const PEM: &str = include_str!("../../chart/authority.base64");
