//! Turns WhatsAppInstances into sessions: observe -> decide (pure) -> apply -> report.

mod apply;
mod bridges;
mod cleanup;
mod contest;
mod context;
mod decide;
mod error;
mod events;
#[cfg(test)]
pub(crate) mod fixtures;
mod instances;
mod long_events;
mod metrics;
mod observe;
mod owners;
mod reconcile;
mod rights;

use std::{future::Future, sync::Arc};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{events::Reporter, watcher},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    bridges::{
        Bridges,
        link::Listeners,
        links::Links,
        own::{self, BridgeMeta},
    },
    context::Context,
    events::Events,
    instances::Instances,
    owners::{OwnerSettler, Owners},
};
pub use self::{metrics::ReconcileMetrics, rights::RIGHTS};
use crate::{
    api::{BridgeBinding, InstanceRef, WhatsAppBridge, WhatsAppInstance, WhatsAppOwner},
    model::NamespaceScope,
    platform::{
        watch::{Cache, Change, Health, Key, changes, changes_in, watch_config},
        work_queue,
    },
};

/// Reconciles running at once. Each is a few short calls; more would only crowd the API server.
pub const WORKERS: u16 = 32;

/// What the controller looks after, and how patiently.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only these namespaces; all when empty.
    pub namespaces: Vec<String>,
    /// Only bridges with these labels; when `None` all but those that another installation has made.
    pub bridge_selector: Option<String>,
    /// The namespace of this installation.
    pub installation: String,
    /// How long a deletion waits for its bridge before it gives up.
    pub deletion_deadline: SignedDuration,
    /// How many instances an owner may have whose `WhatsAppOwner` does not say.
    pub max_instances_per_owner: u32,
}

