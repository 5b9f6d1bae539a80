//! The owners' ledgers, as admission writes them: one status write per slot taken, with an optimistic lock.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams, PostParams},
    core::{ApiResource, Status},
};
use thiserror::Error;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    api::{
        LedgerEntry, WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerSpec, WhatsAppOwnerStatus, labels::FIELD_MANAGER,
    },
    model::NamespaceScope,
    platform::{
        kubernetes::{CallError, call, escape_selector, replace_status, version},
        lock,
        namespaces::standing_in_ledger,
        watch::Cache,
    },
    rules::{
        self, Denial, InstanceFacts,
        ledger::{SlotRequest, reserve},
        owner::object_name,
        settle, trust,
    },
};

/// One call to the API server; several of them fit into a review.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);
/// No write begins after this much of a review; together with the call it ends before the API server, which waits 5 s
/// and began to count before us, gives up.
const LATE: Duration = Duration::from_secs(2);
/// Between two tries when the API server is busy.
const PATIENCE: Duration = Duration::from_millis(50);
/// Namespaces that one check asks about at once. One after the other, two hundred would take longer than a review has.
const NAMESPACES_AT_ONCE: usize = 8;
/// Owners remembered between reviews. Forgetting one costs a read.
const REMEMBERED: usize = 4096;

/// Why a ledger could not be asked.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// So many others wanted the same ledger that it is too late to begin a write.
    #[error("the owner's ledger is too busy")]
    Late,
    /// The object under the owner's name belongs to another owner; it was put there by hand.
    #[error("WhatsAppOwner {0} belongs to another owner")]
    Foreign(String),
}

/// The owners' ledgers.
pub struct Ledgers {
    client: Client,
    owners: Api<WhatsAppOwner>,
    scope: NamespaceScope,
    cache: Option<Cache<WhatsAppOwner>>,
    default_limit: u32,
    remembered: std::sync::Mutex<HashMap<String, Arc<Mutex<Remembered>>>>,
}

/// What this process last saw of one owner. Reviews of one owner take turns on it.
#[derive(Default)]
struct Remembered {
    owner: Option<WhatsAppOwner>,
    /// When the check against what really exists began that last led to a refusal. It answers every review that had come
    /// in by then, so that a storm of refused requests costs one check, not one each.
    checked: Option<Instant>,
}

impl Ledgers {
    /// Ledgers reached through `client`, by a process that looks after the namespaces in `scope` and may not look into others. The cache
    /// saves reads where it is fresh and costs one where it is not; nothing else depends on it.
    pub fn new(client: Client, scope: NamespaceScope, cache: Option<Cache<WhatsAppOwner>>, default_limit: u32) -> Self {
        let owners = Api::all(client.clone());
        Self { client, owners, scope, cache, default_limit, remembered: std::sync::Mutex::default() }
    }

    /// What is known of the owner without asking: good for warnings, not for rules.
    pub fn glance(&self, owner: &str) -> Option<WhatsAppOwner> {
        let object = self.cache.as_ref()?.named(&object_name(owner)).filter(|object| object.spec.owner == owner)?;
        Some(Arc::unwrap_or_clone(object))
    }

