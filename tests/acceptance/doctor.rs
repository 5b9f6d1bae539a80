//! `kubectl whatsapp doctor`: says what is wrong with an installation that has faults, and keeps nothing secret in its file.

use std::path::Path;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::Secret,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::process::Command;
use whatsapp_operator::api::Phase;

use crate::support::{
    control_plane::{ControlPlane, Options},
    gateway::account,
    program::executable,
    world::{SOON, Wishes, World},
};

const OWNER: &str = "alice.doctor@example.com";

/// What it said, and how it ended.
async fn doctor(world: &World, kubeconfig: &Path, more: &[&str]) -> (String, i32) {
    let mut command = Command::new(executable("kubectl-whatsapp"));
    command.args(["doctor", "--namespace", &world.name, "--kubeconfig"]).arg(kubeconfig).args(more);
    let output =
        tokio::time::timeout(SOON * 4, command.env_remove("KUBECONFIG").output()).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().unwrap())
}

/// The lines that say what is wrong with this world.
fn wrong<'a>(text: &'a str, world: &World) -> Vec<&'a str> {
    // The accounts of this one may not read the Secrets of others either.
    let others =
        |line: &str| line.contains("may not read Secret") && !line.ends_with(&format!("Secret {0}/{0}", world.name));
    let about = |line: &&str| line.starts_with("wrong: ") && line.contains(&world.name) && !others(line);
    text.lines().filter(about).collect()
}

/// Until it says this of the world: rights take a moment to be known.
async fn until_wrong(world: &World, says: &[&str]) -> String {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let (said, _) = doctor(world, &world.kubeconfig, &[]).await;
        let found = wrong(&said, world);
        if found.len() == says.len() && says.iter().all(|says| found.iter().any(|line| line.contains(says))) {
            return said;
        }
        assert!(std::time::Instant::now() < deadline, "not exactly {says:?} are wrong:\n{said}");
    }
}

/// Programs of an installation, as far as an API server without a controller shows them: those that run here are no pods.
async fn install(world: &World) {
    let create = PostParams::default();
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.name);
    for component in ["operator", "gateway"] {
        let name = format!("{}-{component}", world.name);
        let labels = json!({"app.kubernetes.io/name": "whatsapp-operator", "app.kubernetes.io/component": component});
        let template = json!({
            "metadata": {"labels": labels},
            "spec": {"serviceAccountName": "programs", "containers": [{"name": "c", "image": "none"}]},
        });
        let deployment = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        });
        deployments.create(&create, &serde_json::from_value(deployment).unwrap()).await.unwrap();
        available(world, component, 2).await;
    }
    let roles: Api<Role> = Api::namespaced(world.client.clone(), &world.name);
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [world.name], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": "programs"}, "rules": rules});
    roles.create(&create, &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.name);
    let binding = json!({
        "metadata": {"name": "programs"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "programs"},
        "subjects": [{"kind": "ServiceAccount", "name": "programs", "namespace": world.name}],
    });
    bindings.create(&create, &serde_json::from_value(binding).unwrap()).await.unwrap();
}

