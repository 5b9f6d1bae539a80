//! The sessions of this process: a registry of them, and a task for each.

mod accept;
mod client;
mod clock;
mod effects;
mod held_up;
mod messages;
mod outboxes;
mod refusal;
mod registry;
mod request;
mod session;
mod shared;
mod task;
#[cfg(test)]
mod tests;

pub use accept::{check as check_message, same as same_message};
pub use outboxes::Outboxes;
pub use refusal::{LONGEST_ID, Refusal, check_id};
pub use registry::{Limits, Registry};
pub use shared::Shared;
