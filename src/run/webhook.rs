//! Starts the webhooks in a process: certificates, what the API server is told of them, the owners' cache, the server.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kube::{Api, Client};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{NO_LEASE, RunError, ready};
use crate::{
    admission::{
        Admission, AdmissionMetrics, Ledgers,
        certificates::{CertificateSecret, Publisher, ToldBy, is_published},
        configuration, router,
    },
    api::WhatsAppOwner,
    cli::webhook::{AloneArgs, ConfigurationArgs, Listen, WebhookArgs},
    model::NamespaceScope,
    platform::{
        admin::{Admin, Part},
        announce::{self, announce},
        https::{self, Files, Tls},
        kubernetes,
        lease::{self, Candidate},
        shutdown::Shutdown,
        telemetry,
        watch::{Cache, Health, changes, watch_config},
    },
};

/// How often to look whether there is a certificate yet.
const LOOK: Duration = Duration::from_millis(20);
/// How long the owners' cache may take before the server starts without it.
const CACHE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look whether the API server has been told of the authority yet, and how long that may take before reviews
/// are served all the same: the configurations may be kept by other means.
const LOOK_TOLD: Duration = Duration::from_millis(100);
const TOLD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open reviews may take once the listener has closed; a little more than the API server waits for one.
const DRAIN: Duration = Duration::from_secs(6);

/// Shown while not ready.
const NO_CERTIFICATE: &str = "the webhooks have no certificate yet; the log says why";

/// Shown as long as the webhooks' certificate is of no use.
const NOT_TOLD: &str = "the webhook configurations do not trust the webhooks' certificate yet; the log says why";

/// The webhooks, serving.
pub(super) struct Webhooks {
    /// Where.
    pub address: SocketAddr,
    leads: watch::Sender<bool>,
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
    /// The namespaces that the controller in this process looks after, if there is one.
    pub scope: Option<NamespaceScope>,
    /// The owners' objects.
    pub owners: Cache<WhatsAppOwner>,
    /// The Kubernetes client.
    pub client: Client,
}

/// Starts serving. Answers once there is a certificate; nothing when told to stop before.
pub(super) async fn start(start: Start<'_>, admin: &Admin, shutdown: Shutdown) -> Result<Option<Webhooks>, RunError> {
    let Start { args, listen, namespace, scope, owners, client } = start;
    let (tls, closing, leads) = (Arc::new(Tls::default()), shutdown.closing.clone(), watch::Sender::new(false));
    if let Some(file) = &args.webhook_client_ca {
        let mut authorities = Files::authorities(&tls, file, "--webhook-client-ca");
        authorities.take().await?;
        tokio::spawn(authorities.keep(https::LOOK, closing.clone()));
    }
    let kept = match &args.webhook_certificate_dir {
        Some(directory) => {
            let (chain, key) = (directory.join("tls.crt"), directory.join("tls.key"));
            let files = Files::certificate(&tls, &chain, &key, "--webhook-certificate-dir");
            tokio::spawn(files.keep(https::LOOK, closing.clone()));
            None
        }
        None => keep_certificate(args, namespace, &client, &tls, &leads, &shutdown.stopping),
    };

    // Nothing but speed depends on it.
    let _ = timeout(CACHE_TIMEOUT, owners.until_listed()).await;
    let loaded = async {
        if !tls.is_ready() {
            admin.unready(Part::Certificate, NO_CERTIFICATE);
        }
        while !tls.is_ready() {
            tokio::time::sleep(LOOK).await;
        }
        // The API server asks every replica that is ready, beside others that show another certificate.
        if let Some((name, bundle)) = kept
            && timeout(TOLD_TIMEOUT, until_told(&client, &name, &bundle, admin)).await.is_err()
        {
            tracing::warn!(name, "the webhook configurations do not trust this process yet; serving all the same");
        }
    };
    if shutdown.stopping.run_until_cancelled(loaded).await.is_none() {
        return Ok(None);
    }
    admin.ready(Part::Certificate);

    let looked_at = scope.clone().unwrap_or_default();
    let ledgers = Ledgers::new(client.clone(), looked_at, Some(owners), args.max_instances_per_owner);
    let admission = Admission::new(client, ledgers, scope, AdmissionMetrics::register(admin.metrics()));
    let (tcp, address) = https::listen(listen, "--webhook-listen")?;
    let ended = https::serve(tcp, Some(tls), router(Arc::new(admission)), shutdown, DRAIN);
    tracing::info!(%address, "serving admission reviews");
    Ok(Some(Webhooks { address, leads, ended }))
}

/// One copy of every owner's object, for webhooks and controller alike.
pub(super) fn follow_owners(client: &Client, health: &Health, stop: &CancellationToken) -> Cache<WhatsAppOwner> {
    let owners = Cache::new();
    let changes = changes(vec![Api::all(client.clone())], &watch_config(), health);
    let (follow, stop) = (owners.clone().follow(changes), stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(follow).await });
    owners
}

/// Comes back when every webhook of the configurations trusts what this process shows.
async fn until_told(client: &Client, name: &str, bundle: &watch::Receiver<Option<String>>, admin: &Admin) {
    loop {
        let current = bundle.borrow().clone();
        if let Some(current) = current
            && let Ok(true) = is_published(client, name, &current).await
        {
            return;
        }
        admin.unready(Part::Certificate, NOT_TOLD);
        tokio::time::sleep(LOOK_TOLD).await;
    }
}

