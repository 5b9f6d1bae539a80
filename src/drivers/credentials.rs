//! The token of a bridge, as its Secret holds it.

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

/// Reads the token out of the Secret that `reference` names.
///
/// # Errors
/// When the key is missing, or its value could not be sent in a header.
pub fn token(secret: &Secret, reference: &SecretKeyRef) -> Result<Sensitive, CredentialsError> {
    let wrong = |why| CredentialsError::new(reference, why);
    let bytes = secret.data.as_ref().and_then(|data| data.get(&reference.key));
    let bytes = bytes.ok_or_else(|| wrong("the Secret has no such key"))?;
    let token = std::str::from_utf8(&bytes.0).map_err(|_| wrong("its value is not text"))?.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("its value must be one line of printable ASCII characters"));
    }
    Ok(Sensitive::new(token))
}
