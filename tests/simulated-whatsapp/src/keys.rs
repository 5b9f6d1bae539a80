//! Key pairs and byte strings that can be written to a state file.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use wacore_libsignal::protocol::{CurveError, KeyPair, PrivateKey};

/// A Curve25519 key pair, stored as its private half in hex. Never printed: it has no `Debug` that shows it.
#[derive(Clone)]
pub struct Key(pub KeyPair);

impl Key {
    /// A fresh random pair.
    #[must_use]
    pub fn generate() -> Self {
        Self(KeyPair::generate(&mut rand::rng()))
    }

    /// The 32 public bytes as they go over the wire (without Signal's type byte).
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key.public_key_bytes());
        bytes
    }

    /// The 32 private bytes.
    #[must_use]
    pub fn private(&self) -> &[u8; 32] {
        self.0.private_key.serialize()
    }

    /// Restores a pair from its private half.
    ///
    /// # Errors
    /// When the bytes are not a private key.
    pub fn from_private(bytes: &[u8]) -> Result<Self, CurveError> {
        let private = PrivateKey::deserialize(bytes)?;
        Ok(Self(KeyPair::new(private.public_key()?, private)))
    }

    /// An XEdDSA signature of `message`.
    ///
    /// # Errors
    /// When the curve library refuses the key.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], CurveError> {
        let signature = self.0.calculate_signature(message, &mut rand::rng())?;
        let mut bytes = [0; 64];
        bytes.copy_from_slice(&signature[..]);
        Ok(bytes)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(self.private()))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        Self::from_private(&bytes.0).map_err(D::Error::custom)
    }
}

/// Bytes stored as hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| D::Error::custom("must be an even number of hex digits"))
    }
}

/// Lower-case hex.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The inverse of [`to_hex`]; `None` when the text is not hex.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Fresh random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_is_not_printed() {
        let key = Key::generate();
        let text = serde_json::to_string(&key).unwrap();
        let back: Key = serde_json::from_str(&text).unwrap();
        assert_eq!(back.public(), key.public());
        assert!(!format!("{key:?}").contains(&to_hex(key.private())));
    }

    #[test]
    fn hex_rejects_what_is_not_hex() {
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex("\u{e9}"), None);
    }
}
