//! `whatsapp-bridge`: runs WhatsApp Web sessions and offers them over the API that `whatsapp_operator::bridge_api` types.
//!
//! A binary of its own, not a room of the library: it links the WhatsApp library, parts of which carry AGPL-3.0-only
//! headers.
//!
//! `main` -> [`http`] -> [`sessions`] (one task each) -> [`machine`] (pure) -> [`backend`] (the library) on [`keys`],
//! [`store`] (what survives), [`feed`] (what is shown). What waits to be sent is [`outbox`] (pure), beside the session.

mod args;
mod backend;
mod data;
mod feed;
mod http;
mod keys;
mod machine;
mod memory;
mod message_traces;
mod metrics;
mod outbox;
mod permits;
mod sessions;
mod store;
mod threads;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use whatsapp_operator::platform::{
    arguments,
    telemetry::{self, TelemetryError},
    trace::export::{self, ExportError},
};

use crate::{
    args::Args,
    backend::whatsapp::WhatsApp,
    data::{DataDir, DataError},
    feed::Feed,
    http::{
        Api,
        serve::{self, ServeError},
        token::{Token, TokenError},
    },
    keys::files::KeyFiles,
    machine::{Presented, Timings},
    message_traces::MessageTraces,
    metrics::Metrics,
    permits::Permits,
    sessions::{AskedAgain, Limits, Outboxes, People, Registry, RunningClients, Shared},
    store::{
        Store, StoreError, Told,
        history::{self, History},
    },
};

/// Why the bridge could not start or go on.
#[derive(Debug, Error)]
enum Fatal {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

fn main() -> ExitCode {
    match start(arguments::parse().unwrap_or_else(|error| error.exit())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatsapp-bridge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), Fatal> {
    telemetry::start(&args.log, args.log_format)?;
    // Nothing is read or opened before the lock is held.
    let data = DataDir::lock(&args.data_dir)?;
    if let Some(place) = args.place.as_deref().filter(|place| !place.is_empty()) {
        data.belongs_to(place, args.adopt_data)?;
    }
    let token = Token::read(&args.token_file)?;
    // The process has one default TLS provider. An error means that it is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No trace begins here.
    export::start("whatsapp-bridge", &args.traces, 0.0)?;
    let api = threads::api().map_err(Fatal::Runtime)?;
    let clients = threads::clients().map_err(Fatal::Runtime)?;
    let ended = api.block_on(run(args, data, token, clients.handle().clone()));
    export::stop();
    // A thread that waits for a disk would be waited for without an end.
    clients.shutdown_timeout(LAST_WORDS);
    api.shutdown_timeout(LAST_WORDS);
    ended
}

/// Everything is closed by now, or has been given up.
const LAST_WORDS: Duration = Duration::from_secs(1);

async fn run(args: Args, data: DataDir, token: Token, clients: Handle) -> Result<(), Fatal> {
    let feed = Feed::new(&incarnation());
    let (messages, metrics) = (Arc::clone(&feed.messages), Metrics::new());
    let (counted, message_traces) = (metrics.clone(), Arc::new(MessageTraces::default()));
    let followed = Arc::clone(&message_traces);
    let outboxes = Outboxes::new(args.max_waiting_per_session, args.max_waiting);
    let left = outboxes.clone();
    let (store, mut stored) = Store::open(&data.tables(), move |told| {
        if let Told::Message { message, changed: true, settled } = told {
            if *settled {
                left.leave(1);
                counted.settled(&message.status, Timestamp::now());
                followed.over(&message.status);
            }
            messages.show(message.status.clone());
        }
    })?;
    let presented = Presented::by_this_bridge(args.whatsapp_version);
    for session in &mut stored {
        session.kept.taken_up_by(&presented);
    }
    let listeners = serve::bind(&args).await?;
    let (people, running) = (People::default(), RunningClients::default());
    let sent = AskedAgain::new(store.reader.clone(), people.clone(), running.clone());
    let keys = KeyFiles::new(data.clone(), Arc::new(sent));
    if args.adopt_data {
        keys.restored().map_err(|source| DataError::Unusable { path: data.sessions(), source })?;
    }
    let backend = Arc::new(WhatsApp::new(args.whatsapp_url, args.whatsapp_version, data.page()));
    let shared = Arc::new(Shared {
        keys: Arc::new(keys),
        data,
        clients,
        running,
        backend,
        store,
        feed,
        outboxes,
        people,
        permits: Arc::new(Permits::new(args.max_pairings)),
        metrics,
        message_traces,
        closing: CancellationToken::new(),
    });
    let limits = Limits {
        max_sessions: args.max_sessions,
        resume_interval: args.resume_interval,
        timings: Timings { connect: args.connect_timeout, ..Timings::default() },
        adopts: args.adopt_data,
    };
    let history =
        History { age: SignedDuration::from_hours(24 * i64::from(args.history_days)), messages: args.history_messages };
    tokio::spawn(memory::watch(args.memory_dir, Arc::clone(&shared.permits)));
    tokio::spawn(history::prune(shared.store.clone(), history, history::EVERY, sessions::certain));
    let stored = sessions::with_their_keys(&*shared.keys, stored).await;
    let found = stored.len();
    let registry = Arc::new(Registry::resume(Arc::clone(&shared), limits, stored));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), sessions = found, "whatsapp-bridge started");
    let api = Api {
        registry,
        shared,
        token: Arc::new(token),
        ready: Arc::new(AtomicBool::new(true)),
        closing: CancellationToken::new(),
    };
    serve::until_told_to_stop(listeners, api).await?;
    tracing::info!("whatsapp-bridge stopped");
    Ok(())
}

/// A name for this run of the process: the time it started, which no other run on this data directory shares.
fn incarnation() -> String {
    format!("{:x}", Timestamp::now().as_nanosecond())
}
