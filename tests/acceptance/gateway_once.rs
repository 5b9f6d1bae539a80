//! One key is one message, while the primary moves between instances on two shards and two gateways are asked at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use kube::ResourceExt as _;
use serde_json::json;

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Rest, account},
        world::{BridgeAddress, VERSION, bridge_program, create_bridge},
    },
};

const FRIEND: &str = "+15550208901";
const SEND: &str = "/api/v1/messages/send/";
/// Who asks at once, half of them at each gateway.
const AT_ONCE: usize = 50;
const KEYS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_message_while_the_primary_moves_between_two_shards() {
    let world = world("gateway-once").await;
    let whatsapp = ["--whatsapp-url", &world.whatsapp.url, "--whatsapp-version", VERSION];
    let mut second_shard = bridge_program(&world.dir.join("second"), &world.token).args(whatsapp);
    let address: BridgeAddress = second_shard.start().await;
    create_bridge(&world.client, &world.name, &[&world.bridge_address.http, &address.http], &world.token).await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let (dir, kubeconfig) = (world.dir.join("gateway-2"), world.dir.join("gateway.kubeconfig"));
    let selector = format!("world={}", world.name);
    let other =
        Rest::start_as(&dir, &kubeconfig, &world.name, &["--bridge-selector", &selector, "--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let mut sessions = Vec::new();
    let mut shards = BTreeSet::new();
    for n in 0..4 {
        let session = connected(&world, &rest, &token, &format!("Line {n}"), &format!("+1555020800{n}")).await;
        let found = world.instances().list(&Default::default()).await.unwrap();
        let bridge =
            found.items.into_iter().find(|one| one.uid().as_deref() == Some(&session)).unwrap().status.unwrap().bridge;
        if shards.insert(bridge.unwrap().shard) {
            sessions.push(session);
        }
        if sessions.len() == 2 {
            break;
        }
    }
    assert_eq!(sessions.len(), 2, "instances are on both shards");
    until_primary(&rest, &token, &sessions[0]).await;

    let mut of_key: BTreeMap<String, String> = BTreeMap::new();
    let mut senders = BTreeSet::new();
    for round in 0..KEYS {
        let key = format!("order-{round}");
        let body = json!({"recipient": FRIEND, "message": format!("Order {round}")});
        let ask = |n: usize| {
            let gateway = if n.is_multiple_of(2) { &rest } else { &other };
            let (token, body, key) = (&token, &body, &key);
            async move { send(gateway, token, SEND, body, Some(key)).await }
        };
        let path = format!("/api/v1/sessions/set-primary/{}/?wait=30", sessions[(round + 1) % 2]);
        let moving = rest.post(&token, &path);
        let (answers, moved) = tokio::join!(join_all((0..AT_ONCE).map(ask)), moving);
        assert!(moved.status < 300, "{}", moved.body);
        // And once more, when it has moved for certain.
        let again = join_all((0..4).map(ask)).await;
        let mut ids = BTreeSet::new();
        for answer in answers.iter().chain(&again) {
            let data = &answer.body["data"];
            ids.insert(data["id"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned());
            senders.insert(data["session_id"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), 1, "{key}");
        let first = answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!(first, 1, "{key}");
        of_key.insert(key, ids.pop_first().unwrap());
    }
    assert_eq!(senders.len(), 2, "both have sent");
    for (key, id) in &of_key {
        let n = key.trim_start_matches("order-");
        let body = json!({"recipient": FRIEND, "message": format!("Order {n}")});
        let last = send(&other, &token, &format!("{SEND}?wait=60"), &body, Some(key)).await;
        assert_eq!(last.data(200)["id"], json!(id));
    }
    let mut arrived: Vec<(String, u32)> =
        world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| (line.text, line.count)).collect();
    arrived.sort();
    let expected: Vec<(String, u32)> = (0..KEYS).map(|n| (format!("Order {n}"), 1)).collect();
    assert_eq!(arrived, expected);
}

/// Whoever did not hear the first answer asks again, when the session that it was about is gone and another one sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_hears_what_became_of_the_message_though_its_session_is_gone() {
    let friend = "+15550208902";
    let mut world = world("gateway-once-gone").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let first = connected(&world, &rest, &token, "First", "+15550208011").await;
    until_primary(&rest, &token, &first).await;
    let body = |text: &str| json!({"recipient": friend, "message": text});
    let ask = async |key: &str| send(&rest, &token, &format!("{SEND}?wait=30"), &body(key), Some(key)).await;
    let sent = ask("sent").await.data(200).clone();
    let through = json!({"recipient": friend, "message": "named", "session_id": first});
    let named = async |key: &str| send(&rest, &token, &format!("{SEND}?wait=30"), &through, Some(key)).await;
    let by_name = named("named").await.data(200).clone();
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{first}/?wait=30")).await.data(200);
    let waits = send(&rest, &token, SEND, &body("waits"), Some("waits")).await.data(202).clone();
    rest.call(&token, "DELETE", &format!("/api/v1/sessions/delete/{first}/?wait=60"), json!(null)).await.data(200);
    // Nobody sends now; who sent is known.
    assert_eq!(ask("sent").await.data(200)["id"], sent["id"]);
    ask("new").await.refused(409, "NoPrimary");
    let again = named("named").await;
    assert_eq!(
        (&again.data(200)["id"], &again.headers["idempotent-replayed"]),
        (&by_name["id"], &"true".parse().unwrap())
    );
    let second = connected(&world, &rest, &token, "Second", "+15550208012").await;
    until_primary(&rest, &token, &second).await;

    let again = ask("sent").await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!((&again.data(200)["id"], &again.body["data"]["session_id"]), (&sent["id"], &json!(first)));
    assert_eq!(again.body["data"]["sent_at"], sent["sent_at"]);
    let failed = ask("waits").await;
    assert_eq!(failed.headers["idempotent-replayed"], "true");
    let said = failed.data(200);
    assert_eq!(
        (&said["id"], &said["status"], &said["cause"]),
        (&waits["id"], &json!("failed"), &json!("SessionDeleted"))
    );
    send(&rest, &token, SEND, &body("Something else"), Some("sent")).await.refused(422, "KeyReused");
    // Who may look at its messages was said by the session.
    let path = format!("/api/v1/messages/{}/", sent["id"].as_str().unwrap());
    rest.get(&token, &path).await.refused(404, "MessageNotFound");
    let arrived: Vec<_> = world.whatsapp.inbox(friend).await.into_iter().map(|line| (line.text, line.count)).collect();
    assert_eq!(arrived, [("sent".to_owned(), 1), ("named".to_owned(), 1)]);
    // Without the shard nobody knows, and nothing is said.
    world.bridge.kill();
    ask("sent").await.refused(503, "KeysUnavailable");
}
