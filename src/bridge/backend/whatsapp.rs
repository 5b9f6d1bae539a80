//! The backend on the `whatsapp-rust` library: one client and one SQLite file of keys per session.
//!
//! The library's log lines are not forwarded anywhere: they contain pairing codes and account numbers, at levels down to
//! `info`. That is why no bridge from the `log` crate to `tracing` is installed in this program.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use whatsapp_operator::{
    bridge_api::{PairingMethod, Restriction, RestrictionKind, SessionReason},
    model::Sensitive,
};
use whatsapp_rust::{
    Client, Jid,
    bot::{Bot, BotHandle},
    pair_code::{PairCodeOptions, PairCodeRejection},
    request::IqError,
    types::{
        events::{ConnectFailureReason, Event, EventHandler, EventInterest, EventKind, LoggedOut},
        presence::ReceiptType,
    },
};

use super::{
    Backend, Command, Commands, EventSink, Refused,
    activity::Activity,
    http::Http,
    library,
    names::Names,
    presence::Presence,
    runtime::ClientRuntime,
    sending::{self, Addresses},
    stanzas::{Remark, Stanzas},
    transport::{ConnectionRecorder, RecordingFactory},
    watchdog,
};
use crate::{
    keys::Keys,
    machine::{ClientEvent, End, MessageNews, Presented, Receipt, Start},
    outbox::{NEW_CHATS_CAPPED, TIMELOCKED},
};

/// The name of the operating system shown under "Linked devices" on the phone.
const DEVICE_NAME: &str = "whatsapp-operator";
/// The reason of a `<failure>` that asks for fewer logins: the status code of HTTP.
const TOO_MANY_REQUESTS: i32 = 429;
/// The reason of a `<failure>` that bans an account for a time.
const BANNED: i32 = 402;
/// The longest code that is shown, in bytes. Real ones have about 250; a QR code of any size holds 2,953.
const LONGEST_CODE: usize = 1024;
/// The code of the stream error that follows the removal of a device.
const DEVICE_REMOVED: &str = "516";
/// The kind of conflict that says the same.
const REMOVAL: &str = "device_removed";
/// How long the library may take to synchronise the account's settings before the session is called connected without them.
/// Usually they come within milliseconds.
const SETTINGS: Duration = Duration::from_secs(1);
/// How many clients are made at the same time. It is their keys that are opened for it, and what hundreds of open files
/// need at once the process does not give back: 200 idle sessions were 97 MB without this, and are 64 MB with it.
const BUILDS: usize = 8;

/// WhatsApp, or whatever speaks its protocol at another address.
pub struct WhatsApp {
    url: Option<String>,
    version: Option<(u32, u32, u32)>,
    names: Names,
    http: Http,
    builds: Semaphore,
}

impl WhatsApp {
    /// Clients that connect to `url` (WhatsApp itself without one), presenting themselves as `version` of the web client (the
    /// current one, asked for over HTTP and kept in the file `page`, without one).
    pub fn new(url: Option<String>, version: Option<(u32, u32, u32)>, page: PathBuf) -> Self {
        let names = Names::default();
        let http = Http::new(names.clone(), page);
        Self { url, version, names, http, builds: Semaphore::new(BUILDS) }
    }

    async fn build(
        &self,
        keys: Arc<dyn Keys>,
        start: &Start,
        adapter: EventAdapter,
        over: CancellationToken,
    ) -> Result<(Bot, Arc<Client>), Unbuilt> {
        let (slot, recorder) = (Arc::clone(&adapter.client), adapter.recorder.clone());
        let mut builder = Bot::builder()
            .with_backend_arc(keys)
            .with_transport_factory(RecordingFactory::new(self.url.as_deref(), self.names.clone(), recorder))
            .with_http_client(self.http.clone())
            .with_runtime(ClientRuntime::new(over))
            .with_device_props(wacore::store::device::DevicePropsOverride::new().with_os(DEVICE_NAME))
            .skip_history_sync()
            .with_cache_config(library::caches())
            .with_event_handler(adapter);
        if let Some(version) = self.version {
            builder = builder.with_version(version);
        }
        if let Some(name) = &start.push_name {
            builder = builder.with_push_name(name.reveal());
        }
        if let Some(number) = &start.pair_with_code {
            builder = builder.with_pair_code(code_for(number));
        }
        let _place = self.builds.acquire().await.map_err(|_| Unbuilt)?;
        let bot = builder.build().await.map_err(|_| Unbuilt)?;
        let client = bot.client();
        // One connection per client: whether and when there is another one is the state machine's decision. Pairing turns
        // this on for its own reconnection, see [`EventAdapter`].
        client.enable_auto_reconnect.store(false, Ordering::Relaxed);
        let _ = slot.set(Arc::downgrade(&client));
        Ok((bot, client))
    }
}

