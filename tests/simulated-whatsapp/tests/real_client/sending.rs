//! What a companion sends, as it arrives at the phones, and what comes back.

use crate::companion::Companion;
use crate::{ALICE, Scene};
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use wacore::store::InMemoryBackend;
use whatsapp_rust::types::events::Event;
use whatsapp_rust::types::presence::ReceiptType;
use whatsapp_rust::waproto::whatsapp as wa;
use whatsapp_rust::{Jid, SendOptions};

const BOB: &str = "15550002";

impl Scene {
    async fn rules(&self, phone: &str, rules: Value) {
        self.call(&format!("/v1/phones/{phone}/rules"), Some(rules)).await.unwrap();
    }

    /// What a phone received, once it is so many messages.
    pub async fn inbox(&self, phone: &str, count: usize) -> Vec<Value> {
        let arrived = async {
            loop {
                let all = self.call(&format!("/v1/inbox?phone={phone}"), None).await.unwrap();
                let all = all.as_array().unwrap().clone();
                if all.len() >= count && all.iter().all(|one| one["count"] != 0) {
                    return all;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), arrived).await.expect("the messages arrive")
    }
}

/// Sends a text and returns its id.
async fn send(companion: &Companion, to: Jid, text: &str) -> String {
    let message = wa::Message { conversation: Some(text.to_owned()), ..Default::default() };
    companion.client.send_message_with_options(to, message, SendOptions::default()).await.unwrap().message_id
}

/// The error of the server's ack of this message.
async fn acked(companion: &Companion, id: &str) -> Option<String> {
    let ack = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(ack.error.clone()),
        _ => None,
    };
    companion.wait("ServerAck", ack).await
}

