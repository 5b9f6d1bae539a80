//! This client and bridges of other releases: what the first one answered, what a later one may answer.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{
    BridgeClient, BridgeError, Capabilities, Capability, Deletion, Event, PairingMethod, PairingSpec, Presence,
    Session, SessionInstance, SessionPhase, SessionSpec, scripted_bridge,
};
use crate::{model::Sensitive, platform::lock};

#[path = "../../tests/wire/first.rs"]
#[allow(dead_code)] // each side needs only some of it
mod first;

const LIST: &str = include_str!("../../tests/wire/first/list.json");
const INFO: &str = include_str!("../../tests/wire/first/info.json");
const EVENTS: &str = include_str!("../../tests/wire/first/events.txt");
const DELETING: &str = include_str!("../../tests/wire/first/deleting.json");
const REFUSALS: &str = include_str!("../../tests/wire/first/refusals.json");

/// What a bridge answers, text by text.
#[derive(Clone)]
struct Answers {
    list: String,
    info: String,
    events: String,
    put: (u16, String),
    /// The bodies it was put.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    /// As recorded of the first release.
    fn first() -> Self {
        let list: Value = serde_json::from_str(LIST).unwrap();
        Self {
            list: LIST.into(),
            info: INFO.into(),
            events: EVENTS.into(),
            put: (200, list["items"][0].to_string()),
            asked: Arc::default(),
        }
    }

    async fn client(&self) -> BridgeClient {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let json = |text: String| ([(header::CONTENT_TYPE, "application/json")], text);
        let put = |State(answers): State<Self>, Path(_): Path<String>, body: String| async move {
            lock(&answers.asked).push(body);
            (StatusCode::from_u16(answers.put.0).unwrap(), answers.put.1)
        };
        let delete = || async { (StatusCode::ACCEPTED, DELETING) };
        let app = Router::new()
            .route("/v1/info", get(move |State(answers): State<Self>| async move { json(answers.info) }))
            .route("/v1/sessions", get(move |State(answers): State<Self>| async move { json(answers.list) }))
            .route("/v1/sessions/{id}", axum::routing::put(put).delete(delete))
            .route(
                "/v1/events",
                get(|State(answers): State<Self>| async move {
                    ([(header::CONTENT_TYPE, "text/event-stream")], answers.events).into_response()
                }),
            )
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        BridgeClient::new(&url, scripted_bridge::token(), None).unwrap()
    }

    /// The events, until the stream ends.
    async fn heard(&self) -> Vec<Event> {
        let events = self.client().await.events(&"a-0".parse().unwrap()).await.unwrap();
        let mut heard: Vec<_> = events.collect().await;
        assert_eq!(heard.pop().unwrap().unwrap_err(), BridgeError::StreamEnded);
        heard.into_iter().map(|event| event.unwrap().1).collect()
    }
}

/// What today's client asks of a bridge that can do this, given what is wanted.
fn asked(spec: &SessionSpec, can: &Capabilities) -> String {
    serde_json::to_string(&spec.clone().within(can)).unwrap()
}

