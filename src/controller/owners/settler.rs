//! One settlement: from an owner's ledger and the instances that exist to the status after, with at most one write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
    core::Status,
};
use thiserror::Error;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{LedgerView, OwnerState, Owners};
use crate::{
    api::{
        LedgerEntry, WhatsAppInstance, WhatsAppInstanceStatus, WhatsAppOwner, WhatsAppOwnerSpec, WhatsAppOwnerStatus,
        conditions, labels,
    },
    controller::decide::{facts::Acceptance, readings, times::until},
    model::NamespaceScope,
    platform::{
        backoff::{doubled, spread},
        kubernetes::{CALL_TIMEOUT, CallError, call, replace_status, version},
        lock,
        namespaces::standing_in_ledger,
        watch::{Cache, Key},
        work_queue,
    },
    rules::{self, InstanceFacts, Settlement, doubts, owner::object_name, trust},
};

/// Owners settled at once.
const WORKERS: usize = 8;
/// Attempts in one settlement, when admission or another operator writes the ledger at the same time.
const ATTEMPTS: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Why an owner could not be settled.
#[derive(Debug, Error)]
pub enum SettlementError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An instance that the ledger names could not be read.
    #[error("{0}")]
    Instance(CallError),
    /// Others wrote the ledger faster every time.
    #[error("the ledger changed under every attempt to write it")]
    Contended,
    /// The object under the owner's name belongs to another owner.
    #[error("the WhatsAppOwner under this owner's name belongs to another owner")]
    Foreign,
}

impl SettlementError {
    /// The same for the owner's instances to show. A reader of one of them may not be allowed to know of another.
    fn shown(&self) -> String {
        match self {
            Self::Instance(_) => "an instance that it names cannot be read; the operator's log says why".into(),
            other => other.to_string(),
        }
    }
}

/// Settles owners as they change.
pub struct OwnerSettler {
    /// What is known of every owner.
    pub owners: Arc<Owners>,
    /// The Kubernetes client.
    pub client: Client,
    /// The instances.
    pub objects: Cache<WhatsAppInstance>,
    /// Takes instances that do not show yet what their ledger says of them.
    pub queue: mpsc::UnboundedSender<Key>,
}

/// An owner as they stood when a settlement began.
struct OwnerSnapshot {
    seen: u64,
    /// Since when only counts have changed, if they have.
    counts_since: Option<Instant>,
    object: Option<Arc<WhatsAppOwner>>,
    /// The ledger, with what is known and not written yet.
    status: Option<WhatsAppOwnerStatus>,
    members: Vec<Member>,
}

type Member = (Key, Arc<WhatsAppInstance>);

impl OwnerSettler {
    /// Settles every owner that is woken, until `stop`.
    pub async fn run(self, woken: mpsc::UnboundedReceiver<String>, stop: CancellationToken) {
        let settler = Arc::new(self);
        let settle = |owner: String| {
            let settler = Arc::clone(&settler);
            async move { settler.settle(&owner).await }
        };
        work_queue::run(woken, WORKERS, stop, settle).await;
    }

    /// Settles one owner and wakes the instances it concerns. Returns when to do it again although nothing has changed.
    async fn settle(&self, owner: &str) -> Option<Duration> {
        if let Some(left) = self.state(owner, |state| state.rest()).flatten() {
            return Some(left);
        }
        let mut members = Vec::new();
        let result = self.attempts(owner, &mut members).await;
        if let Err(SettlementError::Foreign) = result {
            self.state(owner, |state| state.foreign = true);
        }
        let pause = match result {
            Ok(pause) => {
                self.state(owner, |state| (state.failures, state.trouble) = (0, None));
                pause
            }
            Err(error) => {
                let failures = self.state(owner, |state| {
                    state.failures = state.failures.saturating_add(1);
                    state.trouble = Some(error.shown());
                    state.failures
                });
                let pause = spread(doubled(FIRST_PAUSE, failures.unwrap_or(1).saturating_sub(1), LAST_PAUSE));
                tracing::warn!(object = object_name(owner), %error, retry_in_ms = pause.as_millis(), "an owner could not be settled");
                Some(pause)
            }
        };
        self.wake(owner, members);
        pause
    }

