//! One settlement: an owner's ledger as it stands, the instances there are, the status after, at most one write.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams},
    core::Status,
};
use thiserror::Error;
use tokio::{sync::mpsc, time::Instant};

use super::{Book, Owners, owner_of};
use crate::{
    api::{
        LedgerEntry, WhatsAppInstance, WhatsAppInstanceStatus, WhatsAppOwner, WhatsAppOwnerSpec, WhatsAppOwnerStatus,
        conditions, labels,
    },
    controller::{cache::Key, context::Context, error::describe, facts::Standing, readings},
    platform::{
        kubernetes::{CALL_TIMEOUT, replace_status, version},
        lock,
    },
    rules::{self, InstanceFacts, Settled, doubts, owner::object_name},
};

/// Attempts in one settlement, when somebody else writes the ledger at the same time.
const ATTEMPTS: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Why an owner could not be settled.
#[derive(Debug, Error)]
pub enum SettlementError {
    /// The API server did not take or give something.
    #[error("{doing}: {}", describe(source))]
    Kubernetes {
        /// What we were doing.
        doing: &'static str,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("{doing}: no answer from the API server in time")]
    Slow {
        /// What we were doing.
        doing: &'static str,
    },
    /// Others wrote the ledger faster every time.
    #[error("the ledger changed under every attempt to write it")]
    Contended,
    /// The object under the owner's name belongs to somebody else.
    #[error("the WhatsAppOwner under this owner's name belongs to another owner")]
    Foreign,
}

impl SettlementError {
    fn is(&self, kind: fn(&Status) -> bool) -> bool {
        matches!(self, Self::Kubernetes { source, .. } if matches!(&**source, kube::Error::Api(status) if kind(status)))
    }
}

/// Everything a settlement needs.
pub struct Desk {
    pub owners: Arc<Owners>,
    pub context: Arc<Context>,
    pub queue: mpsc::UnboundedSender<Key>,
}

/// An owner as read from memory.
struct Case {
    seen: u64,
    /// Since when only counts have changed, if they have.
    counts_since: Option<Instant>,
    ledger: Option<Arc<WhatsAppOwner>>,
    /// The ledger's status, with what is known and not written yet.
    status: Option<WhatsAppOwnerStatus>,
    members: Vec<Member>,
}

type Member = (Key, Arc<WhatsAppInstance>);

impl Desk {
    /// Settles one owner and wakes the instances it concerns. Returns when to do it again without being told.
    pub async fn settle(&self, owner: &str) -> Option<Duration> {
        if let Some(left) = self.book(owner, |book| book.rest()).flatten() {
            return Some(left);
        }
        let mut members = Vec::new();
        let result = self.attempts(owner, &mut members).await;
        if let Err(SettlementError::Foreign) = result {
            self.book(owner, |book| book.foreign = true);
        }
        let pause = match result {
            Ok(pause) => {
                self.book(owner, |book| book.failures = 0);
                pause
            }
            Err(error) => {
                let failures = self.book(owner, |book| {
                    book.failures = book.failures.saturating_add(1);
                    book.failures
                });
                let pause = (FIRST_PAUSE * (1 << failures.unwrap_or(1).saturating_sub(1).min(10))).min(LAST_PAUSE);
                let pause = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
                tracing::warn!(object = object_name(owner), %error, retry_in_ms = pause.as_millis(), "an owner could not be settled");
                Some(pause)
            }
        };
        self.wake(members);
        pause
    }

