//! What followers are told: a stream of events per topic, each with its own buffer to resume from. A burst in one
//! topic never costs another its place in the stream.

mod messages;
mod recent;
mod sessions;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;

#[cfg(test)]
pub use self::topic::Subscription;
pub use self::{messages::Messages, sessions::Sessions};

/// The topics.
pub struct Feed {
    /// The sessions as callers see them.
    pub sessions: Sessions,
    /// How far messages have come.
    pub messages: Arc<Messages>,
}

impl Feed {
    /// Nothing to tell yet; `incarnation` tells this run of the process from every other.
    pub fn new(incarnation: &str) -> Self {
        let incarnation = Arc::from(incarnation);
        Self { sessions: Sessions::new(&incarnation), messages: Arc::new(Messages::new(&incarnation)) }
    }
}
