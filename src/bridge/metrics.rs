//! What is counted. No label names a session, and no value is secret.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use whatsapp_operator::{
    bridge_api::{MessageStatus, Open, SessionPhase, WaitsFor},
    platform::lock,
};

/// Seconds: from a server next door to a queue of hours.
const UNTIL_SENT: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0];

/// Seconds: from a server next door to one that is taken for dead.
const ACKNOWLEDGED: [f64; 10] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Phase {
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    path: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// The bridge's metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    sessions: Family<Phase, Gauge>,
    pairings: Counter,
    windows: Counter,
    reconnects: Counter,
    requests: Family<Request, Counter>,
    data: Family<Kind, Gauge>,
    /// When that was measured last.
    measured: Arc<Mutex<Option<Instant>>>,
    commits: Counter,
    accepted: Family<Repeated, Counter>,
    settled: Family<Outcome, Counter>,
    waiting: Gauge,
    held_up: Family<Cause, Gauge>,
    oldest_waiting: Gauge,
    until_sent: Histogram,
    acknowledged: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    state: String,
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repeated {
    repeated: &'static str,
}

/// Every phase, so that a phase without sessions reads 0 and not nothing.
pub const PHASES: [SessionPhase; 15] = [
    SessionPhase::Stopped,
    SessionPhase::Queued,
    SessionPhase::Opening,
    SessionPhase::AwaitingPairing,
    SessionPhase::Linking,
    SessionPhase::PairingExpired,
    SessionPhase::AwaitingPasskey,
    SessionPhase::Connecting,
    SessionPhase::Connected,
    SessionPhase::Reconnecting,
    SessionPhase::Ended,
    SessionPhase::Banned,
    SessionPhase::LoggedOut,
    SessionPhase::Unlinking,
    SessionPhase::Deleting,
];

/// How often the disk is measured, however often the metrics are asked for. Prometheus asks every 15 to 60 s.
const MEASURED_EVERY: Duration = Duration::from_secs(5);

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            sessions: Family::default(),
            pairings: Counter::default(),
            windows: Counter::default(),
            reconnects: Counter::default(),
            requests: Family::default(),
            data: Family::default(),
            measured: Arc::default(),
            commits: Counter::default(),
            accepted: Family::default(),
            settled: Family::default(),
            waiting: Gauge::default(),
            held_up: Family::default(),
            oldest_waiting: Gauge::default(),
            until_sent: Histogram::new(UNTIL_SENT),
            acknowledged: Histogram::new(ACKNOWLEDGED),
        };
        {
            let mut registry = metrics.registry.write().unwrap_or_else(PoisonError::into_inner);
            registry.register("whatsapp_bridge_sessions", "Sessions by phase", metrics.sessions.clone());
            registry.register("whatsapp_bridge_pairings", "Devices linked", metrics.pairings.clone());
            registry.register(
                "whatsapp_bridge_pairing_windows_passed",
                "Pairing windows that passed unused",
                metrics.windows.clone(),
            );
            registry.register(
                "whatsapp_bridge_connections_lost",
                "Connections lost and made again",
                metrics.reconnects.clone(),
            );
            registry.register(
                "whatsapp_bridge_http_requests",
                "Requests by method, route and status code",
                metrics.requests.clone(),
            );
            registry.register(
                "whatsapp_bridge_data_bytes",
                "Bytes on the disk: the data directory, and of it the keys of all sessions and the bridge's own database",
                metrics.data.clone(),
            );
            registry.register(
                "whatsapp_bridge_store_commits",
                "Transactions of the bridge's own database; each is one flush to the disk",
                metrics.commits.clone(),
            );
            registry.register(
                "whatsapp_bridge_messages_accepted",
                "Messages accepted; repeated: the same one again, answered as before",
                metrics.accepted.clone(),
            );
            registry.register(
                "whatsapp_bridge_messages_settled",
                "Messages that were sent, failed, expired or were called back, by state and cause",
                metrics.settled.clone(),
            );
            registry.register("whatsapp_bridge_messages_waiting", "Messages that wait", metrics.waiting.clone());
            registry.register(
                "whatsapp_bridge_messages_held_up",
                "Messages that wait, by what holds up their session",
                metrics.held_up.clone(),
            );
            registry.register(
                "whatsapp_bridge_messages_oldest_waiting_seconds",
                "How long the oldest message that waits has waited",
                metrics.oldest_waiting.clone(),
            );
            registry.register(
                "whatsapp_bridge_messages_until_sent_seconds",
                "Time from the acceptance of a message to the server's acknowledgement",
                metrics.until_sent.clone(),
            );
            registry.register(
                "whatsapp_bridge_messages_acknowledged_seconds",
                "Of that, the time from giving a message to the WhatsApp client to the server's acknowledgement: encryption, network and server",
                metrics.acknowledged.clone(),
            );
        }
        metrics
    }

    /// A message was accepted, or is accepted already.
    pub fn accepted(&self, new: bool) {
        self.accepted.get_or_create(&Repeated { repeated: if new { "false" } else { "true" } }).inc();
    }

    /// The server acknowledged a message so long after the client got it.
    pub fn acknowledged(&self, after: Duration) {
        self.acknowledged.observe(after.as_secs_f64());
    }

    /// A device was linked.
    pub fn paired(&self) {
        self.pairings.inc();
    }

    /// A window passed unused.
    pub fn window_passed(&self) {
        self.windows.inc();
    }

    /// A connection was lost.
    pub fn reconnecting(&self) {
        self.reconnects.inc();
    }

    /// A request was answered; `path` is the route, not what was asked for.
    pub fn request(&self, method: &str, path: &str, code: u16) {
        self.requests.get_or_create(&Request { method: method.to_owned(), path: path.to_owned(), code }).inc();
    }

    /// Whether it is time to measure what is on the disk: each caller would otherwise keep threads busy that read and write messages.
    pub fn measures(&self, now: Instant) -> bool {
        let mut measured = lock(&self.measured);
        let due = measured.is_none_or(|at| now.saturating_duration_since(at) >= MEASURED_EVERY);
        if due {
            *measured = Some(now);
        }
        due
    }

    /// So many bytes are on the disk, by kind.
    pub fn data(&self, bytes: Vec<(&'static str, u64)>) {
        for (kind, bytes) in bytes {
            self.data.get_or_create(&Kind { kind }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// So many transactions were made since the start.
    pub fn commits(&self, count: u64) {
        self.commits.inner().store(count, Ordering::Relaxed);
    }

    /// A message waits no longer: it is in this state since `now`, by the clock that says when it was accepted. `sent_at` is WhatsApp's
    /// clock, which counts in seconds and may be another time.
    pub fn settled(&self, status: &MessageStatus, now: Timestamp) {
        let Some(state) = status.state.known() else { return };
        let cause = status.cause.as_ref().and_then(Open::known).map(|cause| format!("{cause:?}")).unwrap_or_default();
        self.settled.get_or_create(&Outcome { state: format!("{state:?}"), cause }).inc();
        if status.sent_at.is_some() {
            self.until_sent.observe(now.duration_since(status.accepted_at).as_secs_f64().max(0.0));
        }
    }

    /// So many messages wait, the oldest of them for so many seconds, if that is known.
    pub fn waiting(&self, count: usize, oldest: Option<i64>) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        if let Some(oldest) = oldest {
            self.oldest_waiting.set(oldest);
        }
    }

    /// So many messages wait in sessions that each of these holds up.
    pub fn held_up(&self, counts: impl IntoIterator<Item = (WaitsFor, usize)>) {
        for (cause, count) in counts {
            let gauge = self.held_up.get_or_create(&Cause { cause: format!("{cause:?}") });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The exposition text, with the sessions counted now by `count`.
    pub fn text(&self, count: impl Fn(SessionPhase) -> u32) -> String {
        for phase in PHASES {
            self.sessions.get_or_create(&Phase { phase: format!("{phase:?}") }).set(i64::from(count(phase)));
        }
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry.read().unwrap_or_else(PoisonError::into_inner));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_now_and_then_whoever_asks() {
        let (metrics, now) = (Metrics::new(), Instant::now());
        let asked = [0, 1, 4, 5, 6, 11].map(|second| metrics.clone().measures(now + Duration::from_secs(second)));
        assert_eq!(asked, [true, false, false, true, false, true]);
    }

    #[test]
    fn how_long_a_message_took_goes_by_the_clock_that_accepted_it() {
        let metrics = Metrics::new();
        let accepted: Timestamp = "2026-01-01T00:00:00.9Z".parse().unwrap();
        // WhatsApp's clock is an hour ahead, and has whole seconds.
        let status = serde_json::json!({
            "id": "3EB0", "session": "s", "sequence": 1, "state": "Sent", "acceptedAt": accepted, "expiresAt": "2026-01-02T00:00:00Z",
            "sentAt": "2026-01-01T01:00:00Z",
        });
        metrics.settled(&serde_json::from_value(status).unwrap(), accepted + Duration::from_millis(250));
        let text = metrics.text(|_| 0);
        assert!(text.contains("whatsapp_bridge_messages_until_sent_seconds_sum 0.25\n"), "{text}");
    }

    #[test]
    fn every_phase_is_shown_and_nothing_names_a_session() {
        let metrics = Metrics::new();
        metrics.request("PUT", "/v1/sessions/{id}", 200);
        metrics.data(vec![("keys", 4096)]);
        metrics.held_up([(WaitsFor::Pairing, 2), (WaitsFor::Pacing, 0)]);
        let text = metrics.text(|phase| u32::from(phase == SessionPhase::Connected) * 3);
        assert!(text.contains("whatsapp_bridge_sessions{phase=\"Connected\"} 3"), "{text}");
        assert!(text.contains("whatsapp_bridge_sessions{phase=\"Banned\"} 0"), "{text}");
        assert!(text.contains("whatsapp_bridge_messages_held_up{cause=\"Pairing\"} 2"), "{text}");
        assert!(text.contains("whatsapp_bridge_messages_held_up{cause=\"Pacing\"} 0"), "{text}");
        assert!(text.contains("whatsapp_bridge_data_bytes{kind=\"keys\"} 4096"), "{text}");
        assert!(
            text.contains(
                "whatsapp_bridge_http_requests_total{method=\"PUT\",path=\"/v1/sessions/{id}\",code=\"200\"} 1"
            ),
            "{text}"
        );
    }
}
