//! Messages in the event stream: told to those who may read them, resumable, and open about what it missed.

use serde_json::{Value, json};

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, Event, READ_VERBS, Rest, account, answered, let_message, until},
        world::World,
    },
};

const SEND: &str = "/api/v1/messages/send/";

fn is_message(event: &Event) -> bool {
    event.kind == "message"
}

fn status(event: &Event) -> &str {
    event.data["message"]["status"].as_str().unwrap_or_default()
}

/// Whether it says that this message is in this state.
fn says<'a>(id: &'a Value, state: &'a str) -> impl Fn(&Event) -> bool + 'a {
    move |event| is_message(event) && event.data["message"]["id"] == *id && status(event) == state
}

async fn sent(rest: &Rest, token: &str, friend: &str, text: &str) -> Value {
    let answer =
        send(rest, token, &format!("{SEND}?wait=30"), &json!({"recipient": friend, "message": text}), None).await;
    answer.data(200)["id"].clone()
}

async fn sender(name: &str, phone: &str) -> (World, Rest, String, String) {
    let world = world(name).await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    (world, rest, token, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_how_far_messages_have_come_and_goes_on_where_it_was() {
    let (friend, phone) = ("+15550204901", "+15550204001");
    let (world, rest, token, session) = sender("gateway-message-events", phone).await;
    let mut events = rest.follow(&token, "", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    let first = sent(&rest, &token, friend, "One").await;
    let (before, delivered) = events.until("One delivered", says(&first, "delivered")).await;
    let states: Vec<&str> = before.iter().filter(|event| is_message(event)).map(status).collect();
    assert_eq!(states, ["queued", "sent"]);
    let path = format!("/api/v1/messages/{}/", first.as_str().unwrap());
    assert_eq!(delivered.data["message"], *rest.get(&token, &path).await.data(200), "the object that GET answers");
    assert_eq!(delivered.data["type"], "message");
    let place = events.last_id.clone();

    // What happens while nobody listens, told once by any gateway, in order.
    drop(events);
    let second = sent(&rest, &token, friend, "Two").await;
    let path = format!("/api/v1/messages/{}/", second.as_str().unwrap());
    until("is Two delivered", async || rest.get(&token, &path).await.data(200)["status"] == "delivered").await;
    world.whatsapp.read(friend).await;
    let other = Rest::start(&world, &[]).await;
    for rest in [&rest, &other] {
        let mut resumed = rest.follow(&token, "", Some(&place)).await;
        let (before, _) = resumed.until("Two read", says(&second, "read")).await;
        assert!(before.iter().all(|event| event.kind != "reset" && event.kind != "ready"), "{before:?}");
        let of = |id: &Value| -> Vec<&str> {
            before.iter().filter(|event| event.data["message"]["id"] == *id).map(status).collect()
        };
        assert_eq!(of(&second), ["queued", "sent", "delivered"]);
        // Which of the two was read first is the phone's affair; nothing from before is told again.
        assert!(of(&first).iter().all(|status| *status == "read"), "{before:?}");
        // And what happens then, once.
        let third = sent(rest, &token, friend, "Three").await;
        let (before, _) = resumed.until("Three delivered", says(&third, "delivered")).await;
        let of_third = before.iter().filter(|event| event.data["message"]["id"] == third);
        assert_eq!(of_third.map(status).collect::<Vec<_>>(), ["queued", "sent"]);
    }

    // A queued message says what it waits for, as GET does.
    let mut events = rest.follow(&token, "", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{session}/")).await;
    let offline = |event: &Event| event.data["session"]["phase"] == "Disconnected";
    events.until("offline", offline).await;
    let waiting = json!({"recipient": friend, "message": "Later"});
    let waiting = send(&rest, &token, SEND, &waiting, None).await.data(202).clone();
    let (_, told) = events.until("the queued one", says(&waiting["id"], "queued")).await;
    assert_eq!(told.data["message"]["waits_for"], "Connection");
    rest.post(&token, &format!("/api/v1/messages/cancel/{}/", waiting["id"].as_str().unwrap())).await.data(200);
    events.until("the cancelled one", says(&waiting["id"], "cancelled")).await;
    rest.nothing_leaked(&world, &[friend, phone, "Three"], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_messages_hears_of_them_and_whoever_does_not_want_them_does_not() {
    let (friend, phone) = ("+15550204911", "+15550204011");
    let (world, rest, token, _) = sender("gateway-message-events-access", phone).await;
    let (viewer, reader) = (account(&world, "viewer", READ_VERBS).await, account(&world, "reader", READ_VERBS).await);
    let_message(&world, "reader", "get").await;
    let mut streams = Vec::new();
    for (token, query) in [(&token, "?messages=false"), (&viewer, "?owner=*"), (&reader, "?owner=*"), (&token, "")] {
        let mut events = rest.follow(token, query, None).await;
        events.until("ready", |event| event.kind == "ready").await;
        streams.push(events);
    }
    rest.get(&token, "/api/v1/events?messages=perhaps").await.refused(400, "BadRequest");
    // A right counts when the API server knows it.
    let id = sent(&rest, &token, friend, "Hello").await;
    let path = format!("/api/v1/messages/{}/", id.as_str().unwrap());
    until("may the reader read", async || rest.get(&reader, &path).await.status == 200).await;
    let id = sent(&rest, &token, friend, "Secret words").await;
    for events in streams.iter_mut().skip(2) {
        events.until("it is delivered", says(&id, "delivered")).await;
    }
    // The others hear of the session's change after that, and of no message before.
    let renamed = json!({"name": "Renamed"});
    let list = rest.get(&token, "/api/v1/sessions/list/").await.data(200).clone();
    let path = format!("/api/v1/sessions/{}/", list["sessions"][0]["id"].as_str().unwrap());
    rest.call(&token, "PATCH", &path, renamed).await.data(200);
    for events in streams.iter_mut().take(2) {
        let (before, _) = events.until("the rename", |event| event.data["session"]["instance_name"] == "Renamed").await;
        assert!(!before.iter().any(is_message), "{before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_tell_any_more_is_said_and_sessions_go_on() {
    let (friend, phone) = ("+15550204921", "+15550204021");
    let (mut world, rest, token, _) = sender("gateway-message-events-missed", phone).await;
    let mut events = rest.follow(&token, "", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    let first = sent(&rest, &token, friend, "One").await;
    events.until("One delivered", says(&first, "delivered")).await;
    let place = events.last_id.clone();
    let mut waits = rest.follow(&token, "", Some(&place)).await;

    world.bridge.kill();
    world.restart_bridge().await;
    let missed = |event: &Event| event.kind == "reset";
    for open in [&mut events, &mut waits] {
        let (before, reset) = open.until("what was missed", missed).await;
        assert_eq!(reset.data, json!({"type": "reset", "reason": "MessagesMissed"}));
        assert!(before.iter().all(|event| event.kind == "session"), "{before:?}");
    }
    let mut resumed = rest.follow(&token, "", Some(&place)).await;
    let (before, reset) = resumed.until("what was missed", missed).await;
    assert_eq!(reset.data["reason"], "MessagesMissed");
    assert!(before.iter().all(|event| event.kind == "session"), "{before:?}");
    let answer = answered(
        rest.request("POST", &format!("{SEND}?wait=60"))
            .bearer_auth(&token)
            .json(&json!({"recipient": friend, "message": "Two"})),
    )
    .await;
    let second = answer.data(200)["id"].clone();
    for open in [&mut events, &mut waits, &mut resumed] {
        let (before, _) = open.until("Two delivered", says(&second, "delivered")).await;
        assert!(before.iter().all(|event| event.kind != "ready" && event.kind != "reset"), "{before:?}");
    }
}
