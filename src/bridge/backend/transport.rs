//! A transport that records how far each connection came.
//!
//! The library reports no event for a connection that fails before the login: it logs and tries again. What went wrong
//! can be told from outside all the same: whether the dial succeeded, whether the server answered, and who hung up.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use whatsapp_operator::{
    bridge_api::SessionReason,
    platform::{cluster_proxy::Environment, lock},
};
use whatsapp_rust::{
    anyhow, async_channel, bytes,
    transport::{Transport, TransportEvent, TransportFactory},
};
use whatsapp_rust_tokio_transport::from_websocket;

use super::{
    dial::{DialError, dial},
    names::Names,
};

/// A connection on which nothing at all came for this long before the login is dead. (After the login answers count, see
/// [`super::watchdog`].)
const SILENCE: Duration = Duration::from_secs(52);
/// When the library hangs up after this long a silence, silence was its reason.
const QUIET: Duration = Duration::from_secs(15);

/// How far the connection came.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ConnectionRecord {
    /// Which connection of the client this is: pairing takes two.
    connection: u32,
    /// The client is to be linked.
    pairs: bool,
    dial: Dial,
    sent: u32,
    received: u32,
    peer_hung_up: bool,
    we_hung_up_first: bool,
    /// The server refused the login in words, for this reason.
    refused: Option<SessionReason>,
    logged_in: bool,
    /// When something arrived last.
    heard_at: Option<Instant>,
    /// We hung up on a server that had not said anything for long.
    fell_silent: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dial {
    #[default]
    Pending,
    Unreachable,
    /// There is a server, but it did not open a WebSocket.
    TurnedAway,
    /// There is a server whose certificate is not WhatsApp's.
    Intercepted,
    Open,
}

impl From<&DialError> for Dial {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Address(_) | DialError::Unreachable(..) | DialError::Proxy(..) | DialError::NoProxy(..) => {
                Self::Unreachable
            }
            DialError::Intercepted(..) => Self::Intercepted,
            DialError::TurnedAway(..) => Self::TurnedAway,
        }
    }
}

/// Shared between a client's transport and those who want to know what became of it.
#[derive(Clone, Default)]
pub struct ConnectionRecorder(Arc<Mutex<ConnectionRecord>>);

impl ConnectionRecorder {
    /// Of a client that is to be linked, or that is.
    pub fn new(pairs: bool) -> Self {
        Self(Arc::new(Mutex::new(ConnectionRecord { pairs, ..ConnectionRecord::default() })))
    }

    fn record(&self) -> MutexGuard<'_, ConnectionRecord> {
        lock(&self.0)
    }

    /// A new connection: from here on the record is about it.
    fn begin(&self) -> ConnectionHandle {
        let mut record = self.record();
        let (connection, pairs) = (record.connection.wrapping_add(1), record.pairs);
        *record = ConnectionRecord { connection, pairs, ..ConnectionRecord::default() };
        ConnectionHandle { recorder: self.clone(), connection: record.connection }
    }

    /// Which connection of the client the record is about; 0 before the first.
    pub fn connection(&self) -> u32 {
        self.record().connection
    }

    /// The server refused the login in words, for this reason.
    pub fn refused(&self, why: SessionReason) {
        self.record().refused = Some(why);
    }

    /// The login is through.
    pub fn logged_in(&self) {
        self.record().logged_in = true;
    }

    /// Whether the login is through.
    pub fn is_logged_in(&self) -> bool {
        self.record().logged_in
    }

    /// A code is shown on this connection, or may be: it is the first one, and nobody is logged in.
    pub fn waits_for_scan(&self) -> bool {
        let record = self.record();
        record.pairs && record.connection == 1 && !record.logged_in
    }

    /// When something arrived last.
    pub fn heard_at(&self) -> Option<Instant> {
        self.record().heard_at
    }

    /// Whether the server has not said anything for so long that it must be gone.
    pub fn is_silent(&self) -> bool {
        self.heard_at().is_some_and(|at| at.elapsed() >= SILENCE)
    }

    /// The server is given up, since it does not answer any more.
    pub fn give_up(&self) {
        self.record().fell_silent = true;
    }

    /// Whether the server was spoken to, and nobody is logged in.
    pub fn was_in_vain(&self) -> bool {
        let record = self.record();
        record.sent > 0 && !record.logged_in
    }

    /// Why the connection is over.
    pub fn cause(&self) -> SessionReason {
        cause(*self.record())
    }
}

