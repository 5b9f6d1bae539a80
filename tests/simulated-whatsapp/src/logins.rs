//! Who tried to log in when, and what came of it: for tests of how patient a client is.

use crate::registry::DeviceKey;
use crate::world::{lock, now_ms};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

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
        let at = now_ms();
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
