//! The certificates of the webhooks, and of the bridge where the operator keeps them: an authority of our own kept in a
//! Secret, or files that are kept by other means.

mod authority;
mod configured;
mod decide;
mod publish;
mod secret;
#[cfg(test)]
mod testing;
mod trusted;

pub use authority::{MakeError, Pair};
pub use configured::is_published;
pub use decide::{Certificates, Due, Lifetimes, Retired, carry_out, due};
pub use publish::Publisher;
pub use secret::{CertificateError, CertificateSecret, Memory, ToldBy};
