//! What is shown to callers, and what is asked of them; both can change while connections are open.

use std::sync::{Arc, Mutex};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use thiserror::Error;

use crate::platform::lock;

/// Why a certificate, or authorities, cannot be used. Nothing of a key is quoted.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate is no PEM.
    #[error("the certificate chain cannot be read: {0}")]
    Chain(String),
    /// The key is no PEM.
    #[error("the private key is not a PEM private key")]
    Key,
    /// They do not belong together, or TLS cannot use them.
    #[error("certificate and private key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// The authorities are none.
    #[error("there is no usable PEM certificate of an authority: {0}")]
    Authorities(String),
}

/// The TLS of one server.
#[derive(Default)]
pub struct Tls(Mutex<State>);

#[derive(Default)]
struct State {
    certificate: Option<Arc<CertifiedKey>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Made from both, and anew when one of them changes: rustls keeps sessions to be resumed in it, and a client must
    /// not resume one that it could not begin any more.
    config: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// Shows this certificate, PEM, from the next handshake on.
    ///
    /// # Errors
    /// When it cannot be used; the one before stays.
    pub fn show(&self, chain: &str, key: &str) -> Result<(), TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(TlsError::Chain("no certificate in it".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::Key)?;
        let certificate = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        let mut state = lock(&self.0);
        if state.certificate.as_ref().is_none_or(|shown| shown.cert != certificate.cert) {
            state.certificate = Some(Arc::new(certificate));
            state.build()?;
        }
        Ok(())
    }

    /// Answers only callers that show a certificate signed by one of these authorities, PEM, from the next handshake on.
    ///
    /// # Errors
    /// When there are none; those from before stay.
    pub fn answer_only(&self, authorities: &str) -> Result<(), TlsError> {
        let unusable = |problem: &dyn ToString| TlsError::Authorities(problem.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let mut state = lock(&self.0);
        state.clients = Some(verifier.map_err(|error| unusable(&error))?);
        state.build()
    }

    /// Whether there is a certificate to show.
    pub fn is_ready(&self) -> bool {
        self.config().is_some()
    }

    /// What the next handshake goes by.
    pub(super) fn config(&self) -> Option<Arc<ServerConfig>> {
        lock(&self.0).config.clone()
    }

    /// The certificate being shown, DER.
    #[cfg(test)]
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        lock(&self.0).certificate.as_ref().map(|certificate| certificate.cert[0].clone())
    }
}

impl State {
    fn build(&mut self) -> Result<(), TlsError> {
        let Some(certificate) = &self.certificate else { return Ok(()) };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let shown = SingleCertAndKey::from(Arc::clone(certificate));
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        // All that an API server speaks to webhooks (kubernetes/kubernetes#75791), and all that our own clients speak.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.config = Some(Arc::new(config));
        Ok(())
    }
}