async fn available(world: &World, component: &str, replicas: i32) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.name);
    let status = json!({"status": {"replicas": 2, "readyReplicas": replicas, "availableReplicas": replicas}});
    let name = format!("{}-{component}", world.name);
    deployments.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_wrong_and_keeps_no_secret() {
    let phone = "+15550461001";
    // Doctor looks at the whole cluster: this one is not shared with what other tests break.
    let plane = ControlPlane::start(&Options::default()).await.unwrap_or_else(|error| panic!("{error}"));
    let wishes = Wishes { webhooks: true, kubeconfig: Some(plane.kubeconfig()), ..Wishes::default() };
    let mut world = World::start_with("doctored", wishes).await;
    install(&world).await;
    world.apply("shop", json!({"owner": OWNER, "name": "Flowers for the doctor"})).await;
    world.scan("shop", phone).await;
    world.history.until_phase("shop", Phase::Connected, SOON).await;
    // What people ask of the metrics: how long it took, and how owners stand. Other worlds' owners are in it.
    let metrics =
        reqwest::get(format!("{}/metrics", world.operator_address.admin)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("whatsapp_pairing_seconds_count 1"), "{metrics}");
    let used = metrics.lines().find_map(|line| line.strip_prefix("whatsapp_owner_slots_used ")).unwrap();
    assert!(used.parse::<u32>().unwrap() >= 1, "{used}");
    assert!(!metrics.contains(OWNER));
    world.apply("waiting", json!({"owner": OWNER})).await;
    world.qr("waiting").await;
    let kubeconfig = world.kubeconfig.clone();

    let said = until_wrong(&world, &[]).await;
    let waits = said.lines().find(|line| line.contains("doctored/waiting")).unwrap_or_else(|| panic!("{said}"));
    assert!(waits.starts_with("note: AwaitingPairing") && waits.ends_with("they want a person"), "{said}");

    // Two faults at once, of different kinds: the bridge is down, and the gateway has no pods.
    world.bridge.kill();
    available(&world, "gateway", 0).await;
    world.history.until_phase("shop", Phase::BridgeUnavailable, SOON).await;
    let says =
        ["(BridgeUnreachable)", "doctored-gateway: 0 of 2 pods are ready", "BridgeUnavailable (BridgeUnreachable): "];
    until_wrong(&world, &says).await;
    let file = world.dir.join("doctor.md");
    let (said, code) = doctor(&world, &kubeconfig, &["--file", file.to_str().unwrap()]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("docs/troubleshooting.md says what to do about BridgeUnreachable"), "{said}");

    // Everything is in the file, and nothing that is secret.
    let kept = std::fs::read_to_string(&file).unwrap();
    for there in
        ["BridgeUnreachable", "\"kind\":\"WhatsAppInstance\"", "\"name\":\"shop\"", "doctored-gateway", "person-1"]
    {
        assert!(kept.contains(there), "{there} is not in the file");
    }
    let mut secrets = world.secrets(&[phone]);
    secrets.extend([OWNER, "alice.doctor", "alice-doctor", "Flowers for the doctor"].map(str::to_owned));
    for secret in secrets {
        assert!(!kept.contains(&secret), "the file holds a secret of {} characters", secret.len());
    }

    // The webhooks are not reached. It ends first: it would write of what comes next.
    world.operator.kill();
    // The token's Secret is gone, and nobody may read it any more.
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.name);
    secrets.delete(&world.name, &DeleteParams::default()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.name);
    bindings.delete("programs", &DeleteParams::default()).await.unwrap();
    let said = until_wrong(
        &world,
        &[
            "(BridgeUnreachable)",
            "doctored-gateway: 0 of 2 pods are ready",
            "BridgeUnavailable (BridgeUnreachable): ",
            "Secret doctored/doctored, which",
            "account doctored/programs may not read Secret doctored/doctored",
            "account doctored/programs may not read Secret doctored/doctored",
        ],
    )
    .await;
    assert!(said.contains("wrong: the API server does not reach the webhooks"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_may_not_see_is_named_and_left_out() {
    let world = World::start("doctor-nobody").await;
    let token = account(&world, "nobody", &[]).await;
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"] = json!({ "token": token });
    let kubeconfig = world.dir.join("nobody.kubeconfig");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let file = world.dir.join("doctor.md");
    let (said, code) = doctor(&world, &kubeconfig, &["--file", file.to_str().unwrap()]).await;
    for what in ["WhatsAppInstances", "pods", "the webhook configurations", "the webhooks' answer"] {
        assert!(said.contains(&format!("note: not looked at: {what} (")), "{what}: {said}");
    }
    assert!(code == 0 && said.contains("Nothing is wrong."), "{said}");
    assert!(std::fs::read_to_string(file).unwrap().contains("Not looked at: "));
}
