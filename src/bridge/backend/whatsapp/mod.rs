//! The backend on the `whatsapp-rust` library: one client and one SQLite file of keys per session.
//!
//! The library's log lines are not forwarded anywhere: they contain pairing codes and account numbers, at levels down to
//! `info`. That is why no bridge from the `log` crate to `tracing` is installed in this program.

mod adapter;
#[cfg(test)]
mod tests;
mod timelock;
mod translate;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use whatsapp_operator::{bridge_api::SessionReason, model::Sensitive};
use whatsapp_rust::{
    Client,
    bot::{Bot, BotHandle},
    pair_code::PairCodeOptions,
    request::IqError,
};

use self::adapter::EventAdapter;
use super::{
    Backend, Command, Commands, EventSink, Refused,
    activity::Activity,
    http::Http,
    library,
    names::Names,
    passive,
    presence::Presence,
    runtime::ClientRuntime,
    sending::{self, Addresses},
    short_cuts,
    stanzas::Stanzas,
    transport::{ConnectionRecorder, RecordingFactory},
    watchdog,
};
use crate::{
    keys::Keys,
    machine::{End, Start},
};

/// The name of the operating system shown under "Linked devices" on the phone.
const DEVICE_NAME: &str = "whatsapp-operator";

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
        let _turn = self.builds.acquire().await.map_err(|_| Unbuilt)?;
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
        let stanzas = Arc::<Stanzas>::default();
        let adapter = EventAdapter {
            session: id.into(),
            events: events.clone(),
            recorder: recorder.clone(),
            client: Arc::default(),
            asking: Arc::default(),
            told_of: Arc::default(),
            activity: Arc::new(Activity::new()),
            presence: presence.clone(),
            stanzas: Arc::clone(&stanzas),
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
        let mut deaf = std::pin::pin!(passive::leave(&stanzas, &client, &recorder));
        loop {
            tokio::select! {
                () = &mut handle => {
                    // The run loop ended without flushing; the cause is read first, before we hang up ourselves.
                    let reason = recorder.cause();
                    short_cuts::forget_if_in_vain(&client, &recorder).await;
                    client.disconnect().await;
                    return End::Failed(reason);
                }
                () = &mut dead => {
                    short_cuts::forget_if_in_vain(&client, &recorder).await;
                    give_up(id, handle).await;
                    return End::Failed(SessionReason::ServerNotAnswering);
                }
                () = &mut deaf => {
                    tracing::warn!(session = id, "WhatsApp does not deliver anything to this device after its login");
                    give_up(id, handle).await;
                    return End::Failed(SessionReason::ServerRefused);
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
                    Command::Identify(recipient, answer) => {
                        let (client, addresses) = (Arc::clone(&client), addresses.clone());
                        tokio::spawn(async move { answer.give(sending::identify(&client, &addresses, &recipient).await) });
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
