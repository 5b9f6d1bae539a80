//! This bridge and callers of other releases: what the first one asked and can read, what a later one may ask.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use whatsapp_operator::bridge_api::{Capability, Info, MOST_LOADS, MessageState, Session, SessionPhase, SessionReason};

use super::{Api, api, token::Token};
use crate::{
    backend::script::{Running, Script},
    feed::Feed,
    keys::script::NotedKeys,
    machine::Timings,
    metrics::Metrics,
    outbox::{Recipient, Settled},
    sessions::{Limits, Outboxes, People, Registry, RunningClients, Shared},
    store::{Change, MessageChange, Store},
};

#[path = "../../../tests/wire/first.rs"]
#[allow(dead_code)] // each side needs only some of it
mod first;

const TOKEN: &str = "sixteen-characters-or-more";

struct Bridge {
    routes: Router,
    // Whatever starts a client waits for the test to take it.
    _clients: mpsc::UnboundedReceiver<Running>,
}

/// A bridge with the sessions it finds in `directory`.
fn bridge(directory: &Path) -> Bridge {
    let token = directory.join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let (script, clients) = Script::new();
    let keys = NotedKeys::new();
    let (store, stored) = Store::open(&directory.join("bridge.db"), |_| ()).unwrap();
    let shared = Arc::new(Shared {
        backend: Arc::new(script),
        data: keys.data.clone(),
        keys: Arc::new(keys),
        store,
        feed: Feed::new("run"),
        outboxes: Outboxes::new(100, 1000),
        people: People::default(),
        permits: Arc::new(crate::permits::Permits::new(9)),
        metrics: Metrics::new(),
        message_traces: Arc::default(),
        closing: CancellationToken::new(),
        clients: tokio::runtime::Handle::current(),
        running: RunningClients::default(),
    });
    let timings = Timings::default();
    let limits = Limits { max_sessions: 9, resume_interval: Some(Duration::ZERO), timings, adopts: false };
    let registry = Arc::new(Registry::resume(Arc::clone(&shared), limits, stored));
    let token = Arc::new(Token::read(&token).unwrap());
    let ready = Arc::new(AtomicBool::new(true));
    let routes = api(Api { registry, shared, token, ready, closing: CancellationToken::new() });
    Bridge { routes, _clients: clients }
}

impl Bridge {
    async fn asked(&self, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        let answer = self.routes.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = answer.status();
        let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&text).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&text).into())))
    }

    async fn put(&self, id: &str, spec: &Value) -> Value {
        let (status, session) = self.asked("PUT", &format!("/v1/sessions/{id}"), spec.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{session}");
        session
    }

    /// The first event after `since`.
    async fn event(&self, since: &str) -> Value {
        let request = Request::builder().uri(format!("/v1/events?since={since}"));
        let request = request.header("authorization", format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
        let mut chunks = self.routes.clone().oneshot(request).await.unwrap().into_body().into_data_stream();
        let chunk = tokio::time::timeout(Duration::from_secs(20), chunks.next()).await.unwrap().unwrap().unwrap();
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str(data).unwrap()
    }
}

#[tokio::test]
async fn a_controller_of_the_first_release_is_answered_in_words_it_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    let recorded: first::SessionList =
        serde_json::from_str(include_str!("../../../tests/wire/first/list.json")).unwrap();
    for first::Session { id, spec, .. } in &recorded.items {
        let answer = bridge.put(id, &serde_json::to_value(spec).unwrap()).await;
        let session: first::Session = serde_json::from_value(answer).unwrap();
        assert_eq!((&session.id, &session.spec), (id, spec));
    }
    let (_, list) = bridge.asked("GET", "/v1/sessions", "").await;
    let list: first::SessionList = serde_json::from_value(list).unwrap();
    let specs = |list: &first::SessionList| list.items.iter().map(|session| session.spec.clone()).collect::<Vec<_>>();
    assert_eq!(specs(&list), specs(&recorded));
    let event: first::Event = serde_json::from_value(bridge.event("run-0").await).unwrap();
    assert!(matches!(event, first::Event::Session { .. }), "{event:?}");
    let event: first::Event = serde_json::from_value(bridge.event("other-0").await).unwrap();
    assert_eq!(event, first::Event::Reset);
    let (_, info) = bridge.asked("GET", "/v1/info", "").await;
    let info: first::Info = serde_json::from_value(info).unwrap();
    assert_eq!(info.sessions, 9);
    let (status, session) = bridge.asked("DELETE", "/v1/sessions/awaiting?unlink=true", "").await;
    let session: first::Session = serde_json::from_value(session).unwrap();
    assert_eq!((status, session.phase), (StatusCode::ACCEPTED, first::SessionPhase::Deleting));
}

