//! What is written while the session goes on.

use std::future::pending;

use tokio::task::JoinHandle;

use crate::store::{Change, StoreError, Told};

/// Changes of messages from which nothing follows, on their way to the disk.
pub(super) struct Noting {
    /// The changes.
    pub(super) changes: Vec<Change>,
    /// Ends when they are written, or cannot be.
    pub(super) written: JoinHandle<Result<Vec<Told>, StoreError>>,
}

/// Changes that could not be noted, and why.
pub(super) struct Unnoted {
    pub(super) changes: Vec<Change>,
    pub(super) error: StoreError,
}

impl Noting {
    /// Ends when they are written, or cannot be; never when there is nothing.
    pub(super) async fn end(this: &mut Option<Self>) -> Result<(), Unnoted> {
        let Some(noting) = this.as_mut() else { return pending().await };
        let written = (&mut noting.written).await.unwrap_or(Err(StoreError::Closed));
        let changes = this.take().map(|noting| noting.changes).unwrap_or_default();
        written.map(drop).map_err(|error| Unnoted { changes, error })
    }
}