/// The client could not be made: its keys cannot be opened. The library's error may name a path or a statement and is
/// not passed on.
struct Unbuilt;

#[async_trait]
impl Backend for WhatsApp {
    async fn run(&self, id: &str, start: Start, keys: Arc<dyn Keys>, mut commands: Commands, events: EventSink) -> End {
        let (recorder, presence) = (ConnectionRecorder::new(start.linked.is_none()), Presence::new(start.shows_online));
        let adapter = EventAdapter {
            session: id.into(),
            events: events.clone(),
            recorder: recorder.clone(),
            client: Arc::default(),
            asking: Arc::default(),
            told_of: Arc::default(),
            activity: Arc::new(Activity::new()),
            presence: presence.clone(),
            stanzas: Arc::default(),
            pair_with_code: start.pair_with_code.clone(),
            version: self.version,
        };
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let Ok((bot, client)) = self.build(keys, &start, adapter, over).await else {
            tracing::error!(session = id, "the session's keys cannot be opened");
            return End::Failed(SessionReason::ConnectionLost);
        };
        // What the library has no event for is read from the stanzas, see [`Stanzas`].
        let _stanzas = client.acquire_raw_node_forwarding();
        let mut handle: BotHandle = bot.spawn();
        let addresses = Addresses::default();
        let mut dead = std::pin::pin!(watchdog::watch(&recorder, &client, &events));
        loop {
            tokio::select! {
                () = &mut handle => {
                    // The run loop ended without flushing; the cause is read first, before we hang up ourselves.
                    let reason = recorder.cause();
                    client.disconnect().await;
                    return End::Failed(reason);
                }
                () = &mut dead => {
                    give_up(id, handle).await;
                    return End::Failed(SessionReason::ServerNotAnswering);
                }
                command = commands.next() => match command {
                    Command::Unlink(answer) => {
                        let client = Arc::clone(&client);
                        tokio::spawn(async move { answer.give(unlink(&client).await) });
                    }
                    Command::ShowOnline(online) => presence.change(online, &client),
                    Command::Send(message, answer) => {
                        let (client, addresses) = (Arc::clone(&client), addresses.clone());
                        tokio::spawn(async move { answer.give(Ok(sending::send(&client, &addresses, *message).await)) });
                    }
                    Command::GiveUp => {
                        give_up(id, handle).await;
                        return End::Failed(SessionReason::ServerNotAnswering);
                    }
                    Command::Stop => {
                        handle.shutdown().await;
                        return End::Stopped;
                    }
                },
            }
        }
    }
}

/// How long a client may take to hang up on a server that is given up. It waits for what it is sending, which ends with the
/// connection: after a quarter of an hour, or never where the other side lives and takes nothing.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(10);

/// Brings a client to its end whose server does not answer. Dropped, it cannot use its keys any more.
async fn give_up(id: &str, handle: BotHandle) {
    if tokio::time::timeout(HANGS_UP_WITHIN, handle.shutdown()).await.is_err() {
        tracing::warn!(session = id, "the client cannot hang up on a server that does not answer and is dropped");
    }
}

fn code_for(number: &Sensitive) -> PairCodeOptions {
    let phone_number = number.reveal().trim_start_matches('+').to_owned();
    PairCodeOptions { phone_number, ..PairCodeOptions::default() }
}

async fn unlink(client: &Client) -> Result<(), Refused> {
    use wacore::iq::devices::RemoveCompanionDeviceSpec;
    let device = client.pn().ok_or(Refused::NotLoggedIn)?;
    client.execute(RemoveCompanionDeviceSpec::new(&device)).await.map_err(|error| match error {
        IqError::ServerError { .. } => Refused::ByServer,
        IqError::NotConnected | IqError::Disconnected(_) => Refused::NotLoggedIn,
        _ => Refused::NotAnswered,
    })
}