    async fn attempts(&self, owner: &str, members: &mut Vec<Member>) -> Result<Option<Duration>, SettlementError> {
        for _ in 0..ATTEMPTS {
            let Some(snapshot) = self.snapshot(owner) else { return Ok(None) };
            members.clone_from(&snapshot.members);
            let facts = self.facts(owner, &snapshot).await?;
            let now = Timestamp::now();
            let own = snapshot.object.as_ref().and_then(|object| object.spec.max_instances);
            let limit = rules::limit(own, self.owners.default_limit);
            let Settlement { status, again_at } = rules::settle(snapshot.status.as_ref(), &facts, limit, now);
            let again = again_at.map(|at| until(at, now));
            let written =
                snapshot.object.as_ref().and_then(|object| object.status.as_ref().map(|status| (object, status)));
            if written.is_some_and(|(_, written)| *written == status) {
                self.state(owner, |state| (state.settled, state.postponed) = (snapshot.seen, None));
                return Ok(again);
            }
            if let Some((object, _)) = written.filter(|(_, written)| can_wait(written, &status)) {
                let left = self.state(owner, |state| {
                    state.settled = snapshot.seen;
                    state.postpone(version(&**object), status.clone(), snapshot.counts_since)
                });
                if let Some(left) = left.flatten() {
                    return Ok(Some(again.map_or(left, |again| again.min(left))));
                }
            }
            let Some(object) = snapshot.object else {
                self.create(owner).await?;
                continue;
            };
            if self.write(owner, &object, status).await? {
                self.state(owner, |state| (state.settled, state.postponed) = (snapshot.seen, None));
                return Ok(again);
            }
        }
        Err(SettlementError::Contended)
    }

    /// The owner as of now; nothing when it is none of this operator's business.
    fn snapshot(&self, owner: &str) -> Option<OwnerSnapshot> {
        let object = self.owners.object(owner);
        let (seen, counts_since, status, members) = {
            let mut states = lock(&self.owners.states);
            let state = states.get_mut(owner)?;
            if state.members.is_empty() && state.version.is_none() {
                states.remove(owner);
                return None;
            }
            let status = object.as_ref().and_then(|object| state.status(object)).cloned();
            (state.seen, state.counts_since.take(), status, state.members.clone())
        };
        let ours = |key: &str| self.owners.scope.includes(key);
        let entries = object.iter().filter_map(|object| object.status.as_ref()).flat_map(|status| &status.instances);
        if members.is_empty()
            && self.owners.scope != NamespaceScope::All
            && !entries.into_iter().any(|e| ours(&e.namespace))
        {
            self.state(owner, |state| state.settled = seen);
            return None;
        }
        let members = members.into_iter().filter_map(|key| self.objects.get(&key).map(|instance| (key, instance)));
        let members = members.filter(|(_, instance)| instance.owner() == Some(owner)).collect();
        Some(OwnerSnapshot { seen, counts_since, object, status, members })
    }

    /// What exists: the cache, and a live read where the ledger may know more. A cache that lags behind would give away
    /// the slots and names of instances it has not seen yet.
    async fn facts(&self, owner: &str, snapshot: &OwnerSnapshot) -> Result<Vec<InstanceFacts>, SettlementError> {
        let mut facts: Vec<InstanceFacts> =
            snapshot.members.iter().map(|(_, instance)| InstanceFacts::from(&**instance)).collect();
        let status = snapshot.status.as_ref();
        let mut standings = HashMap::new();
        for key in doubts(status, &facts, Timestamp::now()) {
            facts.retain(|facts| facts.key != key);
            // Whatever it looks like: one that does not fit this version must not keep the owner's others waiting.
            let resource = ApiResource::erase::<WhatsAppInstance>(&());
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
            match call("read an instance", CALL_TIMEOUT, api.get_opt(&key.name)).await {
                Ok(Some(object)) if object.data["spec"]["owner"] == owner => facts.push(InstanceFacts::of_any(object)),
                Ok(_) => {}
                Err(error) if error.is(Status::is_forbidden) && self.owners.scope != NamespaceScope::All => {
                    let standing = match standings.get(&key.namespace) {
                        Some(standing) => *standing,
                        None => standing_in_ledger(&self.client, &key.namespace, CALL_TIMEOUT).await,
                    };
                    standings.insert(key.namespace.clone(), standing);
                    let entries = status.into_iter().flat_map(|status| &status.instances);
                    let its = entries.filter(|entry| entry.name == key.name);
                    let trusted = trust::unread(&self.owners.scope, its, &key.namespace, standing);
                    facts.extend(trusted.ok_or(SettlementError::Instance(error))?);
                }
                Err(error) => return Err(SettlementError::Instance(error)),
            }
        }
        Ok(facts)
    }

