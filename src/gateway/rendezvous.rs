//! Rendezvous hashing: one out of several, chosen by a key without any memory. Another candidate more or less moves only the
//! keys that it gains or had.

use sha2::{Digest as _, Sha256};

/// How much a candidate weighs for a key; the heaviest is chosen.
pub fn weight(key: &str, candidate: &str) -> [u8; 32] {
    Sha256::digest(format!("{key}\n{candidate}")).into()
}
