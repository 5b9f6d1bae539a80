//! Turns the library's events into ours, and does what the library leaves to its user.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use whatsapp_operator::{
    bridge_api::{Restriction, SessionReason},
    model::Sensitive,
};
use whatsapp_rust::{
    Client,
    types::events::{Event, EventHandler, EventInterest, EventKind, ServerAck},
};

use super::{code_for, timelock, translate};
use crate::{
    backend::{
        EventSink,
        activity::Activity,
        presence::Presence,
        stanzas::{Remark, Stanzas},
        transport::ConnectionRecorder,
    },
    machine::{ClientEvent, Presented},
    outbox::{NEW_CHATS_CAPPED, TIMELOCKED},
};

/// How long the library may take to synchronise the account's settings before the session is called connected without them.
/// Usually they come within milliseconds.
const SETTINGS: Duration = Duration::from_secs(1);

/// The events that are listened to: what [`EventAdapter::handle_event`] has an arm for, and what pairing is told by.
const KINDS: &[EventKind] = &[
    EventKind::PairingQrCode,
    EventKind::PairingCode,
    EventKind::PairingCodeError,
    EventKind::PairingCodeRefresh,
    EventKind::PairingQrCodesExhausted,
    EventKind::PairSuccess,
    EventKind::PairError,
    EventKind::PairPasskeyRequest,
    EventKind::RawNode,
    EventKind::OfflineSyncCompleted,
    EventKind::Connected,
    EventKind::SelfPushNameUpdated,
    EventKind::LoggedOut,
    EventKind::StreamReplaced,
    EventKind::ClientOutdated,
    EventKind::TemporaryBan,
    EventKind::ConnectFailure,
    EventKind::ServerAck,
    EventKind::MexNotification,
    EventKind::Messages,
    EventKind::Receipt,
];

/// Turns the library's events into ours. Called by the library in the order things happen, and must not block.
#[derive(Clone)]
pub(super) struct EventAdapter {
    pub(super) session: Arc<str>,
    pub(super) events: EventSink,
    pub(super) recorder: ConnectionRecorder,
    pub(super) client: Arc<OnceLock<Weak<Client>>>,
    /// The question for the timelock is under way.
    pub(super) asking: Arc<AtomicBool>,
    /// Of which connection it was told last that it is ready.
    pub(super) told_of: Arc<AtomicU32>,
    pub(super) activity: Arc<Activity>,
    pub(super) presence: Presence,
    pub(super) stanzas: Arc<Stanzas>,
    /// The number that is paired with by code, when that is the method.
    pub(super) pair_with_code: Option<Sensitive>,
    /// The version of the web client that is presented, when one is configured.
    pub(super) version: Option<(u32, u32, u32)>,
}

impl EventAdapter {
    fn client(&self) -> Option<Arc<Client>> {
        self.client.get()?.upgrade()
    }

    fn reconnects(&self, allowed: bool) {
        if let Some(client) = self.client() {
            client.enable_auto_reconnect.store(allowed, Ordering::Relaxed);
        }
    }

    /// The login is through. Whether it leads anywhere shows with the first answer.
    fn logged_in(&self) {
        if self.stanzas.believes() {
            self.connected();
        }
    }

    /// The backlog is delivered, so messages come and go. The library calls itself connected only when it has the account's
    /// settings too (client/node_io.rs): for their key it waits ten seconds after every start when the account has no name,
    /// and up to three minutes after a link when the phone does not share it. Nothing that a session does needs them.
    fn caught_up(&self) {
        let (adapter, connection) = (self.clone(), self.recorder.connection());
        tokio::spawn(async move {
            tokio::time::sleep(SETTINGS).await;
            let is_same = adapter.recorder.connection() == connection;
            if is_same && adapter.client().is_some_and(|client| client.is_connected()) {
                adapter.logged_in();
            }
        });
    }

    /// Tells once of each connection that it is ready.
    fn connected(&self) {
        self.recorder.logged_in();
        self.reconnects(false);
        let Some(client) = self.client() else { return };
        // The library announces its own presence after every login, so ours is sent again each time.
        self.presence.announce(&client);
        let connection = self.recorder.connection();
        if self.told_of.swap(connection, Ordering::Relaxed) == connection {
            return;
        }
        let name = client.push_name();
        self.events.tell(ClientEvent::Connected {
            phone_number: client.pn().map(|jid| translate::number(&jid)),
            push_name: (!name.is_empty()).then(|| Sensitive::new(name)),
        });
        // WhatsApp does not report what changed while the session was offline, so ask.
        self.ask_for_timelock(None);
    }

    /// The number says nothing of a person, and nothing else tells one refusal from another.
    fn note_refusal(&self, reason: i32) {
        tracing::warn!(session = &*self.session, reason, "WhatsApp refuses the login");
    }

