//! The webhook's certificates: an authority of our own kept in a Secret, or files that somebody else keeps.

mod authority;
pub mod clients;
mod decide;
pub mod files;
mod publish;
mod secret;
mod served;
#[cfg(test)]
mod testing;

pub use authority::{MakeError, Pair};
pub use decide::{Certificates, Due, Lifetimes, Retired, carry_out, due};
pub use publish::publish;
pub use secret::{KeepError, Keeper};
pub use served::{Served, UseError, tls};
