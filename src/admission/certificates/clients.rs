//! Whom the webhooks answer: with authorities given, only whoever shows a certificate signed by one of them.
//!
//! An API server shows one when its AdmissionConfiguration names a kubeconfig with it ("Authenticate API servers" in the
//! Kubernetes documentation of dynamic admission control); by default it shows none.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use thiserror::Error;

/// Why the authorities cannot be used.
#[derive(Debug, Error)]
pub enum ClientsError {
    /// There is no such file, or it may not be read.
    #[error("read {} (--webhook-client-ca): {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} (--webhook-client-ca) holds no usable PEM certificate: {problem}", file.display())]
    Unusable {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Asks each client for a certificate signed by one of the authorities in `file`, PEM. It is read once.
///
/// # Errors
/// When there are none.
pub fn verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, ClientsError> {
    let pem = fs::read(file).map_err(|source| ClientsError::Read { file: file.to_owned(), source })?;
    let unusable = |problem: String| ClientsError::Unusable { file: file.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.map_err(|error| error.to_string());
        added.and_then(|it| roots.add(it).map_err(|error| error.to_string())).map_err(unusable)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::verifier;

    #[test]
    fn a_file_without_authorities_is_an_error_that_names_the_flag() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let said = |file: &Path| verifier(file).unwrap_err().to_string();
        assert!(said(&file).contains("--webhook-client-ca"));
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(said(&file).contains("holds no usable PEM certificate"), "{text:?}: {}", said(&file));
        }
    }
}
