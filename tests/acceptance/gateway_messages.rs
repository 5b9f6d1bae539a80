//! Messages through the REST API.

use serde_json::{Value, json};

use crate::{
    gateway::{named, world},
    support::{
        gateway::{ALL_VERBS, Answer, Rest, account, answered, let_message, until, user},
        world::{SOON, World},
    },
};

const SEND: &str = "/api/v1/messages/send/";

/// A session of this account, linked and connected; its id.
pub async fn connected(world: &World, rest: &Rest, token: &str, name: &str, phone: &str) -> String {
    let made = rest.call(token, "POST", "/api/v1/sessions/init/?wait=30", named(world, name)).await.data(201).clone();
    world.whatsapp.scan(made["qr_code"].as_str().unwrap(), phone, "Alice").await.unwrap();
    let object = made["object"].as_str().unwrap();
    world.history.until_phase(object, whatsapp_operator::api::Phase::Connected, SOON).await;
    // The pace of a person is not what is tried here.
    world.patch_spec(object, json!({"sending": {"perMinute": 0}})).await;
    made["id"].as_str().unwrap().to_owned()
}

/// Sends with a key, again while the gateway has not seen the primary yet.
pub async fn send(rest: &Rest, token: &str, path: &str, body: &Value, key: Option<&str>) -> Answer {
    let mut request = rest.request("POST", path).bearer_auth(token).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    answered(request).await
}

