//! The bridges: follows the WhatsAppBridge objects, keeps their links, writes their status.

pub mod link;
#[cfg(test)]
mod link_tests;
pub mod links;
pub mod own;
pub mod sessions;
mod status;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::Status,
    runtime::events::{Event, EventType},
};
use tokio::sync::mpsc::UnboundedReceiver;

use self::{
    link::{Link, Listeners, ShardSummary},
    links::Links,
};
use super::{
    contest::{Contest, digest},
    events::Events,
};
use crate::{
    api::{BridgeBinding, WhatsAppBridge, WhatsAppBridgeStatus, labels},
    drivers::{self, Endpoint},
    platform::{
        kubernetes::{CALL_TIMEOUT, call, replace_status},
        watch::Cache,
    },
};

/// Notes that come in a burst (a shard listing a thousand sessions) become one look.
const GATHER: Duration = Duration::from_millis(250);
/// Counts alone are written at most this often.
const COUNTS: Duration = Duration::from_secs(30);

/// Everything the bridges' side needs.
pub struct Bridges {
    /// The Kubernetes client.
    pub client: Client,
    /// The watched objects.
    pub store: Cache<WhatsAppBridge>,
    /// The links, shared with the reconcile.
    pub links: Arc<Links>,
    /// What the links report to.
    pub listeners: Listeners,
    /// Takes Events.
    pub events: Events,
    /// Whether every instance that could claim a session is watched.
    pub sees_all_instances: bool,
}

impl Bridges {
    /// Makes the links what the objects say. To be called on every change of an object.
    pub fn sync(&self, bridge: &WhatsAppBridge) {
        self.set_links(&bridge.name_any(), &drivers::endpoints(bridge));
    }

    /// Ends the links of a bridge that is gone.
    pub fn sync_gone(&self, name: &str) {
        self.set_links(name, &[]);
    }

    fn set_links(&self, name: &str, wanted: &[(BridgeBinding, Endpoint)]) {
        self.links.set(name, wanted, &self.client, &self.listeners);
        // Instances that wait for a bridge, and those on this one, may be affected.
        for instance in self.listeners.instances.select(|_, bound| bound.is_none_or(|bound| bound.name == name)) {
            let _ = self.listeners.queue.send(instance);
        }
        self.listeners.bridges.notify_one();
    }

    /// Writes statuses as links and objects change; does nothing while nothing does.
    pub async fn report(&self, mut gone: UnboundedReceiver<String>) {
        let mut written: HashMap<String, Instant> = HashMap::new();
        let mut contests: HashMap<String, Contest> = HashMap::new();
        let mut due: Option<Instant> = None;
        loop {
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.listeners.bridges.notified() => tokio::time::sleep(GATHER).await,
                () = sleep => {}
                Some(name) = gone.recv() => {
                    written.remove(&name);
                    contests.remove(&name);
                }
            }
            due = None;
            for bridge in self.store.all() {
                let name = bridge.name_any();
                let counts_due = written.get(&name).map(|at| *at + COUNTS).filter(|at| *at > Instant::now());
                let contest = contests.entry(name.clone()).or_default();
                let again = match self.report_one(&bridge, counts_due.is_none(), contest).await {
                    Reported::Nothing => None,
                    Reported::Written => {
                        written.insert(name, Instant::now());
                        None
                    }
                    Reported::Behind => Some(Instant::now() + GATHER),
                    Reported::Later => counts_due,
                    Reported::Contested(left) => Some(Instant::now() + left),
                    Reported::Failed => Some(Instant::now() + CALL_TIMEOUT),
                };
                // One that failed does not put off another that needs only a moment.
                due = due.into_iter().chain(again).min();
            }
        }
    }

    async fn report_one(&self, bridge: &WhatsAppBridge, counts_too: bool, contest: &mut Contest) -> Reported {
        let linked = drivers::endpoints(bridge).into_iter().filter_map(|(binding, _)| {
            let link = self.links.get(&binding)?;
            Some((binding.shard, self.summary(&link)))
        });
        let shards: Vec<(String, ShardSummary)> = linked.collect();
        let old = bridge.status.clone().unwrap_or_default();
        let new = status::of(bridge, &shards, Timestamp::now());
        if bridge.status.as_ref() == Some(&new) {
            return Reported::Nothing;
        }
        let only_counts = WhatsAppBridgeStatus { sessions: old.sessions, ..new.clone() } == old;
        if only_counts && !counts_too {
            return Reported::Later;
        }
        let (found, wanted) = (digest((), &old.conditions), digest((), &new.conditions));
        let left = contest.wait(found, wanted, Instant::now());
        if !left.is_zero() {
            return Reported::Contested(left);
        }
        let api: Api<WhatsAppBridge> = Api::all(self.client.clone());
        let write = replace_status(&api, bridge, &new, labels::FIELD_MANAGER);
        match call("write the bridge's status", CALL_TIMEOUT, write).await {
            Ok(_) => {
                if contest.wrote(found, wanted, Instant::now()) {
                    tracing::error!(
                        bridge = bridge.name_any(),
                        "another program writes the status of this WhatsAppBridge, and something else than we do: are there two \
                         operators? kubectl whatsapp doctor names them. From now on it is put right ever more slowly"
                    );
                }
                self.warn_of_unclaimed(bridge, &old, &new);
                Reported::Written
            }
            Err(error) if error.is(Status::is_not_found) => Reported::Nothing,
            Err(error) if error.is(Status::is_conflict) => Reported::Behind,
            Err(error) => {
                tracing::warn!(bridge = bridge.name_any(), %error, "could not write the bridge's status");
                Reported::Failed
            }
        }
    }

    fn summary(&self, link: &Link) -> ShardSummary {
        let summary = link.summary();
        ShardSummary { strays: summary.strays.filter(|_| self.sees_all_instances), ..summary }
    }

    /// Once, when sessions without an instance appear: they are never deleted by the controller.
    fn warn_of_unclaimed(&self, bridge: &WhatsAppBridge, old: &WhatsAppBridgeStatus, new: &WhatsAppBridgeStatus) {
        let before = status::unclaimed(old).map(|(reason, _)| reason);
        let Some((reason, message)) = status::unclaimed(new).filter(|(reason, _)| before.as_ref() != Some(reason))
        else {
            return;
        };
        let event =
            Event { type_: EventType::Warning, reason, note: Some(message), action: "Count".into(), secondary: None };
        self.events.tell(event, bridge.object_ref(&()));
    }
}

enum Reported {
    Nothing,
    Written,
    /// The object has been written since, and the watch has not shown that yet.
    Behind,
    Later,
    /// Another program writes over it.
    Contested(Duration),
    Failed,
}
