//! Secrets that nobody can guess.

use super::hex::hex;

/// Bytes of a secret.
const LENGTH: usize = 32;

/// 256 bits of the system's randomness, in lower-case hexadecimal digits.
///
/// # Errors
/// When the system has none.
pub fn secret() -> Result<String, rustls::crypto::GetRandomFailed> {
    let mut bytes = [0_u8; LENGTH];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes)?;
    Ok(hex(&bytes))
}
