//! Who tried to log in when, and what came of it: for tests of how patient a client is.

use crate::registry::DeviceKey;
use crate::world::lock;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Far more than a test makes.
const KEPT: usize = 100_000;

/// One line of `GET /v1/logins`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginLine {
    /// `+` and the digits.
    pub phone: String,
    /// Which of its devices.
    pub device: u16,
    /// Unix milliseconds.
    pub at: u64,
    /// Whether it was let in.
    pub admitted: bool,
}

/// The record, oldest first.
#[derive(Default)]
pub struct Logins(Mutex<Vec<LoginLine>>);

impl Logins {
    /// Notes a try.
    pub fn note(&self, key: DeviceKey, admitted: bool) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let mut lines = lock(&self.0);
        if lines.len() < KEPT {
            lines.push(LoginLine { phone: format!("+{}", key.phone), device: key.device, at, admitted });
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<LoginLine> {
        lock(&self.0).clone()
    }
}
