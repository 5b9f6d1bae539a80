//! Which device said when that it is available, or not: WhatsApp notifies a phone only while no linked device is.

use crate::registry::DeviceKey;
use crate::world::{lock, now_ms};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

/// Far more than a test makes.
const KEPT: usize = 100_000;

/// One line of `GET /v1/presences`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceLine {
    /// `+` and the digits.
    pub phone: String,
    /// Which of its devices.
    pub device: u16,
    /// Unix milliseconds.
    pub at: u64,
    /// Whether it said that it is available.
    pub available: bool,
}

/// The record, oldest first.
#[derive(Default)]
pub struct Presences(Mutex<Vec<PresenceLine>>);

impl Presences {
    /// Notes what a device said.
    pub fn note(&self, key: DeviceKey, available: bool) {
        let at = now_ms();
        let mut lines = lock(&self.0);
        if lines.len() < KEPT {
            lines.push(PresenceLine { phone: format!("+{}", key.phone), device: key.device, at, available });
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<PresenceLine> {
        lock(&self.0).clone()
    }
}
