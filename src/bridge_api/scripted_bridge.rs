//! A bridge that answers as its script says: for unit tests of those who talk to bridges.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use serde_json::json;

use super::{Capability, Cursor, Event, Info, Session, SessionList};
use crate::{model::Sensitive, platform::lock};

/// What the bridge answers.
#[derive(Debug)]
pub struct Script {
    /// The token it takes.
    pub token: &'static str,
    /// What it lists.
    pub sessions: Vec<Session>,
    /// What it lists instead of them.
    pub list: Option<String>,
    /// The cursor of its list.
    pub cursor: Cursor,
    /// What it answers to `PUT` and `DELETE`, as status and body.
    pub answer: (u16, String),
    /// How often it was asked what it is.
    pub infos: usize,
    /// Whether it is something else altogether.
    pub nonsense: bool,
}

/// A follower that has just connected: where it resumes from, and the way to feed it.
pub struct Follower {
    /// Its `Last-Event-ID`.
    pub since: String,
    feed: UnboundedSender<Result<String, Infallible>>,
}

impl Follower {
    /// Sends what is no event of this version.
    pub fn say(&self, text: &str) {
        let _ = self.feed.unbounded_send(Ok(text.to_owned()));
    }

    /// Sends an event.
    pub fn send(&self, id: &str, event: &Event) {
        let data = serde_json::to_string(event).unwrap();
        let _ = self.feed.unbounded_send(Ok(format!("id: {id}\nevent: {}\ndata: {data}\n\n", event.name())));
    }
}

/// A scripted bridge on a port of its own.
pub struct Scripted {
    /// Its address.
    pub url: String,
    /// Its script, to be changed at any time.
    pub script: Arc<Mutex<Script>>,
    /// Those who follow its events, as they come.
    pub followers: UnboundedReceiver<Follower>,
}

#[derive(Clone)]
struct Served(Arc<Mutex<Script>>, UnboundedSender<Follower>);

/// Starts a bridge that takes the token "right" and holds nothing.
pub async fn start() -> Scripted {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let script = Arc::new(Mutex::new(Script {
        token: "right",
        sessions: Vec::new(),
        list: None,
        cursor: "run-0".parse().unwrap(),
        answer: (204, String::new()),
        infos: 0,
        nonsense: false,
    }));
    let (told, followers) = mpsc::unbounded();
    let app = Router::new()
        .route("/v1/info", get(info))
        .route("/v1/sessions", get(list))
        .route("/v1/sessions/{id}", axum::routing::put(answer).delete(answer))
        .route("/v1/events", get(events))
        .with_state(Served(Arc::clone(&script), told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Scripted { url, script, followers }
}

fn gate(served: &Served, headers: &HeaderMap) -> Result<(), Response> {
    let script = lock(&served.0);
    if script.nonsense {
        return Err("<html>something else</html>".into_response());
    }
    let expected = format!("Bearer {}", script.token);
    if headers.get("authorization").is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
        Ok(())
    } else {
        let body = json!({"error": {"code": "Unauthorized", "message": "no"}});
        Err((StatusCode::UNAUTHORIZED, Json(body)).into_response())
    }
}

async fn info(State(served): State<Served>, headers: HeaderMap) -> Result<impl IntoResponse, Response> {
    gate(&served, &headers)?;
    lock(&served.0).infos += 1;
    Ok(Json(Info { version: "1".into(), capabilities: [Capability::Qr].into_iter().collect(), sessions: 0 }))
}

async fn list(State(served): State<Served>, headers: HeaderMap) -> Result<Response, Response> {
    gate(&served, &headers)?;
    let script = lock(&served.0);
    if let Some(list) = &script.list {
        return Ok(list.clone().into_response());
    }
    let list = SessionList { items: script.sessions.clone(), cursor: script.cursor.clone(), unreadable: Vec::new() };
    Ok(Json(list).into_response())
}

async fn answer(State(served): State<Served>, Path(_): Path<String>, headers: HeaderMap) -> Result<Response, Response> {
    gate(&served, &headers)?;
    let (status, body) = lock(&served.0).answer.clone();
    Ok((StatusCode::from_u16(status).unwrap(), body).into_response())
}

async fn events(State(served): State<Served>, headers: HeaderMap) -> Result<Response, Response> {
    gate(&served, &headers)?;
    let since = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let (feed, chunks) = mpsc::unbounded();
    let _ = served.1.unbounded_send(Follower { since, feed });
    Ok(([("content-type", "text/event-stream")], Body::from_stream(chunks)).into_response())
}

/// The right token.
pub fn token() -> Sensitive {
    Sensitive::new("right")
}
