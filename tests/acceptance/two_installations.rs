//! Two installations in one cluster, which nothing refused: neither touches what the other one has made.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use crate::support::{
    control_plane::{ControlPlane, Options},
    gateway::{apply, until},
    program::Program,
    world::{OperatorAddress, SOON, Wishes, World, create_namespace, operator_program},
};

/// An operator of everything, as an installation without values has it.
fn of_everything(program: &mut Program) {
    program.set("--watch-namespaces", "");
    program.set("--bridge-selector", "");
}

/// What a user changed of instances and bridges.
fn changes(plane: &ControlPlane, user: &str) -> Vec<String> {
    let log = std::fs::read_to_string(plane.audit_log().unwrap()).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let changes = lines.filter(|line| {
        let what = line["objectRef"]["resource"].as_str().unwrap_or_default();
        let reads = ["get", "list", "watch"].contains(&line["verb"].as_str().unwrap_or_default());
        line["user"]["username"] == user && !reads && ["whatsappinstances", "whatsappbridges"].contains(&what)
    });
    changes.map(|line| format!("{} {}", line["verb"], line["objectRef"])).collect()
}

/// The first installation, with an operator of everything, on a cluster of its own.
async fn first(name: &str) -> (ControlPlane, World) {
    let options = Options { audit: true, users: vec!["second".to_owned()], ..Options::default() };
    let plane = ControlPlane::start(&options).await.unwrap_or_else(|error| panic!("{error}"));
    let kubeconfig = Some(plane.kubeconfig());
    let mut world = World::start_with(name, Wishes { kubeconfig, ..Wishes::default() }).await;
    world.operator.kill();
    of_everything(&mut world.operator);
    world.restart_operator().await;
    (plane, world)
}

/// The operator of the second one, whose account has this ClusterRole.
async fn second(world: &World, plane: &ControlPlane, role: &str) -> (Program, OperatorAddress) {
    let binding = json!({
        "metadata": {"name": "second"}, "subjects": [{"kind": "User", "name": "second"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    create_namespace(&world.client, "second").await;
    let mut second = operator_program(&world.dir.join("second"), &plane.kubeconfig_of("second"), "second", None)
        .args(["--watch-namespaces", "", "--bridge-selector", ""]);
    let address = second.start().await;
    (second, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_leaves_alone_what_another_installation_has_made() {
    let (plane, mut world) = first("installed-twice").await;
    // As the first one's installer leaves it.
    let made = json!({"metadata": {
        "labels": {"app.kubernetes.io/managed-by": "whatsapp-operator"},
        "annotations": {"whatsapp-operator.dev/is-default": "true"},
    }});
    world.bridges().patch(&world.name, &PatchParams::default(), &Patch::Merge(made)).await.unwrap();
    world.connected("before", "+15550480001").await;

    // The second one may do everything: what keeps it is not a right that it lacks.
    let (second, address) = second(&world, &plane, "cluster-admin").await;
    until("does the second one lead", async || {
        reqwest::get(format!("{}/readyz", address.admin)).await.is_ok_and(|answer| answer.status() == 200)
            && second.log().contains("everything is listed")
    })
    .await;
    assert!(second.log().contains("another installation has made this WhatsAppBridge"), "{}", second.log());

    // With and without a bridge that is asked for, linked and deleted while both are there.
    world.connected("named", "+15550480002").await;
    let unbound = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance", "metadata": {"name": "default"},
        "spec": {"name": "default"},
    });
    world.instances().patch("default", &PatchParams::apply("test"), &Patch::Apply(unbound)).await.unwrap();
    world.scan("default", "+15550480003").await;
    world.history.until_phase("default", Phase::Connected, SOON).await;
    world.delete("named").await;
    world.history.until_gone("named", SOON).await;
    assert_eq!(changes(&plane, "second"), [""; 0]);
    assert!(!changes(&plane, "admin").is_empty(), "the audit log shows nothing of the first one either");

    // One that no installation has made is for whoever comes, as it was.
    let unmade = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    world.operator.kill();
    world.bridges().patch(&world.name, &PatchParams::default(), &Patch::Merge(unmade)).await.unwrap();
    world.connected("after", "+15550480004").await;
    world.restart_operator().await;
    world.nothing_leaked(&["+15550480001", "+15550480002", "+15550480003", "+15550480004"]).await;
}

/// A bridge that somebody has made by hand is served by both: they see it differently, and write by turns.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_write_over_each_other_slow_down_and_say_so() {
    let phone = "+15550480005";
    let (plane, world) = first("written-twice").await;
    world.connected("fought-over", phone).await;
    // As an installation's own account: it reads no Secrets in other namespaces.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "no-secrets"}, "rules": [
        {"apiGroups": ["whatsapp-operator.dev", "coordination.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
    ]});
    apply(&world.client, &role).await;
    let (second, _) = second(&world, &plane, "no-secrets").await;
    let said = "another program writes the status of this instance";
    until("do both say so", async || world.operator.log().contains(said) && second.log().contains(said)).await;
    // From here on each writes once a second, then every two seconds, and so on.
    let seen = || world.history.of("fought-over");
    let count = seen().len();
    until("has each written twice more", async || seen().len() >= count + 4).await;
    let seen = seen();
    let took = seen[count + 3].at.duration_since(seen[count].at);
    assert!(took.as_millis() >= 900, "{took:?}");
    world.nothing_leaked(&[phone]).await;
}
