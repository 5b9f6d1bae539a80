//! What goes wrong with messages: at the server, and at the phones that receive them.

use crate::letters::Address;
use serde::{Deserialize, Serialize};

/// What the server does with messages, instead of taking and acknowledging them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckRule {
    /// It refuses them with this code; they go no further.
    pub error: Option<u16>,
    /// It takes them, and the ack is lost.
    #[serde(default)]
    pub lost: bool,
    /// They are lost on the way to it, so that there is no ack either.
    #[serde(default)]
    pub swallowed: bool,
    /// The ack is held back for so many milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// By how many seconds the time in the ack is behind.
    #[serde(default)]
    pub behind_secs: u64,
    /// How many messages; left out, until the rules are replaced.
    pub times: Option<u32>,
}

/// What a phone sends back for a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReceiptRule {
    /// That it was delivered; left out, it does.
    pub delivered: bool,
    /// That it was read.
    pub read: bool,
    /// How many milliseconds later; also when it asks for a message again.
    pub after_ms: u64,
    /// From which of its two addresses; left out, from the one that was written to.
    pub address: Option<Address>,
}

impl Default for ReceiptRule {
    fn default() -> Self {
        Self { delivered: true, read: false, after_ms: 0, address: None }
    }
}

/// For which messages a phone asks again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryRule {
    /// How many; left out, until the rules are replaced.
    pub times: Option<u32>,
}
