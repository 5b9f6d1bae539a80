//! The sessions of this process: a registry of them, and a task for each.

mod client;
mod clock;
mod effects;
mod refusal;
mod registry;
mod session;
mod shared;
#[cfg(test)]
mod tests;

pub use refusal::{Refusal, check_id};
pub use registry::{Limits, Registry};
pub use shared::Shared;
