//! Turns WhatsAppInstances into sessions: observe -> decide (pure) -> apply -> report.
//!
//! What it needs of Kubernetes, for a least-privilege role:
//!
//! | API group | resource | verbs | what for |
//! | --- | --- | --- | --- |
//! | whatsapp-operator.dev | whatsappinstances | get, list, watch, patch | the watch; patch is for the finalizer only |
//! | whatsapp-operator.dev | whatsappinstances/status | patch | the status |
//! | whatsapp-operator.dev | whatsappinstances/finalizers | update | where OwnerReferencesPermissionEnforcement is on |
//! | whatsapp-operator.dev | whatsappowners | get, list, watch, create | the watch; made when an owner has none |
//! | whatsapp-operator.dev | whatsappowners/status | update | ledger, counts, primary |
//! | whatsapp-operator.dev | whatsappbridges | get, list, watch | the watch |
//! | whatsapp-operator.dev | whatsappbridges/status | patch | the status |
//! | (core) | namespaces | list, watch | labels, for `allowedNamespaces` |
//! | (core) | secrets | get | the token of each bridge; grant it by resourceNames |
//! | events.k8s.io | events | create, patch | Events; those about bridges go to namespace "default" |
//! | coordination.k8s.io | leases | get, create, update | leader election, in the release namespace |

mod apply;
mod binding;
mod bridge_status;
mod bridges;
mod cleanup;
mod context;
mod decide;
#[cfg(test)]
mod decide_tests;
mod directory;
mod error;
mod events;
mod facts;
#[cfg(test)]
pub(crate) mod fixtures;
mod link;
#[cfg(test)]
mod link_tests;
mod metrics;
mod notices;
mod observe;
mod owners;
mod readings;
mod reconcile;
mod sentences;
mod sessions;
mod status;
mod watches;

use std::{future::Future, sync::Arc};

use futures::StreamExt;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        self, applier,
        controller::{Action, ReconcileRequest},
        events::Reporter,
        watcher,
    },
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::metrics::ReconcileMetrics;
use self::{
    bridges::Bridges,
    context::{Context, Failures, Written},
    directory::{Directory, InstanceRef},
    error::{Backoff, ReconcileError},
    events::Events,
    link::{Links, Listeners},
    owners::Owners,
    watches::{Change, Keeper},
};
use crate::api::{BridgeBinding, WhatsAppBridge, WhatsAppInstance, WhatsAppOwner};

/// Reconciles running at once. Each is a few short calls; more would only crowd the API server.
pub const WORKERS: u16 = 32;

/// What the controller looks after, and how patiently.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only these namespaces; all when empty.
    pub namespaces: Vec<String>,
    /// Only bridges with these labels; all when `None`.
    pub bridge_selector: Option<String>,
    /// How long a deletion waits for its bridge before it gives up.
    pub deletion_deadline: SignedDuration,
    /// How many instances an owner may have whose `WhatsAppOwner` does not say.
    pub max_instances_per_owner: u32,
}

