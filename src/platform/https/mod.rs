//! Serving HTTP: one listener, TLS with a certificate that changes while connections are open, an end in order.

mod address;
mod files;
mod idle;
mod listener;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, header},
    response::Response,
    serve::{Listener, ListenerExt as _},
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};
use tower::util::MapResponseLayer;

pub use self::{
    address::address,
    files::{Files, FilesError, LOOK},
    tls::{Tls, TlsError},
};
use self::{idle::IdleListener, listener::TlsListener};
use super::shutdown::Shutdown;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("listen on {address} ({flag}): {source}; choose another address, or end what listens there")]
pub struct ListenError {
    address: SocketAddr,
    flag: &'static str,
    source: io::Error,
}

/// Listens on `address`, which was given by `flag`: `[::]` is all addresses, of IPv4 as well, also where the kernel has no IPv6. What
/// arrives before [`serve`] waits.
///
/// # Errors
/// When the address is taken or not ours.
pub fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { address, flag, source };
    let tcp = address::bind(address).map_err(failed)?;
    let bound = tcp.local_addr().map_err(failed)?;
    Ok((tcp, bound))
}

/// How long what was sent may stay unacknowledged. A caller whose machine or network is gone gets a keep-alive now
/// and then; the kernel by itself would go on trying for a quarter of an hour, and for as long the caller would count as one of the streams.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A connection that was taken: what is written goes out at once, because events are small, and one whose other end is gone ends.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // Elsewhere the kernel's own patience counts.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// Takes connections without TLS, and closes those on which nothing happens for eleven minutes.
pub fn plain(tcp: TcpListener) -> impl Listener<Io: Send, Addr = SocketAddr> {
    IdleListener::new(tcp.tap_io(|stream| prepare(stream)), idle::LIMIT)
}

/// Serves `router`, over TLS when given, until the shutdown's `closing`; then takes no more connections and lets the requests
/// that are under way finish, for at most `drain`. The task ends when all of that is done. From `stopping` on, each connection ends
/// with its next answer: callers that keep theirs, as API servers do, are with another process before this one is gone. A
/// connection on which nothing happens for eleven minutes is closed.
pub fn serve(
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    Shutdown { stopping, closing, .. }: Shutdown,
    drain: Duration,
) -> JoinHandle<()> {
    let end = closing.clone().cancelled_owned();
    let router = router.layer(MapResponseLayer::new(move |mut answer: Response| {
        if stopping.is_cancelled() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }));
    let serving = match tls {
        Some(tls) => {
            let listener = IdleListener::new(TlsListener::new(tcp, tls), idle::LIMIT);
            axum::serve(listener, router).with_graceful_shutdown(end).into_future()
        }
        None => axum::serve(plain(tcp), router).with_graceful_shutdown(end).into_future(),
    };
    tokio::spawn(async move {
        let too_late = async {
            closing.cancelled().await;
            sleep(drain).await;
        };
        tokio::select! {
            // axum's server answers no errors: it goes on after those of single connections.
            _ = serving => {}
            () = too_late => tracing::warn!("some requests did not finish in time"),
        }
    })
}

#[cfg(test)]
mod tests;
