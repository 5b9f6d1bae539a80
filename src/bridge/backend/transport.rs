//! A transport that remembers how far a connection came.
//!
//! The library reports no event for a connection that fails before the login: it logs and tries again. What went wrong
//! can be told from outside all the same: whether the dial succeeded, whether the server answered, and who hung up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{net::TcpStream, time::Instant};
use whatsapp_operator::bridge_api::SessionReason;
use whatsapp_rust::{
    anyhow, async_channel, bytes,
    transport::{Transport, TransportEvent, TransportFactory},
};
use whatsapp_rust_tokio_transport::TokioWebSocketTransportFactory;

/// How long the second look at a failed dial may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The library pings after at most 30 s without traffic and waits 20 s for the answer. It looks at the result only at the
/// next ping, so a dead connection may cost it 100 s; this is the same measure without that wait.
const SILENCE: Duration = Duration::from_secs(52);
/// When the library hangs up after this long a silence, silence was its reason.
const QUIET: Duration = Duration::from_secs(15);

/// How far the connection came.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Course {
    /// Which connection of the client this is: pairing takes two.
    connection: u32,
    dial: Dial,
    sent: u32,
    received: u32,
    peer_hung_up: bool,
    we_hung_up_first: bool,
    refused: bool,
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
    Open,
}

/// Shared between a client's transport and those who want to know what became of it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Course>>);

impl Log {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection: from here on the course is about it.
    fn begin(&self) -> Line {
        let mut course = self.course();
        *course = Course { connection: course.connection.wrapping_add(1), ..Course::default() };
        Line { log: self.clone(), connection: course.connection }
    }

    /// The server refused the login in words.
    pub fn refused(&self) {
        self.course().refused = true;
    }

    /// The login is through.
    pub fn logged_in(&self) {
        self.course().logged_in = true;
    }

    /// Waits until the server has not said anything for so long that it must be gone.
    pub async fn silence(&self) {
        loop {
            let heard_at = self.course().heard_at.unwrap_or_else(Instant::now);
            tokio::time::sleep_until(heard_at + SILENCE).await;
            let mut course = self.course();
            if course.heard_at.is_some_and(|at| at.elapsed() >= SILENCE) {
                course.fell_silent = true;
                return;
            }
        }
    }

    /// Why the connection is over.
    pub fn verdict(&self) -> SessionReason {
        verdict(*self.course())
    }
}

/// One connection's hold on the log. What a former one still has to say is nothing about the one that followed it.
#[derive(Clone)]
struct Line {
    log: Log,
    connection: u32,
}

impl Line {
    fn note(&self, what: impl FnOnce(&mut Course)) {
        let mut course = self.log.course();
        if course.connection == self.connection {
            what(&mut course);
        }
    }

    fn dialled(&self, dial: Dial) {
        self.note(|course| course.dial = dial);
    }

    fn sends(&self) {
        self.note(|course| course.sent = course.sent.saturating_add(1));
    }

    fn hears(&self, event: &TransportEvent) {
        self.note(|course| match event {
            TransportEvent::DataReceived(_) => {
                course.received = course.received.saturating_add(1);
                course.heard_at = Some(Instant::now());
            }
            TransportEvent::Disconnected(_) => course.peer_hung_up = true,
            TransportEvent::Connected => {}
        });
    }

    fn hangs_up(&self) {
        self.note(|course| {
            course.we_hung_up_first |= !course.peer_hung_up;
            course.fell_silent |= course.we_hung_up_first && course.heard_at.is_some_and(|at| at.elapsed() >= QUIET);
        });
    }
}

fn verdict(course: Course) -> SessionReason {
    if course.refused {
        return SessionReason::ServerRefused;
    }
    if course.logged_in && !course.fell_silent {
        return SessionReason::ConnectionLost;
    }
    if course.logged_in {
        return SessionReason::ServerNotAnswering;
    }
    match course.dial {
        Dial::Pending => SessionReason::ServerNotAnswering,
        Dial::Unreachable => SessionReason::ServerUnreachable,
        Dial::TurnedAway => SessionReason::ServerRefused,
        // The version of the web client is fetched along with the dial; nothing is sent when that fails.
        Dial::Open if course.sent == 0 => SessionReason::ServerUnreachable,
        Dial::Open if course.peer_hung_up && !course.we_hung_up_first => SessionReason::ServerRefused,
        Dial::Open if course.received == 0 => SessionReason::ServerNotAnswering,
        // Our hello was answered, and we hung up instead of going on: the answer did not prove that it is WhatsApp.
        Dial::Open if course.sent == 1 => SessionReason::ServerNotTrusted,
        Dial::Open => SessionReason::ConnectionLost,
    }
}

