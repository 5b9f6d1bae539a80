//! One key is one message, while the primary moves between instances on two shards and two gateways are asked at once.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use futures::future::join_all;
use kube::ResourceExt as _;
use serde_json::json;

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Rest, account, until},
        relay::{Fate, Relay},
        world::{BridgeAddress, VERSION, bridge_program, create_bridge},
    },
};

const FRIEND: &str = "+15550208901";
const SEND: &str = "/api/v1/messages/send/";
/// Who asks at once, half of them at each gateway.
const AT_ONCE: usize = 50;
const KEYS: usize = 6;
/// Messages without a key while the primary moves.
const BARE: usize = 4;
/// So many that in one run of half a million all of them go to the same one of two sessions.
const STRANGERS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_message_while_the_primary_moves_between_two_shards() {
    let world = world("gateway-once").await;
    let whatsapp = ["--whatsapp-url", &world.whatsapp.url, "--whatsapp-version", VERSION];
    let mut second_shard = bridge_program(&world.dir.join("second"), &world.token).args(whatsapp);
    let address: BridgeAddress = second_shard.start().await;
    create_bridge(&world.client, &world.name, &[&world.bridge_address.http, &address.http], &world.token).await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let other = Rest::beside(&world, "gateway-2", &["--rate-limit", "0"]).await;
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
    let mut phones: BTreeMap<String, String> = BTreeMap::new();
    for session in &sessions {
        let status = rest.get(&token, &format!("/api/v1/sessions/status/{session}/")).await.data(200).clone();
        phones.insert(session.clone(), status["phone_number"].as_str().unwrap().to_owned());
    }
    until_primary(&rest, &token, &sessions[0]).await;

    let mut of_key: BTreeMap<String, String> = BTreeMap::new();
    // By what a message says, the session that its answers name.
    let mut sender_of: BTreeMap<String, String> = BTreeMap::new();
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
        // And some without a key, each a message of its own.
        let bare = |n: usize| {
            let gateway = if n.is_multiple_of(2) { &rest } else { &other };
            let (token, text) = (&token, format!("Bare {round} {n}"));
            async move { send(gateway, token, SEND, &json!({"recipient": FRIEND, "message": text}), None).await }
        };
        let (answers, bare, moved) =
            tokio::join!(join_all((0..AT_ONCE).map(ask)), join_all((0..BARE).map(bare)), moving);
        assert!(moved.status < 300, "{}", moved.body);
        // And once more, when it has moved for certain.
        let again = join_all((0..4).map(ask)).await;
        let mut ids = BTreeSet::new();
        for answer in answers.iter().chain(&again).chain(&bare) {
            let data = &answer.body["data"];
            let text = |field: &str| data[field].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned();
            if text("message") == format!("Order {round}") {
                ids.insert(text("id"));
            }
            let named = sender_of.entry(text("message")).or_insert_with(|| text("session_id"));
            assert_eq!(*named, text("session_id"), "all answers of {key} name one sender");
        }
        assert_eq!(ids.len(), 1, "{key}");
        let first = answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!(first, 1, "{key}");
        of_key.insert(key, ids.pop_first().unwrap());
    }
    assert_eq!(sender_of.values().collect::<BTreeSet<_>>().len(), 2, "both have sent");
    for (key, id) in &of_key {
        let n = key.trim_start_matches("order-");
        let body = json!({"recipient": FRIEND, "message": format!("Order {n}")});
        let last = send(&other, &token, &format!("{SEND}?wait=60"), &body, Some(key)).await;
        assert_eq!(last.data(200)["id"], json!(id));
    }
    // Each arrives once, and from the phone of the session that its answers named.
    let all_there = async || world.whatsapp.inbox(FRIEND).await.len() >= sender_of.len();
    until("have all arrived", all_there).await;
    let mut arrived: Vec<(String, u32, String)> =
        world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| (line.text, line.count, line.from)).collect();
    arrived.sort();
    let expected: Vec<(String, u32, String)> =
        sender_of.iter().map(|(text, session)| (text.clone(), 1, phones[session].clone())).collect();
    assert_eq!(expected.len(), KEYS * (1 + BARE));
    assert_eq!(arrived, expected);

    // Balanced: a recipient stays with the session that wrote to them first, and new ones are shared out.
    let mut by_session: BTreeMap<String, usize> = BTreeMap::new();
    let mut strangers = Vec::new();
    for n in 0..STRANGERS {
        let stranger = format!("+155502082{n:02}");
        let body = json!({"recipient": stranger, "message": "Umbrella", "routing": "balanced"});
        let first = send(&rest, &token, &format!("{SEND}?wait=60"), &body, None).await.data(200).clone();
        let again = send(&other, &token, &format!("{SEND}?wait=60"), &body, None).await.data(200).clone();
        assert_eq!(first["session_id"], again["session_id"], "stranger {n} stays");
        let session = first["session_id"].as_str().unwrap();
        *by_session.entry(session.to_owned()).or_default() += 1;
        let from: Vec<String> = world.whatsapp.inbox(&stranger).await.into_iter().map(|line| line.from).collect();
        assert_eq!(from, [phones[session].clone(), phones[session].clone()]);
        strangers.push(stranger);
    }
    assert_eq!(by_session.len(), 2, "both are used");
    let numbers: Vec<&str> = phones.values().chain(&strangers).map(String::as_str).chain([FRIEND]).collect();
    let secrets: Vec<&str> = numbers.into_iter().chain(["Umbrella", "Bare 0"]).collect();
    for gateway in [&rest, &other] {
        gateway.nothing_leaked(&world, &secrets, &[&token]).await;
    }
    world.nothing_leaked(&secrets).await;
    let log = second_shard.log();
    assert!(
        secrets.iter().all(|secret| !log.contains(secret.trim_start_matches('+'))),
        "nor in the second shard's log"
    );
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
    let secrets = [friend, "+15550208011", "+15550208012"];
    rest.nothing_leaked(&world, &secrets, &[&token]).await;
    world.nothing_leaked(&secrets).await;
    // Without the shard nobody knows, and nothing is said.
    world.bridge.kill();
    ask("sent").await.refused(503, "KeysUnavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_got_lost_is_not_called_unsent() {
    let friend = "+15550203991";
    let world = world("gateway-once-lost").await;
    let relay = Relay::of(&world.bridge_address.http).await;
    create_bridge(&world.client, &world.name, &[&relay.url], &world.token).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", "+15550203091").await;
    until_primary(&rest, &token, &session).await;

    relay.now(|method, path| {
        let message = method == Method::PUT && path.contains("/messages/");
        if message { Fate::AnswerLost } else { Fate::Passed }
    });
    // Without a key: whoever is told to try again sends it twice.
    let body = json!({"recipient": friend, "message": "Hello"});
    let refused = send(&rest, &token, SEND, &body, None).await;
    let said = refused.refused(504, "Timeout");
    relay.until_lost(2).await;
    relay.now(|_, _| Fate::Passed);
    let path = said.split(' ').find(|word| word.starts_with("/api/v1/messages/")).expect("it names the message");
    until("is it sent", async || rest.get(&token, path).await.data(200)["status"] != "queued").await;
    assert_eq!(world.whatsapp.inbox(friend).await.len(), 1, "though the gateway asked twice");
}
