//! A stock Baileys client (from npm, unmodified) against the simulation: the library that most of the field is built on reads the protocol in
//! its own way again.

use crate::stock::StockClient;
use crate::{ALICE, Scene};
use serde_json::{Value, json};

const BOB: &str = "+15550002";

async fn receipt(client: &mut StockClient, kind: &str) -> Value {
    let is_it = |event: &Value| event["event"] == "receipt" && event["type"] == kind;
    client.wait_until(&format!("{kind} receipt"), is_it).await
}

/// Sends a text and waits for the server's ack. Returns the message's id.
async fn send(client: &mut StockClient, to: &str, text: &str) -> Value {
    client.tell(&format!("send {to} {text}")).await;
    client.wait("sent").await["id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_links_by_qr_code_sends_and_comes_back() {
    let scene = Scene::new().await;
    let mut client = scene.linked_baileys().await;
    scene.it_comes_back(&mut client).await;
    send(&mut client, ALICE, "note to myself").await;
    assert_eq!(scene.stats().await["registrationsTotal"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_gets_the_history_and_the_settings_of_the_account_when_it_is_linked() {
    let scene = Scene::new().await;
    let mut client = scene.baileys();
    client.tell("connect").await;
    let code = client.wait("qr").await["code"].as_str().unwrap().to_owned();
    scene.scan(&code).await.unwrap();
    let mut missing = vec!["history", "synced"];
    while !missing.is_empty() {
        let event = client.wait_for_one_of(&missing).await;
        missing.retain(|name| event["event"] != *name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_links_by_typed_code() {
    let scene = Scene::new().await;
    scene.it_links_by_typed_code(scene.baileys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_understands_what_it_asks_for() {
    let scene = Scene::new().await;
    scene.it_understands_what_it_asks_for(scene.linked_baileys().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_hears_what_others_write_live_and_as_a_backlog_and_a_new_name() {
    let scene = Scene::new().await;
    let mut client = scene.linked_baileys().await;
    scene.it_hears_both_addresses(&mut client).await;
    scene.write(json!({"from": BOB, "text": "later", "count": 3, "queued": true})).await;
    scene.phone("drop", json!({})).await;
    for text in ["later 1", "later 2", "later 3"] {
        assert_eq!(client.wait("message").await["text"], text);
    }
    scene.delivered().await;
    client.tell("read").await;
    scene.phone("rename", json!({"pushName": "Alicia"})).await;
    client.wait_until("new name", |event| event["event"] == "named" && event["name"] == "Alicia").await;
    for message in scene.delivered().await {
        assert!(message["receipts"].as_array().unwrap().contains(&json!("read")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_sends_to_a_phone_that_answers_with_receipts_and_asks_again() {
    let scene = Scene::new().await;
    let mut client = scene.linked_baileys().await;
    client.tell(&format!("send {BOB} one")).await;
    receipt(&mut client, "delivered").await;
    let rules = json!({"receipts": {"read": true}, "retry": {"times": 1}});
    scene.call("/v1/phones/15550002/rules", Some(rules)).await.unwrap();
    client.tell(&format!("send {BOB} two")).await;
    receipt(&mut client, "read").await;
    scene.one_and_two_arrived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_whatsmeow_write_to_each_other() {
    let scene = Scene::new().await;
    let mut alice = scene.linked_baileys().await;
    let mut bob = scene.whatsmeow();
    scene.link(&mut bob, BOB, "Bob").await;
    alice.tell(&format!("send {BOB} from Baileys")).await;
    assert_eq!(bob.wait("message").await["text"], "from Baileys");
    receipt(&mut alice, "delivered").await;
    bob.tell(&format!("send {ALICE} and back")).await;
    assert_eq!(alice.wait("message").await["text"], "and back");
    alice.tell("read").await;
    receipt(&mut bob, "read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_asks_another_baileys_again_for_what_it_cannot_read() {
    let scene = Scene::new().await;
    let (mut alice, mut bob) = (scene.linked_baileys().await, scene.baileys());
    scene.link(&mut bob, BOB, "Bob").await;
    // An answer makes it a session that both sides know, in which nothing can be read without it.
    send(&mut bob, ALICE, "first").await;
    alice.wait("message").await;
    send(&mut alice, BOB, "second").await;
    bob.wait("message").await;
    alice.tell("forget session").await;
    alice.wait("forgotten").await;
    let id = send(&mut bob, ALICE, "third").await;
    let unreadable = alice.wait_for_one_of(&["undecryptable", "message"]).await;
    assert_eq!((&unreadable["event"], &unreadable["id"]), (&json!("undecryptable"), &id));
    let readable = alice.wait("message").await;
    assert_eq!((&readable["text"], &readable["id"]), (&json!("third"), &id));
    // The next message is the next that comes: nothing came twice.
    send(&mut bob, ALICE, "fourth").await;
    assert_eq!(alice.wait_for_one_of(&["undecryptable", "message"]).await["text"], "fourth");
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_is_unlinked_on_the_phone_and_logs_out_itself() {
    let scene = Scene::new().await;
    let mut client = scene.linked_baileys().await;
    assert_eq!(scene.phone("unlink", json!({})).await["connected"], 1);
    assert_eq!(client.wait("loggedOut").await["code"], 401);
    // With the keys of the removed device it is refused.
    client.tell("connect").await;
    assert_eq!(client.wait("loggedOut").await["code"], 401);
    assert_eq!(scene.stats().await["registered"], 0);
    let mut client = scene.baileys();
    scene.link(&mut client, ALICE, "Alice").await;
    client.tell("logout").await;
    assert_eq!(client.wait("loggedOut").await["code"], 401);
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_links_a_coexistence_account() {
    let scene = Scene::new().await;
    scene.it_links_a_coexistence_account(scene.baileys()).await;
}