    /// The library leaves it to us to ask for another pairing code. How that went comes as an event.
    fn ask_for_another_code(&self) {
        let (Some(client), Some(number)) = (self.client(), &self.pair_with_code) else { return };
        let options = code_for(number);
        tokio::spawn(async move {
            let _ = client.pair_with_code(options).await;
        });
    }

    /// A message or a word about one came.
    fn traffic(&self) {
        if self.activity.is_news() {
            self.events.tell(ClientEvent::Traffic);
        }
    }

    /// One question at a time: a burst of refused messages has one cause.
    fn ask_for_timelock(&self, suspected: Option<Restriction>) {
        let Some(client) = self.client().filter(|_| !self.asking.swap(true, Ordering::Relaxed)) else { return };
        let (events, asking) = (self.events.clone(), Arc::clone(&self.asking));
        tokio::spawn(async move {
            timelock::ask(client, suspected, events).await;
            asking.store(false, Ordering::Relaxed);
        });
    }

    /// A step of pairing.
    fn pairing(&self, event: &Event) {
        if let Some(told) = translate::pairing(event, &self.stanzas) {
            self.events.tell(told);
        }
    }

    /// The server has a message, or refuses it.
    fn acknowledged(&self, ack: &ServerAck) {
        // Those of a restricted account are refused; whether it is one, the server says when asked. That it has started all the chats
        // it may is said by nothing else.
        match translate::refused_with(ack) {
            Some(TIMELOCKED) => self.ask_for_timelock(Some(timelock::reachout_timelock(None))),
            Some(NEW_CHATS_CAPPED) => {
                let capped = Restriction { code: Some(NEW_CHATS_CAPPED), ..timelock::reachout_timelock(None) };
                self.events.tell(ClientEvent::Restricted(Some(capped)));
            }
            _ => {}
        }
        self.traffic();
        if let Some(news) = translate::acknowledgement(ack) {
            self.events.tell(ClientEvent::Message(news));
        }
    }
}

impl EventHandler for EventAdapter {
    fn handle_event(&self, event: Arc<Event>) {
        match &*event {
            Event::PairSuccess(_) => {
                // The server closes the connection now, and the library has to make the next one at once.
                self.reconnects(true);
                self.pairing(&event);
            }
            Event::PairingCodeRefresh(refresh) => {
                // First, so that the answer comes after it.
                self.pairing(&event);
                if !refresh.force_manual {
                    self.ask_for_another_code();
                }
            }
            Event::RawNode(stanza) => match self.stanzas.read(stanza.get()) {
                Some(Remark::TooManyRequests) => self.recorder.refused(SessionReason::TooManyRequests),
                Some(Remark::Believed) => self.connected(),
                None => {}
            },
            Event::OfflineSyncCompleted(_) => self.caught_up(),
            Event::Connected(_) => self.logged_in(),
            Event::SelfPushNameUpdated(update) => {
                if let Some(client) = self.client() {
                    self.presence.announce(&client);
                }
                self.events.tell(ClientEvent::PushName(Sensitive::new(update.new_name.clone())));
            }
            Event::LoggedOut(told) => {
                self.note_refusal(told.reason.code());
                self.events.tell(translate::logged_out(told));
            }
            Event::StreamReplaced(_) => self.events.tell(ClientEvent::Replaced),
            Event::ClientOutdated(_) => {
                self.events.tell(ClientEvent::Outdated(Presented::by_this_bridge(self.version)));
            }
            Event::TemporaryBan(ban) => {
                let (code, length) = (i64::from(ban.code.code()), ban.expire.to_std().unwrap_or(Duration::ZERO));
                tracing::warn!(
                    session = &*self.session,
                    reason = translate::BANNED,
                    code,
                    "WhatsApp refuses the login"
                );
                self.events.tell(ClientEvent::Banned { code, for_: length });
            }
            Event::ConnectFailure(failure) => {
                self.note_refusal(failure.reason.code());
                match translate::refusal_of_login(failure.reason.code()) {
                    Ok(told) => self.events.tell(told),
                    Err(why) => self.recorder.refused(why),
                }
            }
            Event::ServerAck(ack) => self.acknowledged(ack),
            Event::Receipt(told) => {
                self.traffic();
                if let Some(news) = translate::receipt(told) {
                    self.events.tell(ClientEvent::Message(news));
                }
            }
            Event::MexNotification(update) if update.op_name.contains("ReachoutTimelock") => {
                match timelock::read(&update.payload) {
                    Some(told) => self.events.tell(told),
                    // In words that are not known here; the server answers when it is asked.
                    None => self.ask_for_timelock(None),
                }
            }
            Event::Messages(_) => self.traffic(),
            _ => self.pairing(&event),
        }
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(KINDS)
    }
}