#[tokio::test]
async fn a_bridge_of_the_first_release_is_understood() {
    let answers = Answers::first();
    let client = answers.client().await;
    let list = client.sessions().await.unwrap();
    let recorded: first::SessionList = serde_json::from_str(LIST).unwrap();
    assert!(list.unreadable.is_empty() && list.cursor.to_string() == recorded.cursor);
    for (session, recorded) in list.items.iter().zip(&recorded.items) {
        assert_eq!(serde_json::to_value(session).unwrap(), serde_json::to_value(recorded).unwrap());
    }
    let phases: Vec<_> = answers.heard().await;
    let of = |event: &Event| match event {
        Event::Session { session } => session.phase.known().unwrap_or_else(|| panic!("{:?}", session.phase)),
        Event::Deleted { .. } => SessionPhase::Deleting,
        other => panic!("{other:?}"),
    };
    assert!(phases.len() == 10 && phases.iter().map(of).any(|phase| phase == SessionPhase::Banned));
    assert_eq!(client.delete("code", true).await, Ok(Deletion::UnderWay));
    let refusals: Vec<Value> = serde_json::from_str(REFUSALS).unwrap();
    assert_eq!(refusals.len(), 5);
    for refusal in refusals {
        let status = u16::try_from(refusal["status"].as_u64().unwrap()).unwrap();
        let answers = Answers { put: (status, refusal["body"].to_string()), ..Answers::first() };
        let error = answers.client().await.put("a", &SessionSpec::default()).await.unwrap_err();
        assert!(!matches!(error, BridgeError::Malformed { .. } | BridgeError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn nothing_is_asked_of_a_bridge_of_the_first_release_that_it_would_refuse() {
    let answers = Answers::first();
    let client = answers.client().await;
    let can = client.info().await.unwrap().capabilities;
    assert!(can.include(Capability::Unlink) && !can.include(Capability::Presence));
    let by_code = PairingSpec {
        method: PairingMethod::Code.into(),
        phone_number: Some(Sensitive::new("+15550100")),
        auto_refresh: true,
        window: "w1".into(),
        ..PairingSpec::default()
    };
    let (namespace, name) = ("team".to_owned(), "shop".to_owned());
    let its = Box::new(SessionInstance { namespace, name, owner: Sensitive::new("alice") });
    for spec in [
        SessionSpec::default(),
        SessionSpec { presence: Presence::Visible.into(), ..SessionSpec::default() },
        SessionSpec { instance: Some(its.clone()), ..SessionSpec::default() },
        SessionSpec {
            desired_state: super::DesiredState::Disconnected.into(),
            pairing: by_code,
            ..SessionSpec::default()
        },
    ] {
        let wanted = spec.clone().within(&can);
        client.put("a", &wanted).await.unwrap();
        let body = lock(&answers.asked).pop().unwrap();
        let read: first::SessionSpec = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{body}: {error}"));
        // Its echo is taken for what was asked: nothing is put again and again.
        let echo: SessionSpec = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert!(echo.fulfils(&wanted), "{echo:?}");
    }
    let visible = SessionSpec { presence: Presence::Visible.into(), ..SessionSpec::default() };
    // A bridge that is told whose its sessions are learns it of those that it has; that it knows it from before is no reason to ask again.
    let told = SessionSpec { instance: Some(its), ..SessionSpec::default() };
    assert!(!SessionSpec::default().fulfils(&told) && told.fulfils(&SessionSpec::default()));
    let later: Capabilities = [Capability::Presence].into_iter().collect();
    assert!(asked(&visible, &later).contains("Visible") && !visible.clone().within(&can).fulfils(&visible));
}

/// What a later release may have made of this: another field in every object, and another word wherever one is chosen.
fn grown(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in &mut *fields {
                match name.as_str() {
                    "phase" | "reason" | "kind" | "method" | "desiredState" => *field = json!("FromTheFuture"),
                    _ => grown(field),
                }
            }
            fields.insert("fromTheFuture".into(), json!({"deep": [1, "two", null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(grown),
        _ => {}
    }
}

#[tokio::test]
async fn a_bridge_of_a_later_release_is_understood_as_far_as_it_says_what_is_known() {
    let mut list: Value = serde_json::from_str(LIST).unwrap();
    grown(&mut list);
    let info =
        json!({"version": "9.0.0", "capabilities": ["qr", "telepathy", "presence"], "sessions": 9, "colour": "red"});
    let mut events = String::new();
    for event in EVENTS.split_terminator("\n\n") {
        let (head, data) = event.split_once("data: ").unwrap();
        let mut data: Value = serde_json::from_str(data).unwrap();
        data.as_object_mut().unwrap().insert("fromTheFuture".into(), json!(1));
        if let Some(session) = data.get_mut("session") {
            grown(session);
        }
        events += &format!("event: mood\nid: a-1\ndata: {{\"type\":\"mood\"}}\n\n{head}data: {data}\n\n");
    }
    let put = (200, list["items"][1].to_string());
    let answers = Answers { list: list.to_string(), info: info.to_string(), events, put, ..Answers::first() };
    let client = answers.client().await;

    let seen = client.sessions().await.unwrap();
    assert!(seen.unreadable.is_empty() && seen.items.len() == 9);
    for (session, sent) in seen.items.iter().zip(list["items"].as_array().unwrap()) {
        let again = serde_json::to_value(session).unwrap();
        // What passes through comes out as it went in, and so do the words.
        assert_eq!((&again["spec"], &again["phase"], &again["id"]), (&sent["spec"], &sent["phase"], &sent["id"]));
        assert_eq!(session.phase.known(), None);
        assert_eq!(session.paired, sent["paired"].as_bool().unwrap());
    }
    let banned = seen.items.iter().find(|session| session.id == "banned").unwrap();
    assert_eq!(banned.reason.as_ref().unwrap().as_str(), "FromTheFuture");
    assert_eq!(banned.restriction.as_ref().unwrap().kind.as_str(), "FromTheFuture");
    assert_eq!(answers.heard().await.len(), 10, "an event name that is not known is skipped");
    assert_eq!(client.put("banned", &SessionSpec::default()).await.unwrap().id, "banned");
    let can = client.info().await.unwrap().capabilities;
    assert!(can.include(Capability::Presence) && can.names() == ["qr", "presence", "telepathy"]);
    let refusal = json!({"error": {"code": "Tired", "message": "later", "retryAfter": 5}}).to_string();
    let tired = Answers { put: (503, refusal), ..answers }.client().await;
    match tired.put("a", &SessionSpec::default()).await.unwrap_err() {
        BridgeError::Refused { code, .. } => {
            assert_eq!((code.known(), format!("{code:?}")), (None, "Unknown(\"Tired\")".into()));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_session_that_cannot_be_read_leaves_the_others_of_the_shard_as_they_are() {
    let mut list: Value = serde_json::from_str(LIST).unwrap();
    list["items"][2] = json!({"id": "strange", "phase": {"moving": "fast"}});
    list["items"][4] = json!("not even an object");
    let events = "event: session\nid: a-1\ndata: {\"type\":\"session\",\"session\":{\"id\":\"odd\",\"phase\":7}}\n\n\
                  event: deleted\nid: a-2\ndata: {\"type\":\"deleted\",\"id\":\"gone\"}\n\n\
                  event: deleted\nid: a-3\ndata: {\"type\":\"deleted\"}\n\n";
    let answers = Answers { list: list.to_string(), events: events.into(), ..Answers::first() };
    let seen = answers.client().await.sessions().await.unwrap();
    assert_eq!((seen.items.len(), seen.unreadable), (7, vec!["strange".to_owned()]));
    let odd = Event::Unreadable { id: "odd".into() };
    // Which session the last one was about is not said: listing again tells.
    assert_eq!(answers.heard().await, [odd, Event::Deleted { id: "gone".into() }, Event::Reset]);
    for nonsense in ["{}", "[]", "{\"items\": 7, \"cursor\": \"a-1\"}", "{\"items\": []}"] {
        let answers = Answers { list: nonsense.into(), ..Answers::first() };
        assert_eq!(answers.client().await.sessions().await.unwrap_err(), BridgeError::Malformed { status: 200 });
    }
}

#[test]
fn words_that_no_condition_can_carry_are_not_passed_on() {
    for text in ["\u{1b}]0;x\u{7}", "two words", "", "lower", &"X".repeat(65)] {
        let session = json!({"id": "a", "spec": {}, "phase": "Connected", "phaseSince": "2026-11-27T13:46:58Z", "paired": true,
            "reason": text, "restriction": {"kind": text}});
        let session: Session = serde_json::from_value(session).unwrap();
        assert_eq!(session.reason.unwrap().as_str(), "Unknown");
        assert_eq!(session.restriction.unwrap().kind.as_str(), "Unknown");
    }
}