async fn receipt(companion: &Companion, id: &str, kind: ReceiptType) {
    let wanted = |event: &Event| match event {
        Event::Receipt(receipt) => {
            (receipt.r#type == kind && receipt.message_ids.iter().any(|one| one == id)).then_some(())
        }
        _ => None,
    };
    companion.wait("receipt", wanted).await;
}

/// The server's ack without an error, and the receipt, in whatever order the library tells them.
async fn acked_and_delivered(companion: &Companion, id: &str) {
    let (acked, delivered) = (Cell::new(false), Cell::new(false));
    let both = |event: &Event| {
        match event {
            Event::ServerAck(ack) if ack.id == id => {
                assert_eq!(ack.error, None);
                acked.set(true);
            }
            Event::Receipt(receipt) if receipt.message_ids.iter().any(|one| one == id) => {
                assert_eq!(receipt.r#type, ReceiptType::Delivered);
                delivered.set(true);
            }
            _ => {}
        }
        (acked.get() && delivered.get()).then_some(())
    };
    companion.wait("ServerAck and receipt", both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_arrives_once_and_is_confirmed_as_delivered_and_read() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        let id = send(&companion, Jid::pn(BOB), text).await;
        acked_and_delivered(&companion, &id).await;
        ids.push(id);
    }
    let arrived = scene.inbox(BOB, 2).await;
    let lines: Vec<_> = arrived.iter().map(|one| (&one["id"], &one["text"], &one["count"], &one["from"])).collect();
    let from = json!(ALICE);
    let (one, two) = (json!(ids[0]), json!(ids[1]));
    assert_eq!(lines, [(&one, &json!("one"), &json!(1), &from), (&two, &json!("two"), &json!(1), &from)]);
    assert_eq!(scene.call(&format!("/v1/phones/{BOB}/read"), Some(json!({}))).await.unwrap()["messages"], 2);
    receipt(&companion, &ids[1], ReceiptType::Read).await;
    assert_eq!(scene.call(&format!("/v1/phones/{BOB}/read"), Some(json!({}))).await.unwrap()["messages"], 0);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_come_as_the_rules_of_the_phone_have_it() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.rules(BOB, json!({"receipts": {"delivered": false, "read": true, "afterMs": 300, "address": "lid"}})).await;
    let id = send(&companion, Jid::pn(BOB), "one").await;
    let first = |event: &Event| match event {
        Event::Receipt(receipt) => Some((receipt.r#type.clone(), receipt.source.sender.is_lid())),
        _ => None,
    };
    assert_eq!(companion.wait("receipt", first).await, (ReceiptType::Read, true), "{id}");
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_may_be_an_error_late_or_lost_and_a_message_too() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.rules("15550001", json!({"acks": {"error": 479, "times": 1}})).await;
    let refused = send(&companion, Jid::pn(BOB), "refused").await;
    assert_eq!(acked(&companion, &refused).await.as_deref(), Some("479"));
    scene.rules("15550001", json!({"acks": {"lost": true, "times": 1}})).await;
    let unconfirmed = send(&companion, Jid::pn(BOB), "unconfirmed").await;
    assert_eq!(scene.inbox(BOB, 1).await[0]["id"], unconfirmed, "what was refused went no further");
    scene.rules("15550001", json!({"acks": {"swallowed": true, "times": 1}})).await;
    send(&companion, Jid::pn(BOB), "swallowed").await;
    // What is asked after it is answered after it: by then the server has gone by the rule.
    companion.client.contacts().is_on_whatsapp(&[Jid::pn(BOB)]).await.unwrap();
    scene.rules("15550001", json!({"acks": {"delayMs": 700}})).await;
    let since = std::time::Instant::now();
    let late = send(&companion, Jid::pn(BOB), "late").await;
    assert_eq!(acked(&companion, &late).await, None);
    assert!(since.elapsed() >= Duration::from_millis(700));
    let texts: Vec<_> = scene.inbox(BOB, 2).await.iter().map(|one| one["text"].clone()).collect();
    assert_eq!(texts, [json!("unconfirmed"), json!("late")]);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_may_ask_for_a_message_again() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.rules(BOB, json!({"retry": {"times": 2}})).await;
    let id = send(&companion, Jid::pn(BOB), "again").await;
    receipt(&companion, &id, ReceiptType::Delivered).await;
    let arrived = &scene.inbox(BOB, 1).await[0];
    assert_eq!((&arrived["count"], &arrived["retries"], &arrived["text"]), (&json!(1), &json!(2), &json!("again")));
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_forgot_its_sessions_asks_until_it_can_read() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    // An answer of Bob's makes it a session that both sides know, in which nothing can be read without it.
    let first = send(&companion, Jid::pn(BOB), "first").await;
    receipt(&companion, &first, ReceiptType::Delivered).await;
    scene.write(json!({"from": BOB, "text": "answer"})).await;
    companion.wait("message", |event| matches!(event, Event::Messages(_)).then_some(())).await;
    let scene = scene.restarted(None).await;
    companion.connected().await;
    let id = send(&companion, Jid::pn(BOB), "second").await;
    receipt(&companion, &id, ReceiptType::Delivered).await;
    let arrived = &scene.inbox(BOB, 1).await[0];
    assert_eq!((&arrived["text"], &arrived["count"]), (&json!("second"), &json!(1)));
    assert!(arrived["retries"].as_u64().unwrap() >= 1, "{arrived}");
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_resolved_as_the_server_knows_them() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.rules("15550003", json!({"notOnWhatsapp": true})).await;
    for (asked, answer) in [
        (BOB, Some(BOB)),
        ("15550003", None),
        ("15559990001", None),
        ("5511987654321", Some("551187654321")),
        ("525512345678", Some("5215512345678")),
        ("541112345678", Some("5491112345678")),
    ] {
        let found = companion.client.contacts().is_on_whatsapp(&[Jid::pn(asked)]).await.unwrap();
        let found: Vec<_> = found.iter().filter(|one| one.is_registered).map(|one| one.jid.user.to_string()).collect();
        assert_eq!(found, answer.into_iter().collect::<Vec<_>>(), "{asked}");
    }
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_whose_keys_the_server_keeps_gets_nothing_although_the_message_is_acknowledged() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.rules(BOB, json!({"keepKeys": true})).await;
    let id = send(&companion, Jid::pn(BOB), "one").await;
    assert_eq!(acked(&companion, &id).await, None);
    assert_eq!(scene.call(&format!("/v1/inbox?phone={BOB}"), None).await.unwrap(), json!([]));
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn companions_of_two_accounts_write_to_each_other() {
    let scene = Scene::new().await;
    let alice = scene.linked().await;
    let bob = Companion::start(scene.url(), Arc::new(InMemoryBackend::new())).await;
    let body = json!({"qr": bob.qr().await, "phone": BOB, "pushName": "Bob"});
    scene.call("/v1/scan", Some(body)).await.unwrap();
    bob.connected().await;
    let text = |event: &Event| match event {
        Event::Messages(batch) => batch.messages.iter().find_map(|one| one.message.conversation.clone()),
        _ => None,
    };
    let id = send(&alice, Jid::pn(BOB), "from a companion").await;
    assert_eq!(bob.wait("message", text).await, "from a companion");
    receipt(&alice, &id, ReceiptType::Delivered).await;
    assert_eq!(scene.inbox(BOB, 1).await[0]["id"], id);
    send(&bob, Jid::pn("15550001"), "and back").await;
    assert_eq!(alice.wait("message", text).await, "and back");
    alice.stop().await;
    bob.stop().await;
}