/// Runs until `stop`, then finishes what it is at. `synced` is called once everything is listed.
pub async fn run(
    client: Client,
    settings: &Settings,
    metrics: ReconcileMetrics,
    stop: CancellationToken,
    synced: impl FnOnce() + Send,
) {
    let (queue, triggers) = mpsc::unbounded_channel::<InstanceRef>();
    let directory = Arc::new(Directory::new(metrics.phases()));
    let listeners = Listeners { queue, bridges: Arc::new(Notify::new()), directory: Arc::clone(&directory) };
    let (instances, bridge_objects, namespaces) = (Keeper::new(), Keeper::new(), Keeper::new());
    let owner_objects = Keeper::<WhatsAppOwner>::new();
    let owner_store = owner_objects.store();
    let (owners, woken) = Owners::new(settings.namespaces.clone(), settings.max_instances_per_owner);
    let (instance_store, bridge_store, namespace_store) =
        (instances.store(), bridge_objects.store(), namespaces.store());
    let links = Arc::new(Links::default());
    let reporter = Reporter { controller: "whatsapp-operator".into(), instance: std::env::var("POD_NAME").ok() };
    let (events, scribe) = Events::new(metrics.events_dropped());
    until(&stop, scribe.write(client.clone(), reporter));
    let bridges = Arc::new(Bridges {
        client: client.clone(),
        store: bridge_store.clone(),
        links: Arc::clone(&links),
        listeners: listeners.clone(),
        events: events.clone(),
        // Bridges selected by label are this operator's own; others may serve instances of another operator's namespaces.
        sees_all_instances: settings.namespaces.is_empty() || settings.bridge_selector.is_some(),
    });
    let context = Arc::new(Context {
        client: client.clone(),
        bridges: bridge_store.clone(),
        namespaces: namespace_store.clone(),
        links,
        owners: Arc::clone(&owners),
        directory: Arc::clone(&directory),
        events,
        metrics,
        backoff: Backoff::default(),
        deletion_deadline: settings.deletion_deadline,
        written: Written::default(),
        failures: Failures::default(),
    });

    let everything = watcher::Config::default();
    let selected = watcher::Config { label_selector: settings.bridge_selector.clone(), ..watcher::Config::default() };
    let (gone, gone_bridges) = mpsc::unbounded_channel();
    let apis = instance_apis(&client, &settings.namespaces);
    let told = instance_told(Arc::clone(&context), listeners.clone());
    until(&stop, instances.follow(watches::changes(apis, &everything), told));
    let told = bridge_told(Arc::clone(&bridges), gone);
    until(&stop, bridge_objects.follow(watches::changes(vec![Api::all(client.clone())], &selected), told));
    let told = namespace_told(listeners.clone());
    until(&stop, namespaces.follow(watches::changes(vec![Api::all(client.clone())], &everything), told));
    let told = {
        let owners = Arc::clone(&owners);
        move |before: Option<Arc<WhatsAppOwner>>, change| owners.object_changed(before.as_deref(), change)
    };
    until(&stop, owner_objects.follow(watches::changes(vec![Api::all(client)], &everything), told));
    until(&stop, async move { bridges.report(gone_bridges).await });

    // Deciding before the bridges are known would call every one of them missing.
    let listed = async {
        let _ = tokio::join!(
            bridge_store.wait_until_ready(),
            namespace_store.wait_until_ready(),
            owner_store.wait_until_ready(),
            instance_store.wait_until_ready()
        );
    };
    if stop.run_until_cancelled(listed).await.is_none() {
        return;
    }
    directory.set_synced();
    // Before everything is listed, a ledger would lose those that are not.
    let queue = listeners.queue.clone();
    until(&stop, owners.run(Arc::clone(&context), woken, queue, instance_store.clone()));
    listeners.bridges.notify_one();
    tracing::info!(instances = instance_store.len(), bridges = bridge_store.len(), "everything is listed");
    synced();

    let triggers =
        futures::stream::unfold(triggers, |mut triggers| async { triggers.recv().await.map(|one| (one, triggers)) });
    let requests =
        triggers.map(|one| Ok::<_, watcher::Error>(ReconcileRequest::from(one))).take_until(stop.cancelled_owned());
    // Once the requests end, the applier finishes the reconciles it has begun, and then ends too.
    applier(
        |instance, context| Box::pin(spawned(instance, context)),
        reconcile::error_policy,
        context,
        instance_store,
        requests.boxed(),
        runtime::Config::default().concurrency(WORKERS),
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

/// Runs a task that only watches and may be dropped at any time.
fn until(stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(task).await });
}

/// On a task of its own, so that reconciles use every core.
async fn spawned(instance: Arc<WhatsAppInstance>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let work = tokio::spawn(reconcile::reconcile(instance, context).in_current_span());
    work.await.unwrap_or(Err(ReconcileError::Panicked))
}