    /// Reserves what `request` wants of the owner's ledger, for a review that came in at `arrived`. A dry run only asks.
    ///
    /// # Errors
    /// Outer: the ledger could not be asked. Inner: the refusal.
    pub async fn reserve(
        &self,
        owner: &str,
        request: &SlotRequest,
        dry_run: bool,
        arrived: Instant,
    ) -> Result<Result<(), Denial>, LedgerError> {
        let remembered = self.remembered(owner);
        let mut remembered = remembered.lock().await;
        let last = remembered.owner.take();
        let version = last.as_ref().and_then(WhatsAppOwner::resource_version);
        let mut known = self.newest(owner, last);
        // A check holds for the version it was made with.
        if known.as_ref().and_then(WhatsAppOwner::resource_version) != version {
            remembered.checked = None;
        }
        loop {
            let object = match known.take() {
                Some(object) => object,
                None => match self.obtain(owner, dry_run).await? {
                    Some(object) => object,
                    // Another replica was faster in creating it; read what it made.
                    None => continue,
                },
            };
            if object.spec.owner != owner {
                return Err(LedgerError::Foreign(object_name(owner)));
            }
            let granted = match self.answer(owner, request, object, &mut remembered, arrived).await? {
                Answer::Granted(granted) => granted,
                Answer::Refused(denial) => return Ok(Err(denial)),
                Answer::Gone => continue,
            };
            if dry_run {
                return Ok(Ok(()));
            }
            // The API server no longer waits for this review: a slot taken now would stay empty for a minute.
            if arrived.elapsed() > LATE {
                return Err(LedgerError::Late);
            }
            match self.write(&granted).await {
                Ok(mut written) => {
                    written.metadata.managed_fields = None;
                    remembered.owner = Some(written);
                    return Ok(Ok(()));
                }
                // Another replica or the controller was faster, or the object is gone: look again.
                Err(error) if error.is(Status::is_conflict) || error.is(Status::is_not_found) => {
                    remembered.checked = None;
                    known = self.read(owner).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The answer to a request. A yes is given by the copy of the ledger at hand, since the write that follows fails if it
    /// is out of date; a no only after a look at what exists.
    async fn answer(
        &self,
        owner: &str,
        request: &SlotRequest,
        mut object: WhatsAppOwner,
        remembered: &mut Remembered,
        arrived: Instant,
    ) -> Result<Answer, LedgerError> {
        let checked = Instant::now();
        if object.status.is_some() {
            match self.with_request(object.clone(), request) {
                Ok(granted) => return Ok(Answer::Granted(granted)),
                Err(denial) if remembered.checked.is_some_and(|checked| checked >= arrived) => {
                    remembered.owner = Some(object);
                    return Ok(Answer::Refused(denial));
                }
                Err(_) => {}
            }
            // The copy at hand may be behind. When it is not, it says more than the one just read: the check before this
            // one has noted in it which objects exist.
            let Some(read) = self.read(owner).await? else { return Ok(Answer::Gone) };
            if read.resource_version() != object.resource_version() {
                object = read;
            }
        }
        // Listed after the ledger was read, so that the list is at least as new.
        let facts = self.facts(owner, object.status.as_ref()).await?;
        object.status = Some(settle(object.status.as_ref(), &facts, self.limit(&object), Timestamp::now()).status);
        match self.with_request(object.clone(), request) {
            Ok(granted) => Ok(Answer::Granted(granted)),
            Err(denial) => {
                // Kept for the next reviews, unsaved: what they write is checked by its version.
                *remembered = Remembered { owner: Some(object), checked: Some(checked) };
                Ok(Answer::Refused(denial))
            }
        }
    }

    fn with_request(&self, mut object: WhatsAppOwner, request: &SlotRequest) -> Result<WhatsAppOwner, Denial> {
        let limit = self.limit(&object);
        let mut status = object.status.take().unwrap_or_default();
        status.instances = reserve(&object.spec.owner, &status.instances, request, limit, Timestamp::now())?;
        status.used = i64::try_from(rules::ledger::used(&status.instances)).unwrap_or(i64::MAX);
        status.max = i64::from(limit);
        object.status = Some(status);
        Ok(object)
    }

    fn limit(&self, owner: &WhatsAppOwner) -> u32 {
        rules::limit(owner.spec.max_instances, self.default_limit)
    }

    fn remembered(&self, owner: &str) -> Arc<Mutex<Remembered>> {
        let mut owners = lock(&self.remembered);
        if owners.len() >= REMEMBERED {
            owners.retain(|_, remembered| Arc::strong_count(remembered) > 1);
        }
        Arc::clone(owners.entry(owner.to_owned()).or_default())
    }

    /// The newer of what this process wrote last and what the watch has brought.
    fn newest(&self, owner: &str, remembered: Option<WhatsAppOwner>) -> Option<WhatsAppOwner> {
        let watched = self.glance(owner);
        // At the same version, the remembered one says more: a check may have noted in it which objects exist.
        let ahead = |own: &WhatsAppOwner| watched.as_ref().is_none_or(|watched| version(own) >= version(watched));
        remembered.filter(ahead).or(watched)
    }

    /// The owner's instances: what exists, and what the ledger says of those in namespaces that this process may not look into.
    async fn facts(&self, owner: &str, status: Option<&WhatsAppOwnerStatus>) -> Result<Vec<InstanceFacts>, CallError> {
        let NamespaceScope::Only(looked_after) = &self.scope else {
            let resource = ApiResource::erase::<WhatsAppInstance>(&());
            return self.list(owner, Api::all_with(self.client.clone(), &resource)).await;
        };
        let entries = status.map(|status| status.instances.as_slice()).unwrap_or_default();
        let elsewhere = entries.iter().map(|entry| &entry.namespace).filter(|name| !self.scope.includes(name));
        let elsewhere: BTreeSet<&String> = elsewhere.collect();
        let namespaces = looked_after.iter().chain(elsewhere);
        let facts: Vec<_> = namespaces.map(|namespace| self.facts_within(owner, namespace, entries)).collect();
        stream::iter(facts).buffered(NAMESPACES_AT_ONCE).try_concat().await
    }

    async fn facts_within(
        &self,
        owner: &str,
        namespace: &str,
        entries: &[LedgerEntry],
    ) -> Result<Vec<InstanceFacts>, CallError> {
        let refusal = if self.scope.includes(namespace) {
            let resource = ApiResource::erase::<WhatsAppInstance>(&());
            match self.list(owner, Api::namespaced_with(self.client.clone(), namespace, &resource)).await {
                Err(error) if error.is(Status::is_forbidden) => Some(error),
                answer => return answer,
            }
        } else {
            None
        };
        let standing = standing_in_ledger(&self.client, namespace, CALL_TIMEOUT).await;
        match (trust::unread(&self.scope, entries, namespace, standing), refusal) {
            (None, Some(refusal)) => Err(refusal),
            (facts, _) => Ok(facts.unwrap_or_default()),
        }
    }

    async fn list(&self, owner: &str, api: Api<DynamicObject>) -> Result<Vec<InstanceFacts>, CallError> {
        let params = ListParams::default().fields(&format!("spec.owner={}", escape_selector(owner)));
        let list = patient("list the owner's instances", || api.list(&params)).await?;
        Ok(list.items.into_iter().map(InstanceFacts::of_any).collect())
    }

    async fn read(&self, owner: &str) -> Result<Option<WhatsAppOwner>, CallError> {
        let name = object_name(owner);
        patient("read the owner's ledger", || self.owners.get_opt(&name)).await
    }

    /// The owner's object, created if there is none; nothing when another replica was faster. A dry run imagines it.
    async fn obtain(&self, owner: &str, dry_run: bool) -> Result<Option<WhatsAppOwner>, CallError> {
        if let Some(found) = self.read(owner).await? {
            return Ok(Some(found));
        }
        let spec = WhatsAppOwnerSpec { owner: owner.to_owned(), max_instances: None };
        let object = WhatsAppOwner::new(&object_name(owner), spec);
        if dry_run {
            return Ok(Some(object));
        }
        let params = PostParams::default();
        match patient("create the owner's ledger", || self.owners.create(&params, &object)).await {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.is(Status::is_already_exists) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, object: &WhatsAppOwner) -> Result<WhatsAppOwner, CallError> {
        patient("write the owner's ledger", || replace_status(&self.owners, object, &object.status, FIELD_MANAGER))
            .await
    }
}

/// What a ledger answers to a request.
enum Answer {
    /// Yes: the object as it is to be written.
    Granted(WhatsAppOwner),
    /// No, and that is checked.
    Refused(Denial),
    /// There is no ledger any more.
    Gone,
}

/// Makes a call, again when the API server asks for patience. A write made twice meets its own version the second time.
async fn patient<T, F>(doing: &'static str, request: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let busy = |error: &kube::Error| matches!(error, kube::Error::Api(status) if matches!(status.code, 429 | 503));
    let again = async {
        loop {
            match request().await {
                Err(error) if busy(&error) => sleep(PATIENCE).await,
                answer => return answer,
            }
        }
    };
    call(doing, CALL_TIMEOUT, again).await
}
