//! The admission webhooks: what the rules say to a request before its object exists.
//!
//! Every replica serves them. A review is parsed and reduced to what it asks for ([`mutate`], [`validate`]; pure), then
//! answered, with at most one write: the slot in the owner's ledger ([`ledgers`]).

mod access;
pub mod certificates;
pub mod configuration;
mod ledgers;
mod metrics;
mod mutate;
mod review;
mod rights;
mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod validate;

pub use ledgers::{LedgerError, Ledgers};
pub use metrics::AdmissionMetrics;
pub use review::Malformed;
pub use rights::RIGHTS;
pub use server::{Admission, router};

/// Where instances are mutated.
pub const MUTATE_INSTANCES: &str = "/mutate-whatsappinstances";
/// Where instances are validated.
pub const VALIDATE_INSTANCES: &str = "/validate-whatsappinstances";
/// Where owners are validated.
pub const VALIDATE_OWNERS: &str = "/validate-whatsappowners";
