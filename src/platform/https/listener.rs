//! Accepting TLS connections; slow handshakes do not hold up the others.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Tls, prepare};

/// A caller that needs longer does not mean to talk.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Callers whose handshake is under way; the next ones wait in the kernel.
const MAX_HANDSHAKES: usize = 256;
/// After an error of the listener itself, such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Accepts connections whose handshake has succeeded.
pub struct TlsListener {
    tcp: TcpListener,
    tls: Arc<Tls>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    /// Speaks `tls` on `tcp`.
    pub fn new(tcp: TcpListener, tls: Arc<Tls>) -> Self {
        Self { tcp, tls, handshakes: JoinSet::new() }
    }

    fn shake_hands(&mut self, stream: TcpStream, address: SocketAddr) {
        // Without a certificate there is nothing to say; the caller tries again.
        let Some(config) = self.tls.config() else { return };
        prepare(&stream);
        let handshake = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream));
        self.handshakes.spawn(async move { Some((handshake.await.ok()?.ok()?, address)) });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((stream, address)) => self.shake_hands(stream, address),
                    // The caller has hung up already.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot take a connection");
                        sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
