//! Bridges that are missing, closed, down, strange or forgetful: a typed reason each, and the good instances go on.

use axum::Router;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use whatsapp_operator::{
    api::{
        Phase, WhatsAppBridge,
        conditions::{BRIDGE_AVAILABLE, PAIRED, READY, reason},
    },
    bridge_api::SessionSpec,
};

use crate::support::{
    history::Ask,
    world::{SOON, World, create_bridge},
};

async fn reason_of(world: &World, name: &str, expected: &str) {
    let instance = world.history.until(name, expected, SOON, |i| i.reason(BRIDGE_AVAILABLE) == expected).await;
    assert_eq!(instance.phase(), Some(Phase::BridgeUnavailable));
    assert_eq!(instance.condition(READY), "False");
    assert_eq!(instance.reason(READY), expected);
}

async fn second_bridge(world: &World, suffix: &str, url: &str, token: &str) -> String {
    bridge_with(world, suffix, url, token, json!({})).await
}

async fn bridge_with(world: &World, suffix: &str, url: &str, token: &str, spec: Value) -> String {
    // Its Secret lives in a namespace of its own name, as create_bridge has it.
    let name = format!("{}-{suffix}", world.name);
    crate::support::world::create_namespace(&world.client, &name).await;
    create_bridge(&world.client, &name, &[url], token).await;
    // With its label the operator sees it, and must see the whole of it at once.
    let rest = json!({"metadata": {"labels": {"world": world.name}}, "spec": spec});
    world.bridges().patch(&name, &PatchParams::default(), &Patch::Merge(rest)).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_bridge_has_its_reason_and_stops_nobody_else() {
    let world = World::start("bad-bridges").await;

    world.apply("nowhere", json!({"bridgeRef": {"name": "no-such-bridge"}})).await;
    reason_of(&world, "nowhere", reason::BRIDGE_NOT_FOUND).await;

    let closed = second_bridge(&world, "token", &world.bridge_address.http, "not-the-token").await;
    world.apply("wrong-token", json!({"bridgeRef": {"name": closed}})).await;
    reason_of(&world, "wrong-token", reason::BRIDGE_UNAUTHORIZED).await;

    // The discard port: no listener of another test can come by it.
    let down = second_bridge(&world, "down", "http://127.0.0.1:9", "token").await;
    world.apply("unreachable", json!({"bridgeRef": {"name": down}})).await;
    reason_of(&world, "unreachable", reason::BRIDGE_UNREACHABLE).await;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let strange = format!("http://{}", listener.local_addr().unwrap());
    let nonsense = Router::new().fallback(|| async { "<html>this is not the API you are looking for" });
    let server = tokio::spawn(async move { axum::serve(listener, nonsense).await });
    let strange = second_bridge(&world, "strange", &strange, "token").await;
    world.apply("malformed", json!({"bridgeRef": {"name": strange}})).await;
    reason_of(&world, "malformed", reason::BRIDGE_MALFORMED_ANSWER).await;

    let others = json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"world": "another"}}}});
    let private = bridge_with(&world, "private", &world.bridge_address.http, &world.token, others).await;
    world.apply("not-allowed", json!({"bridgeRef": {"name": private}})).await;
    reason_of(&world, "not-allowed", reason::NAMESPACE_NOT_ALLOWED).await;
    let mine = json!({"spec": {"allowedNamespaces": {"selector": {"matchLabels": {"world": world.name}}}}});
    world.bridges().patch(&private, &PatchParams::default(), &Patch::Merge(mine)).await.unwrap();
    world.qr("not-allowed").await; // heals by itself

    world.connected("good", "+15550100030").await;
    server.abort();
    world.nothing_leaked(&["+15550100030"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bridge_ref_the_default_bridge_serves() {
    let world = World::start("default-bridge").await;
    let instance = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "sales"}, "spec": {"name": "Sales"},
    });
    world.instances().patch("sales", &PatchParams::apply("test"), &Patch::Apply(instance)).await.unwrap();
    reason_of(&world, "sales", reason::NO_DEFAULT_BRIDGE).await;
    let default = json!({"metadata": {"annotations": {"whatsapp-operator.dev/is-default": "true"}}});
    world.bridges().patch(&world.name, &PatchParams::default(), &Patch::Merge(default)).await.unwrap();
    world.qr("sales").await;
    let bound = world.instances().get_status("sales").await.unwrap().status.unwrap().bridge.unwrap();
    assert_eq!((bound.name, bound.shard), (world.name.clone(), "shard-0".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_nobody_claims_is_reported_and_left_alone() {
    let world = World::start("unclaimed").await;
    let answer = reqwest::Client::new()
        .put(format!("{}/v1/sessions/somebody-elses", world.bridge_address.http))
        .bearer_auth(&world.token)
        .json(&SessionSpec::default())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
    world.connected("sales", "+15550100031").await;
    let bridges: Api<WhatsAppBridge> = world.bridges();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let status = bridges.get_status(&world.name).await.unwrap().status.unwrap_or_default();
        if status.sessions.is_some_and(|sessions| sessions.unclaimed == 1) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "not reported: {:?}", status.sessions);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(world.sessions().await.len(), 2, "it is not deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_lost_its_data_says_so_and_pairs_anew() {
    let mut world = World::start("amnesia").await;
    let phone = "+15550100032";
    world.connected("sales", phone).await;
    world.bridge.stop();
    std::fs::remove_dir_all(world.dir.join("bridge")).unwrap();
    world.restart_bridge().await;
    let lost = world.history.until("sales", "asking for a new scan", SOON, |i| i.qr().is_some()).await;
    assert_eq!(lost.reason(PAIRED), reason::SESSION_LOST);
    world.scan("sales", phone).await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
}
