//! A refusal: one sentence, and what a program needs to tell it from others.

use std::fmt;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// CamelCase, stable: troubleshooting is keyed by it.
    pub reason: &'static str,
    /// One sentence: what, how many, what to do.
    pub message: String,
    /// HTTP status of the refusal.
    pub code: u16,
}

impl Denial {
    /// A refusal.
    pub fn new(reason: &'static str, code: u16, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), code }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