/// One connection's handle. What a former one still has to say is nothing about the one that followed it.
#[derive(Clone)]
struct ConnectionHandle {
    recorder: ConnectionRecorder,
    connection: u32,
}

impl ConnectionHandle {
    fn record(&self, what: impl FnOnce(&mut ConnectionRecord)) {
        let mut record = self.recorder.record();
        if record.connection == self.connection {
            what(&mut record);
        }
    }

    fn dialled(&self, dial: Dial) {
        self.record(|record| record.dial = dial);
    }

    fn sends(&self) {
        self.record(|record| record.sent = record.sent.saturating_add(1));
    }

    fn hears(&self, event: &TransportEvent) {
        self.record(|record| match event {
            TransportEvent::DataReceived(_) => {
                record.received = record.received.saturating_add(1);
                record.heard_at = Some(Instant::now());
            }
            TransportEvent::Disconnected(_) => record.peer_hung_up = true,
            TransportEvent::Connected => {}
        });
    }

    fn hangs_up(&self) {
        self.record(|record| {
            record.we_hung_up_first |= !record.peer_hung_up;
            record.fell_silent |= record.we_hung_up_first && record.heard_at.is_some_and(|at| at.elapsed() >= QUIET);
        });
    }
}

fn cause(record: ConnectionRecord) -> SessionReason {
    if let Some(why) = record.refused {
        return why;
    }
    if record.logged_in && !record.fell_silent {
        return SessionReason::ConnectionLost;
    }
    if record.logged_in {
        return SessionReason::ServerNotAnswering;
    }
    match record.dial {
        Dial::Pending => SessionReason::ServerNotAnswering,
        Dial::Unreachable => SessionReason::ServerUnreachable,
        Dial::TurnedAway => SessionReason::ServerRefused,
        Dial::Intercepted => SessionReason::ServerNotTrusted,
        // The version of the web client is fetched along with the dial; nothing is sent when that fails.
        Dial::Open if record.sent == 0 => SessionReason::ServerUnreachable,
        Dial::Open if record.peer_hung_up && !record.we_hung_up_first => SessionReason::ServerRefused,
        Dial::Open if record.received == 0 || record.fell_silent => SessionReason::ServerNotAnswering,
        // Our hello was answered, and we hung up instead of going on: the answer did not prove that it is WhatsApp.
        Dial::Open if record.sent == 1 => SessionReason::ServerNotTrusted,
        Dial::Open => SessionReason::ConnectionLost,
    }
}

/// Makes transports to one address and records how far each came.
pub struct RecordingFactory {
    url: Option<String>,
    names: Names,
    recorder: ConnectionRecorder,
}

impl RecordingFactory {
    /// Transports to `url`, or to WhatsApp itself.
    pub fn new(url: Option<&str>, names: Names, recorder: ConnectionRecorder) -> Self {
        Self { url: url.map(str::to_owned), names, recorder }
    }
}

