//! An HTTP relay in front of a server, which may keep a request to itself or lose the answer to it, as a proxy between two
//! programs does on a bad day.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::world::{SOON, client};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on, and so is its answer.
    Passed,
    /// It is taken, and never answered.
    Held,
    /// It is passed on, and answered 503 whatever the server says.
    AnswerLost,
    /// It is passed on, and never answered.
    AnswerHeld,
}

/// What becomes of a request, by its method and path.
pub type Rule = fn(&Method, &str) -> Fate;

/// Passes requests on to one server.
pub struct Relay {
    /// Where it listens, as an http URL.
    pub url: String,
    rule: Arc<Mutex<Rule>>,
    lost: watch::Sender<usize>,
}

impl Relay {
    /// A relay that passes everything on with `client`.
    async fn start(client: Client) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(|_, _| Fate::Passed));
        let lost = watch::Sender::new(0);
        let (rules, losses) = (Arc::clone(&rule), lost.clone());
        let app = axum::Router::new().fallback(move |request: Request| {
            let fate = (rules.lock().unwrap())(request.method(), request.uri().path());
            relayed(client.clone(), request, fate, losses.clone())
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, rule, lost }
    }

    /// A relay in front of the server at `url`.
    pub async fn of(url: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::start(Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()).await
    }

    /// A kubeconfig, in `dir`, that leads to the API server of `kubeconfig` by way of a relay; and the relay. Whoever comes
    /// this way is who `kubeconfig` says.
    pub async fn of_api_server(kubeconfig: &Path, dir: &Path) -> (Self, PathBuf) {
        let relay = Self::start(client(kubeconfig).await).await;
        let config: Value = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "relay", "users": [],
            "clusters": [{"name": "relay", "cluster": {"server": relay.url}}],
            "contexts": [{"name": "relay", "context": {"cluster": "relay"}}],
        });
        let path = dir.join("relay.kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        (relay, path)
    }

    /// What becomes of requests from now on.
    pub fn now(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
    }

    /// Waits until so many answers have been lost.
    pub async fn until_lost(&self, count: usize) {
        let mut lost = self.lost.subscribe();
        let reached = tokio::time::timeout(SOON, lost.wait_for(|lost| *lost >= count)).await;
        reached.expect("the requests come").unwrap();
    }
}

/// Passes a request on with `client`: the answer as it comes, or what to say when there is none.
pub async fn passed_on(client: &Client, request: Request) -> Result<Response, Response> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    let body = to_bytes(body, usize::MAX).await.map_err(|_| StatusCode::BAD_REQUEST.into_response())?;
    let request = Request::from_parts(head, kube::client::Body::from(body));
    let answer = client.send(request).await;
    answer
        .map(|answer| answer.map(Body::new))
        .map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

async fn relayed(client: Client, request: Request, fate: Fate, lost: watch::Sender<usize>) -> Response {
    if fate == Fate::Held {
        std::future::pending::<()>().await;
    }
    match (passed_on(&client, request).await, fate) {
        (Ok(answer), Fate::Passed) => answer,
        (Ok(_), fate) => {
            lost.send_modify(|lost| *lost += 1);
            if fate == Fate::AnswerHeld {
                std::future::pending::<()>().await;
            }
            (StatusCode::SERVICE_UNAVAILABLE, "no server is available").into_response()
        }
        (Err(said), _) => said,
    }
}