    async fn create(&self, owner: &str) -> Result<(), SettlementError> {
        let name = object_name(owner);
        let object = WhatsAppOwner::new(&name, WhatsAppOwnerSpec { owner: owner.to_owned(), max_instances: None });
        let api = self.api();
        match call("create the owner's object", CALL_TIMEOUT, api.create(&PostParams::default(), &object)).await {
            Ok(created) => self.owners.learned(owner, created),
            Err(error) if error.is(Status::is_already_exists) => {
                match call("read the owner's object", CALL_TIMEOUT, api.get_opt(&name)).await? {
                    Some(found) if found.spec.owner == owner => self.owners.learned(owner, found),
                    Some(_) => return Err(SettlementError::Foreign),
                    None => {}
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Replaces the status if it is still the one that was settled; says whether it was.
    async fn write(
        &self,
        owner: &str,
        object: &WhatsAppOwner,
        status: WhatsAppOwnerStatus,
    ) -> Result<bool, SettlementError> {
        let (api, name) = (self.api(), object_name(owner));
        let write = replace_status(&api, object, &status, labels::FIELD_MANAGER);
        match call("write the ledger", CALL_TIMEOUT, write).await {
            Ok(written) => {
                self.owners.learned(owner, written);
                Ok(true)
            }
            // The object has been written since, or is gone: begin again with what is there.
            Err(error) if error.is(Status::is_conflict) || error.is(Status::is_not_found) => {
                let found = call("read the owner's object", CALL_TIMEOUT, api.get_opt(&name)).await?;
                if found.as_ref().is_none_or(|found| found.uid() != object.uid()) {
                    self.owners.learned_gone(object);
                }
                if let Some(found) = found.filter(|found| found.spec.owner == owner) {
                    self.owners.learned(owner, found);
                }
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Wakes the instances that do not show yet what their ledger says of them.
    fn wake(&self, owner: &str, members: Vec<Member>) {
        // Read once: ten instances of one owner are ten questions to the same ledger.
        let ledger = self.owners.ledger(owner);
        for (key, instance) in members {
            if is_behind(&ledger, &instance) {
                // The queue ends only when the controller does.
                let _ = self.queue.send(key);
            }
        }
    }

    fn state<T>(&self, owner: &str, change: impl FnOnce(&mut OwnerState) -> T) -> Option<T> {
        lock(&self.owners.states).get_mut(owner).map(change)
    }

    fn api(&self) -> Api<WhatsAppOwner> {
        Api::all(self.client.clone())
    }
}

fn is_behind(ledger: &LedgerView<'_>, instance: &WhatsAppInstance) -> bool {
    let nothing = WhatsAppInstanceStatus::default();
    let status = instance.status.as_ref().unwrap_or(&nothing);
    let (acceptance, primary) = ledger.acceptance(instance);
    if instance.metadata.deletion_timestamp.is_some() {
        return status.primary && !primary;
    }
    if acceptance == Acceptance::Undecided {
        return false;
    }
    let primary = primary && acceptance == Acceptance::Accepted;
    let wanted = readings::accepted(instance, &acceptance);
    let shown = status.conditions.iter().find(|condition| condition.type_ == conditions::ACCEPTED);
    status.primary != primary || !shown.is_some_and(|shown| wanted.is_shown_by(shown))
}

/// Whether the two differ only in what no instance waits for: counts, what the ledger holds for other operators to know, and
/// reservations whose object has appeared.
fn can_wait(before: &WhatsAppOwnerStatus, after: &WhatsAppOwnerStatus) -> bool {
    let kept =
        |entry: &LedgerEntry| LedgerEntry { reserved_at: None, connected: false, primary_since: None, ..entry.clone() };
    let same_entries = before.instances.iter().map(kept).eq(after.instances.iter().map(kept));
    same_entries && (before.used, &before.primary) == (after.used, &after.primary)
}