/// Asks whether the account may start new chats. Without an answer, what is known stays, or `suspected` is believed.
async fn ask_for_timelock(client: Arc<Client>, suspected: Option<Restriction>, events: EventSink) {
    let answer = client.mex().fetch_reachout_timelock().await.unwrap_or_default();
    let ends = answer.time_enforcement_ends.and_then(|seconds| seconds.parse().ok());
    match (answer.is_active, suspected) {
        (Some(true), _) => events.tell(ClientEvent::Restricted(Some(reachout_timelock(ends)))),
        (Some(false), _) => events.tell(ClientEvent::Restricted(None)),
        (None, Some(suspected)) => events.tell(ClientEvent::Restricted(Some(suspected))),
        (None, None) => {}
    }
}

/// Turns the library's events into ours. Called by the library in the order things happen, and must not block.
#[derive(Clone)]
struct EventAdapter {
    session: Arc<str>,
    events: EventSink,
    recorder: ConnectionRecorder,
    client: Arc<std::sync::OnceLock<std::sync::Weak<Client>>>,
    /// The question for the timelock is under way.
    asking: Arc<AtomicBool>,
    /// Of which connection it was told last that it is ready.
    told_of: Arc<AtomicU32>,
    activity: Arc<Activity>,
    presence: Presence,
    stanzas: Arc<Stanzas>,
    /// The number that is paired with by code, when that is the method.
    pair_with_code: Option<Sensitive>,
    /// The version of the web client that is presented, when one is configured.
    version: Option<(u32, u32, u32)>,
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
        // The library says something itself, whether or not this was told before.
        self.presence.say(&client);
        let connection = self.recorder.connection();
        if self.told_of.swap(connection, Ordering::Relaxed) == connection {
            return;
        }
        let name = client.push_name();
        self.events.tell(ClientEvent::Connected {
            phone_number: client.pn().map(|jid| number(&jid)),
            push_name: (!name.is_empty()).then(|| Sensitive::new(name)),
        });
        // What changed while the session was offline, nobody tells by itself.
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
            ask_for_timelock(client, suspected, events).await;
            asking.store(false, Ordering::Relaxed);
        });
    }
}

