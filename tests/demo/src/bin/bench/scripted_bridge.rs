//! A bridge that connects whatever it is given at once and keeps nothing: for counting objects, not sessions.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::sse::{self, KeepAlive, Sse},
    routing::get,
};
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::broadcast};
use whatsapp_operator::{
    bridge_api::{Capability, Cursor, Event, Info, Session, SessionList, SessionPhase, SessionSpec},
    model::Sensitive,
};

#[derive(Clone)]
struct Script {
    sessions: Arc<Mutex<BTreeMap<String, Session>>>,
    events: broadcast::Sender<(u64, Event)>,
}

/// Serves on a free loopback port for as long as the process lives; returns the address.
pub async fn serve() -> String {
    let script = Script { sessions: Arc::default(), events: broadcast::channel(65_536).0 };
    let router = Router::new()
        .route("/v1/sessions", get(list))
        .route("/v1/sessions/{id}", get(read).put(put).delete(delete))
        .route("/v1/events", get(events))
        .route("/v1/info", get(info))
        .with_state(script);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn cursor(sequence: u64) -> Cursor {
    Cursor { incarnation: "scripted".into(), sequence }
}

async fn list(State(script): State<Script>) -> Json<SessionList> {
    let sessions = script.sessions.lock().unwrap();
    Json(SessionList {
        items: sessions.values().cloned().collect(),
        cursor: cursor(sessions.len() as u64),
        unreadable: Vec::new(),
    })
}

async fn read(State(script): State<Script>, Path(id): Path<String>) -> Result<Json<Session>, StatusCode> {
    script.sessions.lock().unwrap().get(&id).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn put(State(script): State<Script>, Path(id): Path<String>, Json(spec): Json<SessionSpec>) -> Json<Session> {
    let now = Timestamp::now();
    let session = Session {
        id: id.clone(),
        spec,
        phase: SessionPhase::Connected.into(),
        reason: None,
        phase_since: now,
        paired: true,
        phone_number: Some(Sensitive::new("+15550000000")),
        push_name: None,
        connected_at: Some(now),
        last_active_at: None,
        qr: None,
        pairing_code: None,
        restriction: None,
        last_disconnect: None,
    };
    let mut sessions = script.sessions.lock().unwrap();
    sessions.insert(id, session.clone());
    let _ = script.events.send((sessions.len() as u64, Event::Session { session: Box::new(session.clone()) }));
    Json(session)
}

async fn delete(State(script): State<Script>, Path(id): Path<String>) -> StatusCode {
    script.sessions.lock().unwrap().remove(&id);
    StatusCode::NO_CONTENT
}

async fn events(State(script): State<Script>) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let stream = stream::unfold(script.events.subscribe(), |mut receiver| async {
        receiver.recv().await.ok().map(|event| (event, receiver))
    });
    let stream = stream.map(|(sequence, event)| {
        let named = sse::Event::default().id(cursor(sequence).to_string()).event(event.name());
        Ok(named.json_data(&event).unwrap())
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn info(State(script): State<Script>) -> Json<Info> {
    let sessions = u32::try_from(script.sessions.lock().unwrap().len()).unwrap_or(u32::MAX);
    Json(Info { version: "scripted".into(), capabilities: [Capability::Qr].into_iter().collect(), sessions })
}
