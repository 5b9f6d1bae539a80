//! A stock whatsmeow client (from Go modules, unmodified) against the simulation, with the certificate chain checked:
//! so that the simulation keeps to the protocol and not to one library.

use crate::{ALICE, Scene};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_links_by_qr_code_sends_and_comes_back() {
    let scene = Scene::new().await;
    let mut client = scene.linked_whatsmeow().await;
    scene.it_comes_back(&mut client).await;
    client.tell(&format!("send {ALICE} note to myself")).await;
    assert!(client.wait("sent").await["id"].is_string());
    assert_eq!(scene.stats().await["registrationsTotal"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_links_by_typed_code() {
    let scene = Scene::new().await;
    scene.it_links_by_typed_code(scene.whatsmeow()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_understands_what_it_asks_for() {
    let scene = Scene::new().await;
    scene.it_understands_what_it_asks_for(scene.linked_whatsmeow().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_hears_what_others_write_live_and_as_a_backlog_and_a_new_name() {
    let scene = Scene::new().await;
    let mut client = scene.linked_whatsmeow().await;
    scene.it_hears_both_addresses(&mut client).await;
    scene.write(json!({"from": "+15550002", "text": "later", "count": 3, "queued": true})).await;
    scene.phone("drop", json!({})).await;
    // The client says that the backlog is over when it has it, and what is in it when it has decrypted that.
    let (mut texts, mut over) = (Vec::new(), 0);
    while texts.len() < 3 || over == 0 {
        let event = client.wait_for_one_of(&["message", "offlineSyncCompleted"]).await;
        over += usize::from(event["count"] == 3);
        texts.extend(event["text"].as_str().map(str::to_owned));
    }
    assert_eq!((texts, over), (vec!["later 1".to_owned(), "later 2".to_owned(), "later 3".to_owned()], 1));
    scene.delivered().await;
    scene.phone("rename", json!({"pushName": "Alicia"})).await;
    assert_eq!(client.wait("renamed").await["name"], "Alicia");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_sends_to_a_phone_that_answers_with_receipts_and_asks_again() {
    let scene = Scene::new().await;
    let mut client = scene.linked_whatsmeow().await;
    client.tell("send +15550002 one").await;
    assert_eq!(client.wait("receipt").await["type"], "delivered");
    let rules = json!({"receipts": {"read": true}, "retry": {"times": 1}});
    scene.call("/v1/phones/15550002/rules", Some(rules)).await.unwrap();
    client.tell("send +15550002 two").await;
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "read") {
        kinds.push(client.wait("receipt").await["type"].as_str().unwrap().to_owned());
    }
    assert!(kinds.contains(&"delivered".to_owned()), "{kinds:?}");
    scene.one_and_two_arrived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_logs_out_and_is_unlinked() {
    let scene = Scene::new().await;
    let mut client = scene.linked_whatsmeow().await;
    client.tell("logout").await;
    client.wait("loggedOutByMe").await;
    assert_eq!(scene.stats().await["registered"], 0);
    let mut client = scene.whatsmeow();
    client.tell("connect").await;
    let code = client.wait("qr").await["code"].as_str().unwrap().to_owned();
    scene.scan(&code).await.unwrap();
    client.wait("connected").await;
    assert_eq!(scene.phone("unlink", json!({})).await["connected"], 1);
    assert_eq!(client.wait("loggedOut").await["onConnect"], false);
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_links_a_coexistence_account() {
    let scene = Scene::new().await;
    scene.it_links_a_coexistence_account(scene.whatsmeow()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_checks_the_certificate_chain() {
    let scene = Scene::new().await;
    let mut client = scene.whatsmeow_that_trusts(&"07".repeat(32));
    client.tell("connect").await;
    let failed = client.wait("failed").await;
    assert!(failed["error"].as_str().unwrap().contains("cert signature"), "{failed}");
}
