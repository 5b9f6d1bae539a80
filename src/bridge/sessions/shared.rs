//! What all sessions of the process share.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Outboxes, People, RunningClients};
use crate::{
    backend::Backend, data::DataDir, feed::Feed, keys::KeyStore, message_traces::MessageTraces, metrics::Metrics,
    permits::Permits, store::Store,
};

/// What all sessions share.
pub struct Shared {
    /// Runs the clients.
    pub backend: Arc<dyn Backend>,
    /// Where they run.
    pub clients: Handle,
    /// Those that run.
    pub running: RunningClients,
    /// Where everything is kept.
    pub data: DataDir,
    /// What clients need to be who they are.
    pub keys: Arc<dyn KeyStore>,
    /// Remembers the sessions.
    pub store: Store,
    /// Shows them to followers.
    pub feed: Feed,
    /// The pairing permits.
    pub permits: Arc<Permits>,
    /// How many messages may wait, and do.
    pub outboxes: Outboxes,
    /// Which ways of writing a recipient lead to one person.
    pub people: People,
    /// The traces of messages that wait.
    pub message_traces: Arc<MessageTraces>,
    /// Counts.
    pub metrics: Metrics,
    /// Cancelled when every session is to close its client and end; it stays as it is on the disk.
    pub closing: CancellationToken,
}