impl EventHandler for EventAdapter {
    fn handle_event(&self, event: Arc<Event>) {
        let events = match &*event {
            Event::PairingQrCode(qr) if !can_be_shown(&qr.code) => {
                ClientEvent::PairingFailed(SessionReason::PairingCodesUnusable)
            }
            Event::PairingQrCode(qr) => ClientEvent::Code {
                method: PairingMethod::Qr,
                code: Sensitive::new(qr.code.clone()),
                valid_for: qr.timeout,
                of: self.stanzas.references(),
            },
            Event::PairingCode(code) => ClientEvent::Code {
                method: PairingMethod::Code,
                code: Sensitive::new(code.code.clone()),
                valid_for: code.timeout,
                of: None,
            },
            // While a pairing code is out the window is as long as that code; the state machine ends it.
            Event::PairingQrCodesExhausted(over) if over.disconnected => ClientEvent::WindowPassed,
            Event::PairSuccess(linked) => {
                // The server closes the connection now, and the library has to make the next one at once.
                self.reconnects(true);
                ClientEvent::Paired { phone_number: linked.id.is_pn().then(|| number(&linked.id)) }
            }
            // What the phone answered did not prove genuine, or could not be read. The code is used up all the same.
            Event::PairError(_) if self.stanzas.is_coexistence() => {
                ClientEvent::PairingFailed(SessionReason::CoexistenceNotSupported)
            }
            Event::PairError(_) => ClientEvent::PairingFailed(SessionReason::PairingFailed),
            // Either the server gave no code, or it refused what the phone made of it: the library has dropped that code.
            Event::PairingCodeError(error) => {
                ClientEvent::NoCode { refused: error.rejection.map(refusal), pause: error.backoff }
            }
            Event::PairingCodeRefresh(refresh) => {
                let another = !refresh.force_manual;
                // First, so that the answer comes after it.
                self.events.tell(ClientEvent::CodeStale { another });
                if another {
                    self.ask_for_another_code();
                }
                return;
            }
            Event::PairPasskeyRequest(_) => ClientEvent::PasskeyWanted,
            Event::RawNode(stanza) => {
                return match self.stanzas.read(stanza.get()) {
                    Some(Remark::TooManyRequests) => self.recorder.refused(SessionReason::TooManyRequests),
                    Some(Remark::Believed) => self.connected(),
                    None => {}
                };
            }
            Event::OfflineSyncCompleted(_) => return self.caught_up(),
            Event::Connected(_) => return self.logged_in(),
            Event::SelfPushNameUpdated(update) => {
                if let Some(client) = self.client() {
                    self.presence.say(&client);
                }
                ClientEvent::PushName(Sensitive::new(update.new_name.clone()))
            }
            Event::LoggedOut(told) => {
                self.note_refusal(told.reason.code());
                match told.reason {
                    ConnectFailureReason::AccountLocked => ClientEvent::Barred(SessionReason::AccountLocked),
                    // The word of WhatsApp's own client for it is "banned".
                    ConnectFailureReason::UnknownLogout => ClientEvent::Barred(SessionReason::AccountBanned),
                    _ if is_certain(told) => ClientEvent::LoggedOut,
                    _ => ClientEvent::Unauthorized,
                }
            }
            Event::StreamReplaced(_) => ClientEvent::Replaced,
            Event::ClientOutdated(_) => ClientEvent::Outdated(Presented::by_this_bridge(self.version)),
            Event::TemporaryBan(ban) => {
                let code = i64::from(ban.code.code());
                tracing::warn!(session = &*self.session, reason = BANNED, code, "WhatsApp refuses the login");
                ClientEvent::Banned { code, for_: ban.expire.to_std().unwrap_or(Duration::ZERO) }
            }
            Event::ConnectFailure(failure) => {
                self.note_refusal(failure.reason.code());
                match failure.reason.code() {
                    // A ban that says neither why nor for how long is one all the same.
                    BANNED => ClientEvent::Banned { code: i64::from(BANNED), for_: Duration::ZERO },
                    TOO_MANY_REQUESTS => return self.recorder.refused(SessionReason::TooManyRequests),
                    _ => return self.recorder.refused(SessionReason::ServerRefused),
                }
            }
            Event::ServerAck(ack) => {
                // A message was refused, as those of a restricted account are; whether it is one, the server says when asked.
                // That it has started all the chats it may is said by nothing else.
                match ack.error.as_ref().and_then(|code| code.parse().ok()) {
                    Some(TIMELOCKED) => self.ask_for_timelock(Some(reachout_timelock(None))),
                    Some(NEW_CHATS_CAPPED) => {
                        let capped = Restriction { code: Some(NEW_CHATS_CAPPED), ..reachout_timelock(None) };
                        self.events.tell(ClientEvent::Restricted(Some(capped)));
                    }
                    _ => {}
                }
                self.traffic();
                if ack.class.as_deref().is_some_and(|class| class != "message") {
                    return;
                }
                ClientEvent::Message(MessageNews::Answered {
                    id: ack.id.clone(),
                    // A refusal whose code is no number is one all the same.
                    refused: ack.error.as_ref().map(|code| code.parse().unwrap_or(0)),
                    at: ack.timestamp.and_then(|at| jiff::Timestamp::from_second(at.timestamp()).ok()),
                })
            }
            Event::Receipt(told) => {
                self.traffic();
                let phone = told.source.sender.device == 0;
                let receipt = match told.r#type {
                    ReceiptType::Delivered if phone => Receipt::Delivered,
                    // A device that is not shown as online, as companions mostly are; of a phone no client makes two ticks of it.
                    ReceiptType::Delivered | ReceiptType::Inactive if !phone => Receipt::CompanionDelivered,
                    ReceiptType::Read | ReceiptType::Played => Receipt::Read,
                    // Among them what other devices of this account do with what they got, which has words of its own.
                    _ => return,
                };
                ClientEvent::Message(MessageNews::Receipt {
                    ids: told.message_ids.iter().map(ToString::to_string).collect(),
                    receipt,
                    at: jiff::Timestamp::from_second(told.timestamp.timestamp())
                        .unwrap_or_else(|_| jiff::Timestamp::now()),
                })
            }
            Event::MexNotification(update) if update.op_name.contains("ReachoutTimelock") => {
                ClientEvent::Restricted(timelock(&update.payload))
            }
            Event::Messages(_) => return self.traffic(),
            _ => return,
        };
        self.events.tell(events);
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
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
        ])
    }
}

/// Why the server refused a pairing code. Its 400 may mean too many requests, too, and may not.
fn refusal(rejection: PairCodeRejection) -> SessionReason {
    match rejection {
        PairCodeRejection::RateOverlimit => SessionReason::TooManyRequests,
        _ => SessionReason::PairingFailed,
    }
}