/// Runs until `stop`, then finishes what it is at. `owner_objects` is kept current by the process. How the watches fare is
/// kept in `health`. `synced` is called once everything is listed.
pub async fn run(
    client: Client,
    settings: &Settings,
    owner_objects: Cache<WhatsAppOwner>,
    health: &Health,
    metrics: ReconcileMetrics,
    stop: CancellationToken,
    synced: impl FnOnce() + Send,
) {
    let (queue, woken) = mpsc::unbounded_channel::<Key>();
    let instances = Arc::new(Instances::new(metrics.phases(), metrics.waits(), metrics.pairings()));
    let listeners = Listeners { queue, bridges: Arc::new(Notify::new()), instances: Arc::clone(&instances) };
    let (objects, bridge_objects, namespaces) = (Cache::new(), Cache::new(), Cache::new());
    let all_bridges = Cache::new();
    let (owners, woken_owners) = Owners::new(
        owner_objects.clone(),
        NamespaceScope::of(&settings.namespaces),
        settings.max_instances_per_owner,
        metrics.owners(),
    );
    let links = Arc::new(Links::default());
    let reporter = Reporter { controller: "whatsapp-operator".into(), instance: std::env::var("POD_NAME").ok() };
    let (events, writer) = Events::new(metrics.events_dropped());
    // Not stopped with the rest: a deletion that is given up meanwhile still has its Event to publish.
    tokio::spawn(writer.write(client.clone(), reporter));
    let bridges = Arc::new(Bridges {
        client: client.clone(),
        store: bridge_objects.clone(),
        links: Arc::clone(&links),
        listeners: listeners.clone(),
        events: events.clone(),
        // Bridges selected by label are this operator's own; others may serve instances of another operator's namespaces.
        sees_all_instances: settings.namespaces.is_empty() || settings.bridge_selector.is_some(),
    });
    let context = Arc::new(Context {
        client: client.clone(),
        objects: objects.clone(),
        instances: Arc::clone(&instances),
        bridges: bridge_objects.clone(),
        all_bridges: all_bridges.clone(),
        namespaces_are_ours: !settings.namespaces.is_empty(),
        namespaces: namespaces.clone(),
        links,
        owners: Arc::clone(&owners),
        events,
        metrics: metrics.clone(),
        deletion_deadline: settings.deletion_deadline,
    });

    let everything = watch_config();
    let selected = watcher::Config { label_selector: settings.bridge_selector.clone(), ..watch_config() };
    let (gone, gone_bridges) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    objects.listen(instance_told(Arc::clone(&context), listeners.clone()));
    until(&mut tasks, &stop, objects.clone().follow(changes_in(&client, &settings.namespaces, &everything, health)));
    bridge_objects.listen(bridge_told(Arc::clone(&bridges), gone));
    all_bridges.listen(any_bridge_told(listeners.clone()));
    let wanted = changes(vec![Api::all(client.clone())], &selected, health);
    if settings.bridge_selector.is_some() {
        until(&mut tasks, &stop, bridge_objects.clone().follow(wanted));
        until(
            &mut tasks,
            &stop,
            all_bridges.clone().follow(changes(vec![Api::all(client.clone())], &everything, health)),
        );
    } else {
        let (own, all) = own::served(wanted, settings.installation.clone());
        until(&mut tasks, &stop, bridge_objects.clone().follow(own));
        until(&mut tasks, &stop, all_bridges.clone().follow(all));
    }
    namespaces.listen(namespace_told(listeners.clone()));
    until(&mut tasks, &stop, namespaces.clone().follow(changes(vec![Api::all(client.clone())], &everything, health)));
    let told = {
        let owners = Arc::clone(&owners);
        move |before: Option<Arc<WhatsAppOwner>>, change| owners.object_changed(before.as_deref(), change)
    };
    owner_objects.listen(told);
    until(&mut tasks, &stop, async move { bridges.report(gone_bridges).await });

    // Deciding before the bridges are known would call every one of them missing.
    let listed = async {
        let _ = tokio::join!(
            all_bridges.until_listed(),
            bridge_objects.until_listed(),
            namespaces.until_listed(),
            owner_objects.until_listed(),
            objects.until_listed()
        );
    };
    tokio::select! {
        () = listed => {}
        () = stop.cancelled() => return,
        () = one_fails(&mut tasks, &stop) => return,
    }
    instances.set_synced();
    // Before everything is listed, a ledger would lose those that are not.
    let queue = listeners.queue.clone();
    let settler = OwnerSettler { owners, client, objects: objects.clone(), queue };
    tasks.spawn(settler.run(woken_owners, stop.clone()));
    listeners.bridges.notify_one();
    tracing::info!(instances = objects.len(), bridges = bridge_objects.len(), "everything is listed");
    synced();

    let turn = |key| reconcile::turn(key, Arc::clone(&context));
    tokio::select! {
        () = work_queue::run(woken, WORKERS.into(), stop.clone(), turn) => {}
        () = one_fails(&mut tasks, &stop) => return,
    }
    // Owners that are being settled, too: whoever waits for this gives the lease up next.
    while tasks.join_next().await.is_some() {}
}

/// Runs a task that only watches and may be dropped at any time.
fn until(tasks: &mut JoinSet<()>, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(async move {
        let _: Option<()> = stop.run_until_cancelled(task).await;
    });
}

