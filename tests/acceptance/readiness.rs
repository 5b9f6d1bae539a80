//! Who is ready and who is not: a kubelet asks, and a rolling update waits for the answer.

use std::time::{Duration, Instant};

use kube::Api;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::support::{
    webhooks::{Configuration, serving, until_asked},
    world::{
        BridgeAddress, OperatorAddress, SOON, bridge_program, cluster, create_namespace, operator_program, target_dir,
        token,
    },
};

/// Waits until `/readyz` answers so.
async fn until(admin: &str, wanted: &str) {
    let deadline = Instant::now() + SOON;
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
        operator_program(&dir, &kubeconfig, &name).args([
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
        operator_program(&dir, &kubeconfig, &name)
            .args(["--bridge-selector", "world=none", "--watch-namespaces", &name])
            .args(serving(&name))
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
