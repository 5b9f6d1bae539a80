//! The certificate the running listener shows; swapped without closing anything.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use thiserror::Error;

/// Why a certificate cannot be shown.
#[derive(Debug, Error)]
pub enum UseError {
    /// The certificate is no PEM.
    #[error("read the webhook's certificate chain (tls.crt): {0}")]
    Chain(String),
    /// The key is no PEM. Its parser's words may quote it, so they are left out.
    #[error("read the webhook's private key (tls.key): it is not a PEM private key")]
    Key,
    /// They do not belong together, or TLS cannot use them.
    #[error("use the webhook's certificate: {0}; check that tls.key belongs to tls.crt")]
    Tls(#[from] rustls::Error),
}

/// The certificate being shown, if there is one yet.
#[derive(Debug, Default)]
pub struct Served(RwLock<Option<Arc<CertifiedKey>>>);

impl Served {
    /// Shows another certificate from the next handshake on.
    ///
    /// # Errors
    /// When it cannot be used; the one before stays.
    pub fn swap(&self, chain: &str, key: &str) -> Result<(), UseError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| UseError::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(UseError::Chain("no certificate in it".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| UseError::Key)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// Whether there is a certificate to show: part of being ready.
    pub fn is_loaded(&self) -> bool {
        self.shown().is_some()
    }

    /// What the next handshake gets to see.
    pub(super) fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }
}

/// TLS that shows what `served` holds at the time of each handshake, and asks `clients`, when given, about whoever calls.
///
/// # Errors
/// When the TLS library has no protocol in common with itself; a defect of this program.
pub fn tls(
    served: Arc<Served>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(served);
    // All that an API server speaks to webhooks (kubernetes/kubernetes#75791).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
