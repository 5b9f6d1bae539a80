//! What every request of the gateway may use. None of it is worth keeping: any replica can answer any request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access, bridges::Bridges, code::Code, failure::Failure, feed::Feeds, identities::Identities, index::Index,
    input::LongBodies, metrics::GatewayMetrics, rate::Rate,
};
use crate::{
    api::WhatsAppInstance,
    model::NamespaceScope,
    platform::{lock, on_behalf::OnBehalf},
};

/// Event streams of one caller.
const STREAMS_EACH: usize = 20;
/// Event streams of everybody: each is a watch of the API server and about 50 kB.
const STREAMS: usize = 1000;

/// What the gateway is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where instances are created and looked for, unless a request says otherwise.
    pub namespace: String,
    /// The namespaces that the operator looks after.
    pub watched: NamespaceScope,
    /// Web pages of these origins may call the gateway from a browser.
    pub origins: Vec<String>,
    /// Callers come over TLS.
    pub https: bool,
    /// Where people reach it, without a slash at the end.
    pub public_url: Option<String>,
    /// How many instances an owner may have of whom nothing is known yet.
    pub limit: i64,
}

/// The gateway of a process.
pub struct Gateway {
    /// What it is told.
    pub settings: Settings,
    /// The API server, as itself.
    pub client: Client,
    /// The API server, as the caller.
    pub callers: OnBehalf,
    /// Which user a token belongs to.
    pub identities: Identities,
    /// Which object has a uid, and which objects are an owner's.
    pub index: Index,
    /// The bridges' shards.
    pub bridges: Arc<Bridges>,
    /// What becomes of messages.
    pub feeds: Feeds,
    /// Who may send and read messages.
    pub access: Access,
    /// How much a caller may ask.
    pub rate: Rate,
    /// How many streams are open.
    pub streams: Streams,
    /// How many long bodies are read at the moment.
    pub long_bodies: LongBodies,
    /// What is counted.
    pub metrics: GatewayMetrics,
    /// Cancelled when the listener closes: handlers that wait for something answer at once then, but for those that
    /// wait for a bridge that restarts.
    pub closing: CancellationToken,
}

impl Gateway {
    /// Waits until messages are routed by what callers are told of these. See [`Index::catch_up`].
    pub async fn catch_up(&self, told: impl IntoIterator<Item = &WhatsAppInstance>) {
        // What nobody watches, nothing is routed by.
        let is_watched =
            |told: &&WhatsAppInstance| self.settings.watched.includes(&told.namespace().unwrap_or_default());
        self.index.catch_up(told.into_iter().filter(is_watched)).await;
    }
}

/// The gateway, as handlers hold it.
pub type Shared = Arc<Gateway>;

/// Counts open event streams.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<String, usize>>>);

/// One open stream; closed when dropped.
pub struct Stream {
    streams: Streams,
    caller: String,
    metrics: GatewayMetrics,
}

impl Streams {
    /// One more stream of `caller`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, caller: &str, metrics: &GatewayMetrics) -> Result<Stream, Failure> {
        let mut open = lock(&self.0);
        let own = open.get(caller).copied().unwrap_or(0);
        if own >= STREAMS_EACH {
            return Err(Failure::new(
                Code::TooManyStreams,
                format!("you have {own} event streams open already; close one"),
            ));
        }
        if open.values().sum::<usize>() >= STREAMS {
            return Err(Failure::new(Code::TooManyStreams, "too many event streams are open; try again later"));
        }
        open.insert(caller.to_owned(), own + 1);
        metrics.stream(true);
        Ok(Stream { streams: self.clone(), caller: caller.to_owned(), metrics: metrics.clone() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.metrics.stream(false);
        let mut open = lock(&self.streams.0);
        match open.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_for_each_and_end_when_dropped() {
        let (streams, metrics) = (Streams::default(), GatewayMetrics::default());
        let mut open: Vec<_> = (0..STREAMS_EACH).map(|_| streams.open("alice", &metrics).unwrap()).collect();
        assert_eq!(streams.open("alice", &metrics).err().unwrap().code, Code::TooManyStreams);
        assert!(streams.open("bob", &metrics).is_ok());
        open.pop();
        assert!(streams.open("alice", &metrics).is_ok());
        drop(open);
        assert!(lock(&streams.0).is_empty());
    }
}
