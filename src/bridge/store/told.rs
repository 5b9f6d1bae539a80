//! What came of a change.

use whatsapp_operator::bridge_api::{Claim, Message};

/// What came of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A message as it is now.
    Message {
        /// The message.
        message: Box<Message>,
        /// Whether the change did something to it that is to be told.
        changed: bool,
        /// Whether it waits no longer because of the change.
        settled: bool,
    },
    /// The claim that counts.
    Claim {
        /// The claim.
        claim: Claim,
        /// Whether it was made now.
        new: bool,
    },
}