#[test]
fn every_word_but_those_added_since_can_be_read_by_a_controller_of_the_first_release() {
    let reads = |session: &Session| -> bool {
        serde_json::from_value::<first::Session>(serde_json::to_value(session).unwrap()).is_ok()
    };
    let list: Value = serde_json::from_str(include_str!("../../../tests/wire/first/list.json")).unwrap();
    let recorded: Session = serde_json::from_value(list["items"][1].clone()).unwrap();
    let in_phase = |phase: SessionPhase| Session { phase: phase.into(), ..recorded.clone() };
    let since: Vec<_> = crate::metrics::PHASES.into_iter().filter(|phase| !reads(&in_phase(*phase))).collect();
    // Only whoever asks for a session without a device gets to see it.
    assert_eq!(since, [SessionPhase::Unlinking]);
    let with = |reason: SessionReason| Session { reason: Some(reason.into()), ..recorded.clone() };
    let since: Vec<_> = SessionReason::ALL.into_iter().filter(|reason| !reads(&with(*reason))).collect();
    // The rule that words may be added came with these. Whoever adds another one lengthens the list.
    use SessionReason as R;
    assert_eq!(
        since,
        [
            R::AccountLocked,
            R::AccountBanned,
            R::SessionLost,
            R::CoexistenceNotSupported,
            R::PairingFailed,
            R::PairingCodesUnusable,
            R::TooManyRequests,
            R::MessagesNotAcknowledged
        ]
    );
}

#[tokio::test]
async fn what_a_later_controller_wants_besides_is_kept_through_answers_events_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = json!({
        "desiredState": "Paused", "presence": "ContactsOnly", "retention": {"days": 7},
        "pairing": {"method": "Passkey", "autoRefresh": false, "window": "w", "hint": [1, null]},
    });
    let before = bridge(directory.path());
    let session = before.put("a", &wanted).await;
    assert_eq!(session["spec"], wanted);
    assert_eq!(session["phase"], "Stopped", "a wish that is not known does not put the session online");
    assert_eq!(before.event("run-0").await["session"]["spec"], wanted);
    drop(before);
    let after = bridge(directory.path());
    let (_, list) = after.asked("GET", "/v1/sessions", "").await;
    assert_eq!(list["items"][0]["spec"], wanted);
    // A PUT states everything: what it does not say any more is gone.
    let plain =
        json!({"desiredState": "Disconnected", "pairing": {"method": "QR", "autoRefresh": false, "window": "w"}});
    assert_eq!(after.put("a", &plain).await["spec"], plain);
}

#[tokio::test]
async fn sessions_that_the_first_release_stored_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    drop(bridge(directory.path()));
    // The recorded ban has ended since; as far as the bridge is concerned it has not.
    let stored =
        include_str!("../../../tests/wire/first/stored.json").replace("\"Banned\": \"2026", "\"Banned\": \"2999");
    let rows: Vec<Value> = serde_json::from_str(&stored).unwrap();
    let database = rusqlite::Connection::open(directory.path().join("bridge.db")).unwrap();
    for row in &rows {
        let stored = rusqlite::params![row["id"].as_str().unwrap(), row["kept"].to_string()];
        database.execute("INSERT INTO sessions VALUES (?1, ?2)", stored).unwrap();
    }
    let (_, list) = bridge(directory.path()).asked("GET", "/v1/sessions", "").await;
    let list: Vec<Session> = serde_json::from_value(list["items"].clone()).unwrap();
    assert_eq!(list.len(), rows.len());
    let phase = |id: &str| list.iter().find(|session| session.id == id).unwrap().phase.known().unwrap();
    assert_eq!(phase("banned"), SessionPhase::Banned);
    assert_eq!(phase("logged-out"), SessionPhase::LoggedOut);
    assert_eq!(phase("replaced"), SessionPhase::Ended);
    assert_eq!(phase("stopped"), SessionPhase::Stopped);
}

