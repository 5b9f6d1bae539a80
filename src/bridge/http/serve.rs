//! Listening, and ending in order.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use thiserror::Error;
use tokio::net::TcpListener;
use whatsapp_operator::platform::{
    admin,
    announce::{AnnounceError, announce, url},
    https::{self, Files, FilesError, ListenError, Tls, listen},
    shutdown::Shutdown,
};

use super::Api;
use crate::{args::Args, http};

/// After the listener has closed, requests that are under way may take this long.
const DRAIN: Duration = Duration::from_secs(5);

/// The bridge cannot listen.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The announcement cannot be written.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] FilesError),
    /// Signals.
    #[error("listen to signals: {0}")]
    Signals(#[source] io::Error),
}

/// The open listeners.
pub struct Listeners {
    api: (TcpListener, SocketAddr),
    admin: (TcpListener, SocketAddr),
    certificate: Option<(Arc<Tls>, Files)>,
    announce: Option<PathBuf>,
    shutdown_delay: Duration,
}

/// Opens the listeners of `args`.
pub async fn bind(args: &Args) -> Result<Listeners, ServeError> {
    let api = listen(args.listen, "--listen")?;
    let admin = listen(args.admin_listen, "--admin-listen")?;
    let certificate = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => {
            let tls = Arc::default();
            let mut files = Files::certificate(&tls, chain, key, "--tls-cert and --tls-key");
            files.take().await?;
            Some((tls, files))
        }
        _ => None,
    };
    Ok(Listeners { api, admin, certificate, announce: args.announce.clone(), shutdown_delay: args.shutdown_delay })
}

/// Serves until told to stop; then, after a while in which callers hear of it, closes every session's connection and
/// comes back.
pub async fn until_told_to_stop(listeners: Listeners, api: Api) -> Result<(), ServeError> {
    let Listeners {
        api: (tcp, address),
        admin: (admin_tcp, admin_address),
        certificate,
        announce: file,
        shutdown_delay,
    } = listeners;
    let shutdown = Shutdown::on_signal(shutdown_delay).map_err(ServeError::Signals)?;
    if let Some(file) = file {
        let scheme = if certificate.is_some() { "https" } else { "http" };
        announce(&file, &[("http", url(scheme, address)), ("admin", url("http", admin_address))]).await?;
    }
    let closing = api.closing.clone();
    let tls = certificate.map(|(tls, files)| {
        tokio::spawn(files.keep(https::LOOK, closing.clone()));
        tls
    });
    let ending = Shutdown { closing: closing.clone(), ..shutdown.clone() };
    let requests = https::serve(tcp, tls, http::api(api.clone()), ending, DRAIN);
    // Health and readiness are answered to the very end.
    let health = https::serve(admin_tcp, None, admin::router(Arc::new(api.clone())), Shutdown::default(), DRAIN);
    shutdown.stopping.cancelled().await;
    api.ready.store(false, Ordering::Relaxed);
    shutdown.closing.cancelled().await;
    closing.cancel();
    let _ = tokio::join!(api.registry.close(), requests);
    health.abort();
    Ok(())
}