/// The number of an account, in international form.
fn number(account: &Jid) -> Sensitive {
    Sensitive::new(format!("+{}", account.user))
}

/// Whether a phone could read the code from a screen, and a terminal could print it.
fn can_be_shown(code: &str) -> bool {
    (1..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the server says that the device is removed, rather than only that it does not know who this is: it has said the
/// latter of devices that are linked. The library reports every other kind of conflict than `replaced` as a logout, too, those
/// that nobody knows yet included: keys are not deleted for a word that may mean anything.
fn is_certain(told: &LoggedOut) -> bool {
    told.raw.as_ref().is_some_and(|stanza| {
        let conflict = stanza.get_optional_child("conflict");
        conflict.is_some_and(|kind| kind.attrs().optional_string("type").as_deref() == Some(REMOVAL))
            || stanza.attrs().optional_string("code").as_deref() == Some(DEVICE_REMOVED)
    })
}

/// Reads the state of the reach-out timelock out of a notification: the object that has `is_active` in it, wherever it is.
fn timelock(payload: &serde_json::Value) -> Option<Restriction> {
    fn find(value: &serde_json::Value) -> Option<&serde_json::Map<String, serde_json::Value>> {
        match value {
            serde_json::Value::Object(map) if map.contains_key("is_active") => Some(map),
            serde_json::Value::Object(map) => map.values().find_map(find),
            serde_json::Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let lock = find(payload)?;
    if lock.get("is_active")?.as_bool() != Some(true) {
        return None;
    }
    // Seconds since 1970, as a number or as text, by whom it was sent.
    let ends = lock.get("time_enforcement_ends").and_then(|at| match at {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    });
    Some(reachout_timelock(ends))
}

/// The restriction behind server error 463; `ends` in seconds since 1970.
fn reachout_timelock(ends: Option<i64>) -> Restriction {
    Restriction {
        kind: RestrictionKind::ReachoutTimelock.into(),
        code: Some(TIMELOCKED),
        expires_at: ends.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use whatsapp_rust::{
        NodeBuilder,
        types::{
            events::{self, PairingCodeError, PairingCodeRefresh},
            message::MessageSource,
        },
    };

    use super::*;
    use crate::machine::ClientEvent;

    /// What is told of events in a client that pairs by code.
    fn listening() -> (EventAdapter, std::sync::mpsc::Receiver<ClientEvent>) {
        let (sender, told) = std::sync::mpsc::channel();
        let adapter = EventAdapter {
            session: "s".into(),
            events: EventSink::to(move |event| sender.send(event).unwrap()),
            recorder: ConnectionRecorder::default(),
            client: Arc::default(),
            asking: Arc::default(),
            told_of: Arc::default(),
            activity: Arc::new(Activity::new()),
            presence: Presence::new(false),
            stanzas: Arc::default(),
            pair_with_code: Some(Sensitive::new("+15550001111")),
            version: None,
        };
        (adapter, told)
    }

    /// What is told of `event` alone.
    fn told(event: Event) -> Vec<ClientEvent> {
        let (adapter, told) = listening();
        let kind = event.kind();
        assert!(adapter.interest().wants(kind), "{kind:?}");
        adapter.handle_event(Arc::new(event));
        told.try_iter().collect()
    }

    #[test]
    fn a_pairing_code_that_is_refused_or_stale_is_told_of() {
        let error = |rejection, backoff| {
            let error = PairingCodeError::builder().maybe_rejection(rejection).maybe_backoff(backoff);
            told(Event::PairingCodeError(error.error("a text nobody reads".to_owned()).build()))
        };
        let minute = Some(Duration::from_secs(60));
        for (rejection, pause, refused) in [
            (Some(PairCodeRejection::RateOverlimit), minute, Some(SessionReason::TooManyRequests)),
            (Some(PairCodeRejection::BadRequest), None, Some(SessionReason::PairingFailed)),
            (Some(PairCodeRejection::Unknown(499)), minute, Some(SessionReason::PairingFailed)),
            (None, None, None),
        ] {
            assert_eq!(error(rejection, pause), [ClientEvent::NoCode { refused, pause }]);
        }
        for force_manual in [true, false] {
            let refresh = PairingCodeRefresh::builder().force_manual(force_manual).build();
            let another = !force_manual;
            assert_eq!(told(Event::PairingCodeRefresh(refresh)), [ClientEvent::CodeStale { another }]);
        }
    }

    #[test]
    fn only_a_removed_device_is_certainly_logged_out() {
        let told = |code: Option<&str>, conflict: Option<&str>| {
            let mut error = NodeBuilder::new("stream:error");
            if let Some(code) = code {
                error = error.attr("code", code);
            }
            let conflict = conflict.map(|kind| NodeBuilder::new("conflict").attr("type", kind).build());
            let raw = error.children(conflict).build();
            LoggedOut::builder().on_connect(false).reason(ConnectFailureReason::LoggedOut).raw(raw).build()
        };
        for (code, conflict, certain) in [
            (Some("401"), Some("device_removed"), true),
            (None, Some("device_removed"), true),
            (Some("516"), None, true),
            (Some("401"), Some("account_sync_timeout"), false),
            (None, Some(""), false),
            (Some("401"), None, false),
        ] {
            assert_eq!(is_certain(&told(code, conflict)), certain, "{code:?} {conflict:?}");
        }
    }

    #[test]
    fn a_receipt_is_told_with_the_kind_of_device_that_it_comes_from() {
        let at = whatsapp_rust::chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let receipt = |kind: &ReceiptType, device| {
            let source = MessageSource { sender: Jid::pn_device("15550003901", device), ..MessageSource::default() };
            let event = events::Receipt::builder().message_ids(vec!["ONE".into()]).source(source).timestamp(at);
            match told(Event::Receipt(event.r#type(kind.clone()).offline(false).build())).pop() {
                Some(ClientEvent::Message(MessageNews::Receipt { receipt, .. })) => Some(receipt),
                _ => None,
            }
        };
        for (kind, of_the_phone, of_a_companion) in [
            (ReceiptType::Delivered, Some(Receipt::Delivered), Some(Receipt::CompanionDelivered)),
            (ReceiptType::Inactive, None, Some(Receipt::CompanionDelivered)),
            (ReceiptType::Read, Some(Receipt::Read), Some(Receipt::Read)),
            (ReceiptType::Sender, None, None),
        ] {
            assert_eq!((receipt(&kind, 0), receipt(&kind, 7)), (of_the_phone, of_a_companion), "{kind:?}");
        }
    }

    #[test]
    fn that_something_came_is_not_told_for_each_stanza() {
        let (adapter, told) = listening();
        let at = whatsapp_rust::chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for _ in 0..100 {
            let source = MessageSource { sender: Jid::pn_device("15550003901", 0), ..MessageSource::default() };
            let event = events::Receipt::builder().message_ids(vec!["ONE".into()]).source(source).timestamp(at);
            let event = event.r#type(ReceiptType::Delivered).offline(false).build();
            adapter.handle_event(Arc::new(Event::Receipt(event)));
        }
        let (traffic, others): (Vec<_>, Vec<_>) = told.try_iter().partition(|event| *event == ClientEvent::Traffic);
        assert_eq!((traffic.len(), others.len()), (1, 100));
    }

    #[test]
    fn an_account_that_is_locked_or_banned_is_no_unlinked_device() {
        use ConnectFailureReason as Why;
        for (reason, event) in [
            (Why::AccountLocked, ClientEvent::Barred(SessionReason::AccountLocked)),
            (Why::UnknownLogout, ClientEvent::Barred(SessionReason::AccountBanned)),
            (Why::LoggedOut, ClientEvent::Unauthorized),
        ] {
            let failure = NodeBuilder::new("failure").attr("reason", reason.code().to_string()).build();
            let refused = LoggedOut::builder().on_connect(true).reason(reason).raw(failure).build();
            assert_eq!(told(Event::LoggedOut(refused)), [event], "{reason:?}");
        }
    }

    #[test]
    fn a_timelock_is_read_with_its_end_and_lifted_when_inactive() {
        let active = json!({"data": {"xwa2_notify_account_reachout_timelock":
            {"is_active": true, "time_enforcement_ends": "1800000000", "enforcement_type": "DEFAULT"}}});
        let found = timelock(&active).unwrap();
        assert_eq!(found.expires_at.map(jiff::Timestamp::as_second), Some(1_800_000_000));
        assert_eq!(timelock(&json!({"data": {"x": {"is_active": false}}})), None);
        assert_eq!(timelock(&json!(null)), None);
    }
}
