//! What a client says that it is, and what was refused of that.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a client says that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presented {
    /// The release of its bridge: another one may have another library.
    release: String,
    /// The version of the web client, when one is configured. Without, it is the current one, as WhatsApp tells it.
    pub version: Option<(u32, u32, u32)>,
}

impl Presented {
    /// What the clients of this bridge present, with this version configured.
    pub fn by_this_bridge(version: Option<(u32, u32, u32)>) -> Self {
        Self { release: env!("CARGO_PKG_VERSION").to_owned(), version }
    }
}

/// What was refused as too old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outdated {
    /// What it presented.
    pub refused: Presented,
    /// When the same bridge may present something else, because the current version of the web client has moved on.
    #[serde(default)]
    pub again: Option<Timestamp>,
}
