//! The sessions of this process: a registry of them, and a task for each.

mod client;
mod effects;
mod registry;
mod session;
mod shared;
#[cfg(test)]
mod tests;

pub use registry::{Limits, Refusal, Registry, check_id};
pub use shared::Shared;
