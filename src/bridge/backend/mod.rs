//! The one narrow place behind which the WhatsApp library stands.

mod activity;
mod command;
mod dial;
pub mod http;
mod library;
mod names;
mod passive;
mod presence;
mod proxy;
mod reach;
mod runtime;
#[cfg(test)]
pub mod script;
mod sending;
mod short_cuts;
mod stanzas;
pub mod transport;
mod watchdog;
pub mod whatsapp;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{
    command::{ClientHandle, Command, Commands, Delivery, Identity, Outgoing, Refused, commands},
    sending::encoded,
};
use crate::{
    keys::Keys,
    machine::{ClientEvent, End, Start},
};

/// Runs clients. One client makes one connection (and the reconnection that belongs to pairing); whether there is to be
/// another one is not decided here.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs a client of session `id` on its `keys` until it is told to stop or is over by itself. When this returns, or is
    /// dropped, nothing of the client uses the connection any more; the caller closes the keys.
    async fn run(&self, id: &str, start: Start, keys: Arc<dyn Keys>, commands: Commands, events: EventSink) -> End;
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