fn instance_apis(client: &Client, namespaces: &[String]) -> Vec<Api<DeserializeGuard<WhatsAppInstance>>> {
    if namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

fn instance_told(
    context: Arc<Context>,
    listeners: Listeners,
) -> impl FnMut(Option<Arc<WhatsAppInstance>>, Change<WhatsAppInstance>) + Send {
    move |before, change| {
        let recreated = |now: &WhatsAppInstance| before.as_ref().filter(|before| before.uid() != now.uid());
        let (gone, counts_changed) = match &change {
            Change::Present(instance) => {
                let fresh = context.directory.note(instance);
                context.owners.instance_changed(before.as_deref(), Some(instance));
                // The queue ends only when the controller does.
                let _ = listeners.queue.send(directory::reference(instance));
                (recreated(instance).and_then(|before| before.uid()), fresh)
            }
            Change::Gone(instance) => {
                context.backoff.clear(&directory::reference(instance));
                context.owners.instance_changed(before.as_deref(), None);
                (before.as_ref().map_or_else(|| instance.uid(), |before| before.uid()), true)
            }
            Change::Synced => (None, true),
        };
        if gone.is_some_and(|uid| context.forget(&uid)) {
            // Whoever found every shard full has nothing else to be woken by.
            for waiting in context.directory.select(|_, bound| bound.is_none()) {
                let _ = listeners.queue.send(waiting);
            }
        }
        if counts_changed {
            listeners.bridges.notify_one();
        }
    }
}

fn bridge_told(
    bridges: Arc<Bridges>,
    gone: mpsc::UnboundedSender<String>,
) -> impl FnMut(Option<Arc<WhatsAppBridge>>, Change<WhatsAppBridge>) + Send {
    move |before, change| match change {
        // Our own status writes come back too; only what links and instances depend on matters.
        Change::Present(bridge) => {
            let same = |before: &Arc<WhatsAppBridge>| {
                before.spec == bridge.spec && before.metadata.annotations == bridge.metadata.annotations
            };
            if !before.as_ref().is_some_and(same) {
                bridges.sync(&bridge, false);
            }
        }
        Change::Gone(bridge) => {
            bridges.sync(&bridge, true);
            let _ = gone.send(bridge.name_any());
        }
        Change::Synced => {}
    }
}

type NamespaceMeta = PartialObjectMeta<Namespace>;

fn namespace_told(listeners: Listeners) -> impl FnMut(Option<Arc<NamespaceMeta>>, Change<NamespaceMeta>) + Send {
    move |before, change| {
        let Change::Present(namespace) = change else { return };
        if before.is_some_and(|before| before.labels() == namespace.labels()) {
            return;
        }
        let name = namespace.name_any();
        let waits = |one: &InstanceRef, bound: Option<&BridgeBinding>| {
            bound.is_none() && one.namespace.as_deref() == Some(name.as_str())
        };
        for instance in listeners.directory.select(waits) {
            let _ = listeners.queue.send(instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::metrics::Metrics;
    use kube::runtime::reflector::store::Writer;

    fn context(directory: &Arc<Directory>) -> Context {
        let client = Client::new(axum::Router::new(), "ns");
        Context {
            client,
            bridges: Writer::default().as_reader(),
            namespaces: Writer::new(()).as_reader(),
            owners: Owners::new(Vec::new(), 10).0,
            links: Arc::default(),
            directory: Arc::clone(directory),
            events: Events::new(Default::default()).0,
            metrics: ReconcileMetrics::register(&Metrics::default(), 1),
            backoff: Backoff::default(),
            deletion_deadline: SignedDuration::ZERO,
            written: Written::default(),
            failures: Failures::default(),
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_place_hears_that_one_is_free() {
        let (queue, mut triggers) = mpsc::unbounded_channel();
        let directory = Arc::new(Directory::default());
        let listeners = Listeners { queue, bridges: Arc::default(), directory: Arc::clone(&directory) };
        let mut told = instance_told(Arc::new(context(&directory)), listeners);
        let bound = fixtures::bound(Default::default());
        let mut waiting = fixtures::instance();
        (waiting.metadata.name, waiting.metadata.uid) = (Some("two".into()), Some("2".into()));
        told(None, Change::Present(bound.clone()));
        told(None, Change::Present(waiting));
        while triggers.try_recv().is_ok() {}
        told(Some(Arc::new(bound.clone())), Change::Gone(bound));
        assert_eq!(triggers.try_recv().map(|one| one.name), Ok("two".into()));
    }
}
