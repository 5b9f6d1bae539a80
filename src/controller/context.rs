//! What every reconcile shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, ResourceExt, core::PartialObjectMeta};

use super::{
    cache::Cache, directory::Directory, error::Backoff, events::Events, link::Links, metrics::ReconcileMetrics,
    owners::Owners,
};
use crate::{
    api::{WhatsAppBridge, WhatsAppInstance},
    bridge_api::BridgeError,
    platform::{kubernetes::version, lock},
};

/// Clients, caches and clocks of the controller.
pub struct Context {
    /// The Kubernetes client.
    pub client: Client,
    /// The watched instances.
    pub instances: Cache<WhatsAppInstance>,
    /// The watched bridges.
    pub bridges: Cache<WhatsAppBridge>,
    /// The watched namespaces, labels only.
    pub namespaces: Cache<PartialObjectMeta<Namespace>>,
    /// The links to the shards.
    pub links: Arc<Links>,
    /// Which instances are accepted, and which are primary.
    pub owners: Arc<Owners>,
    /// Which instances there are.
    pub directory: Arc<Directory>,
    /// Takes Events.
    pub events: Events,
    /// Counters.
    pub metrics: ReconcileMetrics,
    /// Failures in a row.
    pub backoff: Backoff,
    /// How long a deletion waits for its bridge.
    pub deletion_deadline: SignedDuration,
    /// Our own last writes, until the watch shows them.
    pub written: Written,
    /// What bridges last refused, by uid.
    pub failures: Failures,
}

/// Our own last writes. Deciding from a cache that does not show them yet would write, or bind, twice.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, Arc<WhatsAppInstance>>>);

impl Written {
    /// Remembers an object as a write returned it.
    pub fn note(&self, instance: &Arc<WhatsAppInstance>) {
        if let Some(uid) = instance.uid() {
            lock(&self.0).insert(uid, Arc::clone(instance));
        }
    }

    /// The newer of the cached object and our last write of it.
    pub fn newest(&self, cached: Arc<WhatsAppInstance>) -> Arc<WhatsAppInstance> {
        let Some(uid) = cached.uid() else { return cached };
        let mut written = lock(&self.0);
        match written.get(&uid) {
            Some(own) if version(&**own) > version(&*cached) => Arc::clone(own),
            Some(_) => {
                written.remove(&uid);
                cached
            }
            None => cached,
        }
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }
}

/// What bridges last answered instances, when that was an error.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, (BridgeError, u32)>>);

/// A connection that broke under a call is the link's to judge; calls alone must fail this often in a row to count.
const BRIEF_FAILURES: u32 = 3;

impl Failures {
    /// The last failure, if the last call failed and that means something.
    pub fn get(&self, uid: &str) -> Option<BridgeError> {
        let failures = lock(&self.0);
        let (error, times) = failures.get(uid)?;
        (!error.may_be_brief() || *times >= BRIEF_FAILURES).then(|| error.clone())
    }

    /// Notes how a call went.
    pub fn note(&self, uid: &str, failure: Option<BridgeError>) {
        match failure {
            Some(error) => {
                let mut failures = lock(&self.0);
                let times = failures.get(uid).map_or(0, |(_, times)| *times).saturating_add(1);
                failures.insert(uid.into(), (error, times));
            }
            None => drop(lock(&self.0).remove(uid)),
        }
    }
}

impl Context {
    /// Drops everything kept about a deleted instance. Returns whether that leaves a place on a shard free.
    pub fn forget(&self, uid: &str) -> bool {
        self.written.forget(uid);
        self.failures.note(uid, None);
        self.directory.forget(uid)
    }
}