/// Comes back when one of the tasks ends before it is told to. That is a defect; going on without it, the controller would decide by what was
/// true then.
async fn one_fails(tasks: &mut JoinSet<()>, stop: &CancellationToken) {
    while let Some(ended) = tasks.join_next().await {
        if !stop.is_cancelled() {
            tracing::error!(panicked = ended.is_err(), "a part of the controller has ended by itself");
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn instance_told(
    context: Arc<Context>,
    listeners: Listeners,
) -> impl FnMut(Option<Arc<WhatsAppInstance>>, Change<WhatsAppInstance>) + Send {
    move |before, change| {
        let (gone, counts_changed) = match change {
            Change::Present(key, instance) => {
                let fresh = context.instances.note(&key, &instance);
                context.owners.instance_changed(&key, before.as_deref(), Some(&instance));
                // The queue ends only when the controller does.
                let _ = listeners.queue.send(key);
                (before.filter(|before| before.uid() != instance.uid()), fresh)
            }
            Change::Unfit(key, uid) => {
                context.instances.note_unfit(&key, uid);
                (None, true)
            }
            Change::Gone(key) => {
                context.instances.forget_unfit(&key);
                context.owners.instance_changed(&key, before.as_deref(), None);
                (before, true)
            }
            Change::Listing => (None, false),
            Change::Listed => (None, true),
        };
        if gone.and_then(|gone| gone.uid()).is_some_and(|uid| context.instances.forget(&uid)) {
            // An instance that found every shard full is woken by nothing else.
            for waiting in context.instances.select(|_, bound| bound.is_none()) {
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
        Change::Present(_, bridge) => {
            let same = |before: &Arc<WhatsAppBridge>| {
                before.spec == bridge.spec && before.metadata.annotations == bridge.metadata.annotations
            };
            if !before.as_ref().is_some_and(same) {
                bridges.sync(&bridge);
            }
        }
        Change::Gone(key) => {
            bridges.sync_gone(&key.name);
            let _ = gone.send(key.name.clone());
        }
        Change::Unfit(..) | Change::Listing | Change::Listed => {}
    }
}

/// A bridge of another operator that comes, goes or becomes the default may make an instance ours or theirs.
fn any_bridge_told(listeners: Listeners) -> impl FnMut(Option<Arc<BridgeMeta>>, Change<BridgeMeta>) + Send {
    move |before, change| {
        let key = match change {
            Change::Present(_, after)
                if before.as_ref().is_some_and(|before| before.annotations() == after.annotations()) =>
            {
                return;
            }
            Change::Present(key, _) | Change::Gone(key) => key,
            Change::Unfit(..) | Change::Listing | Change::Listed => return,
        };
        for instance in listeners.instances.select(|_, bound| bound.is_none_or(|bound| bound.name == key.name)) {
            let _ = listeners.queue.send(instance);
        }
    }
}

type NamespaceMeta = PartialObjectMeta<Namespace>;

fn namespace_told(listeners: Listeners) -> impl FnMut(Option<Arc<NamespaceMeta>>, Change<NamespaceMeta>) + Send {
    move |before, change| {
        let Change::Present(key, namespace) = change else { return };
        if before.is_some_and(|before| before.labels() == namespace.labels()) {
            return;
        }
        let waits = |one: &InstanceRef, bound: Option<&BridgeBinding>| bound.is_none() && one.namespace == key.name;
        for instance in listeners.instances.select(waits) {
            let _ = listeners.queue.send(instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Json, Router, routing::get};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::{
        api::SecretKeyRef,
        bridge_api::SessionPhase,
        controller::{decide::facts::LinkState, instances::BridgeCall},
        drivers::{Endpoint, Update, scripted_driver::Scripted},
        platform::{lock, metrics::Metrics},
    };

    const SOON: Duration = Duration::from_secs(20);

    fn context(instances: &Arc<Instances>) -> Context {
        let client = Client::new(axum::Router::new(), "ns");
        Context {
            client,
            objects: Cache::new(),
            instances: Arc::clone(instances),
            bridges: Cache::new(),
            all_bridges: Cache::new(),
            namespaces_are_ours: false,
            namespaces: Cache::new(),
            owners: Owners::new(Cache::new(), NamespaceScope::All, 10, metrics::OwnerCounts::default()).0,
            links: Arc::default(),
            events: Events::new(Default::default()).0,
            metrics: ReconcileMetrics::register(&Metrics::default(), 1),
            deletion_deadline: SignedDuration::ZERO,
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_capacity_hears_that_some_is_free() {
        let (queue, mut triggers) = mpsc::unbounded_channel();
        let instances = Arc::new(Instances::default());
        let listeners = Listeners { queue, bridges: Arc::default(), instances: Arc::clone(&instances) };
        let mut told = instance_told(Arc::new(context(&instances)), listeners);
        let bound = fixtures::bound(Default::default());
        let mut waiting = fixtures::instance();
        (waiting.metadata.name, waiting.metadata.uid) = (Some("two".into()), Some("2".into()));
        told(None, Change::Present(fixtures::key(&bound), bound.clone()));
        told(None, Change::Present(fixtures::key(&waiting), waiting));
        while triggers.try_recv().is_ok() {}
        told(Some(Arc::new(bound.clone())), Change::Gone(fixtures::key(&bound)));
        assert_eq!(triggers.try_recv().map(|one| one.name.clone()), Ok("two".into()));
    }

    /// The context of a controller whose one bridge does as the script says, once its link is up.
    async fn linked(driver: &Scripted, instances: &Arc<Instances>) -> Context {
        let (queue, _) = mpsc::unbounded_channel();
        let listeners = Listeners { queue, bridges: Arc::default(), instances: Arc::clone(instances) };
        // "right", in base64.
        let secret = json!({"metadata": {"name": "token", "namespace": "ns"}, "data": {"token": "cmlnaHQ="}});
        let secret = Router::new().route("/api/v1/namespaces/ns/secrets/token", get(async || Json(secret)));
        let token = SecretKeyRef { namespace: "ns".into(), name: "token".into(), key: "token".into() };
        let shard = (fixtures::binding(), Endpoint::scripted(driver.clone(), token));
        let context = context(instances);
        context.bridges.keep(&Change::Present(fixtures::named("", "main"), fixtures::bridge("main", &["s0"])));
        context.links.set("main", &[shard], &Client::new(secret, "ns"), &listeners);
        let up = async {
            while context.links.get(&fixtures::binding()).is_none_or(|link| link.look("").0 != LinkState::Up) {
                listeners.bridges.notified().await;
            }
        };
        tokio::time::timeout(SOON, up).await.expect("the link comes up");
        context
    }

    #[tokio::test]
    async fn a_bridge_has_met_only_what_it_showed() {
        let driver = Scripted::default();
        let instances = Arc::new(Instances::default());
        let context = linked(&driver, &instances).await;
        let mut going = fixtures::bound(Default::default());
        instances.note(&fixtures::key(&going), &going);
        going.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
        instances.note(&fixtures::key(&going), &going);
        // An empty bridge says gone as well.
        assert!(apply::delete_session(&going, true, &context).await.is_ok());
        assert!(!instances.bridge_had_session(fixtures::UID));
        let session = Box::new(fixtures::session(SessionPhase::Connected));
        driver.tell("one", Update::Session(session));
        let link = context.links.get(&fixtures::binding()).unwrap();
        while !link.had(fixtures::UID) {
            tokio::task::yield_now().await;
        }
        assert!(apply::delete_session(&going, true, &context).await.is_ok());
        assert!(instances.bridge_had_session(fixtures::UID));
    }

    #[tokio::test]
    async fn a_shard_that_answers_no_call_holds_a_few_workers_and_no_more() {
        let driver = Scripted::default();
        lock(&driver.0).hangs = true;
        let instances = Arc::new(Instances::default());
        let context = Arc::new(linked(&driver, &instances).await);
        let most = 8;
        let turns = (0..=most).map(|n| {
            let mut going = fixtures::bound(Default::default());
            (going.metadata.name, going.metadata.uid) = (Some(format!("n{n}")), Some(format!("uid-{n}")));
            (going.spec.owner, going.metadata.deletion_timestamp) = (None, Some(Time(jiff::Timestamp::now())));
            instances.note(&fixtures::key(&going), &going);
            let key = fixtures::key(&going);
            context.objects.keep(&Change::Present(key.clone(), going));
            Box::pin(reconcile::turn(key, Arc::clone(&context)))
        });
        let first = futures::future::select_all(turns.collect::<Vec<_>>());
        let (again, index, others) = tokio::time::timeout(SOON, first).await.expect("one of them holds no place");
        assert!(again.is_some_and(|again| again < Duration::from_secs(2)), "{again:?}");
        assert_eq!(instances.failure(&format!("uid-{index}"), BridgeCall::Delete), None, "nothing has failed");
        assert_eq!(others.len(), most);
    }
}
