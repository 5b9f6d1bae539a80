//! Messages of other people, a backlog, a rename and a phone that keeps its app-state key, as a real client sees them.

use crate::companion::Companion;
use crate::{ALICE, Scene, disconnected};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use wacore_binary::Server;
use whatsapp_rust::types::events::Event;

const BOB: &str = "+15550002";

impl Scene {
    pub async fn write(&self, letter: Value) -> Vec<String> {
        let written = self.phone("messages", letter).await;
        serde_json::from_value(written["ids"].clone()).unwrap()
    }

    /// What became of the messages, once there is a receipt for each. A client that nobody looks at says `inactive`.
    pub async fn delivered(&self) -> Vec<Value> {
        let is_confirmed = |one: &Value| {
            let receipts = one["receipts"].as_array().unwrap();
            receipts.iter().any(|kind| kind == "delivered" || kind == "inactive")
        };
        let confirmed = async {
            loop {
                let all = self.call("/v1/phones/15550001/messages", None).await.unwrap();
                let all = all.as_array().unwrap().clone();
                if !all.is_empty() && all.iter().all(is_confirmed) {
                    return all;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), confirmed).await.expect("a receipt for each message")
    }
}

type Heard = (String, String, Server);

/// The next messages: text, author's name and kind of address. A backlog may come as one event.
async fn messages(companion: &Companion, count: usize) -> Vec<Heard> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let batch = companion.wait("message", |event| match event {
            Event::Messages(batch) => Some(batch.messages.clone()),
            _ => None,
        });
        for one in batch.await.iter() {
            let text = one.message.conversation.clone().unwrap_or_default();
            heard.push((text, one.info.push_name.clone(), one.info.source.sender.server));
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_writes_arrives_by_either_address_and_is_acknowledged() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let first = scene.write(json!({"from": BOB, "text": "hello", "name": "Bob"})).await;
    assert_eq!(messages(&companion, 1).await, [("hello".into(), "Bob".into(), Server::Pn)]);
    let second = scene.write(json!({"from": BOB, "text": "again", "name": "Bob", "address": "lid"})).await;
    assert_eq!(messages(&companion, 1).await, [("again".into(), "Bob".into(), Server::Lid)]);
    let delivered = scene.delivered().await;
    let ids: Vec<&str> = delivered.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [first[0].as_str(), second[0].as_str()]);
    for one in &delivered {
        assert_eq!((&one["from"], &one["device"], &one["sent"]), (&json!(BOB), &json!(1), &json!(1)), "{one}");
        assert_eq!((&one["offline"], &one["acknowledged"]), (&json!(false), &json!(true)), "{one}");
    }
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_meanwhile_comes_as_a_backlog_at_the_next_login() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.write(json!({"from": BOB, "text": "number", "count": 5, "intervalMs": 20, "queued": true})).await;
    let waiting = scene.call("/v1/phones/15550001/messages", None).await.unwrap();
    assert!(waiting.as_array().unwrap().iter().all(|one| one["sent"] == 0), "{waiting}");
    scene.phone("drop", json!({})).await;
    companion.wait("Disconnected", disconnected).await;
    let announced = |event: &Event| match event {
        Event::OfflineSyncPreview(preview) => Some((preview.total, preview.messages)),
        _ => None,
    };
    assert_eq!(companion.wait("preview", announced).await, (5, 5));
    let mut heard: Vec<String> = messages(&companion, 5).await.into_iter().map(|(text, ..)| text).collect();
    // The library decrypts a backlog side by side, and tells of it in any order.
    heard.sort();
    assert_eq!(heard, ["number 1", "number 2", "number 3", "number 4", "number 5"]);
    companion.connected().await;
    assert!(scene.delivered().await.iter().all(|one| one["offline"] == true && one["sent"] == 1));
    // What was acknowledged does not come again.
    scene.phone("drop", json!({})).await;
    companion.wait("Disconnected", disconnected).await;
    companion.connected().await;
    assert!(scene.delivered().await.iter().all(|one| one["sent"] == 1));
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_in_one_sentence() {
    let scene = Scene::new().await;
    let write = |letter: Value| async {
        let answer = scene.call("/v1/phones/15550001/messages", Some(letter)).await;
        answer.unwrap_err().to_string()
    };
    let nobody = write(json!({"from": BOB, "text": "hello"})).await;
    assert!(nobody.contains("no device is linked"), "{nobody}");
    let number = write(json!({"from": "Bob", "text": "hello"})).await;
    assert!(number.contains("`from` must be a phone number"), "{number}");
    let itself = write(json!({"from": ALICE, "text": "hello"})).await;
    assert!(itself.contains("another number"), "{itself}");
    let many = write(json!({"from": BOB, "text": "hello", "count": 0})).await;
    assert!(many.contains("`count` must be 1 to 10000"), "{many}");
}

fn renamed(event: &Event) -> Option<String> {
    match event {
        Event::SelfPushNameUpdated(update) => Some(update.new_name.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_reaches_the_devices_online_and_offline() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    assert_eq!(scene.phone("rename", json!({"pushName": "Alicia"})).await["connected"], 1);
    assert_eq!(companion.wait("new name", renamed).await, "Alicia");
    companion.stop().await;
    scene.phone("rename", json!({"pushName": "Alice B."})).await;
    let again = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    assert_eq!(again.wait("new name", renamed).await, "Alice B.");
    assert_eq!(scene.call("/v1/devices", None).await.unwrap()[0]["pushName"], "Alice B.");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_name_gets_its_first_one() {
    let scene = Scene::new().await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    let body = json!({"qr": companion.qr().await, "phone": ALICE});
    scene.call("/v1/scan", Some(body)).await.unwrap();
    companion.connected().await;
    assert_eq!(companion.client.push_name(), "");
    scene.phone("rename", json!({"pushName": "Alice"})).await;
    assert_eq!(companion.wait("new name", renamed).await, "Alice");
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_keeps_its_app_state_key_keeps_the_client_waiting() {
    let scene = Scene::new().await;
    scene.phone("rules", json!({"keepAppStateKey": true})).await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    let qr = companion.qr().await;
    scene.scan(&qr).await.unwrap();
    // It asks for the key when the ten seconds are over in which a phone usually sends it unasked.
    let asked = async {
        while scene.server.world.counters.key_requests.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), asked).await.expect("a request for the key");
    assert!(companion.client.wait_for_connected(Duration::from_millis(500)).await.is_err());
    scene.phone("rules", json!({})).await;
    companion.connected().await;
    companion.stop().await;
}
