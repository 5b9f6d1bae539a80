//! The owners' ledgers, as admission writes them: one status write per place, with an optimistic lock.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams, PostParams},
    core::{ApiResource, Status, TypeMeta},
    runtime::reflector::{ObjectRef, Store},
};
use thiserror::Error;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    api::{InstanceRef, WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerSpec},
    rules::{
        self, ComparableName, Denial, InstanceFacts,
        ledger::{Claim, reserve},
        owner::object_name,
        settle,
    },
};

/// One call to the API server; several of them fit into a review.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Owners remembered between reviews. Forgetting one costs a read.
const REMEMBERED: usize = 4096;

/// Why a ledger could not be asked.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The API server did not do what was asked.
    #[error("{doing} the owner's ledger: {source}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("{doing} the owner's ledger: no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout {
        /// What was being done.
        doing: &'static str,
    },
    /// The object under the owner's name belongs to another owner; it was put there by hand.
    #[error("WhatsAppOwner {0} belongs to another owner")]
    Foreign(String),
}

impl LedgerError {
    fn is(&self, kind: fn(&Status) -> bool) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if kind(status)))
    }
}

/// The owners' ledgers.
pub struct Ledgers {
    owners: Api<WhatsAppOwner>,
    instances: Api<DynamicObject>,
    cache: Option<Store<WhatsAppOwner>>,
    default_limit: u32,
    slots: std::sync::Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
}

/// What this process last saw of one owner. Reviews of one owner take turns on it.
#[derive(Default)]
struct Slot {
    owner: Option<WhatsAppOwner>,
    /// When the check against what really exists began that last led to a refusal. It answers every review that had come
    /// in by then, so that a storm of refused requests costs one check, not one each.
    checked: Option<Instant>,
}

impl Ledgers {
    /// Ledgers reached through `client`. The cache saves reads where it is fresh and costs one where it is not; nothing
    /// else depends on it.
    pub fn new(client: Client, cache: Option<Store<WhatsAppOwner>>, default_limit: u32) -> Self {
        let resource = ApiResource::erase::<WhatsAppInstance>(&());
        Self {
            owners: Api::all(client.clone()),
            instances: Api::all_with(client, &resource),
            cache,
            default_limit,
            slots: std::sync::Mutex::default(),
        }
    }

    /// What is known of the owner without asking: good for warnings, not for rules.
    pub fn glance(&self, owner: &str) -> Option<Arc<WhatsAppOwner>> {
        self.cache.as_ref()?.get(&ObjectRef::new(&object_name(owner))).filter(|object| object.spec.owner == owner)
    }