    async fn attempts(&self, owner: &str, members: &mut Vec<Member>) -> Result<Option<Duration>, SettlementError> {
        for _ in 0..ATTEMPTS {
            let Some(case) = self.case(owner) else { return Ok(None) };
            members.clone_from(&case.members);
            let facts = self.facts(owner, &case).await?;
            let now = Timestamp::now();
            let own = case.ledger.as_ref().and_then(|ledger| ledger.spec.max_instances);
            let limit = rules::limit(own, self.owners.default_limit);
            let Settled { status, again_at } = rules::settle(case.status.as_ref(), &facts, limit, now);
            let again = again_at.map(|at| crate::controller::status::until(at, now));
            let written = case.ledger.as_ref().and_then(|ledger| ledger.status.as_ref().map(|status| (ledger, status)));
            if written.is_some_and(|(_, written)| *written == status) {
                self.book(owner, |book| (book.settled, book.postponed) = (case.seen, None));
                return Ok(again);
            }
            if let Some((ledger, _)) = written.filter(|(_, written)| can_wait(written, &status)) {
                let left = self.book(owner, |book| {
                    book.settled = case.seen;
                    book.postpone(version(&**ledger), status.clone(), case.counts_since)
                });
                if let Some(left) = left.flatten() {
                    return Ok(Some(again.map_or(left, |again| again.min(left))));
                }
            }
            let Some(ledger) = case.ledger else {
                self.create(owner).await?;
                continue;
            };
            if self.write(owner, &ledger, status).await? {
                self.book(owner, |book| (book.settled, book.postponed) = (case.seen, None));
                return Ok(again);
            }
        }
        Err(SettlementError::Contended)
    }

    /// The owner as of now; nothing when it is none of this operator's business.
    fn case(&self, owner: &str) -> Option<Case> {
        let (seen, counts_since, ledger, status, members) = {
            let mut books = lock(&self.owners.books);
            let book = books.get_mut(owner)?;
            if book.members.is_empty() && book.ledger.is_none() {
                books.remove(owner);
                return None;
            }
            let counts_since = book.counts_since.take();
            (book.seen, counts_since, book.ledger.clone(), book.status().cloned(), book.members.clone())
        };
        let ours = |key: &str| self.owners.looks_after(key);
        let entries = ledger.iter().filter_map(|ledger| ledger.status.as_ref()).flat_map(|status| &status.instances);
        if members.is_empty() && !self.owners.namespaces.is_empty() && !entries.into_iter().any(|e| ours(&e.namespace))
        {
            self.book(owner, |book| book.settled = seen);
            return None;
        }
        let newest = |cached| self.context.written.newest(cached);
        let members =
            members.into_iter().filter_map(|key| self.context.instances.get(&key).map(|cached| (key, newest(cached))));
        let members = members.filter(|(_, instance)| owner_of(instance) == Some(owner)).collect();
        Some(Case { seen, counts_since, ledger, status, members })
    }

