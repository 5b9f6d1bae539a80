//! Secrets that cannot be guessed.

use super::hex::hex;

/// So many bytes of the system's randomness, in lower-case hexadecimal digits.
///
/// # Errors
/// When the system has none.
pub fn secret<const BYTES: usize>() -> Result<String, rustls::crypto::GetRandomFailed> {
    let mut bytes = [0_u8; BYTES];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes)?;
    Ok(hex(&bytes))
}