/// Keeps the certificate that all replicas share, and what the API server is told of its authority, until `stop`: a process
/// that ends leaves both to other replicas, if there are any. Answers the configurations' name, and what they are told.
fn keep_certificate(
    args: &WebhookArgs,
    namespace: &str,
    client: &Client,
    tls: &Arc<Tls>,
    leads: &watch::Sender<bool>,
    stop: &CancellationToken,
) -> Option<(String, watch::Receiver<Option<String>>)> {
    let configuration = Some(args.webhook_configuration.clone()).filter(|name| !name.is_empty());
    let secret = CertificateSecret {
        client: client.clone(),
        namespace: args.webhook_secret_namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: args.webhook_secret.clone(),
        hosts: args.hosts(namespace),
        lifetimes: args.lifetimes(),
        told_by: configuration.clone().map_or(ToldBy::Others, ToldBy::Configurations),
    };
    let (send, bundle) = watch::channel(None);
    let told = configuration.map(|name| {
        let (secret, leads) = (secret.clone(), leads.subscribe());
        let publisher = Publisher { client: client.clone(), name: name.clone(), secret, bundle: bundle.clone(), leads };
        tokio::spawn(publisher.run(stop.clone()));
        (name, bundle)
    });
    let (tls, stop) = (Arc::clone(tls), stop.clone());
    tokio::spawn(async move { secret.keep(tls, send, stop).await });
    told
}

impl Webhooks {
    /// Whether this process leads: then it keeps the authority in the webhook configurations.
    pub fn lead(&self, leads: bool) {
        self.leads.send_replace(leads);
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
    let shutdown = Shutdown::on_signal(args.process.shutdown_delay).map_err(RunError::Signals)?;
    let admin = Admin::default();
    ready::never_when_stopping(&admin, &shutdown);
    let address = admin.serve(args.process.admin_listen)?;
    let (client, url) = kubernetes::connect(&args.cluster.choice())?;
    kubernetes::probe(&Api::<WhatsAppOwner>::all(client.clone()), &url).await?;
    let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let Listen::At(listen) = args.webhook.listen else { return Err(RunError::NothingToServe) };
    let wiring = Start {
        args: &args.webhook,
        listen,
        namespace: &namespace,
        scope: None,
        // Nothing but speed depends on it, so it does not count for readiness.
        owners: follow_owners(&client, &Health::default(), &shutdown.closing),
        client: client.clone(),
    };
    let Some(webhooks) = start(wiring, &admin, shutdown.clone()).await? else { return Ok(()) };
    if let Some(file) = &args.process.announce {
        let addresses =
            [("admin", announce::url("http", address)), ("webhook", announce::url("https", webhooks.address))];
        announce(file, &addresses).await?;
    }
    admin.ready(Part::Start);

    // Every replica answers; the one with the lease keeps the configurations. If none could take the lease, the API server
    // would sooner or later trust none of them, so that is part of being ready.
    let mut candidate = Candidate::new(client, &namespace, &args.lease_name, lease::identity());
    let looked = |reached| if reached { admin.ready(Part::Lease) } else { admin.unready(Part::Lease, NO_LEASE) };
    let lead = async {
        loop {
            candidate.acquire(looked).await;
            tracing::info!(lease = args.lease_name, "holding the lease");
            webhooks.lead(true);
            let error = candidate.hold().await;
            webhooks.lead(false);
            tracing::warn!(%error, "no longer writing the webhook configurations");
        }
    };
    let _: Option<()> = shutdown.stopping.run_until_cancelled(lead).await;
    webhooks.lead(false);
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
    let Some(parameters) = args.parameters(bundle) else { return Ok(()) };
    let text = configuration::yaml(&parameters)?;
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
        .map_err(|source| RunError::Write { path: "standard output".into(), source })
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Query, response::Response, routing::get};
    use serde_json::json;

    use super::*;
    use crate::run::testing::{Asked, owner_list};

    async fn owners(Query(asked): Query<Asked>) -> Response {
        if asked.watch {
            std::future::pending::<()>().await;
        }
        let owner =
            |name: &str, limit| json!({"metadata": {"name": name}, "spec": {"owner": name, "maxInstances": limit}});
        // Stored when another release's schema allowed it.
        owner_list(vec![owner("alice", json!(3)), owner("bob", json!("a lot")), owner("carol", json!(4))])
    }

    #[tokio::test]
    async fn an_owner_that_does_not_parse_keeps_nobody_else_from_the_webhooks_cache() {
        let api = Router::new().route("/apis/whatsapp-operator.dev/v1alpha1/whatsappowners", get(owners));
        let cache = follow_owners(&Client::new(api, "ns"), &Health::default(), &CancellationToken::new());
        timeout(Duration::from_secs(30), cache.until_listed()).await.expect("the list is taken");
        let shown = ["alice", "bob", "carol"].map(|name| cache.named(name).and_then(|owner| owner.spec.max_instances));
        assert_eq!(shown, [Some(3), None, Some(4)]);
    }
}
