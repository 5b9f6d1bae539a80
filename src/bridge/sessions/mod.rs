//! The sessions of this process: a registry of them, and a task for each.

mod accept;
mod asked_again;
mod client;
mod clock;
mod closing;
mod crowd;
mod delivery;
mod effects;
mod held_up;
mod messages;
mod moved_keys;
mod new_message;
mod noting;
mod outboxes;
mod owed;
mod people;
mod refusal;
mod registry;
mod request;
mod running;
mod session;
mod shared;
mod showing;
mod storing;
mod take_over;
mod task;
#[cfg(test)]
mod tests;
mod writing;

pub use asked_again::AskedAgain;
pub use clock::certain;
pub use moved_keys::with_their_keys;
pub use new_message::{check as check_message, same as same_message};
pub use outboxes::Outboxes;
pub use people::People;
pub use refusal::{LONGEST_ID, Refusal, check_id};
pub use registry::{Limits, Registry};
pub use running::RunningClients;
pub use shared::Shared;