pub async fn until_primary(rest: &Rest, token: &str, id: &str) {
    let path = format!("/api/v1/sessions/status/{id}/");
    until("is it the primary one", async || rest.get(token, &path).await.data(200)["is_primary"] == true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_through_the_primary_session_and_is_one_message_whoever_asks_again() {
    let friend = "+15550203901";
    let world = world("gateway-messages").await;
    let rest = Rest::start(&world, &[]).await;
    let other = Rest::beside(&world, "gateway-2", &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let body = |text: &str| json!({"recipient": friend, "message": text});
    send(&rest, &token, SEND, &body("Nobody sends"), None).await.refused(409, "NoPrimary");
    let first = connected(&world, &rest, &token, "First", "+15550203001").await;
    until_primary(&rest, &token, &first).await;

    let sent = send(&rest, &token, &format!("{SEND}?wait=30"), &body("Hello"), None).await.data(200).clone();
    assert!(["sent", "delivered"].contains(&sent["status"].as_str().unwrap()), "{}", sent["status"]);
    assert_eq!(
        (&sent["session_id"], &sent["recipient"], &sent["message"]),
        (&json!(first), &json!(friend), &json!("Hello"))
    );
    let time = |field: &str| sent[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lasts = time("expires_at").duration_since(time("accepted_at")).as_secs();
    assert!((24 * 3600 - 60..=24 * 3600).contains(&lasts), "{lasts} s");
    let id = sent["id"].as_str().unwrap();
    let seen = rest.get(&token, &format!("/api/v1/messages/{id}")).await.data(200).clone();
    assert_eq!(seen["whatsapp_id"], sent["whatsapp_id"]);
    rest.post(&token, &format!("/api/v1/messages/cancel/{id}/")).await.refused(409, "TooLate");
    let list = rest.get(&token, &format!("/api/v1/messages/list/?session_id={first}&limit=1")).await.data(200).clone();
    assert_eq!((&list["messages"][0]["id"], &list["next_cursor"]), (&sent["id"], &Value::Null));

    // Fifty at once, through two gateways, with one key: one message.
    let same = (0..50).map(|n| {
        let gateway = if n % 2 == 0 { &rest } else { &other };
        let key = if n % 3 == 0 { "\"order-17\"" } else { "order-17" };
        let (token, body) = (&token, body("Order 17"));
        async move { send(gateway, token, SEND, &body, Some(key)).await }
    });
    let answers = futures::future::join_all(same).await;
    let ids: std::collections::BTreeSet<&str> = answers
        .iter()
        .map(|answer| answer.body["data"]["id"].as_str().unwrap_or_else(|| panic!("{}", answer.body)))
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count(), 1);
    send(&rest, &token, SEND, &body("Order 18"), Some("order-17")).await.refused(422, "KeyReused");

    // The primary moves; the same key is the same message of the same session, and a new one goes through the new primary.
    let second = connected(&world, &rest, &token, "Second", "+15550203002").await;
    let moved = rest.post(&token, &format!("/api/v1/sessions/set-primary/{second}/")).await;
    assert!(moved.status < 300, "{}", moved.body);
    until_primary(&rest, &token, &second).await;
    let again = send(&other, &token, &format!("{SEND}?wait=30"), &body("Order 17"), Some("order-17")).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(
        (again.data(200)["id"].as_str(), &again.body["data"]["session_id"]),
        (ids.first().copied(), &json!(first))
    );
    let next = send(&rest, &token, &format!("{SEND}?wait=30"), &body("Order 19"), Some("order-19")).await;
    assert_eq!(next.data(200)["session_id"], json!(second));
    // The server has it; the phone reads it a moment later.
    until("has all arrived", async || world.whatsapp.inbox(friend).await.len() >= 3).await;
    let texts: Vec<String> = world.whatsapp.inbox(friend).await.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["Hello", "Order 17", "Order 19"]);

    // Without a connection it waits, says for what, and can be called back.
    rest.post(&token, &format!("/api/v1/sessions/disconnect/{second}/")).await;
    let object = rest.get(&token, &format!("/api/v1/sessions/status/{second}/")).await.data(200)["object"].clone();
    world.history.until_phase(object.as_str().unwrap(), whatsapp_operator::api::Phase::Disconnected, SOON).await;
    let by_second = json!({"recipient": friend, "message": "Later", "session_id": second});
    let waiting = send(&rest, &token, SEND, &by_second, None).await.data(202).clone();
    assert_eq!((&waiting["status"], &waiting["waits_for"]), (&json!("queued"), &json!("Connection")));
    let cancel = format!("/api/v1/messages/cancel/{}/", waiting["id"].as_str().unwrap());
    // Only the path says which: whoever says more means something else.
    rest.call(&token, "POST", &cancel, json!({"reason": "x"})).await.refused(400, "BadRequest");
    let unmarked = rest.request("POST", &cancel).bearer_auth(&token).body("x");
    answered(unmarked).await.refused(415, "UnsupportedMediaType");
    assert_eq!(rest.post(&token, &cancel).await.data(200)["status"], "cancelled");
    let log = rest.program.log();
    let noted = |line: &&str| line.contains("message called back") && line.contains(waiting["id"].as_str().unwrap());
    assert_eq!(log.lines().filter(noted).count(), 1, "whose message it was stands in the log");
    // Balanced goes by what can send.
    let balanced = json!({"recipient": friend, "message": "Balanced", "routing": "balanced"});
    assert_eq!(send(&rest, &token, SEND, &balanced, None).await.body["data"]["session_id"], json!(first));
    // What waits is sent when the session is connected again, by itself.
    let waits = json!({"recipient": friend, "message": "When it is back", "session_id": second});
    let waiting = send(&rest, &token, SEND, &waits, Some("order-20")).await.data(202).clone();
    assert_eq!((&waiting["status"], &waiting["waits_for"]), (&json!("queued"), &json!("Connection")));
    rest.post(&token, &format!("/api/v1/sessions/connect/{second}/?wait=30")).await.data(200);
    let path = format!("/api/v1/messages/{}/", waiting["id"].as_str().unwrap());
    until("is it delivered", async || other.get(&token, &path).await.data(200)["status"] == "delivered").await;
    let again = send(&rest, &token, SEND, &waits, Some("order-20")).await;
    assert_eq!(again.data(200)["id"], waiting["id"]);
    // The answer that accepted it and those from the bridge's disk write a moment alike.
    for field in ["accepted_at", "expires_at"] {
        let written = waiting[field].as_str().unwrap();
        assert_eq!(again.body["data"][field], written, "{field}");
        assert_eq!(written.len(), "2026-01-01T12:00:00.000Z".len(), "{written}");
    }
    let inbox = world.whatsapp.inbox(friend).await;
    assert_eq!(inbox.iter().filter(|line| line.text == "When it is back").count(), 1);
    assert!(inbox.iter().all(|line| line.text != "Later"), "what was called back is not sent");
    rest.nothing_leaked(&world, &[friend, "+15550203001", "Order 17", "When it is back"], &[&token]).await;
    world.nothing_leaked(&[friend, "+15550203001", "+15550203002"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_not_there_until_rbac_says_so() {
    let friend = "+15550203911";
    let world = world("gateway-messages-access").await;
    let rest = Rest::start(&world, &[]).await;
    let owner = account(&world, "owner", ALL_VERBS).await;
    let other = account(&world, "other", ALL_VERBS).await;
    let id = connected(&world, &rest, &owner, "Mine", "+15550203011").await;
    until_primary(&rest, &owner, &id).await;
    let through = json!({"recipient": friend, "message": "Hello", "session_id": id});
    let sent = send(&rest, &owner, &format!("{SEND}?wait=30"), &through, None).await.data(200).clone();
    let path = format!("/api/v1/messages/{}/", sent["id"].as_str().unwrap());
    let as_owner = format!("{SEND}?owner={}", user(&world, "owner"));
    let without = json!({"recipient": friend, "message": "Hello"});

    send(&rest, &other, SEND, &through, None).await.refused(404, "NotFound");
    send(&rest, &other, &as_owner, &without, None).await.refused(409, "NoPrimary");
    // Nor are the owner's keys: somebody with a session of their own neither uses one up nor finds out whether it was used.
    let theirs = connected(&world, &rest, &other, "Theirs", "+15550203012").await;
    let through_theirs = json!({"recipient": friend, "message": "Hello", "session_id": theirs});
    send(&rest, &other, &as_owner, &through_theirs, Some("order-1001")).await.refused(404, "NotFound");
    send(&rest, &owner, SEND, &through, Some("order-1001")).await.data(202);
    send(&rest, &other, &as_owner, &through_theirs, Some("order-1001")).await.refused(404, "NotFound");
    rest.get(&other, &path).await.refused(404, "MessageNotFound");
    rest.get(&other, &format!("/api/v1/messages/list/?session_id={id}")).await.refused(404, "NotFound");
    rest.post(&other, &path.replace("/messages/", "/messages/cancel/")).await.refused(404, "MessageNotFound");
    for token in ["", "garbage"] {
        send(&rest, token, SEND, &through, None).await.refused(401, "Unauthorized");
        rest.get(token, &path).await.refused(401, "Unauthorized");
    }

    let_message(&world, "other", "get").await;
    until("is reading allowed", async || rest.get(&other, &path).await.status == 200).await;
    send(&rest, &other, SEND, &through, None).await.refused(404, "NotFound");
    let_message(&world, "other", "create").await;
    until("is sending allowed", async || send(&rest, &other, &as_owner, &without, None).await.status < 300).await;

    // Bad requests do nothing.
    for (body, status, code) in [
        (json!({"message": "x"}), 422, "Invalid"),
        (json!({"recipient": "anna", "message": "x"}), 422, "Invalid"),
        (json!({"recipient": friend, "message": "\n"}), 422, "Invalid"),
        (json!({"recipient": friend, "message": 5}), 422, "Invalid"),
        (json!({"recipient": friend, "message": "x", "extra": 1}), 400, "BadRequest"),
        (json!({"recipient": friend, "message": "x", "session_id": "nowhere"}), 404, "NotFound"),
        (json!({"recipient": friend, "message": "x".repeat(65_537)}), 422, "Invalid"),
    ] {
        send(&rest, &owner, SEND, &body, None).await.refused(status, code);
    }
    send(&rest, &owner, SEND, &without, Some("a b")).await.refused(400, "BadRequest");
    assert!(world.whatsapp.inbox(friend).await.iter().all(|line| line.text == "Hello"));

    // A session that has no place on a bridge is there all the same: it has no messages yet.
    let unplaced = json!({"name": "Unplaced", "bridge": format!("{}-none", world.name)});
    let unplaced = rest.call(&owner, "POST", "/api/v1/sessions/init/?wait=0", unplaced).await.data(201).clone();
    let list = format!("/api/v1/messages/list/?session_id={}", unplaced["id"].as_str().unwrap());
    until("are its messages listed", async || rest.get(&owner, &list).await.status == 200).await;
    assert_eq!(*rest.get(&owner, &list).await.data(200), json!({"messages": [], "next_cursor": null}));
}