#[async_trait]
impl TransportFactory for RecordingFactory {
    async fn create_transport(
        &self,
    ) -> Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>), anyhow::Error> {
        let handle = self.recorder.begin();
        let (transport, arriving) = match dial(self.url.as_deref(), &self.names, &Environment::read()).await {
            Ok(socket) => from_websocket(socket),
            Err(error) => {
                tracing::warn!(%error, "the connection to WhatsApp was not opened");
                handle.dialled(Dial::from(&error));
                return Err(error.into());
            }
        };
        handle.dialled(Dial::Open);
        // Small: it exists once per session, and the library's own channel behind it buffers.
        let (forward, received) = async_channel::bounded(2);
        let listening = handle.clone();
        tokio::spawn(async move {
            while let Ok(event) = arriving.recv().await {
                listening.hears(&event);
                if forward.send(event).await.is_err() {
                    break;
                }
            }
        });
        Ok((Arc::new(RecordingTransport { inner: transport, handle }), received))
    }
}

struct RecordingTransport {
    inner: Arc<dyn Transport>,
    handle: ConnectionHandle,
}

#[async_trait]
impl Transport for RecordingTransport {
    async fn send(&self, data: bytes::Bytes) -> Result<(), anyhow::Error> {
        self.handle.sends();
        self.inner.send(data).await
    }

    async fn disconnect(&self) {
        self.handle.hangs_up();
        self.inner.disconnect().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> ConnectionRecord {
        ConnectionRecord { dial: Dial::Open, sent: 1, we_hung_up_first: true, ..ConnectionRecord::default() }
    }

    fn hung_up() -> TransportEvent {
        TransportEvent::Disconnected(whatsapp_rust::transport::DisconnectReason::StreamEnded)
    }

    #[test]
    fn the_end_of_a_former_connection_says_nothing_about_the_present_one() {
        let recorder = ConnectionRecorder::default();
        let former = recorder.begin();
        former.dialled(Dial::Open);
        let present = recorder.begin();
        present.dialled(Dial::Open);
        for handle in [&former, &present] {
            handle.sends();
        }
        former.hears(&hung_up());
        assert_eq!(recorder.cause(), SessionReason::ServerNotAnswering);
        former.hears(&TransportEvent::DataReceived(bytes::Bytes::new()));
        former.hangs_up();
        assert_eq!(recorder.cause(), SessionReason::ServerNotAnswering);
        present.hears(&hung_up());
        assert_eq!(recorder.cause(), SessionReason::ServerRefused);
    }

    #[test]
    fn the_course_of_a_connection_tells_why_it_failed() {
        use SessionReason as R;
        let cases = [
            (ConnectionRecord::default(), R::ServerNotAnswering),
            (ConnectionRecord { dial: Dial::Unreachable, ..ConnectionRecord::default() }, R::ServerUnreachable),
            (ConnectionRecord { dial: Dial::TurnedAway, ..ConnectionRecord::default() }, R::ServerRefused),
            (opened(), R::ServerNotAnswering),
            (ConnectionRecord { received: 1, ..opened() }, R::ServerNotTrusted),
            (ConnectionRecord { received: 1, peer_hung_up: true, ..opened() }, R::ServerNotTrusted),
            (ConnectionRecord { peer_hung_up: true, we_hung_up_first: false, ..opened() }, R::ServerRefused),
            (ConnectionRecord { received: 1, fell_silent: true, ..opened() }, R::ServerNotAnswering),
            (ConnectionRecord { received: 3, sent: 2, ..opened() }, R::ConnectionLost),
            (ConnectionRecord { dial: Dial::Intercepted, ..ConnectionRecord::default() }, R::ServerNotTrusted),
            (ConnectionRecord { refused: Some(R::ServerRefused), ..opened() }, R::ServerRefused),
            (ConnectionRecord { refused: Some(R::TooManyRequests), ..opened() }, R::TooManyRequests),
            (ConnectionRecord { logged_in: true, ..opened() }, R::ConnectionLost),
            (ConnectionRecord { logged_in: true, fell_silent: true, ..opened() }, R::ServerNotAnswering),
            (ConnectionRecord { sent: 0, ..opened() }, R::ServerUnreachable),
        ];
        for (record, expected) in cases {
            assert_eq!(cause(record), expected, "{record:?}");
        }
    }
}
