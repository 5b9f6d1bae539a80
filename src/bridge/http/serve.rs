//! Listening, and ending in order.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{
    Api,
    tls::{Certificate, TlsError, TlsListener},
};
use crate::{args::Args, http};

/// After the signal, requests that are under way may take this long.
const DRAIN: Duration = Duration::from_secs(5);

/// The bridge cannot listen.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}; give another address with {flag}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// The flag it came from.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The announcement cannot be written.
    #[error("cannot write the announcement {path}: {source}; give a file this user may write with --announce")]
    Announce {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Serving failed.
    #[error("serving failed: {0}")]
    Serve(#[from] io::Error),
}

/// The open listeners.
pub struct Listeners {
    api: TcpListener,
    admin: TcpListener,
    certificate: Option<Certificate>,
    announce: Option<PathBuf>,
}

/// Opens the listeners of `args`.
pub async fn bind(args: &Args) -> Result<Listeners, ServeError> {
    let api = listen(args.listen, "--listen").await?;
    let admin = listen(args.admin_listen, "--admin-listen").await?;
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => Some(Certificate::read(chain, key)?),
        _ => None,
    };
    Ok(Listeners { api, admin, certificate, announce: args.announce.clone() })
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, flag, source })
}

/// Serves until SIGTERM or SIGINT, then closes every session's connection and comes back.
pub async fn until_told_to_stop(listeners: Listeners, api: Api) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Some(path) = &listeners.announce {
        announce(path, &listeners).map_err(|source| ServeError::Announce { path: path.clone(), source })?;
    }
    let closing = api.closing.clone();
    let (routes, ending) = (http::api(api.clone()), closing.clone().cancelled_owned());
    let requests = match listeners.certificate {
        Some(certificate) => {
            let listener = TlsListener::new(listeners.api, certificate);
            tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ending).into_future())
        }
        None => tokio::spawn(axum::serve(listeners.api, routes).with_graceful_shutdown(ending).into_future()),
    };
    // Health and readiness are answered to the very end.
    let admin = tokio::spawn(axum::serve(listeners.admin, http::admin(api.clone())).into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    api.ready.store(false, Ordering::Relaxed);
    closing.cancel();
    let abort = requests.abort_handle();
    let _ = tokio::join!(api.registry.close(), tokio::time::timeout(DRAIN, requests));
    abort.abort();
    admin.abort();
    Ok(())
}

/// Written beside and renamed: whoever waits for the file finds it whole.
fn announce(path: &Path, listeners: &Listeners) -> io::Result<()> {
    let url = |scheme: &str, listener: &TcpListener| {
        let mut address = listener.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok::<_, io::Error>(format!("{scheme}://{address}"))
    };
    let scheme = if listeners.certificate.is_some() { "https" } else { "http" };
    let text =
        serde_json::json!({"http": url(scheme, &listeners.api)?, "admin": url("http", &listeners.admin)?}).to_string();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}
