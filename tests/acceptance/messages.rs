//! Messages through the bridge: what was accepted arrives once and in order, and its state is true.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{bridge::Bench, support::phone::Received};

const SENDER: &str = "+15550003001";
const FRIEND: &str = "+15550003901";
/// Nobody has a number that begins with +1555999.
const NOBODY: &str = "+15559990001";

impl Bench {
    pub(crate) async fn sender(&self, id: &str, phone: &str) {
        self.put(id, json!({"sending": {"perMinute": 0}})).await;
        self.link(id, phone).await;
    }

    pub(crate) async fn post(&self, session: &str, id: &str, to: &str, text: &str) -> (StatusCode, Value) {
        let body = json!({"to": to, "content": {"type": "text", "text": text}});
        self.ask(Method::PUT, &format!("/v1/sessions/{session}/messages/{id}"), Some(body)).await
    }

    pub(crate) async fn accepted(&self, session: &str, id: &str, to: &str, text: &str) -> Value {
        let (status, message) = self.post(session, id, to, text).await;
        assert_eq!(status, StatusCode::CREATED, "{}", message["error"]["message"]);
        message
    }

    /// What the session "a" sends to this phone fails as long as there are rules for the phone, and arrives when they end.
    async fn reaches_without_rules_alone(&self, phone: &str) {
        self.accepted("a", &id(1), phone, "Hello").await;
        let failed = self.until_message("a", &id(1), &["Failed", "Sent", "Delivered"]).await;
        assert_eq!((&failed["state"], &failed["cause"]), (&json!("Failed"), &json!("RecipientUnreachable")));
        self.whatsapp.rules(phone, json!({})).await;
        self.accepted("a", &id(2), phone, "Hello again").await;
        self.until_message("a", &id(2), &["Delivered"]).await;
    }

    pub(crate) async fn message(&self, session: &str, id: &str) -> Value {
        self.ask(Method::GET, &format!("/v1/sessions/{session}/messages/{id}"), None).await.1
    }

