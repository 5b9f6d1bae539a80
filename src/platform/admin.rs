//! The admin server: health for the kubelet, metrics for Prometheus. No secrets, hence no token.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use thiserror::Error;
use tokio::net::TcpListener;

use super::{lock, metrics::Metrics};

/// Why the admin server could not start.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The address is taken or not ours.
    #[error("listen on {address} (--admin-listen): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The announcement could not be written.
    #[error("write the addresses to {path} (--announce): {source}")]
    Announce {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// Whether the process takes work.
#[derive(Clone, Copy, Debug, Default)]
enum Readiness {
    #[default]
    Starting,
    Ready,
    /// And why.
    Unready(&'static str),
}

/// What the admin server shows.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    readiness: Arc<Mutex<Readiness>>,
    metrics: Arc<Metrics>,
}

impl Admin {
    /// The metrics registry.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The process takes work. Liveness is another matter: it holds as long as the process answers.
    pub fn ready(&self) {
        *lock(&self.readiness) = Readiness::Ready;
    }

    /// The process takes no work; `why` is shown to whoever asks.
    pub fn unready(&self, why: &'static str) {
        *lock(&self.readiness) = Readiness::Unready(why);
    }

    /// Listens and serves in the background until the process ends. Returns the address, of interest for port 0.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(&self, address: SocketAddr) -> Result<SocketAddr, AdminError> {
        let failed = |source| AdminError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let app = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the admin server ended");
            }
        });
        Ok(bound)
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match *lock(&admin.readiness) {
        Readiness::Ready => (StatusCode::OK, "ok\n".to_owned()),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting\n".to_owned()),
        Readiness::Unready(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.text())
}

/// Writes `{"admin": "http://ADDRESS", "webhook": "https://ADDRESS"}` to `path` in one step, so that whoever waits for the
/// file reads all of it. The webhook is left out when none is served.
///
/// # Errors
/// When the file cannot be written.
pub async fn announce(path: &Path, admin: SocketAddr, webhook: Option<SocketAddr>) -> Result<(), AdminError> {
    let mut addresses = serde_json::json!({ "admin": format!("http://{admin}") });
    if let Some(webhook) = webhook {
        addresses["webhook"] = format!("https://{webhook}").into();
    }
    let text = format!("{addresses}\n");
    let draft = path.with_extension(format!("{}.part", std::process::id()));
    let write = async {
        tokio::fs::write(&draft, text).await?;
        tokio::fs::rename(&draft, path).await
    };
    write.await.map_err(|source| AdminError::Announce { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get_status(address: SocketAddr, path: &str) -> u16 {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(format!("http://{address}{path}")).send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn readiness_follows_the_program_and_liveness_does_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let admin = Admin::default();
        let address = admin.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!(get_status(address, "/readyz").await, 503);
        admin.ready();
        assert_eq!(get_status(address, "/readyz").await, 200);
        admin.unready("stopping");
        assert_eq!(get_status(address, "/readyz").await, 503);
        assert_eq!(get_status(address, "/healthz").await, 200);
        assert_eq!(get_status(address, "/metrics").await, 200);
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_with_the_flag_that_gave_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = Admin::default().serve(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("--admin-listen"), "{error}");
    }

    #[tokio::test]
    async fn the_announcement_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("operator.json");
        announce(&file, "127.0.0.1:8080".parse().unwrap(), None).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"admin\":\"http://127.0.0.1:8080\"}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
