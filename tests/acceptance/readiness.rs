//! Who is ready and who is not: a kubelet asks, and a rolling update waits for the answer.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    coordination::v1::Lease,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::{
    least_privilege::account,
    support::{
        gateway::{attributes, until_reviewed},
        webhooks::{Configuration, until_asked, webhook_program},
        world::{
            ALONE, BridgeAddress, OperatorAddress, SOON, Wishes, World, bridge_program, cluster, create_namespace,
            operator_program, target_dir, token,
        },
    },
};

/// How long a program goes on answering after it was told to stop: long enough to ask it something then, on a slow machine too.
const DELAYED: Duration = Duration::from_secs(15);
/// The same as an argument.
const DELAY: &str = "15s";

/// Waits until `/readyz` answers so.
pub async fn until(admin: &str, wanted: &str) {
    until_within(SOON, admin, wanted).await;
}

pub async fn until_within(patience: Duration, admin: &str, wanted: &str) {
    let deadline = Instant::now() + patience;
    loop {
        let answer = reqwest::get(format!("{admin}/readyz")).await.unwrap();
        let ready = answer.status() == StatusCode::OK;
        let text = answer.text().await.unwrap();
        assert_eq!(ready, text == "ok\n", "{text}");
        if text.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{text:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_a_way_to_the_lease_is_not_ready_and_a_standby_is() {
    let (client, kubeconfig) = cluster().await;
    let name = format!("readiness-{:08x}", fastrand::u32(..));
    let operator = |which: &str| {
        let dir = target_dir().join("acceptance/readiness").join(which);
        let _ = std::fs::remove_dir_all(&dir);
        operator_program(&dir, &kubeconfig, &name, None).args([
            "--bridge-selector",
            "world=none",
            "--watch-namespaces",
            &name,
        ])
    };
    let (mut one, mut two) = (operator("one"), operator("two"));
    // Nowhere to keep a lease yet.
    let first: OperatorAddress = one.start().await;
    until(&first.admin, "the lease cannot be read").await;
    create_namespace(&client, &name).await;
    until(&first.admin, "ok").await;
    let second: OperatorAddress = two.start().await;
    until(&second.admin, "ok").await;
    assert!(!two.log().contains("holding the lease"));
}

#[derive(Deserialize)]
struct Addresses {
    admin: String,
    webhook: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_answers_reviews_with_the_authority_that_the_leader_publishes() {
    let (client, kubeconfig) = cluster().await;
    let name = format!("standby-{:08x}", fastrand::u32(..));
    create_namespace(&client, &name).await;
    let operator = |which: &str| {
        let dir = target_dir().join("acceptance/standby").join(which);
        let _ = std::fs::remove_dir_all(&dir);
        operator_program(&dir, &kubeconfig, &name, Some(&name)).args([
            "--bridge-selector",
            "world=none",
            "--watch-namespaces",
            &name,
        ])
    };
    let (mut leader, mut standby) = (operator("leader"), operator("standby"));
    let first: Addresses = leader.start().await;
    until(&first.admin, "ok").await;
    let second: Addresses = standby.start().await;
    until(&second.admin, "ok").await;
    let configuration = Configuration {
        name: name.clone(),
        namespace: name.clone(),
        url: second.webhook,
        label: None,
        kubeconfig: kubeconfig.clone(),
    };
    configuration.install().await;
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"name": "Probe", "owner": format!("probe@{name}")}});
    until_asked(&Api::namespaced(client, &name), &serde_json::from_value(probe).unwrap()).await;
    assert!(!standby.log().contains("holding the lease"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_cannot_store_sessions_is_not_ready_until_it_can() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = target_dir().join("acceptance/readiness-store");
    let _ = std::fs::remove_dir_all(&dir);
    let token = token();
    let mut bridge = bridge_program(&dir, &token);
    let address: BridgeAddress = bridge.start().await;
    until(&address.admin, "ok").await;
    let database = rusqlite::Connection::open(dir.join("bridge/bridge.db")).unwrap();
    database.execute_batch("ALTER TABLE sessions RENAME TO elsewhere").unwrap();
    let put = || {
        let url = format!("{}/v1/sessions/a", address.http);
        let body = serde_json::json!({ "desiredState": "Disconnected" });
        reqwest::Client::new().put(url).bearer_auth(&token).json(&body).send()
    };
    assert_eq!(put().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    until(&address.admin, "cannot be stored").await;
    database.execute_batch("ALTER TABLE elsewhere RENAME TO sessions").unwrap();
    until(&address.admin, "ok").await;
    assert_eq!(put().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_alone_without_a_way_to_their_lease_are_not_ready() {
    let (client, kubeconfig) = cluster().await;
    let name = format!("leaseless-{:08x}", fastrand::u32(..));
    let dir = target_dir().join("acceptance/leaseless");
    let _ = std::fs::remove_dir_all(&dir);
    let mut webhooks = webhook_program(&dir, &kubeconfig, &name, &name).args(["--webhook-secret-namespace", "default"]);
    // The certificate is found, the namespace of the lease is not.
    let address: Addresses = webhooks.start().await;
    until(&address.admin, "the lease cannot be read").await;
    create_namespace(&client, &name).await;
    until(&address.admin, "ok").await;
}

/// The answer of `/readyz`.
async fn readyz(admin: &str) -> String {
    reqwest::get(format!("{admin}/readyz")).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_told_to_stop_is_not_ready_first_and_answers_reviews_a_while_longer() {
    let wishes = Wishes { webhooks: true, ..Wishes::of_operator(&[ALONE]) };
    let mut world = World::start_with("drain", wishes).await;
    world.operator.set("--shutdown-delay", DELAY);
    world.operator.stop();
    world.restart_operator().await;
    crate::support::webhooks::until_asked(&world.instances(), &world.probe()).await;
    let since = Instant::now();
    world.operator.terminate();
    until(&world.operator_address.admin, "stopping").await;
    // Nothing but the webhook itself lets a create pass: its configuration fails closed.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    world.instances().create(&dry, &world.probe()).await.unwrap();
    assert!(since.elapsed() < DELAYED, "the machine is too slow for this test");
    assert!(readyz(&world.operator_address.admin).await.contains("stopping"));
    world.operator.wait();
    assert!(since.elapsed() >= DELAYED);
    assert!(world.operator.log().contains("\"stopped\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_loses_its_lease_writes_nothing_more_and_answers_reviews_a_while_longer() {
    let wishes = Wishes { webhooks: true, ..Wishes::default() };
    let mut world = World::start_with("lease-lost", wishes).await;
    world.operator.set("--shutdown-delay", DELAY);
    world.operator.stop();
    world.restart_operator().await;
    crate::support::webhooks::until_asked(&world.instances(), &world.probe()).await;
    world.apply("before", json!({})).await;
    world.qr("before").await;

    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.name);
    let lease = leases.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let another = json!({"spec": {"holderIdentity": "another", "leaseDurationSeconds": 600}});
    leases.patch(&lease, &PatchParams::default(), &Patch::Merge(another)).await.unwrap();
    until(&world.operator_address.admin, "the lease is lost").await;
    let since = Instant::now();
    // Nothing but the webhook itself lets a create pass: its configuration fails closed.
    world.apply("after", json!({})).await;
    assert!(since.elapsed() < DELAYED, "the machine is too slow for this test");
    world.operator.wait();
    let log = world.operator.log();
    assert!(log.contains("lost the lease to another") && log.contains("\"stopped\""), "{log}");
    let status = world.instances().get("after").await.unwrap().status;
    assert!(status.is_none(), "written without a lease: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_told_to_stop_is_not_ready_first_and_answers_a_while_longer() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = target_dir().join("acceptance/drain-bridge");
    let _ = std::fs::remove_dir_all(&dir);
    let token = token();
    let mut bridge = bridge_program(&dir, &token);
    bridge.set("--shutdown-delay", DELAY);
    let address: BridgeAddress = bridge.start().await;
    let since = Instant::now();
    bridge.terminate();
    until(&address.admin, "not ready").await;
    let answer = reqwest::Client::new().get(format!("{}/v1/info", address.http)).bearer_auth(&token).send().await;
    assert!(since.elapsed() < DELAYED, "the machine is too slow for this test");
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    bridge.wait();
    assert!(since.elapsed() >= DELAYED);
    assert!(!bridge.log().contains('\u{1b}'), "colours in a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_not_list_says_so_at_the_start_and_a_leader_is_not_ready() {
    let mut world = World::start("unlisted").await;
    let kubeconfig = account(&world).await;
    world.operator.stop();
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    until(&world.operator_address.admin, "ok").await;

    // A standby whose rights are taken away while it waits.
    let dir = world.dir.join("standby");
    let mut standby = operator_program(&dir, &world.dir.join("least-privilege.kubeconfig"), &world.name, None).args([
        "--watch-namespaces",
        &world.name,
        "--bridge-selector",
        &format!("world={}", world.name),
    ]);
    let second: OperatorAddress = standby.start().await;
    until(&second.admin, "ok").await;
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.delete(&world.name, &Default::default()).await.unwrap();
    // The API server hears of it with a delay, within which the standby might list still.
    let user = format!("system:serviceaccount:{0}:{0}", world.name);
    let listing = attributes(Some(&world.name), "list", "whatsapp-operator.dev", "whatsappinstances");
    until_reviewed(&world.client, &user, listing, false).await;
    world.operator.stop();
    // It says so 20 s after it has the lease, which it has after 2 s, or 15 s where it was not given back.
    until_within(SOON * 3, &second.admin, "can be listed").await;
    assert!(standby.log().contains("holding the lease"));
    standby.kill();

    // It would not even start so.
    let said = world.operator.fail();
    assert!(said.contains("refuses to list whatsappinstances"), "{said}");
    let owners_missing = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": world.name},
        "rules": [
            {"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances", "whatsappbridges"], "verbs": ["list"]},
        ],
    });
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    roles.patch(&world.name, &PatchParams::apply("test").force(), &Patch::Apply(owners_missing)).await.unwrap();
    account_binding(&world).await;
    let said = world.operator.fail();
    assert!(said.contains("refuses to list whatsappowners"), "{said}");
}

/// Binds the cluster role of this world's name to its service account.
pub async fn account_binding(world: &World) {
    let name = &world.name;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": name}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(binding)).await.unwrap();
}
