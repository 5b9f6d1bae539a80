//! The sessions of this process: a registry of them, and a task for each.

mod client;
mod registry;
mod session;
#[cfg(test)]
mod tests;

pub use registry::{Limits, Refusal, Registry, check_id};
pub use session::Shared;
