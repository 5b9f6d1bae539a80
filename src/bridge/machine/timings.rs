//! How long things may take, and when that is over.

use std::time::Duration;

pub use whatsapp_operator::platform::later;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timings {
    /// From the start of a client to its first code or its login.
    pub connect: Duration,
    /// From the use of a code to the login.
    pub link: Duration,
    /// First wait before a connection is made again; doubles up to `retry_max`.
    pub retry: Duration,
    /// Longest wait before a connection is made again.
    pub retry_max: Duration,
    /// Wait before a window reopens while a person is expected to use a code.
    pub reopen_expected: Duration,
    /// First wait before a window reopens by itself; doubles up to `reopen_max`.
    pub reopen: Duration,
    /// Longest wait before a window reopens by itself.
    pub reopen_max: Duration,
    /// From one login to a planned next one, see [`State::wake_at`].
    pub log_in_anew: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            link: Duration::from_secs(45),
            retry: Duration::from_secs(1),
            // WhatsApp's own web client goes up to 15 minutes; one keeps the way back short, and a thousand sessions then
            // make 17 attempts a second.
            retry_max: Duration::from_secs(60),
            reopen_expected: Duration::from_secs(1),
            reopen: Duration::from_secs(60),
            reopen_max: Duration::from_secs(3600),
            // The library renews the signed pre-key (due after 21 days) and drops tokens that have expired at a login only.
            log_in_anew: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
