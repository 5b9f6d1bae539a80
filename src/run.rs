//! What the subcommands of `whatsapp-operator` do.

mod bridge;
mod confined;
mod gateway;
mod rbac;
mod ready;
mod release;
mod storage;
#[cfg(test)]
mod testing;
mod webhook;

use std::{fs, io, path::Path, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::confined::Confined;
use crate::{
    api::{WhatsAppBridge, WhatsAppInstance, WhatsAppOwner, crd},
    cli::{controller::ControllerArgs, webhook::Listen},
    controller::{self, ReconcileMetrics},
    model::NamespaceScope,
    platform::{
        admin::{Admin, Part},
        announce::{self, AnnounceError, announce},
        https::{FilesError, ListenError},
        kubernetes::{self, CALL_TIMEOUT, ClusterError},
        lease::{self, Candidate, LeaseError},
        namespaces::{Standing, standing},
        shutdown::Shutdown,
        telemetry::{self, TelemetryError},
        trace::export::ExportError,
        watch::Health,
    },
};

pub use gateway::{gateway, openapi};
pub use rbac::rbac;
pub use release::release_instances;
pub use storage::migrate_storage;
pub use webhook::{webhook, webhook_configuration};

/// How long running reconciles may take to finish; less than a process has after its listeners have closed, so that the
/// lease can still be given up.
const DRAIN: Duration = Duration::from_secs(12);

/// Shown while not ready.
const NO_LEASE: &str = "the lease cannot be read or taken; the log says why";

/// Why a subcommand failed: one sentence for the terminal.
#[derive(Debug, Error)]
pub enum RunError {
    /// Logging.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Where traces go.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The announcement.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The lease. Ending is what keeps two controllers from running at once.
    #[error("{0}; stopping, so that only one controller runs")]
    Lease(#[from] LeaseError),
    /// Whose callers' tokens are could not be asked.
    #[error("{0}; the gateway's account needs the right to create tokenreviews: whatsapp-operator rbac")]
    TokenReview(String),
    /// A defect: it runs until it is told to stop.
    #[error("the controller ended by itself; the lines above may say why")]
    Ended,
    /// The controller's threads.
    #[error("start the controller's threads: {0}")]
    Threads(#[source] io::Error),
    /// Only webhooks were asked for, and none of them.
    #[error("--webhook-listen none leaves the subcommand webhook nothing to do; give an address, for example :9443")]
    NothingToServe,
    /// Signals.
    #[error("listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// The definitions.
    #[error(transparent)]
    Crd(#[from] crd::CrdError),
    /// Whom the webhooks answer.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Instances to be released.
    #[error("{0}; run it again")]
    Release(#[from] release::ReleaseError),
    /// Objects that are stored in an old version.
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    /// Objects to print.
    #[error("write the objects as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// A file.
    #[error("read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A file.
    #[error("write {path}: {source}")]
    Write {
        /// Where.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// Prints the definitions, or writes them into `dir`.
///
/// # Errors
/// When they cannot be written.
pub fn crds(dir: Option<&Path>) -> Result<(), RunError> {
    for definition in crd::all()? {
        let text = crd::yaml(&definition)?;
        let (path, written) = match dir {
            None => {
                ("standard output".into(), io::Write::write_all(&mut io::stdout(), format!("---\n{text}").as_bytes()))
            }
            Some(dir) => {
                let path = dir.join(format!("{}.yaml", definition.metadata.name.unwrap_or_default()));
                (path.display().to_string(), fs::create_dir_all(dir).and_then(|()| fs::write(&path, text)))
            }
        };
        written.map_err(|source| RunError::Write { path, source })?;
    }
    Ok(())
}

/// Runs the controller until a signal, or until the lease is lost.
///
/// # Errors
/// When it cannot start, or had to stop.
pub async fn controller(args: &ControllerArgs) -> Result<(), RunError> {
    telemetry::start(&args.process.log, args.process.log_format)?;
    let shutdown = Shutdown::on_signal(args.process.shutdown_delay).map_err(RunError::Signals)?;
    let admin = Admin::default();
    ready::never_when_stopping(&admin, &shutdown);
    let metrics = ReconcileMetrics::register(admin.metrics(), controller::WORKERS);
    let address = admin.serve(args.process.admin_listen)?;
    tracing::info!(%address, "admin server listens");
    let (client, url) = kubernetes::connect(&args.cluster.choice())?;
    let settings = args.settings(lease_namespace(&client, args));
    probe(&client, &url, &settings.namespaces).await?;
    let health = Health::default();
    let owners = webhook::follow_owners(&client, &health, &shutdown.closing);
    bridge::keep_secrets(&args.bridge, &client, &lease_namespace(&client, args), &shutdown.stopping);
    let webhooks = match args.webhook.listen {
        Listen::Nowhere => {
            tracing::warn!(
                "no admission webhooks (--webhook-listen none): instances beyond the limit, equal names and other owners are let in, and repaired afterwards"
            );
            None
        }
        Listen::At(listen) => {
            let namespace = lease_namespace(&client, args);
            let start = webhook::Start {
                args: &args.webhook,
                listen,
                namespace: &namespace,
                scope: Some(NamespaceScope::of(&settings.namespaces)),
                owners: owners.clone(),
                client: client.clone(),
            };
            let started = webhook::start(start, &admin, shutdown.clone());
            let Some(webhooks) = started.await? else { return Ok(()) };
            Some(webhooks)
        }
    };
    if let Some(file) = &args.process.announce {
        let webhook = webhooks.as_ref().map(|webhooks| ("webhook", announce::url("https", webhooks.address)));
        let addresses: Vec<_> = [("admin", announce::url("http", address))].into_iter().chain(webhook).collect();
        announce(file, &addresses).await?;
    }

    let stop = &shutdown.stopping;
    let mut election = args.leader_elect.then(|| candidate(&client, args));
    if let Some(candidate) = &mut election {
        metrics.set_leader(&args.lease_name, false);
        // A standby is ready: it serves, and a rolling update must not wait for it to lead. One that could not take over
        // is not.
        let looked = |reached| {
            if reached {
                admin.ready(Part::Lease);
                admin.ready(Part::Start);
            } else {
                admin.unready(Part::Lease, NO_LEASE);
            }
        };
        if stop.run_until_cancelled(candidate.acquire(looked)).await.is_none() {
            // It may have become ours in this very moment.
            candidate.release().await;
            if let Some(webhooks) = webhooks {
                webhooks.ended().await;
            }
            return Ok(());
        }
        tracing::info!(lease = args.lease_name, "holding the lease");
    }
    metrics.set_leader(&args.lease_name, true);
    if let Some(webhooks) = &webhooks {
        webhooks.lead(true);
    }

    bridge::keep_default(&args.bridge, &client, stop);

    // Its own token: the lease is given up only after the last reconcile has ended.
    let end = CancellationToken::new();
    let synced = CancellationToken::new();
    let mut work = Confined::start("controller", {
        let (metrics, end, synced, health) = (metrics.clone(), end.clone(), synced.clone(), health.clone());
        let cluster = args.cluster.choice();
        async move {
            let (client, _) = kubernetes::connect(&cluster)?;
            controller::run(client, &settings, owners, &health, metrics, end, move || synced.cancel()).await;
            Ok::<(), ClusterError>(())
        }
    })
    .map_err(RunError::Threads)?;
    tokio::spawn(ready::while_it_sees(admin.clone(), synced, health));
    let outcome = tokio::select! {
        error = lost(election.as_mut()) => Err(error.into()),
        ended = work.ended() => Err(ended.ok().and_then(Result::err).map_or(RunError::Ended, RunError::Cluster)),
        () = stop.cancelled() => {
            end.cancel();
            drain(&mut work, election.as_mut()).await
        }
    };
    // Another controller may already be at work: of this one nothing is left from here on. The webhooks need no lease, and the
    // API server may be waiting for their answers.
    drop(work);
    metrics.set_leader(&args.lease_name, false);
    if let Some(webhooks) = &webhooks {
        webhooks.lead(false);
    }
    if let Err(error) = &outcome {
        tracing::error!(%error, "the controller has ended; stopping");
        if let RunError::Lease(_) = error {
            admin.unready(Part::Lease, "the lease is lost");
        }
        shutdown.begin_by_itself();
    }
    if let Some(webhooks) = webhooks {
        webhooks.ended().await;
    }
    tracing::info!("stopped");
    outcome
}

/// Waits for running reconciles. They may take longer to finish than the lease lasts: it is renewed until they have, and only
/// then given up.
async fn drain<T: Send + 'static>(
    work: &mut Confined<T>,
    mut election: Option<&mut Candidate>,
) -> Result<(), RunError> {
    tokio::select! {
        error = lost(election.as_deref_mut()) => return Err(error.into()),
        drained = tokio::time::timeout(DRAIN, work.ended()) => if drained.is_err() {
            tracing::warn!("some reconciles did not finish in time");
            return Ok(());
        },
    }
    if let Some(candidate) = election {
        candidate.release().await;
    }
    Ok(())
}

/// Says at the start, in one sentence each, what the controller could not do: list one of the kinds it watches.
async fn probe(client: &Client, url: &str, namespaces: &[String]) -> Result<(), ClusterError> {
    probe_instances(client, url, namespaces).await?;
    kubernetes::probe(&Api::<WhatsAppBridge>::all(client.clone()), url).await?;
    kubernetes::probe(&Api::<WhatsAppOwner>::all(client.clone()), url).await?;
    kubernetes::probe(&Api::<Namespace>::all(client.clone()), url).await
}

/// The same for the instances of these namespaces, or of all of them.
async fn probe_instances(client: &Client, url: &str, namespaces: &[String]) -> Result<(), ClusterError> {
    if namespaces.is_empty() {
        kubernetes::probe(&Api::<WhatsAppInstance>::all(client.clone()), url).await?;
    }
    let mut refused = Vec::new();
    for namespace in namespaces {
        match kubernetes::probe(&Api::<WhatsAppInstance>::namespaced(client.clone(), namespace), url).await {
            Err(error @ ClusterError::Refused { .. }) => {
                let standing = standing(client, namespace, CALL_TIMEOUT).await.ok();
                tracing::warn!(namespace, %error, ?standing, "nothing is done for this namespace");
                if !standing.is_some_and(Standing::explains_a_refusal) {
                    refused.push(error);
                }
            }
            answer => answer?,
        }
    }
    // One of several must not keep the others waiting.
    if refused.len() == namespaces.len()
        && let Some(error) = refused.pop()
    {
        return Err(error);
    }
    Ok(())
}

/// Comes back when the lease is lost; never without one.
async fn lost(election: Option<&mut Candidate>) -> LeaseError {
    match election {
        Some(candidate) => candidate.hold().await,
        None => std::future::pending().await,
    }
}

fn lease_namespace(client: &Client, args: &ControllerArgs) -> String {
    args.lease_namespace().unwrap_or_else(|| client.default_namespace()).to_owned()
}

fn candidate(client: &Client, args: &ControllerArgs) -> Candidate {
    Candidate::new(client.clone(), &lease_namespace(client, args), &args.lease_name, lease::identity())
}
