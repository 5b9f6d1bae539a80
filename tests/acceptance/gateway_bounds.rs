//! The bounds of a bridge: how many messages wait, how many that are over are remembered, and how long a page of them may be.

use serde_json::{Value, json};

use crate::{
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Rest, account, until},
        world::{Wishes, World},
    },
};

const SEND: &str = "/api/v1/messages/send/";

async fn bounded(name: &str, bound: [&str; 2]) -> World {
    let bridge = bound.map(str::to_owned).to_vec();
    World::start_with(name, Wishes { webhooks: true, bridge, ..Wishes::default() }).await
}

/// Where a message is.
fn path(message: &Value) -> String {
    format!("/api/v1/messages/{}/", message["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_a_bridge_is_bounded_over_all_its_sessions() {
    let (friend, phones) = ("+15550208871", ["+15550208071", "+15550208072"]);
    let mut world = bounded("gateway-bounds-waiting", ["--max-waiting", "3"]).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let mut sessions = Vec::new();
    for (name, phone) in ["First", "Second"].into_iter().zip(phones) {
        let id = connected(&world, &rest, &token, name, phone).await;
        rest.post(&token, &format!("/api/v1/sessions/disconnect/{id}/?wait=30")).await.data(200);
        sessions.push(id);
    }
    let ask = async |session: usize, text: &str| {
        let body = json!({"recipient": friend, "message": text, "session_id": sessions[session]});
        send(&rest, &token, SEND, &body, None).await
    };
    let mut waiting = Vec::new();
    for (session, text) in [(0, "Crate one"), (0, "Crate two"), (1, "Crate three")] {
        waiting.push(ask(session, text).await.data(202).clone());
    }
    let is_full = async || {
        for session in [0, 1] {
            let full = ask(session, "Crate four").await;
            let said = full.refused(429, "QueueFull");
            let after = full.headers["retry-after"].to_str().unwrap();
            assert!(said.contains("on its bridge") && said.contains(&format!("in {after} s")), "{said}");
        }
    };
    is_full().await;
    // What waits is counted anew from the disk.
    world.bridge.kill();
    world.restart_bridge().await;
    is_full().await;

    // One that is called back makes room for one, in any session.
    let cancel = path(&waiting[2]).replace("/messages/", "/messages/cancel/");
    rest.post(&token, &cancel).await.data(200);
    ask(0, "Crate four").await.data(202);
    is_full().await;

    // And so does what was sent.
    rest.post(&token, &format!("/api/v1/sessions/connect/{}/?wait=30", sessions[0])).await.data(200);
    until("has all of the first session arrived", async || world.whatsapp.inbox(friend).await.len() == 3).await;
    // The server's word may come after the phone has it.
    until("is there room again", async || ask(1, "Crate five").await.status == 202).await;
    let arrived: Vec<String> = world.whatsapp.inbox(friend).await.into_iter().map(|line| line.text).collect();
    assert_eq!(arrived, ["Crate one", "Crate two", "Crate four"]);
    rest.nothing_leaked(&world, &[friend, phones[0], phones[1], "Crate "], &[&token]).await;
    world.nothing_leaked(&[friend, phones[0], phones[1], "Crate "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_long_texts_is_short_and_its_cursor_leads_to_the_others() {
    let (friend, phone) = ("+15550208873", "+15550208074");
    let world = bounded("gateway-bounds-page", ["--max-waiting", "99"]).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", phone).await;
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{id}/?wait=30")).await.data(200);
    let mut expected = Vec::new();
    // Each a quarter of a megabyte, and then short ones.
    let long = "\u{1f600}".repeat(65_536);
    for text in [&*long, &long, &long, &long, &long, "Short", "Short"] {
        let body = json!({"recipient": friend, "message": text, "session_id": id});
        expected.push(send(&rest, &token, SEND, &body, None).await.data(202)["id"].clone());
    }
    expected.reverse();
    let (mut found, mut pages, mut cursor) = (Vec::new(), Vec::new(), String::new());
    while pages.len() < 9 {
        let page = rest.get(&token, &format!("/api/v1/messages/list/?session_id={id}{cursor}")).await;
        let messages = page.data(200)["messages"].as_array().unwrap();
        pages.push(messages.len());
        found.extend(messages.iter().map(|message| message["id"].clone()));
        let Some(next) = page.data(200)["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((found, pages), (expected, vec![3, 1, 1, 1, 1]));
    let one = rest.get(&token, &format!("/api/v1/messages/list/?session_id={id}&limit=1")).await;
    assert!(one.data(200)["messages"].as_array().unwrap().len() == 1 && one.data(200)["next_cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_messages_that_are_over_are_remembered_and_a_key_still_names_those_that_are_not() {
    let (friend, phone) = ("+15550208872", "+15550208073");
    let mut world = bounded("gateway-bounds-history", ["--history-messages", "99"]).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", phone).await;
    until_primary(&rest, &token, &id).await;
    let ask = async |number: usize| {
        let body = json!({"recipient": friend, "message": format!("Letter {number}")});
        send(&rest, &token, &format!("{SEND}?wait=30"), &body, Some(&format!("letter-{number}"))).await
    };
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(ask(number).await.data(200).clone());
    }
    let listed = format!("/api/v1/messages/list/?session_id={id}");
    let listed = async || -> Vec<Value> {
        let messages = rest.get(&token, &listed).await.data(200)["messages"].as_array().unwrap().clone();
        messages.into_iter().map(|message| message["id"].clone()).collect()
    };
    assert_eq!(listed().await.len(), 5);
    // Looked at when the bridge starts.
    world.bridge.set("--history-messages", "2");
    world.bridge.kill();
    world.restart_bridge().await;
    until("are three forgotten", async || listed().await.len() == 2).await;
    assert_eq!(listed().await, [sent[4]["id"].clone(), sent[3]["id"].clone()], "the newest stay");
    rest.get(&token, &path(&sent[0])).await.refused(404, "MessageNotFound");
    let again = ask(0).await;
    assert_eq!(
        (&again.data(200)["id"], &again.headers["idempotent-replayed"]),
        (&sent[0]["id"], &"true".parse().unwrap())
    );
    assert_eq!(world.whatsapp.inbox(friend).await.len(), 5, "nothing was sent twice");
}