#[tokio::test]
async fn what_a_later_release_stored_is_taken_up_after_going_back_and_stored_again_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    drop(bridge(directory.path()));
    let later = json!({
        "spec": {"desiredState": "Connected", "pairing": {"method": "QR"}, "retention": {"days": 7}},
        "paired": true, "rest": {"Hibernating": 3}, "last_disconnect": {"reason": "MoonEclipse", "at": "2026-11-27T13:46:58Z"},
        "restriction": {"kind": "NoGroups"}, "cold_storage": {"since": 1},
    });
    let path = directory.path().join("bridge.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute("INSERT INTO sessions VALUES ('a', ?1)", [later.to_string()]).unwrap();
    let bridge = bridge(directory.path());
    let (_, session) = bridge.asked("GET", "/v1/sessions/a", "").await;
    assert_eq!(session["phase"], "Connecting", "{session}");
    bridge.put("a", &json!({"desiredState": "Disconnected", "retention": {"days": 7}})).await;
    let stored: String = database.query_row("SELECT kept FROM sessions", [], |row| row.get(0)).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["cold_storage"], later["cold_storage"]);
    assert_eq!(stored["spec"]["retention"], later["spec"]["retention"]);
    assert_eq!(
        (&stored["last_disconnect"], &stored["restriction"]["kind"]),
        (&later["last_disconnect"], &later["restriction"]["kind"])
    );
}

