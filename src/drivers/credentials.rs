//! The token of a bridge, and the authorities that its certificates are signed by, as its Secret holds them.

use k8s_openapi::api::core::v1::Secret;
use thiserror::Error;

use crate::{api::SecretKeyRef, model::Sensitive};

/// The Secret of a bridge does not hold a token.
#[derive(Debug, Error)]
#[error("The token of the bridge is missing: Secret {namespace}/{name}, key {key}: {why}.")]
pub struct CredentialsError {
    namespace: String,
    name: String,
    key: String,
    why: &'static str,
}

impl CredentialsError {
    /// What is wrong with the Secret that `reference` names, as the end of a sentence.
    pub fn new(reference: &SecretKeyRef, why: &'static str) -> Self {
        let SecretKeyRef { namespace, name, key } = reference.clone();
        Self { namespace, name, key, why }
    }
}

/// What callers of a bridge show, and whom they believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The bearer token.
    pub token: Sensitive,
    /// PEM certificates to trust for https shards, unless the bridge's own spec says which.
    pub authorities: Option<String>,
}

/// Key of the authorities, as in every Secret with a certificate. It is optional.
const AUTHORITIES: &str = "ca.crt";

/// Reads the credentials out of the Secret that `reference` names.
///
/// # Errors
/// When the key of the token is missing, or its value could not be sent in a header.
pub fn credentials(secret: &Secret, reference: &SecretKeyRef) -> Result<Credentials, CredentialsError> {
    let wrong = |why| CredentialsError::new(reference, why);
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let bytes = value(&reference.key).ok_or_else(|| wrong("the Secret has no such key"))?;
    let token = std::str::from_utf8(&bytes.0).map_err(|_| wrong("its value is not text"))?.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("its value must be one line of printable ASCII characters"));
    }
    let authorities = value(AUTHORITIES).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    Ok(Credentials { token: Sensitive::new(token), authorities: authorities.filter(|pem| !pem.trim().is_empty()) })
}
