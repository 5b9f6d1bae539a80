//! The one narrow place behind which the WhatsApp library stands.

pub mod http;
#[cfg(test)]
pub mod script;
pub mod transport;
pub mod whatsapp;

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::machine::{ClientEvent, End, Start};

/// Runs clients. One client makes one connection (and the reconnection that belongs to pairing); whether there is to be
/// another one is not decided here.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs a client of session `id` until it is told to stop or is over by itself. When this returns, or is dropped,
    /// nothing of the client uses the connection any more, and its keys are on disk.
    async fn run(&self, id: &str, start: Start, commands: mpsc::Receiver<Command>, events: EventSink) -> End;

    /// Deletes the keys of session `id`, whose client is over. Keys that are not there are deleted.
    async fn erase(&self, id: &str) -> Result<(), EraseError>;
}

/// What a running client can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Have the device removed from the account; answered by [`ClientEvent::Unlinked`].
    Unlink,
    /// Close the connection and end.
    Stop,
}

/// Where a client's events go.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(ClientEvent) + Send + Sync>);

impl EventSink {
    /// Sends events to `listener`.
    pub fn to(listener: impl Fn(ClientEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Sends `event`.
    pub fn tell(&self, event: ClientEvent) {
        (self.0)(event);
    }
}

/// The keys of a session could not be deleted.
#[derive(Debug, Error)]
#[error("delete the keys of session {id}: {source}")]
pub struct EraseError {
    /// Which session.
    pub id: String,
    /// Why.
    pub source: std::io::Error,
}
