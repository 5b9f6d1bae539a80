//! Everything the connections and the control API share.

use crate::certificates::ServerIdentity;
use crate::connection::{Command, Outbox};
use crate::faults::{Faults, Live};
use crate::inbox::Inbox;
use crate::logins::Logins;
use crate::mail::Mail;
use crate::numbers;
use crate::pair_code::waits_for;
use crate::pairing::Pairing;
use crate::phone::Account;
use crate::presences::Presences;
use crate::registry::{DeviceKey, Registry};
use crate::signal::Sessions;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use wacore_binary::{Jid, Node, Server};

/// How the server treats connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Serves.
    #[default]
    Normal,
    /// Closes what is open and answers new connections with HTTP 503.
    Refuse,
    /// Accepts and never answers, open connections included; those are closed when the mode ends.
    Stall,
    /// Closes what is open and does not listen.
    Gone,
}

/// Why a request to the control API is refused; the text is one sentence for its caller.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is malformed.
    #[error("{0}")]
    Invalid(String),
    /// What it names is not there.
    #[error("{0}")]
    Unknown(String),
    /// It comes too late or twice.
    #[error("{0}")]
    Conflict(String),
    /// The client on the other side said no.
    #[error("{0}")]
    Rejected(String),
    /// The client on the other side said nothing.
    #[error("{0}")]
    Timeout(String),
    /// The simulation itself failed.
    #[error("the simulated WhatsApp failed: {0:#}")]
    Internal(#[from] anyhow::Error),
}

/// Counters for `GET /v1/stats`.
#[derive(Default)]
pub struct Counters {
    /// TCP connections that became WebSockets.
    pub connections: AtomicU64,
    /// Devices ever linked since the start.
    pub registrations: AtomicU64,
    /// Handshakes begun as XX.
    pub xx: AtomicU64,
    /// Handshakes completed as IK.
    pub ik: AtomicU64,
    /// IK hellos answered with XX-fallback.
    pub fallback: AtomicU64,
    /// Connections that began with where they are to be routed to.
    pub routed: AtomicU64,
    /// Requests of companions for their phone's app-state key.
    pub key_requests: AtomicU64,
}

#[derive(Clone)]
struct Session {
    connection: u64,
    outbox: Outbox,
}

/// The running server.
pub struct World {
    /// The server's keys.
    pub identity: ServerIdentity,
    /// What survives a restart.
    pub registry: Registry,
    /// Counters.
    pub counters: Counters,
    /// Who tried to log in.
    pub logins: Logins,
    /// Who said to be available, or not.
    pub presences: Presences,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// What waits for the devices.
    pub mail: Mail,
    /// What the phones received.
    pub inbox: Inbox,
    /// The phones' encrypted sessions with the devices.
    pub signal: Sessions,
    mode: watch::Sender<Mode>,
    ack_delay: AtomicU64,
    pairings: Mutex<HashMap<String, Arc<Pairing>>>,
    sessions: Mutex<HashMap<DeviceKey, Session>>,
}

impl World {
    /// A world around an opened registry.
    #[must_use]
    pub fn new(registry: Registry, identity: ServerIdentity) -> Self {
        Self {
            identity,
            registry,
            counters: Counters::default(),
            logins: Logins::default(),
            presences: Presences::default(),
            faults: Faults::default(),
            mail: Mail::default(),
            inbox: Inbox::default(),
            signal: Sessions::default(),
            mode: watch::Sender::new(Mode::Normal),
            ack_delay: AtomicU64::new(0),
            pairings: Mutex::default(),
            sessions: Mutex::default(),
        }
    }

    /// The mode now and from now on.
    #[must_use]
    pub fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// Changes the mode.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How long message acks are held back.
    #[must_use]
    pub fn ack_delay(&self) -> Duration {
        Duration::from_millis(self.ack_delay.load(Ordering::Relaxed))
    }

    /// Changes how long message acks are held back.
    pub fn set_ack_delay(&self, milliseconds: u64) {
        self.ack_delay.store(milliseconds, Ordering::Relaxed);
    }

    /// Makes the references of a pairing scannable.
    pub fn open_pairing(&self, pairing: &Arc<Pairing>) {
        let mut pairings = lock(&self.pairings);
        for reference in pairing.references() {
            pairings.insert(reference.clone(), Arc::clone(pairing));
        }
    }

    /// Forgets a pairing whose connection is over.
    pub fn close_pairing(&self, pairing: &Pairing) {
        let mut pairings = lock(&self.pairings);
        for reference in pairing.references() {
            pairings.remove(reference);
        }
    }

    /// The pairing that handed out `reference`.
    #[must_use]
    pub fn pairing(&self, reference: &str) -> Option<Arc<Pairing>> {
        lock(&self.pairings).get(reference).cloned()
    }

    /// The latest pairing that waits for a code for this phone number.
    #[must_use]
    pub fn pairing_by_code(&self, phone: u64) -> Option<Arc<Pairing>> {
        let pairings = lock(&self.pairings);
        let opened = |pairing: &Pairing| {
            let code = lock(&pairing.code);
            code.as_ref().map(waits_for).filter(|(whose, _)| *whose == phone).map(|(_, opened)| opened)
        };
        let waiting = pairings.values().filter_map(|pairing| Some((opened(pairing)?, pairing)));
        waiting.max_by_key(|(opened, _)| *opened).map(|(_, pairing)| Arc::clone(pairing))
    }