    /// What exists: the cache, and a live read where the ledger may know more. A cache that lags behind would give away
    /// the places and names of instances it has not seen yet.
    async fn facts(&self, owner: &str, case: &Case) -> Result<Vec<InstanceFacts>, SettlementError> {
        let mut facts: Vec<InstanceFacts> =
            case.members.iter().map(|(_, instance)| InstanceFacts::from(&**instance)).collect();
        let status = case.status.as_ref();
        for key in doubts(status, &facts, Timestamp::now()) {
            facts.retain(|facts| facts.key != key);
            // Whatever it looks like: one that does not fit this version must not keep the owner's others waiting.
            let resource = ApiResource::erase::<WhatsAppInstance>(&());
            let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), &key.namespace, &resource);
            match call("read an instance", api.get_opt(&key.name)).await {
                Ok(Some(object)) if object.data["spec"]["owner"] == owner => facts.push(InstanceFacts::of_any(object)),
                Ok(_) => {}
                // Of another operator's namespace, which this one may not look into: the ledger's word stands.
                Err(error) if error.is(Status::is_forbidden) && !self.owners.looks_after(&key.namespace) => {
                    let entries = status.into_iter().flat_map(|status| &status.instances);
                    let its = |entry: &&LedgerEntry| (&entry.namespace, &entry.name) == (&key.namespace, &key.name);
                    facts.extend(entries.filter(its).map(InstanceFacts::on_trust));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(facts)
    }

    async fn create(&self, owner: &str) -> Result<(), SettlementError> {
        let name = object_name(owner);
        let object = WhatsAppOwner::new(&name, WhatsAppOwnerSpec { owner: owner.to_owned(), max_instances: None });
        let api = self.api();
        match call("create the owner's object", api.create(&PostParams::default(), &object)).await {
            Ok(created) => self.owners.record(owner, created),
            Err(error) if error.is(Status::is_already_exists) => {
                match call("read the owner's object", api.get_opt(&name)).await? {
                    Some(found) if found.spec.owner == owner => self.owners.record(owner, found),
                    Some(_) => return Err(SettlementError::Foreign),
                    None => {}
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Replaces the status if it is still the one that was settled; says whether it was.
    async fn write(
        &self,
        owner: &str,
        ledger: &WhatsAppOwner,
        status: WhatsAppOwnerStatus,
    ) -> Result<bool, SettlementError> {
        let (api, name) = (self.api(), object_name(owner));
        let write = replace_status(&api, ledger, &status, labels::FIELD_MANAGER);
        match call("write the ledger", write).await {
            Ok(written) => {
                self.owners.record(owner, written);
                Ok(true)
            }
            // Admission or somebody's kubectl was faster, or the object is gone: from the beginning, with what is there.
            Err(error) if error.is(Status::is_conflict) || error.is(Status::is_not_found) => {
                match call("read the owner's object", api.get_opt(&name)).await? {
                    Some(found) if found.uid() == ledger.uid() => self.owners.record(owner, found),
                    found => {
                        self.owners.unlearn(owner, ledger.uid().as_deref());
                        if let Some(found) = found.filter(|found| found.spec.owner == owner) {
                            self.owners.record(owner, found);
                        }
                    }
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Wakes the instances that do not show yet what the ledger says of them.
    fn wake(&self, members: Vec<Member>) {
        for (key, instance) in members {
            if self.is_behind(&instance) {
                // The queue ends only when the controller does.
                let _ = self.queue.send(key);
            }
        }
    }

    fn is_behind(&self, instance: &WhatsAppInstance) -> bool {
        let nothing = WhatsAppInstanceStatus::default();
        let status = instance.status.as_ref().unwrap_or(&nothing);
        let (standing, primary) = self.owners.standing(instance);
        if instance.metadata.deletion_timestamp.is_some() {
            return status.primary && !primary;
        }
        if standing == Standing::Undecided {
            return false;
        }
        let primary = primary && standing == Standing::Accepted;
        let wanted = readings::accepted(instance, &standing);
        let shown = status.conditions.iter().find(|condition| condition.type_ == conditions::ACCEPTED);
        status.primary != primary || !shown.is_some_and(|shown| wanted.is_shown_by(shown))
    }

    fn book<T>(&self, owner: &str, change: impl FnOnce(&mut Book) -> T) -> Option<T> {
        lock(&self.owners.books).get_mut(owner).map(change)
    }

    fn api(&self) -> Api<WhatsAppOwner> {
        Api::all(self.context.client.clone())
    }
}

/// Whether the difference is of counts, of what else stands in the ledger for other operators to know, and of reservations
/// that have come true: nobody waits for any of it.
fn can_wait(before: &WhatsAppOwnerStatus, after: &WhatsAppOwnerStatus) -> bool {
    let kept =
        |entry: &LedgerEntry| LedgerEntry { reserved_at: None, connected: false, primary_since: None, ..entry.clone() };
    let same_entries = before.instances.iter().map(kept).eq(after.instances.iter().map(kept));
    same_entries && (before.used, &before.primary) == (after.used, &after.primary)
}

async fn call<T>(
    doing: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, SettlementError> {
    match tokio::time::timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|source| SettlementError::Kubernetes { doing, source: Box::new(source) }),
        Err(_) => Err(SettlementError::Slow { doing }),
    }
}
