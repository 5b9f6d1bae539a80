//! Serving HTTP: one listener, TLS with a certificate that changes while connections are open, an end in order.

mod files;
mod listener;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::{
    files::{Files, FilesError, LOOK},
    tls::{Tls, TlsError},
};

/// From the end of a request to the whole head of the next one, after which a connection is closed: whoever sends half a head, or
/// nothing, does not hold it for ever. Longer than clients keep a connection that they do not use (90 s in Go and in reqwest), so
/// that none is closed while a request is on its way.
const HEAD: Duration = Duration::from_secs(120);

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("listen on {address} ({flag}): {source}; choose another address, or end what listens there")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

/// Listens on `address`, which was given by `flag`. What arrives before [`serve`] waits.
///
/// # Errors
/// When the address is taken or not ours.
pub async fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { address, flag, source };
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    let bound = tcp.local_addr().map_err(failed)?;
    Ok((tcp, bound))
}

/// Serves `router`, over TLS when given, until `closing`; then takes no more connections and lets the requests that are
/// under way finish, for at most `drain`. The task ends when all of that is done.
pub fn serve(
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    closing: CancellationToken,
    drain: Duration,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let under_way = match tls {
            Some(tls) => take(listener::TlsListener::new(tcp, tls), router, closing, HEAD).await,
            None => take(tcp, router, closing, HEAD).await,
        };
        if timeout(drain, under_way.shutdown()).await.is_err() {
            tracing::warn!("some requests did not finish in time");
        }
    })
}

/// Takes connections until `closing`; those that are open then. A head may take as long as `head`.
async fn take<L: Listener>(
    mut listener: L,
    router: Router,
    closing: CancellationToken,
    head: Duration,
) -> GracefulShutdown {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let open = GracefulShutdown::new();
    loop {
        let (stream, _) = tokio::select! {
            taken = listener.accept() => taken,
            () = closing.cancelled() => return open,
        };
        let answering = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), answering));
        tokio::spawn(async move {
            // What goes wrong with a connection is its caller's trouble, who sees it too.
            let _ = connection.await;
        });
    }
}

#[cfg(test)]
mod tests;
