//! Against a real API server: examples, tools that apply the chart, and what an upgrade does to what is there.

use super::*;

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

/// What would take the volumes from sessions is refused with words.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_goes_and_gets_another_name_only_when_no_session_is_on_it() {
    let cluster = Cluster::start().await;
    let chart = chart();
    let upgrade = |value: &str| {
        cluster.helm(&[&["upgrade", "whatsapp-operator", &chart, "--set", value][..], &WITHOUT_OPERATOR].concat())
    };
    cluster.helm(&[&["install", "whatsapp-operator", &chart][..], &WITHOUT_OPERATOR].concat()).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], "").unwrap();
    let example = format!("{ROOT}/examples/instance.yaml");
    cluster.kubectl(&["apply", "-n", "default", "-f", &example], "").unwrap();
    let name = cluster.kubectl(&["get", "wa", "-n", "default", "-o", "name"], "").unwrap();
    let bound =
        json!({"status": {"phase": "Connected", "bridge": {"name": "builtin", "shard": "shard-0"}}}).to_string();
    let bind = ["patch", "-n", "default", name.trim(), "--subresource=status", "--type=merge", "-p", &bound];
    cluster.kubectl(&bind, "").unwrap();

    // As the operator makes it. Before, the instance is bound to a bridge of somebody else's.
    upgrade("gateway.replicas=3").unwrap();
    let manifest =
        ["get", "configmap", "whatsapp-operator-bridge", "-n", NAMESPACE, "-o", r"jsonpath={.data.bridge\.yaml}"];
    let bridge = cluster.kubectl(&manifest, "").unwrap();
    cluster.kubectl(&["apply", "-f", "-"], &bridge).unwrap();

    // Nor does it matter that the bridge stands still.
    cluster
        .kubectl(&["scale", "statefulset", "whatsapp-operator-bridge", "-n", NAMESPACE, "--replicas=0"], "")
        .unwrap();
    for value in ["bridge.enabled=false", "bridge.enabled=false,bridge.name=other"] {
        let refusal = upgrade(value).unwrap_err();
        assert!(refusal.contains("1 instances are bound to this bridge"), "{value}: {refusal}");
    }
    let refusal = upgrade("bridge.name=other").unwrap_err();
    assert!(refusal.contains("by the name builtin"), "{refusal}");
    let refusal = upgrade("fullnameOverride=wa").unwrap_err();
    assert!(refusal.contains("all sessions would be lost") && refusal.contains("(whatsapp-operator)"), "{refusal}");
    upgrade("bridge.shards=2").unwrap();
    upgrade("bridge.shards=1").unwrap();
    cluster.kubectl(&["delete", "-n", "default", name.trim()], "").unwrap();
    upgrade("fullnameOverride=wa").unwrap();
    upgrade("bridge.enabled=false").unwrap();
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
