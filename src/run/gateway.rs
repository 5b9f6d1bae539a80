//! Starts the gateway: certificate, the API server as itself and as its callers, the index of uids, the server.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{RunError, probe_instances, ready};
use crate::{
    api::WhatsAppInstance,
    cli::gateway::{GatewayArgs, OpenapiArgs},
    gateway::{
        access::Access,
        bridges::Bridges,
        code,
        document::document,
        feed::Feeds,
        identities::Identities,
        index::Index,
        input::LongBodies,
        metrics::GatewayMetrics,
        rate::Rate,
        server::router,
        state::{Gateway, Settings, Streams},
    },
    model::NamespaceScope,
    platform::{
        admin::{Admin, Part},
        announce::{self, announce},
        https::{self, Files, Tls},
        kubernetes::{self, CALL_TIMEOUT},
        on_behalf::OnBehalf,
        shutdown::Shutdown,
        telemetry, tokens,
        trace::export,
        watch::{Health, changes_in, watch_config},
    },
};

/// How long open requests may take once the listener has closed. A caller that waits for something is answered at once then, but for one that
/// waits for a bridge that restarts.
const DRAIN: Duration = Duration::from_secs(12);
/// How long of that requests still wait for a bridge that restarts, as it may do at the same time in an upgrade.
const DRAIN_RESTART: Duration = Duration::from_secs(8);

/// Shown while not ready.
const UNLISTED: &str = "whatsappinstances are not listed yet";

/// Runs the gateway until a signal.
///
/// # Errors
/// When it cannot start.
pub async fn gateway(args: &GatewayArgs) -> Result<(), RunError> {
    telemetry::start(&args.process.log, args.process.log_format)?;
    export::start("whatsapp-operator-gateway", &args.traces, args.otlp_share)?;
    let shutdown = Shutdown::on_signal(args.process.shutdown_delay).map_err(RunError::Signals)?;
    let admin = Admin::default();
    ready::never_when_stopping(&admin, &shutdown);
    let admin_address = admin.serve(args.process.admin_listen)?;
    let tls = certificate(args, &shutdown.closing).await?;

    let (client, url) = kubernetes::connect(&args.cluster.choice())?;
    let namespaces = namespaces(&args.watch_namespaces);
    probe_instances(&client, &url, &namespaces).await?;
    // No user's token: what matters is whether the question may be asked.
    if let Err(error) = tokens::user_of(&client, "nobodys", &args.audiences(), CALL_TIMEOUT).await {
        return Err(RunError::TokenReview(error.to_string()));
    }
    let index = follow_uids(&client, &namespaces, &admin, &shutdown.closing);
    let metrics = GatewayMetrics::register(admin.metrics());
    let watched = NamespaceScope::of(&namespaces);
    let namespace = default_namespace(args.namespace(), &watched, client.default_namespace()).to_owned();
    if !watched.includes(&namespace) {
        tracing::warn!(
            namespace,
            "--namespace is none of --watch-namespaces: whoever creates a session has to name one of those"
        );
    }
    let restart = Duration::from_secs(args.restart_wait);
    let bridges = Bridges::new(client.clone(), args.bridge_selector(), restart, last_waits(&shutdown.closing));
    let bridges = Arc::new(bridges);
    let gateway = Gateway {
        settings: Settings {
            namespace,
            watched,
            origins: args.origins(),
            https: tls.is_some(),
            public_url: args.public_url(),
            limit: i64::from(args.max_instances_per_owner),
        },
        client: client.clone(),
        callers: OnBehalf::connect(&args.cluster.choice())?,
        feeds: Feeds::new(Arc::clone(&bridges), metrics.clone(), shutdown.closing.clone()),
        bridges,
        access: Access::new(client.clone()),
        identities: Identities::new(client, args.audiences(), metrics.clone()),
        index: index.clone(),
        rate: Rate::new(args.rate_limit),
        streams: Streams::default(),
        long_bodies: LongBodies::default(),
        metrics,
        closing: shutdown.closing.clone(),
    };

    let scheme = if tls.is_some() { "https" } else { "http" };
    let (tcp, address) = https::listen(args.listen, "--listen")?;
    let ended = https::serve(tcp, tls, router(Arc::new(gateway), document()), shutdown.clone(), DRAIN);
    tracing::info!(%address, scheme, "serving the API");
    // Until then sessions are found by their names, and by their ids only where their owner asks.
    if shutdown.stopping.run_until_cancelled(index.until_listed()).await.is_some() {
        admin.ready(Part::Start);
        if let Some(file) = &args.process.announce {
            let addresses =
                [("admin", announce::url("http", admin_address)), ("gateway", announce::url(scheme, address))];
            announce(file, &addresses).await?;
        }
    }
    shutdown.closing.cancelled().await;
    let _ = ended.await;
    let _ = tokio::task::spawn_blocking(export::stop).await;
    tracing::info!("stopped");
    Ok(())
}

/// Where sessions are created when a request does not say: as given, else where the gateway's own account is, or in the first of the namespaces
/// that the operator looks after.
fn default_namespace<'a>(given: Option<&'a str>, watched: &'a NamespaceScope, own: &'a str) -> &'a str {
    match (given, watched) {
        (Some(given), _) => given,
        (None, NamespaceScope::Only(namespaces)) if !watched.includes(own) => {
            namespaces.first().map_or(own, String::as_str)
        }
        (None, _) => own,
    }
}

/// Is cancelled when requests wait no longer for a bridge that restarts, since the gateway is closing.
fn last_waits(closing: &CancellationToken) -> CancellationToken {
    let (closing, over) = (closing.clone(), CancellationToken::new());
    let ending = over.clone();
    tokio::spawn(async move {
        closing.cancelled().await;
        tokio::time::sleep(DRAIN_RESTART).await;
        ending.cancel();
    });
    over
}

/// The certificate to show, kept up with its files; none for plain HTTP.
async fn certificate(args: &GatewayArgs, closing: &CancellationToken) -> Result<Option<Arc<Tls>>, RunError> {
    let (Some(chain), Some(key)) = (&args.tls_certificate, &args.tls_key) else { return Ok(None) };
    let tls = Arc::new(Tls::default());
    let mut files = Files::certificate(&tls, chain, key, "--tls-certificate and --tls-key");
    files.take().await?;
    tokio::spawn(files.keep(https::LOOK, closing.clone()));
    Ok(Some(tls))
}

/// Those that were said. A variable that is set to nothing says nothing.
fn namespaces(given: &[String]) -> Vec<String> {
    given.iter().filter(|namespace| !namespace.is_empty()).cloned().collect()
}

/// Where the object of each uid is, as the gateway's own account sees it.
fn follow_uids(client: &Client, namespaces: &[String], admin: &Admin, closing: &CancellationToken) -> Index {
    let (index, health) = (Index::default(), Health::default());
    let changes = changes_in::<WhatsAppInstance>(client, namespaces, &watch_config(), &health);
    let (follow, stop) = (index.clone().follow(changes), closing.clone());
    tokio::spawn(async move { stop.run_until_cancelled(follow).await });
    admin.unready(Part::Objects, UNLISTED);
    let (admin, listed) = (admin.clone(), index.clone());
    tokio::spawn(async move {
        listed.until_listed().await;
        admin.ready(Part::Objects);
        ready::follow(&admin, &health, "").await;
    });
    index
}

/// Prints the OpenAPI document, or the page of error codes.
///
/// # Errors
/// When it cannot be written.
pub fn openapi(args: &OpenapiArgs) -> Result<(), RunError> {
    let text = if args.errors { code::page() } else { document() };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| RunError::Write { path: "standard output".to_owned(), source })
}
