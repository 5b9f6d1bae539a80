//! `kubectl whatsapp` on a real API server with no operator: the test writes each status, so every end can be had at once.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt as _, BufReader},
    process::Command,
    time::timeout,
};
use whatsapp_operator::api::WhatsAppInstance;

use crate::support::{
    program::executable,
    world::{cluster, create_namespace},
};

/// Every command here ends by itself; a machine that also compiles is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// A refusal is told before the five tries that a passing failure gets could be over: their pauses alone take 12 s.
const REFUSED: Duration = Duration::from_secs(12);
const REFRESH: &str = "whatsapp-operator.dev/refresh-qr";

struct Bench {
    client: Client,
    kubeconfig: PathBuf,
    namespace: &'static str,
}

impl Bench {
    async fn with_instance(namespace: &'static str, spec: Value) -> Self {
        let (client, kubeconfig) = cluster().await;
        create_namespace(&client, namespace).await;
        let bench = Self { client, kubeconfig, namespace };
        let mut object = json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": "shop"}, "spec": {"name": "Shop", "owner": "alice@example.com"},
        });
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let object = serde_json::from_value(object).unwrap();
        bench.instances().create(&PostParams::default(), &object).await.unwrap();
        bench
    }

    fn instances(&self) -> Api<WhatsAppInstance> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn shop(&self) -> WhatsAppInstance {
        self.instances().get("shop").await.unwrap()
    }

    /// Plays the operator: this status, of the spec as it is now.
    async fn status(&self, mut status: Value) {
        status["observedGeneration"] = json!(self.shop().await.metadata.generation);
        // A merge patch would leave the fields of the status before.
        for field in ["qr", "pairingCode", "phoneNumber"] {
            if status.get(field).is_none() {
                status[field] = Value::Null;
            }
        }
        let patch = Patch::Merge(json!({ "status": status }));
        self.instances().patch_status("shop", &PatchParams::default(), &patch).await.unwrap();
    }

    fn plugin(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable("kubectl-whatsapp"));
        command.args(arguments).args(["--namespace", self.namespace, "--kubeconfig"]).arg(&self.kubeconfig);
        command
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        let output = timeout(PATIENCE, self.plugin(arguments).output()).await.expect("it ends by itself");
        Said::from(output.unwrap())
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn qr(code: &str, attempt: u32) -> Value {
    let qr = json!({"code": code, "expiresAt": "2100-01-01T00:00:00Z", "attempt": attempt, "attempts": 6});
    json!({"phase": "AwaitingPairing", "qr": qr})
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_codes_come_one_a_line_as_they_change_and_end_with_the_number() {
    let bench = Bench::with_instance("plugin-raw", json!({})).await;
    bench.status(json!({"phase": "PairingExpired"})).await;
    let mut child = bench.plugin(&["qr", "shop", "--refresh", "-o", "raw"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The expired window it was asked to replace is no answer; the annotation says that the question has been asked.
    let asked = |instance: Option<&WhatsAppInstance>| {
        instance.is_some_and(|instance| instance.metadata.annotations.iter().flatten().any(|(key, _)| key == REFRESH))
    };
    timeout(PATIENCE, await_condition(bench.instances(), "shop", asked)).await.unwrap().unwrap();
    for (attempt, code) in [(1, "2@one"), (2, "2@two")] {
        bench.status(qr(code, attempt)).await;
        assert_eq!(timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().as_deref(), Some(code));
    }
    bench.status(json!({"phase": "Connected", "phoneNumber": "+15550100"})).await;
    assert_eq!(timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap(), None);
    let said = Said::from(timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap());
    assert_eq!((said.code, said.err.trim()), (0, "Connected as +15550100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn qr_ends_with_the_documented_exit_codes() {
    let bench = Bench::with_instance("plugin-ends", json!({})).await;
    for (status, code, words) in [
        (json!({"phase": "Connected", "phoneNumber": "+15550100"}), 0, "Connected as +15550100"),
        (json!({"phase": "PairingExpired"}), 3, "qr shop -n plugin-ends --refresh"),
        (json!({"phase": "LoggedOut"}), 5, "qr shop -n plugin-ends --refresh"),
        (json!({"phase": "Disconnected"}), 1, "connect shop -n plugin-ends"),
    ] {
        bench.status(status.clone()).await;
        let said = bench.run(&["qr", "shop"]).await;
        assert!(said.code == code && format!("{}{}", said.out, said.err).contains(words), "{status}: {said:?}");
        assert_eq!(said.err.lines().count(), usize::from(code != 0), "one sentence: {said:?}");
    }
    bench.status(qr("2@one", 1)).await;
    let said = bench.run(&["qr", "shop", "--timeout", "5s"]).await;
    assert!(said.code == 4 && said.out.contains("Code 1 of 6") && !said.out.contains('\x1b'), "{said:?}");
    assert!(bench.run(&["qr", "shop", "-o", "svg"]).await.out.contains("<svg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_is_shown_instead_of_a_qr_code() {
    let spec = json!({"pairing": {"method": "Code", "phoneNumber": "+15550100"}});
    let bench = Bench::with_instance("plugin-code", spec).await;
    let code = json!({"code": "ABCD1234", "expiresAt": "2100-01-01T00:00:00Z"});
    bench.status(json!({"phase": "AwaitingPairing", "pairingCode": code})).await;
    let said = bench.run(&["qr", "shop", "--once"]).await;
    assert!(said.code == 0 && said.out.contains("ABCD-1234"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_starts_again_what_ended_and_otherwise_only_states_the_wish() {
    let bench = Bench::with_instance("plugin-connect", json!({"desiredState": "Disconnected"})).await;
    let refreshed = async || bench.shop().await.metadata.annotations.unwrap_or_default().get(REFRESH).cloned();
    bench.status(json!({"phase": "Disconnected"})).await;
    assert_eq!(bench.run(&["connect", "shop"]).await.code, 0);
    assert_eq!(
        (format!("{:?}", bench.shop().await.spec.desired_state).as_str(), refreshed().await),
        ("Connected", None)
    );

    bench.status(json!({"phase": "Disconnected"})).await;
    assert_eq!(bench.run(&["connect", "shop"]).await.code, 0);
    let first = refreshed().await.expect("it ended although it was to be connected");
    assert_eq!(bench.run(&["refresh", "shop"]).await.code, 0);
    assert_ne!(refreshed().await.unwrap(), first, "a new value each time");

    // Nobody reacts: what stands there is from before.
    let said = bench.run(&["refresh", "shop", "--wait", "--timeout", "1s"]).await;
    assert!(said.code == 4 && said.err.contains("is it running?"), "{said:?}");
    bench.status(qr("2@one", 1)).await;
    let said = bench.run(&["connect", "shop", "--wait"]).await;
    assert!(said.code == 5 && said.err.contains("kubectl whatsapp qr shop"), "{said:?}");

    let managers = bench.shop().await.metadata.managed_fields.unwrap_or_default();
    assert!(managers.iter().any(|entry| entry.manager.as_deref() == Some("kubectl-whatsapp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_choose_by_owner_and_refusals_say_what_is_missing() {
    let bench = Bench::with_instance("plugin-list", json!({"owner": "team,a=b"})).await;
    let name = "whatsappinstance.whatsapp-operator.dev/shop\n";
    assert_eq!(bench.run(&["list", "-A", "--owner", "team,a=b", "-o", "name"]).await.out, name);
    let none = bench.run(&["list", "--owner", "else"]).await;
    assert!(none.code == 0 && none.out.is_empty() && none.err.contains("plugin-list"), "{none:?}");
    assert_eq!(bench.run(&["list", "-l", "!tier,tier notin (x)", "-o", "name"]).await.out, name);
    let none = bench.run(&["list", "-l", "tier=front"]).await;
    assert!(none.code == 0 && none.out.is_empty() && none.err.contains("that fit"), "{none:?}");
    let wrong = bench.run(&["list", "-l", "tier in front"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("unable to parse requirement"), "{wrong:?}");
    let mut asking = Command::new(executable("kubectl-whatsapp"));
    asking
        .args(["__complete", "--", "-n", bench.namespace, "--kubeconfig"])
        .arg(&bench.kubeconfig)
        .args(["status", "sh"]);
    let offered = Said::from(timeout(PATIENCE, asking.output()).await.unwrap().unwrap());
    assert_eq!((offered.code, offered.out.as_str()), (0, "shop\n:4\n"));

    let said = bench.run(&["disconnect", "shop", "--as", "nobody"]).await;
    assert!(said.code == 1 && said.err.contains("may not patch whatsappinstances.whatsapp-operator.dev"), "{said:?}");
    let said = bench.run(&["status", "none"]).await;
    assert!(said.code == 1 && said.err.contains("kubectl whatsapp list"), "{said:?}");
}

/// Cloud providers' kubeconfigs sign in by a program of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugin_leaves_the_input_alone_and_is_named_when_it_fails() {
    let bench = Bench::with_instance("plugin-credentials", json!({})).await;
    let directory = tempfile::tempdir().unwrap();
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&bench.kubeconfig).unwrap()).unwrap();
    let token = config["users"][0]["user"]["token"].as_str().unwrap();
    let answer =
        json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}});
    let kubeconfig = |name: &str, script: &str| {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "args": ["-c", script],
            "interactiveMode": "IfAvailable", "installHint": "get it from the cellar",
        });
        let mut config = config.clone();
        config["users"][0]["user"] = json!({"exec": exec});
        if script.is_empty() {
            config["users"][0]["user"]["exec"]["command"] = json!("no-such-login-program");
        }
        let path = directory.path().join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        Bench { client: bench.client.clone(), kubeconfig: path, namespace: bench.namespace }
    };

    let greedy = kubeconfig("greedy", &format!("cat > '{}/eaten'; echo '{answer}'", directory.path().display()));
    let mut command = greedy.plugin(&["status", "shop"]);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"what comes next in the script\n").await.unwrap();
    drop(input);
    let said = Said::from(timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap());
    assert!(said.code == 0 && said.out.contains("shop"), "{said:?}");
    assert_eq!(std::fs::read_to_string(directory.path().join("eaten")).unwrap(), "");

    for (name, script, words) in [
        (
            "missing",
            "",
            "cannot be run (No such file or directory (os error 2)): no-such-login-program; get it from the cellar",
        ),
        (
            "ended",
            "echo hush; echo 'the session has ended' >&2; exit 9",
            "failed (exit status: 9): /bin/sh; the session has ended",
        ),
        ("unread", "echo 'token: hush'; echo '- ['", "something that does not read as an ExecCredential"),
        ("empty", "echo '{\"kind\": \"ExecCredential\"}'", "without a status"),
    ] {
        let said = kubeconfig(name, script).run(&["list"]).await;
        assert!(
            said.code == 1 && said.err.contains(words) && said.err.contains("cannot sign in by context"),
            "{name}: {said:?}"
        );
        assert!(!said.err.contains("hush") && said.err.lines().count() == 1, "{name}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_watch_is_told_so_at_once_and_not_when_the_time_is_up() {
    let bench = Bench::with_instance("plugin-blind", json!({})).await;
    let connected = json!({
        "type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    bench.status(json!({"phase": "Connected", "conditions": [connected]})).await;
    // One may change the instance and look at it, and not follow it.
    let role = json!({
        "metadata": {"name": "blind"},
        "rules": [{"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances"], "verbs": ["get", "patch"]}],
    });
    let binding = json!({
        "metadata": {"name": "blind"}, "subjects": [{"kind": "User", "name": "blind", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "blind"},
    });
    let (roles, create) = (Api::<Role>::namespaced(bench.client.clone(), bench.namespace), PostParams::default());
    roles.create(&create, &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(bench.client.clone(), bench.namespace);
    bindings.create(&create, &serde_json::from_value(binding).unwrap()).await.unwrap();
    // The API server learns of rights by a watch of its own.
    let deadline = Instant::now() + PATIENCE;
    while bench.run(&["disconnect", "shop", "--as", "blind"]).await.code != 0 {
        assert!(Instant::now() < deadline, "the rights do not come");
    }

    let since = Instant::now();
    let said = bench.run(&["set-primary", "shop", "--as", "blind", "--wait", "--timeout", "25s"]).await;
    assert!(said.code == 1 && said.err.contains("may not list whatsappinstances"), "{said:?}");
    assert!(said.out.contains("set as primary"), "the wish itself stands: {said:?}");
    let took = since.elapsed();
    println!("the refusal was told after {took:.1?}");
    assert!(took < REFUSED, "told only after {took:?}");
}