/// Makes transports to one address and logs their course.
pub struct LoggedFactory {
    url: Option<String>,
    inner: TokioWebSocketTransportFactory,
    log: Log,
}

impl LoggedFactory {
    /// Transports to `url`, or to WhatsApp itself.
    pub fn new(url: Option<&str>, log: Log) -> Self {
        let inner = TokioWebSocketTransportFactory::new();
        let inner = match url {
            Some(url) => inner.with_url(url),
            None => inner,
        };
        Self { url: url.map(str::to_owned), inner, log }
    }

    /// The library's dial error is text. Whether anything listens there is asked once more instead of reading it.
    async fn listens(&self) -> bool {
        let Some(url) = self.url.as_deref().and_then(|url| reqwest::Url::parse(url).ok()) else { return false };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        let address = format!("{host}:{port}");
        matches!(tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
    }
}

#[async_trait]
impl TransportFactory for LoggedFactory {
    async fn create_transport(
        &self,
    ) -> Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>), anyhow::Error> {
        let line = self.log.begin();
        let (transport, arriving) = match self.inner.create_transport().await {
            Ok(opened) => opened,
            Err(error) => {
                let dial = if self.listens().await { Dial::TurnedAway } else { Dial::Unreachable };
                line.dialled(dial);
                return Err(error);
            }
        };
        line.dialled(Dial::Open);
        // Small: it exists once per session, and the library's own channel behind it buffers.
        let (forward, received) = async_channel::bounded(2);
        let listening = line.clone();
        tokio::spawn(async move {
            while let Ok(event) = arriving.recv().await {
                listening.hears(&event);
                if forward.send(event).await.is_err() {
                    break;
                }
            }
        });
        Ok((Arc::new(LoggedTransport { inner: transport, line }), received))
    }
}

struct LoggedTransport {
    inner: Arc<dyn Transport>,
    line: Line,
}

#[async_trait]
impl Transport for LoggedTransport {
    async fn send(&self, data: bytes::Bytes) -> Result<(), anyhow::Error> {
        self.line.sends();
        self.inner.send(data).await
    }

    async fn disconnect(&self) {
        self.line.hangs_up();
        self.inner.disconnect().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Course {
        Course { dial: Dial::Open, sent: 1, we_hung_up_first: true, ..Course::default() }
    }

    fn hung_up() -> TransportEvent {
        TransportEvent::Disconnected(whatsapp_rust::transport::DisconnectReason::StreamEnded)
    }

    #[test]
    fn the_end_of_a_former_connection_says_nothing_about_the_present_one() {
        let log = Log::default();
        let former = log.begin();
        former.dialled(Dial::Open);
        let present = log.begin();
        present.dialled(Dial::Open);
        for line in [&former, &present] {
            line.sends();
        }
        former.hears(&hung_up());
        assert_eq!(log.verdict(), SessionReason::ServerNotAnswering);
        former.hears(&TransportEvent::DataReceived(bytes::Bytes::new()));
        former.hangs_up();
        assert_eq!(log.verdict(), SessionReason::ServerNotAnswering);
        present.hears(&hung_up());
        assert_eq!(log.verdict(), SessionReason::ServerRefused);
    }

    #[test]
    fn the_course_of_a_connection_tells_why_it_failed() {
        use SessionReason as R;
        let cases = [
            (Course::default(), R::ServerNotAnswering),
            (Course { dial: Dial::Unreachable, ..Course::default() }, R::ServerUnreachable),
            (Course { dial: Dial::TurnedAway, ..Course::default() }, R::ServerRefused),
            (opened(), R::ServerNotAnswering),
            (Course { received: 1, ..opened() }, R::ServerNotTrusted),
            (Course { received: 1, peer_hung_up: true, ..opened() }, R::ServerNotTrusted),
            (Course { peer_hung_up: true, we_hung_up_first: false, ..opened() }, R::ServerRefused),
            (Course { received: 3, sent: 2, ..opened() }, R::ConnectionLost),
            (Course { refused: true, ..opened() }, R::ServerRefused),
            (Course { logged_in: true, ..opened() }, R::ConnectionLost),
            (Course { logged_in: true, fell_silent: true, ..opened() }, R::ServerNotAnswering),
            (Course { sent: 0, ..opened() }, R::ServerUnreachable),
        ];
        for (course, expected) in cases {
            assert_eq!(verdict(course), expected, "{course:?}");
        }
    }
}
