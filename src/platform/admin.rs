//! The admin server: health for the kubelet, metrics for Prometheus. No secrets, hence no token.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use super::{
    https::{self, ListenError},
    lock,
    metrics::Metrics,
};

/// What the admin server of a process shows.
#[async_trait]
pub trait Shown: Send + Sync + 'static {
    /// Why the process takes no work; nothing when it does. Liveness is another matter: it holds as long as the process
    /// answers.
    async fn obstacle(&self) -> Option<String>;

    /// All metrics in the OpenMetrics text format.
    async fn metrics(&self) -> String;
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(shown: Arc<dyn Shown>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

/// Readiness part by part, and metrics by registry: what an operator process shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What keeps the process from working, by what it is about.
    obstacles: Arc<Mutex<BTreeMap<Part, Cow<'static, str>>>>,
    metrics: Arc<Metrics>,
}

/// What a process needs to take work. Each part is judged for itself; all must be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The process has started. Not ready from the beginning.
    Start,
    /// It can show a certificate.
    Certificate,
    /// It can read and take its lease; whether it holds it does not matter.
    Lease,
    /// It sees the objects it works on.
    Objects,
    /// It has not been told to stop.
    Shutdown,
}

impl Default for Admin {
    fn default() -> Self {
        let obstacles = BTreeMap::from([(Part::Start, "starting".into())]);
        Self { obstacles: Arc::new(Mutex::new(obstacles)), metrics: Arc::default() }
    }
}

impl Admin {
    /// The metrics registry.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Nothing about this part keeps the process from working.
    pub fn ready(&self, part: Part) {
        lock(&self.obstacles).remove(&part);
    }

    /// The process takes no work; `why` is shown to those who ask.
    pub fn unready(&self, part: Part, why: impl Into<Cow<'static, str>>) {
        lock(&self.obstacles).insert(part, why.into());
    }

    /// Listens and serves in the background until the process ends. Returns the address, of interest for port 0.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn serve(&self, address: SocketAddr) -> Result<SocketAddr, ListenError> {
        let (listener, bound) = https::listen(address, "--admin-listen")?;
        let app = router(Arc::new(self.clone()));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(https::plain(listener), app).await {
                tracing::error!(%error, "the admin server ended");
            }
        });
        Ok(bound)
    }
}

#[async_trait]
impl Shown for Admin {
    async fn obstacle(&self) -> Option<String> {
        let obstacles = lock(&self.obstacles);
        (!obstacles.is_empty()).then(|| obstacles.values().map(Cow::as_ref).collect::<Vec<_>>().join("; "))
    }

    async fn metrics(&self) -> String {
        self.metrics.text()
    }
}

async fn readyz(State(shown): State<Arc<dyn Shown>>) -> impl IntoResponse {
    match shown.obstacle().await {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(shown): State<Arc<dyn Shown>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics().await)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn get_status(address: SocketAddr, path: &str) -> u16 {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(format!("http://{address}{path}")).send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn readiness_follows_the_program_and_liveness_does_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let admin = Admin::default();
        let address = admin.serve("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(get_status(address, "/readyz").await, 503);
        admin.ready(Part::Start);
        assert_eq!(get_status(address, "/readyz").await, 200);
        admin.unready(Part::Lease, "no lease");
        admin.unready(Part::Shutdown, "stopping");
        admin.ready(Part::Lease);
        assert_eq!(get_status(address, "/readyz").await, 503);
        assert_eq!(get_status(address, "/healthz").await, 200);
        assert_eq!(get_status(address, "/metrics").await, 200);
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_with_the_flag_that_gave_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = Admin::default().serve(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains("--admin-listen"), "{error}");
    }
}
