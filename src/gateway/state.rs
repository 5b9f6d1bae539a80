//! What every request of the gateway may use. None of it is worth keeping: any replica can answer any request.

use std::sync::Arc;

use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    bridges::Bridges,
    code::Code,
    failure::Failure,
    feed::Feeds,
    identities::Identities,
    index::Index,
    input::LongBodies,
    metrics::GatewayMetrics,
    rate::Rate,
    seats::{Full, Seat, Seats},
};
use crate::{api::WhatsAppInstance, model::NamespaceScope, platform::on_behalf::OnBehalf};

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
pub struct Streams(Seats);

/// One open stream; closed when dropped.
pub struct Stream {
    _seat: Seat,
    metrics: GatewayMetrics,
}

impl Default for Streams {
    fn default() -> Self {
        Self(Seats::new(STREAMS, STREAMS_EACH))
    }
}

impl Streams {
    /// One more stream of `caller`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, caller: &str, metrics: &GatewayMetrics) -> Result<Stream, Failure> {
        let seat = self.0.take(caller).map_err(|full| {
            let why = match full {
                Full::OfCaller(own) => format!("you have {own} event streams open already; close one"),
                Full::OfAll => "too many event streams are open; try again later".to_owned(),
            };
            Failure::new(Code::TooManyStreams, why)
        })?;
        metrics.stream(true);
        Ok(Stream { _seat: seat, metrics: metrics.clone() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.metrics.stream(false);
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
    }
}
