//! What is told to whoever follows: a stream of events per topic, each with its own buffer to resume from. A burst in one
//! topic never costs another its place in the stream.

mod recent;
mod sessions;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;

pub use self::sessions::Sessions;
#[cfg(test)]
pub use self::topic::Subscription;

/// The topics.
pub struct Feed {
    /// The sessions as callers see them.
    pub sessions: Sessions,
}

impl Feed {
    /// Nothing to tell yet; `incarnation` tells this run of the process from every other.
    pub fn new(incarnation: &str) -> Self {
        Self { sessions: Sessions::new(&Arc::from(incarnation)) }
    }
}
