//! TLS for the API.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::serve::Listener;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A caller that needs longer does not mean to talk.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Callers whose handshake is under way; the next ones wait in the kernel.
const MAX_HANDSHAKES: usize = 256;
/// After an error such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// The certificate or its key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path} as {what}: {source}; give PEM files with --tls-cert and --tls-key")]
    File {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it cannot be read.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not fit.
    #[error("the certificate {chain} and the key {key} cannot be used together: {source}")]
    Pair {
        /// The certificate chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// A certificate with its key, read again when the file changes: they are renewed long before a bridge restarts.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    changed: Option<SystemTime>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// The certificate chain and key in these PEM files.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), changed: changed(chain), acceptor: load(chain, key)? })
    }

    fn acceptor(&mut self) -> TlsAcceptor {
        let now = changed(&self.chain);
        if now != self.changed {
            match load(&self.chain, &self.key) {
                Ok(acceptor) => (self.acceptor, self.changed) = (acceptor, now),
                // Half of the renewal may be written: the last one stays until both files fit.
                Err(error) => tracing::warn!(%error, "the renewed certificate is not used yet"),
            }
        }
        self.acceptor.clone()
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn load(chain: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let unreadable = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::File { path, what, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(chain, "a certificate chain"))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key, "a private key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map_err(|source| TlsError::Pair { chain: chain.to_owned(), key: key.to_owned(), source })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts TLS connections; slow handshakes do not hold up the others.
pub struct TlsListener {
    tcp: TcpListener,
    certificate: Certificate,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    /// Serves `certificate` on `tcp`.
    pub fn new(tcp: TcpListener, certificate: Certificate) -> Self {
        Self { tcp, certificate, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((stream, address)) => {
                        let handshake = timeout(HANDSHAKE, self.certificate.acceptor().accept(stream));
                        self.handshakes.spawn(async move { Some((handshake.await.ok()?.ok()?, address)) });
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
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
