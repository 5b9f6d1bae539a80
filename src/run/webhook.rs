//! Starts the webhooks in a process: certificates, the owners' cache, the server; and publishes the authority as leader.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kube::{Api, Client, runtime::watcher};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::{
    admission::{
        Admission, AdmissionMetrics, Ledgers, LookedAfter,
        certificates::{self, Keeper, Served},
        configuration, router, serve,
    },
    api::WhatsAppOwner,
    cli::webhook::{AloneArgs, ConfigurationArgs, WebhookArgs},
    platform::{
        admin::{self, Admin},
        kubernetes,
        lease::{self, Candidate},
        shutdown, telemetry,
        watch::{Cache, changes},
    },
};

/// How often to look whether there is a certificate yet.
const LOOK: Duration = Duration::from_millis(20);
/// How long the owners' cache may take before the server starts without it.
const CACHE_TIMEOUT: Duration = Duration::from_secs(10);

/// The webhooks, serving.
pub(super) struct Webhooks {
    /// Where.
    pub address: SocketAddr,
    client: Client,
    configuration: Option<String>,
    bundle: watch::Receiver<Option<String>>,
    ended: JoinHandle<()>,
}

/// What the webhooks of a process need to start.
pub(super) struct Start<'a> {
    /// What they are told.
    pub args: &'a WebhookArgs,
    /// Where to serve.
    pub listen: SocketAddr,
    /// Namespace of the Secret and of the Service, unless something else is said.
    pub namespace: &'a str,
    /// Which namespaces a controller in this process looks after.
    pub looked_after: LookedAfter,
    /// The owners' objects.
    pub owners: Cache<WhatsAppOwner>,
    /// The Kubernetes client.
    pub client: Client,
}

/// Starts serving. Answers once there is a certificate; nothing when told to stop before.
pub(super) async fn start(
    start: Start<'_>,
    admin: &Admin,
    stop: CancellationToken,
) -> Result<Option<Webhooks>, RunError> {
    let Start { args, listen, namespace, looked_after, owners, client } = start;
    let (served, (send, bundle)) = (Arc::new(Served::default()), watch::channel(None));
    let clients = args.webhook_client_ca.as_deref().map(certificates::clients::verifier).transpose()?;
    let tls = certificates::tls(Arc::clone(&served), clients)?;
    match &args.webhook_certificate_dir {
        Some(directory) => {
            let (directory, served, stop) = (directory.clone(), Arc::clone(&served), stop.clone());
            tokio::spawn(async move {
                certificates::files::keep(&directory, certificates::files::LOOK, served, stop).await;
            });
        }
        None => {
            let keeper = Keeper {
                client: client.clone(),
                namespace: args.webhook_secret_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
                name: args.webhook_secret.clone(),
                hosts: args.hosts(namespace),
                lifetimes: args.lifetimes(),
            };
            let (served, stop) = (Arc::clone(&served), stop.clone());
            tokio::spawn(async move { keeper.keep(served, send, stop).await });
        }
    }

    // Nothing but speed depends on it.
    let _ = timeout(CACHE_TIMEOUT, owners.until_listed()).await;
    let loaded = async {
        while !served.is_loaded() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if stop.run_until_cancelled(loaded).await.is_none() {
        return Ok(None);
    }

    let ledgers = Ledgers::new(client.clone(), Some(owners), args.max_instances_per_owner);
    let admission = Admission::new(client.clone(), ledgers, looked_after, AdmissionMetrics::register(admin.metrics()));
    let serving = serve(listen, tls, router(Arc::new(admission)), stop)?;
    tracing::info!(address = %serving.address, "serving admission reviews");
    let ended = tokio::spawn(async move {
        if let Ok(Err(error)) = serving.ended.await {
            tracing::error!(%error, "the webhooks ended");
        }
    });
    let configuration = Some(args.webhook_configuration.clone()).filter(|name| !name.is_empty());
    Ok(Some(Webhooks { address: serving.address, client, configuration, bundle, ended }))
}

/// One copy of every owner's object, for webhooks and controller alike.
pub(super) fn follow_owners(client: &Client, stop: &CancellationToken) -> Cache<WhatsAppOwner> {
    let owners = Cache::new();
    let changes = changes(vec![Api::all(client.clone())], &watcher::Config::default());
    let (follow, stop) = (owners.clone().follow(changes), stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(follow).await });
    owners
}

impl Webhooks {
    /// Keeps the authority in the webhook configurations until `stop`. For the leader.
    pub fn publish(&self, stop: CancellationToken) {
        if let Some(name) = self.configuration.clone() {
            let (client, bundle) = (self.client.clone(), self.bundle.clone());
            tokio::spawn(certificates::publish(client, name, bundle, stop));
        }
    }

    /// Waits until the last review has been answered, once told to stop.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }
}

/// Runs the webhooks alone until a signal.
///
/// # Errors
/// When they cannot start.
pub async fn webhook(args: &AloneArgs) -> Result<(), RunError> {
    telemetry::start(&args.process.log, args.process.log_format)?;
    let stop = shutdown::on_signal().map_err(RunError::Signals)?;
    let admin = Admin::default();
    let address = admin.serve(args.process.admin_listen).await?;
    let (client, url) = kubernetes::connect(&args.cluster()).await?;
    kubernetes::probe(&Api::<WhatsAppOwner>::all(client.clone()), &url).await?;
    let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let listen = args.webhook.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 9443)));
    let wiring = Start {
        args: &args.webhook,
        listen,
        namespace: &namespace,
        looked_after: LookedAfter::Nowhere,
        owners: follow_owners(&client, &stop),
        client: client.clone(),
    };
    let Some(webhooks) = start(wiring, &admin, stop.clone()).await? else { return Ok(()) };
    if let Some(file) = &args.process.announce {
        admin::announce(file, address, Some(webhooks.address)).await?;
    }
    admin.ready();

    // Every replica answers; one of them writes the configurations.
    let mut candidate = Candidate::new(client, &namespace, &args.lease_name, lease::identity());
    let lead = async {
        loop {
            candidate.acquire(|_| {}).await;
            let lost = CancellationToken::new();
            webhooks.publish(lost.clone());
            let _lost = lost.drop_guard();
            let error = candidate.hold().await;
            tracing::warn!(%error, "no longer writing the webhook configurations");
        }
    };
    let _: Option<()> = stop.run_until_cancelled(lead).await;
    admin.unready(super::STOPPING);
    candidate.release().await;
    webhooks.ended().await;
    tracing::info!("stopped");
    Ok(())
}

/// Prints the webhook configurations.
///
/// # Errors
/// When the authorities cannot be read, or the objects not be printed.
pub fn webhook_configuration(args: &ConfigurationArgs) -> Result<(), RunError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| RunError::Read { path: path.display().to_string(), source })
    };
    let bundle = args.ca_file.as_ref().map(read).transpose()?;
    let Some(wanted) = args.wanted(bundle) else { return Ok(()) };
    let text = configuration::yaml(&wanted)?;
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
        .map_err(|source| RunError::Write { path: "standard output".into(), source })
}