#[tokio::test]
async fn every_refusal_has_the_same_form_and_quotes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    let secret = "+15550001";
    let too_long = json!({ "filler": "x".repeat(40_000) }).to_string();
    for (method, path, body, status, code) in [
        ("GET", "/v1/nowhere", "", StatusCode::NOT_FOUND, first::ErrorCode::NotFound),
        ("GET", "/v1/sessions/nobody", "", StatusCode::NOT_FOUND, first::ErrorCode::NotFound),
        ("POST", "/v1/sessions", "", StatusCode::METHOD_NOT_ALLOWED, first::ErrorCode::Invalid),
        ("PATCH", "/v1/sessions/a", "", StatusCode::METHOD_NOT_ALLOWED, first::ErrorCode::Invalid),
        ("GET", "/v1/sessions/%ff", "", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("GET", "/v1/sessions/.a", "", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("GET", "/v1/events?since=a-1&since=%2B15550001", "", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("GET", "/v1/events?since=%2B15550001", "", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("DELETE", "/v1/sessions/a?unlink=%2B15550001", "", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("PUT", "/v1/sessions/a", "{\"pairing\": \"+15550001\"}", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("PUT", "/v1/sessions/a", "+15550001", StatusCode::BAD_REQUEST, first::ErrorCode::Invalid),
        ("PUT", "/v1/sessions/a", too_long.as_str(), StatusCode::PAYLOAD_TOO_LARGE, first::ErrorCode::Invalid),
    ] {
        let (answered, body) = bridge.asked(method, path, body.to_owned()).await;
        let refusal: first::ErrorBody =
            serde_json::from_value(body.clone()).unwrap_or_else(|_| panic!("{path}: {body}"));
        assert_eq!((answered, refusal.error.code), (status, code), "{method} {path}");
        assert!(!refusal.error.message.is_empty() && !body.to_string().contains(secret), "{body}");
    }
    let nobody = Request::builder().uri("/v1/sessions").body(Body::empty()).unwrap();
    let answer = bridge.routes.clone().oneshot(nobody).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice::<first::ErrorBody>(&body).unwrap();
}

#[tokio::test]
async fn what_it_can_do_is_said_in_words_that_callers_ask_for() {
    let directory = tempfile::tempdir().unwrap();
    let (_, info) = bridge(directory.path()).asked("GET", "/v1/info", "").await;
    let info: Info = serde_json::from_value(info).unwrap();
    for able in ["qr", "pairingCode", "events", "messages", "freeText", "callerMessageId", "exactlyOnce"] {
        assert!(info.capabilities.names().contains(&able.to_owned()), "{able}: {info:?}");
    }
    for reserved in [Capability::Templates, Capability::Groups] {
        assert!(!info.capabilities.include(reserved), "{reserved:?}");
    }
}

#[tokio::test]
async fn a_message_of_a_kind_that_it_cannot_send_is_refused_and_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    bridge.put("a", &json!({"desiredState": "Connected"})).await;
    let path = "/v1/sessions/a/messages/3EB0000000000000000001";
    for content in [json!({"type": "template", "name": "hello"}), json!({"type": "image"}), json!({"text": "Hi"})] {
        let (status, error) =
            bridge.asked("PUT", path, json!({"to": "+15550001", "content": content}).to_string()).await;
        assert_eq!((status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("Invalid")), "{error}");
        assert_eq!(bridge.asked("GET", path, "").await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn each_message_of_a_batch_is_answered_as_it_would_be_alone() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    bridge.put("a", &json!({"desiredState": "Connected"})).await;
    let text = json!({"to": "+15550001", "content": {"type": "text", "text": "Hi"}});
    let of = |session: &str, id: &str, message: &Value| json!({"session": session, "id": id, "message": message});
    let sent = [
        of("nobody", "3EB000000000000000000A", &text),
        of("a", "3EB000000000000000000B", &text),
        of("a", "/", &text),
        of("a", "3EB000000000000000000C", &json!({"to": "nobody", "content": {"type": "text", "text": "Hi"}})),
    ];
    let (status, answer) = bridge.asked("POST", "/v1/messages/batch", json!({ "items": sent }).to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    for (one, outcome) in sent.iter().zip(answer["items"].as_array().unwrap()) {
        let path = format!(
            "/v1/sessions/{}/messages/{}",
            one["session"].as_str().unwrap(),
            one["id"].as_str().unwrap().replace('/', "%2F")
        );
        let (status, alone) = bridge.asked("PUT", &path, one["message"].to_string()).await;
        assert_eq!(outcome, &json!({"status": status.as_u16(), "error": alone["error"]}), "{one}");
    }
    let many = vec![of("a", "3EB000000000000000000B", &text); 65];
    for (body, status) in [
        (json!({ "items": many }).to_string(), StatusCode::BAD_REQUEST),
        ("{\"items\": [{}]}".to_owned(), StatusCode::BAD_REQUEST),
        (json!({"items": [], "filler": "x".repeat(5 << 20)}).to_string(), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let (answered, refusal) = bridge.asked("POST", "/v1/messages/batch", body).await;
        assert_eq!((answered, &refusal["error"]["code"]), (status, &json!("Invalid")), "{refusal}");
    }
}

#[tokio::test]
async fn a_repetition_is_answered_though_its_session_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    let database = rusqlite::Connection::open(directory.path().join("bridge.db")).unwrap();
    let columns = "session, sequence, id, recipient, recipient_key, content, accepted_at, expires_at, state, sent_at, ended_at, cause";
    let content = r#"{"type":"text","text":"Hi"}"#;
    for (n, rest) in [(1, "'Delivered', 5, NULL, NULL"), (2, "'Failed', NULL, 5, 'SessionDeleted'")] {
        let of = format!("'gone', {n}, '3EB000000000000000000{n}', '+15550001', 5, '{content}', 1, 2, {rest}");
        database.execute(&format!("INSERT INTO messages ({columns}) VALUES ({of})"), []).unwrap();
    }
    let text = |text: &str| json!({"to": "+1 555 0001", "content": {"type": "text", "text": text}});
    let path = |n: u32| format!("/v1/sessions/gone/messages/3EB000000000000000000{n}");
    let ask = async |n: u32, body: Value| bridge.asked("PUT", &path(n), body.to_string()).await;
    let (status, message) = ask(1, text("Hi")).await;
    assert_eq!((status, &message["state"]), (StatusCode::OK, &json!("Delivered")), "{message}");
    assert_eq!(bridge.asked("GET", &path(1), "").await, (StatusCode::OK, message));
    let (status, message) = ask(2, text("Hi")).await;
    assert_eq!((status, &message["cause"]), (StatusCode::OK, &json!("SessionDeleted")), "{message}");
    let (status, refusal) = ask(1, text("Ho")).await;
    assert_eq!((status, &refusal["error"]["code"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let (status, refusal) = ask(3, text("Hi")).await;
    assert_eq!(
        (status, &refusal["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("NotFound")),
        "nothing was accepted"
    );
    let batch = json!({"items": [{"session": "gone", "id": "3EB0000000000000000001", "message": text("Hi")}]});
    let (_, answer) = bridge.asked("POST", "/v1/messages/batch", batch.to_string()).await;
    assert_eq!(
        (&answer["items"][0]["status"], &answer["items"][0]["message"]["state"]),
        (&json!(200), &json!("Delivered"))
    );
}

#[tokio::test]
async fn as_many_sessions_as_may_be_asked_about_are_answered_for() {
    let directory = tempfile::tempdir().unwrap();
    let bridge = bridge(directory.path());
    let longest = |n: usize| format!("{n:0>64}");
    let ask = async |count: usize| {
        let sessions: Vec<_> = (0..count).map(longest).collect();
        let body = json!({"to": "+491701234567", "sessions": sessions}).to_string();
        bridge.asked("POST", "/v1/messages/load", body).await
    };
    assert_eq!(ask(MOST_LOADS).await, (StatusCode::OK, json!({"items": []})));
    let (status, error) = ask(MOST_LOADS + 1).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("Invalid")), "{error}");
}

#[tokio::test]
async fn a_repetition_that_comes_when_its_time_is_over_is_answered_whatever_is_left_of_the_message() {
    let directory = tempfile::tempdir().unwrap();
    let (id, to, now) = ("3EB0000000000000000001", "+491701234567", Timestamp::now());
    let later = now + SignedDuration::from_hours(1);
    {
        let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
        let message = json!({
            "id": id, "session": "a", "sequence": 1, "state": "Queued", "acceptedAt": now, "expiresAt": later,
            "to": to, "content": {"type": "text", "text": "Hello"},
        });
        let recipient = Recipient::parse(to).unwrap().key();
        let accept = MessageChange::Accept { message: serde_json::from_value(message).unwrap(), recipient };
        let settled = Settled { state: MessageState::Sent, cause: None, code: None, at: now, by_server: true };
        let settle = MessageChange::Settle { session: "a".to_owned(), sequence: 1, settled };
        // Only a remnant stays.
        let forget = MessageChange::Forget { before: Timestamp::MAX, now, most: 9 };
        store.apply([accept, settle, forget].map(Change::Message).into()).await.unwrap();
    }
    let bridge = bridge(directory.path());
    let put = async |id: &str, text: &str| {
        let body = json!({"to": to, "content": {"type": "text", "text": text}, "expiresAt": "2020-01-01T00:00:00Z"});
        bridge.asked("PUT", &format!("/v1/sessions/a/messages/{id}"), body.to_string()).await
    };
    let (status, message) = put(id, "Hello").await;
    assert_eq!((status, &message["state"]), (StatusCode::OK, &json!("Sent")), "{message}");
    assert_eq!(put(id, "Something else").await.0, StatusCode::CONFLICT);
    // What was never accepted is not accepted now.
    let (status, error) = put("3EB0000000000000000002", "Hello").await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("Invalid")), "{error}");
}