    /// How many companions wait to be linked.
    #[must_use]
    pub fn open_pairings(&self) -> usize {
        let pairings = lock(&self.pairings);
        pairings.iter().filter(|(reference, pairing)| pairing.references().first() == Some(*reference)).count()
    }

    /// Makes the codes of all waiting companions stale; returns how many were told.
    pub fn refresh_pairings(&self) -> usize {
        let pairings = lock(&self.pairings);
        let first = pairings.iter().filter(|(reference, pairing)| pairing.references().first() == Some(*reference));
        first.filter(|(_, pairing)| pairing.refresh()).count()
    }

    /// Makes `outbox` the connection of a device; the one it replaces is told so, as WhatsApp does.
    pub fn open_session(&self, key: DeviceKey, connection: u64, outbox: Outbox) {
        let earlier = lock(&self.sessions).insert(key, Session { connection, outbox });
        if let Some(earlier) = earlier {
            let _ = earlier.outbox.send(Command::SendThenClose(crate::stanza::conflict("replaced")));
        }
    }

    /// Forgets a device's connection, unless a later one took its place.
    pub fn close_session(&self, key: DeviceKey, connection: u64) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(&key).is_some_and(|session| session.connection == connection) {
            sessions.remove(&key);
        }
    }

    /// Whether the device is connected.
    #[must_use]
    pub fn is_connected(&self, key: DeviceKey) -> bool {
        lock(&self.sessions).contains_key(&key)
    }

    /// How many devices are connected.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Sends a stanza to a device; false when it is not connected.
    pub fn send(&self, key: DeviceKey, node: Node) -> bool {
        self.command(key, Command::Send(node))
    }

    /// Ends a device's connection after a last stanza; false when it is not connected.
    pub fn end(&self, key: DeviceKey, last: Option<Node>) -> bool {
        self.command(key, last.map_or(Command::Close, Command::SendThenClose))
    }

    /// Lets something go wrong on a device's connection; false when it is not connected.
    pub fn act(&self, key: DeviceKey, live: Live) -> bool {
        self.command(key, Command::Act(live))
    }

    fn command(&self, key: DeviceKey, command: Command) -> bool {
        let session = lock(&self.sessions).get(&key).cloned();
        session.is_some_and(|session| session.outbox.send(command).is_ok())
    }

    /// Like [`account_of`](Self::account_of), for somebody who may have to be made up first: whoever has a number that is
    /// on WhatsApp exists. The number must be the one that the server uses, see [`numbers`].
    ///
    /// # Errors
    /// When an account cannot be made.
    pub fn person(&self, jid: &Jid) -> anyhow::Result<Option<Account>> {
        let number = jid.user.parse().ok().filter(|_| matches!(jid.server, Server::Pn | Server::Legacy));
        let account = match (self.account_of(jid), number) {
            (Some(account), _) => Some(account),
            (None, Some(number)) if numbers::canonical(number) == number && !self.is_absent(number) => {
                Some(self.registry.account_or_new(number)?)
            }
            (None, _) => None,
        };
        Ok(account.filter(|account| !self.is_absent(account.phone)))
    }

    /// The number under which the server knows whoever has this number, whichever way it is written; `None` when that is
    /// nobody.
    #[must_use]
    pub fn resolve(&self, number: u64) -> Option<u64> {
        let known = [number, numbers::canonical(number)].into_iter().find(|number| self.registry.has_account(*number));
        let number = known.unwrap_or_else(|| numbers::canonical(number));
        (!self.is_absent(number)).then_some(number)
    }

    fn is_absent(&self, number: u64) -> bool {
        let made_up = !self.registry.has_account(number);
        (made_up && numbers::is_absent(number)) || self.faults.rules(number).not_on_whatsapp
    }

    /// The account an address belongs to, by phone number or LID.
    #[must_use]
    pub fn account_of(&self, jid: &Jid) -> Option<Account> {
        let user = jid.user.parse().ok()?;
        match jid.server {
            // @c.us is how numbers were addressed before; the server still takes it.
            Server::Pn | Server::Legacy => self.registry.account(user),
            Server::Lid => self.registry.account_by_lid(user),
            _ => None,
        }
    }
}

/// Locks; a panic of another holder does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The digits of a phone number written in any usual way; `None` when they are not 5 to 15 (E.164's limit).
#[must_use]
pub fn digits(text: &str) -> Option<u64> {
    let allowed = |c: char| c.is_ascii_digit() || "+-() .".contains(c);
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let valid = text.chars().all(allowed) && (5..=15).contains(&digits.len()) && !digits.starts_with('0');
    valid.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_are_compared_by_their_digits() {
        for text in ["+15550001", "15550001", "+1 (555) 00-01", "+1.555.0001"] {
            assert_eq!(digits(text), Some(15_550_001), "{text}");
        }
        for text in ["", "+1", "alice", "+1555000x", "+0155500", "1234567890123456"] {
            assert_eq!(digits(text), None, "{text}");
        }
    }
}