    /// Takes what `claim` wants of the owner's ledger, for a review that came in at `arrived`. A dry run only asks.
    ///
    /// # Errors
    /// Outer: the ledger could not be asked. Inner: the refusal.
    pub async fn claim(
        &self,
        owner: &str,
        claim: &Claim,
        dry_run: bool,
        arrived: Instant,
    ) -> Result<Result<(), Denial>, LedgerError> {
        let slot = self.slot(owner);
        let mut slot = slot.lock().await;
        let mut current = self.newest(owner, slot.owner.take());
        loop {
            let Some(known) = current else {
                current = self.read(owner).await?;
                if current.is_none() {
                    if dry_run {
                        let nothing = WhatsAppOwner::new(&object_name(owner), spec(owner));
                        return Ok(self.settled(owner, nothing).await?.and_claim(owner, claim).map(|_| ()));
                    }
                    current = self.create(owner).await?;
                }
                continue;
            };
            if known.spec.owner != owner {
                return Err(LedgerError::Foreign(object_name(owner)));
            }
            let quick = known.status.is_some().then(|| Draft { limit: self.limit(&known), owner: known.clone() });
            let claimed = match quick.map(|draft| draft.and_claim(owner, claim)) {
                Some(Ok(claimed)) => claimed,
                Some(Err(denial)) if slot.checked.is_some_and(|checked| checked >= arrived) => {
                    slot.owner = Some(known);
                    return Ok(Err(denial));
                }
                // Refused by a ledger that may be behind, or no ledger at all: settle it against what exists.
                refused => {
                    let checked = Instant::now();
                    let read = if refused.is_some() { self.read(owner).await? } else { None };
                    // Of one version, what has been settled before knows more: whose object has been seen already.
                    let same = read.as_ref().is_none_or(|read| read.resource_version() == known.resource_version());
                    let gone = refused.is_some() && read.is_none();
                    let known = if gone {
                        None
                    } else if same {
                        Some(known)
                    } else {
                        read
                    };
                    let Some(known) = known else {
                        current = None;
                        continue;
                    };
                    match self.settled(owner, known).await? {
                        settled if dry_run => return Ok(settled.and_claim(owner, claim).map(|_| ())),
                        settled => match settled.clone().and_claim(owner, claim) {
                            Ok(claimed) => claimed,
                            Err(denial) => {
                                // Kept for the next reviews, unsaved: what they write is checked by its version.
                                *slot = Slot { owner: Some(settled.owner), checked: Some(checked) };
                                return Ok(Err(denial));
                            }
                        },
                    }
                }
            };
            if dry_run {
                return Ok(Ok(()));
            }
            match self.write(&claimed).await {
                Ok(written) => {
                    slot.owner = Some(written);
                    return Ok(Ok(()));
                }
                // Another replica or the controller was faster, or the object is gone: look again.
                Err(error) if error.is(Status::is_conflict) || error.is(Status::is_not_found) => {
                    current = self.read(owner).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn limit(&self, owner: &WhatsAppOwner) -> u32 {
        rules::limit(owner.spec.max_instances, self.default_limit)
    }

    fn slot(&self, owner: &str) -> Arc<Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(owner.to_owned()).or_default())
    }

    /// The newer of what this process wrote last and what the watch has brought.
    fn newest(&self, owner: &str, remembered: Option<WhatsAppOwner>) -> Option<WhatsAppOwner> {
        let watched = self.glance(owner).map(|object| (*object).clone());
        // Versions may be compared as numbers (Kubernetes 1.35); where one is none, the write will tell.
        let version =
            |object: &WhatsAppOwner| object.resource_version().and_then(|version| version.parse::<u128>().ok());
        remembered.into_iter().chain(watched).min_by_key(|object| Reverse(version(object)))
    }

    async fn settled(&self, owner: &str, object: WhatsAppOwner) -> Result<Draft, LedgerError> {
        let facts = self.list(owner).await?;
        let limit = self.limit(&object);
        let status = settle(object.status.as_ref(), &facts, limit, Timestamp::now()).status;
        Ok(Draft { limit, owner: WhatsAppOwner { status: Some(status), ..object } })
    }

    async fn list(&self, owner: &str) -> Result<Vec<InstanceFacts>, LedgerError> {
        let params = ListParams::default().fields(&format!("spec.owner={}", escape(owner)));
        let list = call("listing the instances of", self.instances.list(&params)).await?;
        Ok(list.items.into_iter().map(facts).collect())
    }

    async fn read(&self, owner: &str) -> Result<Option<WhatsAppOwner>, LedgerError> {
        call("reading", self.owners.get_opt(&object_name(owner))).await
    }

    /// Creates the owner's object; nothing when another replica was faster.
    async fn create(&self, owner: &str) -> Result<Option<WhatsAppOwner>, LedgerError> {
        let object = WhatsAppOwner::new(&object_name(owner), spec(owner));
        match call("creating", self.owners.create(&PostParams::default(), &object)).await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is(Status::is_already_exists) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, object: &WhatsAppOwner) -> Result<WhatsAppOwner, LedgerError> {
        call("writing", self.owners.replace_status(&object.name_any(), &PostParams::default(), object)).await
    }
}

/// An owner as it would be written.
#[derive(Clone)]
struct Draft {
    limit: u32,
    owner: WhatsAppOwner,
}

impl Draft {
    fn and_claim(mut self, owner: &str, claim: &Claim) -> Result<WhatsAppOwner, Denial> {
        let mut status = self.owner.status.take().unwrap_or_default();
        status.instances = reserve(owner, &status.instances, claim, self.limit, Timestamp::now())?;
        status.used = i64::try_from(rules::ledger::used(&status.instances)).unwrap_or(i64::MAX);
        status.max = i64::from(self.limit);
        self.owner.status = Some(status);
        Ok(self.owner)
    }
}

fn spec(owner: &str) -> WhatsAppOwnerSpec {
    WhatsAppOwnerSpec { owner: owner.to_owned(), max_instances: None }
}

/// Field selectors give `\`, `,` and `=` a meaning.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

/// What the rules need of an object as listed. One that cannot be read still takes its place.
fn facts(mut object: DynamicObject) -> InstanceFacts {
    object.types = Some(TypeMeta::resource::<WhatsAppInstance>());
    let unreadable = InstanceFacts {
        key: InstanceRef { namespace: object.namespace().unwrap_or_default(), name: object.name_any() },
        uid: object.uid().unwrap_or_default(),
        created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        name: ComparableName::of(object.data["spec"]["name"].as_str().unwrap_or_default()),
        accepted: false,
        connected: false,
        wish: None,
        terminating: object.metadata.deletion_timestamp.is_some(),
    };
    object.try_parse::<WhatsAppInstance>().map_or(unreadable, |instance| InstanceFacts::from(&instance))
}

async fn call<T>(doing: &'static str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LedgerError> {
    match timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|source| LedgerError::Api { doing, source: Box::new(source) }),
        Err(_) => Err(LedgerError::Timeout { doing }),
    }
}
