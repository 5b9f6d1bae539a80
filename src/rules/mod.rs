//! The product's rules: how many instances an owner may have, what they may be called, which one is primary, and who may
//! name whom as owner.
//!
//! Pure functions over values and a clock, one implementation for both callers: admission asks before an object exists,
//! the controller is the authority over what exists. What they share between them is the ledger in
//! `WhatsAppOwner.status.instances`; every write of it carries the resourceVersion it was computed from, so that two
//! writers cannot both take the last slot.

pub mod actions;
pub mod assign;
mod denial;
mod facts;
pub mod ledger;
pub mod link;
mod name;
pub mod owner;
pub mod primary;
pub mod progress;
#[cfg(test)]
mod properties;
mod settle;
pub mod text;
pub mod trust;

pub use denial::Denial;
pub use facts::InstanceFacts;
pub use name::ComparableName;
pub use settle::{Decision, Settlement, decision, doubts, settle};

use std::time::Duration;

/// How many instances an owner may have when neither the `WhatsAppOwner` nor the operator's flags say otherwise.
pub const DEFAULT_LIMIT: u32 = 10;

/// How long a slot is kept for an object that does not appear. The API server gives up on a request after 60 s
/// (`--request-timeout`), so nothing admitted earlier can still be written.
pub const RESERVATION: Duration = Duration::from_secs(60);

/// The limit in effect: the owner's own, else the operator's default.
pub fn limit(own: Option<i64>, default: u32) -> u32 {
    own.map_or(default, |own| u32::try_from(own.max(0)).unwrap_or(u32::MAX))
}