    /// Waits until a message is in one of these states.
    pub(crate) async fn until_message(&self, session: &str, id: &str, states: &[&str]) -> Value {
        let search = async {
            loop {
                let message = self.message(session, id).await;
                if message["state"].as_str().is_some_and(|state| states.contains(&state)) {
                    return message;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), search).await {
            Ok(message) => message,
            Err(_) => {
                let message = self.message(session, id).await;
                panic!("{id} is {} ({}), not {states:?}", message["state"], message["waitsFor"])
            }
        }
    }
}

pub(crate) fn id(number: usize) -> String {
    format!("3EB0{number:018X}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_delivered_and_read_and_its_repetition_is_the_same_message() {
    let bench = Bench::start("messages", &[]).await;
    bench.sender("a", SENDER).await;
    let accepted = bench.accepted("a", &id(1), FRIEND, "Good morning").await;
    assert_eq!((accepted["state"].as_str(), accepted["sequence"].as_u64()), (Some("Queued"), Some(1)));
    bench.until_message("a", &id(1), &["Delivered"]).await;
    bench.whatsapp.read(FRIEND).await;
    let read = bench.until_message("a", &id(1), &["Read"]).await;
    for time in ["acceptedAt", "sentAt", "deliveredAt", "readAt"] {
        assert!(read[time].is_string(), "{time}");
    }
    // However the number is written, it is the same message, and another one is refused.
    let (status, again) = bench.post("a", &id(1), "1 (555) 000-3901", "Good morning").await;
    assert_eq!((status, &again["state"]), (StatusCode::OK, &json!("Read")));
    let (status, other) = bench.post("a", &id(1), FRIEND, "Good evening").await;
    assert_eq!((status, &other["error"]["code"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let inbox = bench.whatsapp.inbox(FRIEND).await;
    assert_eq!(inbox.iter().map(|line| (&*line.text, line.count)).collect::<Vec<_>>(), [("Good morning", 1)]);

    let list = bench.ask(Method::GET, "/v1/sessions/a/messages?limit=1", None).await.1;
    assert_eq!(list["items"][0]["id"], id(1));
    for (path, body) in [
        ("/v1/sessions/a/messages/short", json!({"to": FRIEND, "content": {"type": "text", "text": "x"}})),
        ("/v1/sessions/a/messages/3EB0000000000099", json!({"to": "anna", "content": {"type": "text", "text": "x"}})),
        ("/v1/sessions/a/messages/3EB0000000000099", json!({"to": FRIEND, "content": {"type": "text", "text": " \n"}})),
        ("/v1/sessions/a/messages/3EB0000000000099", json!({"to": FRIEND, "content": {"type": "dance"}})),
        (
            "/v1/sessions/a/messages/3EB0000000000099",
            json!({"to": "1-2@g.us", "content": {"type": "text", "text": "x"}}),
        ),
    ] {
        let (status, error) = bench.ask(Method::PUT, path, Some(body)).await;
        assert_eq!((status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("Invalid")), "{error}");
    }
    bench.nothing_leaked(&[SENDER, FRIEND, "555) 000-3901", "Good morning", "Good evening"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_two_numbers_is_one_person_once_whatsapp_has_said_so() {
    // Brazil, with the ninth digit and as WhatsApp has it.
    const WRITTEN: &str = "+55 11 98765-3971";
    const KNOWN: &str = "+551187653971";
    const PHONE: &str = "+15550003071";
    let mut bench = Bench::start("messages-two-numbers", &[]).await;
    bench.sender("a", PHONE).await;
    bench.sender("b", "+15550003072").await;
    let knows = async |session: &str, to: &str| {
        let question = json!({"to": to, "sessions": [session]});
        let answer = bench.ask(Method::POST, "/v1/messages/load", Some(question)).await.1;
        answer["items"][0]["knowsRecipient"] == true
    };
    assert!(!knows("a", WRITTEN).await && !knows("a", KNOWN).await);
    bench.accepted("a", &id(1), WRITTEN, "Hello").await;
    bench.until_message("a", &id(1), &["Delivered"]).await;
    // A caller who writes them in the other way is sent through the session that they have heard from.
    assert!(knows("a", WRITTEN).await && knows("a", KNOWN).await && !knows("b", KNOWN).await);
    let lid = bench.whatsapp.inbox(KNOWN).await[0].lid.clone();
    assert!(knows("a", &lid).await && !knows("b", &lid).await);

    // Whichever way: one after the other, with a pause of a second.
    bench.put("a", json!({"sending": {"perMinute": 6000, "burst": 100}})).await;
    let before = Timestamp::now().as_millisecond();
    for (number, to) in [(2, KNOWN), (3, WRITTEN), (4, &lid), (5, WRITTEN)] {
        bench.accepted("a", &id(number), to, "Hello").await;
    }
    bench.until_message("a", &id(5), &["Delivered"]).await;
    let arrived: Vec<Received> = bench.whatsapp.inbox(KNOWN).await;
    assert_eq!(arrived.iter().map(|line| &line.id).collect::<Vec<_>>(), [&id(1), &id(2), &id(3), &id(4), &id(5)]);
    let took = arrived[4].acked_at.cast_signed() - before;
    assert!(took >= 3000, "three pauses in {took} ms");

    // Also of what waited before the bridge heard that it is for one person.
    bench.put("a", json!({"sending": {"perMinute": 6000, "burst": 100}, "desiredState": "Disconnected"})).await;
    bench.until("a", "Stopped", None).await;
    for (number, to) in [(6, &*lid), (7, WRITTEN), (8, &lid), (9, KNOWN)] {
        bench.accepted("a", &id(number), to, "Hello").await;
    }
    bench.bridge.kill();
    bench.address = bench.bridge.start().await;
    let before = Timestamp::now().as_millisecond();
    bench.put("a", json!({"sending": {"perMinute": 6000, "burst": 100}})).await;
    bench.until_message("a", &id(9), &["Delivered"]).await;
    let arrived: Vec<Received> = bench.whatsapp.inbox(KNOWN).await;
    assert_eq!(arrived[5..].iter().map(|line| &line.id).collect::<Vec<_>>(), [&id(6), &id(7), &id(8), &id(9)]);
    let took = arrived[8].acked_at.cast_signed() - before;
    assert!(took >= 2000, "two pauses in {took} ms");
    bench.nothing_leaked(&[PHONE, KNOWN, "1198765", "98765-3971"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_sent_says_why_and_one_that_waits_says_for_what() {
    let mut bench = Bench::start("messages-waiting", &[]).await;
    bench.put("new", json!({})).await;
    bench.until("new", "AwaitingPairing", None).await;
    let (status, refused) = bench.post("new", &id(1), FRIEND, "Hello").await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::CONFLICT, &json!("NotPaired")));

    bench.sender("a", SENDER).await;
    bench.accepted("a", &id(1), NOBODY, "Hello").await;
    let failed = bench.until_message("a", &id(1), &["Failed"]).await;
    assert_eq!(failed["cause"], "NotOnWhatsApp");
    let settled = "whatsapp_bridge_messages_settled_total";
    assert_eq!(bench.metric(&format!("{settled}{{state=\"Failed\",cause=\"NotOnWhatsApp\"}}")).await, 1);
    assert_eq!(bench.metric("whatsapp_bridge_messages_accepted_total{repeated=\"false\"}").await, 1);
    assert_eq!(bench.metric("whatsapp_bridge_messages_oldest_waiting_seconds").await, 0);

    // Offline by wish: it waits, also through a restart, and can be called back until it is handed over.
    bench.put("a", json!({"desiredState": "Disconnected", "sending": {"perMinute": 0}})).await;
    bench.until("a", "Stopped", None).await;
    let accepted = bench.accepted("a", &id(2), FRIEND, "One").await;
    assert_eq!(accepted["waitsFor"], "Connection");
    // It waits for a day, unless it says how long.
    let time = |field: &str| accepted[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expiresAt").duration_since(time("acceptedAt")).as_secs(), 24 * 3600);
    let soon = jiff::Timestamp::now() + Duration::from_secs(5);
    let body = json!({"to": FRIEND, "content": {"type": "text", "text": "Too late"}, "expiresAt": soon});
    let path = format!("/v1/sessions/a/messages/{}", id(7));
    assert_eq!(bench.ask(Method::PUT, &path, Some(body)).await.0, StatusCode::CREATED);
    let expired = bench.until_message("a", &id(7), &["Expired", "Failed"]).await;
    assert_eq!((&expired["state"], expired["sentAt"].is_null()), (&json!("Expired"), true));
    assert_eq!(bench.metric(&format!("{settled}{{state=\"Expired\",cause=\"\"}}")).await, 1);
    assert!(bench.metric("whatsapp_bridge_messages_oldest_waiting_seconds").await >= 1, "since it was accepted");
    bench.accepted("a", &id(3), FRIEND, "Two").await;
    bench.bridge.kill();
    bench.address = bench.bridge.start().await;
    let called_back = bench.ask(Method::DELETE, &format!("/v1/sessions/a/messages/{}", id(3)), None).await;
    assert_eq!((called_back.0, &called_back.1["state"]), (StatusCode::OK, &json!("Cancelled")));
    bench.put("a", json!({"sending": {"perMinute": 0}})).await;
    bench.until_message("a", &id(2), &["Sent", "Delivered"]).await;
    let (status, late) = bench.ask(Method::DELETE, &format!("/v1/sessions/a/messages/{}", id(2)), None).await;
    assert_eq!((status, &late["error"]["code"]), (StatusCode::CONFLICT, &json!("TooLate")));

    // A pace, and an expiry that it cannot meet.
    bench.put("a", json!({"sending": {"perMinute": 1, "burst": 1}})).await;
    bench.accepted("a", &id(4), FRIEND, "Slowly").await;
    bench.until_message("a", &id(4), &["Sent", "Delivered"]).await;
    assert_eq!(bench.accepted("a", &id(5), FRIEND, "Later").await["waitsFor"], "Pacing");
    let soon = jiff::Timestamp::now() + Duration::from_secs(30);
    let body = json!({"to": FRIEND, "content": {"type": "text", "text": "Soon"}, "expiresAt": soon});
    let (status, full) = bench.ask(Method::PUT, &format!("/v1/sessions/a/messages/{}", id(6)), Some(body)).await;
    assert_eq!((status, &full["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("QueueFull")));
    assert!(full["error"]["retryAfter"].as_u64().is_some_and(|seconds| seconds > 10), "{full}");

    // What waits in a session that is deleted fails, and can still be asked for.
    bench.deleted("a").await;
    let failed = bench.message("a", &id(5)).await;
    assert_eq!((&failed["state"], &failed["cause"]), (&json!("Failed"), &json!("SessionDeleted")));
    // What expired or was called back went to nobody.
    let arrived: Vec<String> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    assert_eq!(arrived, ["One", "Slowly"]);
    bench.nothing_leaked(&[SENDER, FRIEND, NOBODY, "Too late", "Slowly"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_an_account_is_sent_by_it_and_by_no_other() {
    let (account, other, friend) = ("+15550003011", "+15550003012", "+15550003911");
    let bench = Bench::start("messages-account", &[]).await;
    bench.sender("a", account).await;
    for (number, was, linked, expected) in
        [(1, account, account, "Delivered"), (2, account, other, "Failed"), (3, other, other, "Delivered")]
    {
        // It waits while the session is offline by wish; meanwhile the device is removed on the phone.
        bench.put("a", json!({"desiredState": "Disconnected", "sending": {"perMinute": 0}})).await;
        bench.until("a", "Stopped", None).await;
        bench.accepted("a", &id(number), friend, &format!("Message {number}")).await;
        bench.whatsapp.happens(was, "unlink").await;
        bench.put("a", json!({"sending": {"perMinute": 0}})).await;
        bench.until("a", "LoggedOut", None).await;
        assert_eq!(bench.message("a", &id(number)).await["waitsFor"], "Pairing");
        bench.put("a", json!({"sending": {"perMinute": 0}, "pairing": {"window": format!("{number}")}})).await;
        bench.link("a", linked).await;
        let message = bench.until_message("a", &id(number), &["Delivered", "Failed"]).await;
        assert_eq!(message["state"], expected, "{number}");
        assert_eq!(message["cause"].as_str(), (expected == "Failed").then_some("AccountChanged"));
    }
    // The new account sends what it is asked to, and nothing of the old one's.
    bench.accepted("a", &id(4), friend, "Message 4").await;
    bench.until_message("a", &id(4), &["Delivered"]).await;
    let inbox = bench.whatsapp.inbox(friend).await;
    let texts: Vec<_> = inbox.iter().map(|line| (&*line.text, line.count)).collect();
    assert_eq!(texts, [("Message 1", 1), ("Message 3", 1), ("Message 4", 1)]);
    bench.nothing_leaked(&[account, other, friend, "Message 1", "Message 4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_is_said_only_of_what_the_recipients_phone_can_read() {
    let bench = Bench::start("messages-unkeyed", &[]).await;
    bench.sender("a", SENDER).await;
    bench.whatsapp.rules(FRIEND, json!({"keepKeys": true})).await;
    bench.reaches_without_rules_alone(FRIEND).await;
    bench.nothing_leaked(&[SENDER, FRIEND, "Hello again"]).await;
}

/// An acknowledgement can be lost, also each of them; a receipt of the phone says more than it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_phone_says_it_has_was_sent_though_the_server_says_nothing() {
    let (account, friend) = ("+15550003042", "+15550003942");
    let bench = Bench::start("messages-receipt-only", &[]).await;
    bench.sender("a", account).await;
    let logins = bench.whatsapp.logins(account).await.len();
    bench.whatsapp.rules(account, json!({"acks": {"lost": true}})).await;
    let ids: Vec<String> = (1..=5).map(id).collect();
    for id in &ids {
        bench.accepted("a", id, friend, "Hello").await;
    }
    for id in &ids {
        let message = bench.until_message("a", id, &["Delivered"]).await;
        assert!(message["sentAt"].is_string() && message["deliveredAt"].is_string(), "{}", message["state"]);
    }
    assert_eq!(bench.whatsapp.logins(account).await.len(), logins, "the connection is not given up");
    let inbox = bench.whatsapp.inbox(friend).await;
    assert_eq!(
        inbox.iter().map(|line| (&line.id, line.count)).collect::<Vec<_>>(),
        ids.iter().map(|id| (id, 1)).collect::<Vec<_>>()
    );
}

/// A phone that has written has a session; that does not say that the next message is for it.
#[tokio::test(flavor = "multi_thread")]
async fn sent_is_not_said_where_the_server_names_the_companions_of_a_phone_alone() {
    let (account, friend) = ("+15550003041", "+15550003941");
    let bench = Bench::start("messages-unlisted", &[]).await;
    bench.sender("a", account).await;
    bench.sender("companion", friend).await;
    bench.whatsapp.rules(friend, json!({"phoneUnlisted": true})).await;
    bench.whatsapp.is_heard(friend, account).await;
    // The list is asked for anew, so the phone gets what comes when it is named again.
    bench.reaches_without_rules_alone(friend).await;
    assert_eq!(bench.whatsapp.inbox(friend).await.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["Hello again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_could_not_read_is_sent_again_also_by_a_bridge_that_was_killed_meanwhile() {
    const RETRIER: &str = "+15550003021";
    let mut bench = Bench::start("messages-again", &[]).await;
    bench.sender("a", RETRIER).await;
    for (number, address) in ["pn", "lid"].into_iter().enumerate() {
        let friend = format!("+1555000393{number}");
        let (twice, later) = (id(number * 10 + 1), id(number * 10 + 2));
        // It asks by the number, or by its linked id, until it can read the third.
        bench.whatsapp.rules(&friend, json!({"retry": {"times": 2}, "receipts": {"address": address}})).await;
        bench.accepted("a", &twice, &friend, "Could you read that").await;
        bench.until_message("a", &twice, &["Delivered"]).await;
        // And one asks when the bridge that sent it is gone: its next process answers.
        let late = json!({"retry": {"times": 1}, "receipts": {"address": address, "afterMs": 3000}});
        bench.whatsapp.rules(&friend, late).await;
        bench.accepted("a", &later, &friend, "And that later").await;
        bench.until_message("a", &later, &["Sent", "Delivered"]).await;
        bench.bridge.kill();
        bench.address = bench.bridge.start().await;
        bench.until_message("a", &later, &["Delivered"]).await;
        let inbox = bench.whatsapp.inbox(&friend).await;
        let lines: Vec<_> = inbox.iter().map(|line| (&*line.text, line.count, line.retries)).collect();
        assert_eq!(lines, [("Could you read that", 1, 2), ("And that later", 1, 1)], "asked by {address}");
        bench
            .nothing_leaked(&[
                RETRIER,
                &friend,
                inbox[0].lid.trim_end_matches("@lid"),
                "Could you read",
                "And that later",
            ])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_with_two_numbers_or_a_linked_id_is_found_by_each() {
    const ASKER: &str = "+15550003031";
    let bench = Bench::start("messages-numbers", &[]).await;
    bench.sender("a", ASKER).await;
    for (number, (written, kept)) in [
        ("+5511987654321", "+551187654321"),
        ("+525512345678", "+5215512345678"),
        ("+541112345678", "+5491112345678"),
        ("+15550003931", "+15550003931"),
    ]
    .into_iter()
    .enumerate()
    {
        let ids: Vec<String> = (0..4).map(|place| id(number * 10 + place)).collect();
        // The second time the address is known; the third time it is written as the server has it.
        for (id, to) in ids.iter().zip([written, written, kept]) {
            bench.accepted("a", id, to, "By its number").await;
            bench.until_message("a", id, &["Delivered"]).await;
        }
        let lid = bench.whatsapp.inbox(kept).await[0].lid.clone();
        bench.accepted("a", &ids[3], &lid, "By its linked id").await;
        bench.until_message("a", &ids[3], &["Delivered"]).await;
        let inbox = bench.whatsapp.inbox(kept).await;
        assert_eq!(inbox.iter().map(|line| &line.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>(), "{written}");
        bench
            .nothing_leaked(&[ASKER, written, kept, lid.trim_end_matches("@lid"), "By its number", "By its linked id"])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_code_and_a_silence_is_a_lost_connection() {
    const UNTOUCHED: &str = "+15550003005";
    let bench = Bench::start("messages-refused", &[]).await;
    bench.sender("a", SENDER).await;
    bench.sender("b", UNTOUCHED).await;
    bench.whatsapp.rules(SENDER, json!({"acks": {"error": 479, "times": 1}})).await;
    bench.accepted("a", &id(1), FRIEND, "Refused").await;
    let failed = bench.until_message("a", &id(1), &["Failed"]).await;
    assert_eq!((&failed["cause"], &failed["code"]), (&json!("RefusedByServer"), &json!(479)));

    let (logins, untouched) = (bench.whatsapp.logins(SENDER).await.len(), bench.whatsapp.logins(UNTOUCHED).await.len());
    bench.whatsapp.rules(SENDER, json!({"acks": {"lost": true, "times": 1}})).await;
    // Nor does the phone say that it has it.
    bench.whatsapp.rules(FRIEND, json!({"receipts": {"delivered": false}})).await;
    bench.accepted("a", &id(2), FRIEND, "Not acknowledged").await;
    // Another session goes on meanwhile.
    bench.accepted("b", &id(3), "+15550003905", "From the other").await;
    bench.until_message("b", &id(3), &["Delivered"]).await;
    bench.until("a", "Reconnecting", Some("ServerNotAnswering")).await;
    // Connected again it is not believed before the server acknowledges something.
    bench.whatsapp.rules(SENDER, json!({"acks": {"delayMs": 3000, "times": 1}})).await;
    bench.until("a", "Connected", Some("MessagesNotAcknowledged")).await;
    bench.until_message("a", &id(2), &["Sent", "Delivered"]).await;
    bench.until_it("a", |session| session["phase"] == "Connected" && session["reason"].is_null()).await;
    assert_eq!(bench.whatsapp.logins(SENDER).await.len(), logins + 1);
    let ids: Vec<String> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.id).collect();
    assert_eq!(ids, [id(2)]);
    bench.until("b", "Connected", None).await;
    assert_eq!(bench.whatsapp.logins(UNTOUCHED).await.len(), untouched, "the other session stayed where it was");
    bench.nothing_leaked(&[SENDER, UNTOUCHED, FRIEND, "Not acknowledged", "From the other"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_was_sent_when_whatsapps_clock_says_so() {
    const PHONE: &str = "+15550003041";
    let bench = Bench::start("messages-clock", &[]).await;
    bench.sender("a", PHONE).await;
    bench.whatsapp.rules(PHONE, json!({"acks": {"behindSecs": 3600}})).await;
    // A receipt may be faster than the acknowledgement, and then says when.
    bench.whatsapp.rules("+15550003941", json!({"receipts": {"delivered": false}})).await;
    bench.accepted("a", &id(1), "+15550003941", "Hello").await;
    let sent = bench.until_message("a", &id(1), &["Sent"]).await;
    let time = |field: &str| sent[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let behind = time("acceptedAt").duration_since(time("sentAt")).as_secs();
    assert!((3500..=3600).contains(&behind), "sent {behind} s before it was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_that_is_lowered_loses_nothing_of_what_waits() {
    const PHONE: &str = "+15550003051";
    const PATIENT: &str = "+15550003951";
    let mut bench = Bench::start("messages-bound", &["--max-waiting-per-session", "3"]).await;
    bench.sender("a", PHONE).await;
    bench.put("a", json!({"desiredState": "Disconnected", "sending": {"perMinute": 0}})).await;
    bench.until("a", "Stopped", None).await;
    for number in 1..=3 {
        bench.accepted("a", &id(number), PATIENT, "Hello").await;
    }
    for bound in ["3", "1"] {
        bench.bridge.kill();
        bench.bridge.set("--max-waiting-per-session", bound);
        bench.address = bench.bridge.start().await;
        let (status, full) = bench.post("a", &id(4), PATIENT, "Hello").await;
        assert_eq!((status, &full["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("QueueFull")), "{bound}");
        assert!(full["error"]["retryAfter"].is_u64(), "{full}");
    }
    bench.put("a", json!({"sending": {"perMinute": 0}})).await;
    for number in 1..=3 {
        bench.until_message("a", &id(number), &["Delivered"]).await;
    }
    let arrived: Vec<String> = bench.whatsapp.inbox(PATIENT).await.into_iter().map(|line| line.id).collect();
    assert_eq!(arrived, [id(1), id(2), id(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_passes_keeps_nothing_back_where_the_lists_of_devices_are_not_signed() {
    const PHONE: &str = "+15550003031";
    const UNSIGNED: &str = "+15550003931";
    let bench = Bench::start("messages-unsigned", &[]).await;
    bench.sender("a", PHONE).await;
    // After the refusal the devices are asked for anew, the account's own among them, of which one is a companion.
    bench.whatsapp.rules(PHONE, json!({"unsignedDevices": true, "acks": {"error": 503, "times": 1}})).await;
    bench.accepted("a", &id(1), UNSIGNED, "Hello").await;
    bench.until_message("a", &id(1), &["Delivered"]).await;
    let arrived: Vec<String> = bench.whatsapp.inbox(UNSIGNED).await.into_iter().map(|line| line.id).collect();
    assert_eq!(arrived, [id(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_arrives_once_and_in_order_while_everything_breaks() {
    const SESSIONS: usize = 6;
    const MESSAGES: usize = 40;
    let mut bench = Bench::start("messages-chaos", &["--resume-interval", "0s"]).await;
    let phone = |session: usize| format!("+1555000310{session}");
    let friend = |session: usize| format!("+1555000390{session}");
    for session in 0..SESSIONS {
        bench.sender(&format!("s{session}"), &phone(session)).await;
    }
    let mut random = fastrand::Rng::with_seed(11);
    let mut accepted: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for number in 0..MESSAGES {
        for session in 0..SESSIONS {
            let id = id(session * 1000 + number);
            // Whoever got no answer asks again, with the same id.
            let (session_id, text) = (format!("s{session}"), format!("{session} {number}"));
            let body = json!({"to": friend(session), "content": {"type": "text", "text": text}});
            let (status, answer) =
                bench.ask(Method::PUT, &format!("/v1/sessions/{session_id}/messages/{id}"), Some(body)).await;
            assert!(
                status == StatusCode::CREATED || status == StatusCode::OK,
                "{status} {}",
                answer["error"]["message"]
            );
            accepted.insert((session, number), id);
        }
        match number % 8 {
            1 => bench.whatsapp.happens(&phone(random.usize(..SESSIONS)), "drop").await,
            3 => {
                let rule = json!({"acks": {"error": 503, "times": 2}});
                bench.whatsapp.rules(&phone(random.usize(..SESSIONS)), rule).await;
            }
            5 => {
                bench.bridge.kill();
                bench.address = bench.bridge.start().await;
            }
            7 => {
                let rule = json!({"acks": {"lost": true, "times": 1}});
                bench.whatsapp.rules(&phone(random.usize(..SESSIONS)), rule).await;
            }
            _ => {}
        }
    }
    for ((session, _), id) in &accepted {
        let message = bench.until_message(&format!("s{session}"), id, &["Sent", "Delivered", "Failed"]).await;
        assert_ne!(message["state"], "Failed", "{}", message["cause"]);
    }
    for session in 0..SESSIONS {
        let arrived: Vec<Received> = bench.whatsapp.inbox(&friend(session)).await;
        let ids: Vec<&String> = arrived.iter().map(|line| &line.id).collect();
        let expected: Vec<&String> = accepted.iter().filter(|((of, _), _)| *of == session).map(|(_, id)| id).collect();
        assert_eq!(ids, expected, "each once, in order, at the phone of session {session}");
        bench.nothing_leaked(&[&phone(session), &friend(session)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_keeps_messages_to_new_people_until_it_is_over() {
    const STRANGER: &str = "+15550003911";
    let bench = Bench::start("messages-restricted", &[]).await;
    bench.sender("a", SENDER).await;
    bench.accepted("a", &id(3), FRIEND, "Before").await;
    bench.until_message("a", &id(3), &["Delivered"]).await;
    bench.whatsapp.happens_for(SENDER, "restrict", 3600).await;
    bench.until_it("a", |session| session["restriction"]["kind"] == "ReachoutTimelock").await;
    assert_eq!(bench.accepted("a", &id(1), STRANGER, "Hello").await["waitsFor"], "Restriction");
    // Who has had a message from it goes on getting them.
    bench.accepted("a", &id(4), FRIEND, "Meanwhile").await;
    bench.until_message("a", &id(4), &["Delivered"]).await;
    assert_eq!(bench.message("a", &id(1)).await["state"], "Queued");
    bench.whatsapp.happens(SENDER, "unrestrict").await;
    bench.until_message("a", &id(1), &["Delivered"]).await;

    // Refused as those of a restricted account are, while the account is not: it waits, and is not tried again at once.
    bench.whatsapp.rules(SENDER, json!({"acks": {"error": 463, "times": 1}})).await;
    bench.accepted("a", &id(2), STRANGER, "Hello again").await;
    let refused = async {
        while bench.message("a", &id(2)).await["waitsFor"] != "Restriction" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("it waits for the restriction");
    let session = bench.ask(Method::GET, "/v1/sessions/a", None).await.1;
    assert_eq!((&session["phase"], &session["restriction"]), (&json!("Connected"), &Value::Null));
    assert_eq!(bench.message("a", &id(2)).await["state"], "Queued");
    bench.nothing_leaked(&[SENDER, FRIEND, STRANGER, "Hello again", "Meanwhile"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_during_a_ban_says_so_and_is_sent_when_the_ban_is_over() {
    const BANNED: &str = "+15550003041";
    let bench = Bench::start("messages-banned", &[]).await;
    bench.sender("a", BANNED).await;
    // Not acknowledged when the ban begins, and asked for during it.
    bench.whatsapp.rules(BANNED, json!({"acks": {"lost": true, "times": 1}})).await;
    bench.accepted("a", &id(1), FRIEND, "Parcel before").await;
    let arrived = async {
        while bench.whatsapp.inbox(FRIEND).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), arrived).await.expect("it arrives");
    bench.whatsapp.happens_for(BANNED, "ban", 15).await;
    bench.until("a", "Banned", Some("TemporaryBan")).await;
    assert_eq!(bench.accepted("a", &id(2), FRIEND, "Parcel during").await["waitsFor"], "Restriction");
    for number in [1, 2] {
        bench.until_message("a", &id(number), &["Delivered"]).await;
    }
    bench.until("a", "Connected", None).await;
    let ids: Vec<String> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.id).collect();
    assert_eq!(ids, [id(1), id(2)]);
    bench.nothing_leaked(&[BANNED, FRIEND, "Parcel "]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_looked_up_holds_up_others_for_a_minute_and_who_is_never_mentioned_has_no_account() {
    const ODD: &str = "+15550003921";
    const UNMENTIONED: &str = "+15550003922";
    let bench = Bench::start("messages-look-up", &[]).await;
    bench.sender("a", SENDER).await;
    bench.sender("b", "+15550003009").await;
    bench.whatsapp.rules(ODD, json!({"lookUp": {"error": 403}})).await;
    bench.whatsapp.rules(UNMENTIONED, json!({"lookUp": "silent"})).await;
    bench.accepted("b", &id(9), UNMENTIONED, "Hello").await;
    for (number, to) in [(1, ODD), (2, ODD), (3, FRIEND)] {
        bench.accepted("a", &id(number), to, "Hello").await;
    }
    let failed = bench.until_message("b", &id(9), &["Failed"]).await;
    assert_eq!(failed["cause"], "NotOnWhatsApp");
    bench.until_message("a", &id(3), &["Delivered"]).await;
    assert_eq!(bench.message("a", &id(1)).await["waitsFor"], "Pacing");
    // Nothing was sent to them: it can be called back.
    for number in [1, 2] {
        let path = format!("/v1/sessions/a/messages/{}", id(number));
        let (status, called_back) = bench.ask(Method::DELETE, &path, None).await;
        assert_eq!((status, &called_back["state"]), (StatusCode::OK, &json!("Cancelled")));
    }
    assert!(bench.whatsapp.inbox(ODD).await.is_empty());
    bench.nothing_leaked(&[SENDER, "+15550003009", FRIEND, ODD, UNMENTIONED]).await;
}
