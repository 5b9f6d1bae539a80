//! The owners: which of their instances are accepted, and which one is primary.
//!
//! One `WhatsAppOwner` each holds ledger and pointer. It is settled ([`settlement`]) by the pure rules whenever an
//! instance or the object itself changes; instances read their verdict from it, so that none is brought up before its
//! place is written down. Admission writes the same ledger: every write carries the resourceVersion it was computed from.
//! An instance without `spec.owner` belongs to nobody: no limit, no unique name, no primary.

mod settlement;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::ResourceExt;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{cache::Key, context::Context, facts::Standing, turns, watches::Change};
use crate::{
    api::{InstanceRef, WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerStatus, conditions},
    platform::{kubernetes::version, lock},
    rules::{Denial, InstanceFacts, Verdict, owner::object_name, verdict},
};

/// Owners settled at once.
const WORKERS: usize = 8;
/// How long a change of counts alone waits for company, so that a hundred connects are not a hundred writes.
const POSTPONEMENT: Duration = Duration::from_secs(1);
/// Failures in a row after which a deletion no longer waits for its owner's settlement.
const PATIENCE: u32 = 5;

/// What is known of every owner.
pub struct Owners {
    books: Mutex<HashMap<String, Book>>,
    wakes: mpsc::UnboundedSender<String>,
    /// The namespaces this operator looks after; all when empty.
    namespaces: Vec<String>,
    default_limit: u32,
}

/// One owner.
#[derive(Debug, Default)]
struct Book {
    members: HashSet<Key>,
    /// The newest version of the object that was watched or written.
    ledger: Option<Arc<WhatsAppOwner>>,
    /// The object under this owner's name belongs to somebody else.
    foreign: bool,
    /// Changes so far, and up to which of them the ledger is settled.
    seen: u64,
    settled: u64,
    /// Since when instances have changed in ways that only the counts show.
    counts_since: Option<Instant>,
    /// A settlement whose difference is not worth a write of its own.
    postponed: Option<Postponed>,
    failures: u32,
}

/// What a settlement found and left unwritten.
#[derive(Debug)]
struct Postponed {
    since: Instant,
    /// The version of the ledger it would have replaced.
    version: u64,
    status: WhatsAppOwnerStatus,
}

impl Book {
    fn is_settled(&self) -> bool {
        self.seen == self.settled
    }

    /// How long there is nothing to do but to wait for company. Ten instances that come up together change the counts twenty
    /// times, and each settlement looks at all ten.
    fn rest(&self) -> Option<Duration> {
        let since = self.counts_since.into_iter().chain(self.postponed.as_ref().map(|postponed| postponed.since)).min();
        since.and_then(left).filter(|_| self.is_settled())
    }

    /// Leaves a settlement of the ledger's version unwritten, and says for how long; not at all when what it found has waited
    /// long enough, counted from `since`.
    fn postpone(&mut self, version: u64, status: WhatsAppOwnerStatus, since: Option<Instant>) -> Option<Duration> {
        let before = self.postponed.as_ref().map(|postponed| postponed.since);
        let since = before.into_iter().chain(since).min().unwrap_or_else(Instant::now);
        self.postponed = Some(Postponed { since, version, status });
        left(since)
    }

    /// The ledger as it would be had nothing been postponed. What was found is not forgotten: above all that a reservation
    /// has come true, since otherwise the place of an instance deleted a moment later would look like one still to be
    /// filled. As soon as anybody else has written the ledger, only what is written counts, for that may be a new
    /// reservation for the same name; and if that is not seen yet, the write that follows fails by its version.
    fn status(&self) -> Option<&WhatsAppOwnerStatus> {
        let ledger = self.ledger.as_deref()?;
        let ahead = self.postponed.as_ref().filter(|postponed| postponed.version == version(ledger));
        ahead.map(|postponed| &postponed.status).or(ledger.status.as_ref())
    }
}

impl Owners {
    /// Owners nobody has told anything about yet, and what [`Owners::run`] listens to.
    pub fn new(namespaces: Vec<String>, default_limit: u32) -> (Arc<Self>, mpsc::UnboundedReceiver<String>) {
        let (wakes, woken) = mpsc::unbounded_channel();
        (Arc::new(Self { books: Mutex::default(), wakes, namespaces, default_limit }), woken)
    }

    /// Notes what the watch says of an instance, before anybody decides about it.
    pub fn instance_changed(&self, key: &Key, before: Option<&WhatsAppInstance>, after: Option<&WhatsAppInstance>) {
        if let (Some(before), Some(after)) = (before, after)
            && owner_of(before) == owner_of(after)
        {
            let (was, is) = (InstanceFacts::from(before), InstanceFacts::from(after));
            if was == is {
                return;
            }
            if changes_counts_only(was, is) {
                return self.counts_changed(owner_of(after));
            }
        }
        let mut books = lock(&self.books);
        let mut touch = |instance: &WhatsAppInstance, is_member: bool| {
            let Some(owner) = owner_of(instance) else { return };
            let book = books.entry(owner.to_owned()).or_default();
            if is_member {
                book.members.insert(Key::clone(key));
            } else {
                book.members.remove(key);
            }
            self.changed(owner, book);
        };
        let changes = before.map(|before| (before, false)).into_iter().chain(after.map(|after| (after, true)));
        for (instance, is_member) in changes {
            touch(instance, is_member);
        }
    }

    /// Notes what the watch says of an owner's object.
    pub fn object_changed(&self, before: Option<&WhatsAppOwner>, change: Change<WhatsAppOwner>) {
        match change {
            // Under any other name it is nobody's ledger.
            Change::Present(key, object) if key.name == object_name(&object.spec.owner) => self.learn(object),
            Change::Gone(_) => {
                if let Some(before) = before {
                    self.unlearn(&before.spec.owner, before.uid().as_deref());
                }
            }
            Change::Present(..) | Change::Listed => {}
        }
    }

    /// How an instance stands, and whether it is its owner's primary.
    pub fn standing(&self, instance: &WhatsAppInstance) -> (Standing, bool) {
        let Some(owner) = owner_of(instance) else { return (Standing::Accepted, false) };
        let shown = (Standing::Undecided, instance.status.as_ref().is_some_and(|status| status.primary));
        let books = lock(&self.books);
        let Some(book) = books.get(owner) else { return shown };
        if book.foreign {
            let stands = if InstanceFacts::from(instance).accepted { shown.0 } else { Standing::Waits(foreign(owner)) };
            return (stands, shown.1);
        }
        // A ledger that does not know of the latest change yet may speak of another object of this name.
        if !book.is_settled() {
            return shown;
        }
        let status = book.ledger.as_ref().and_then(|ledger| ledger.status.as_ref());
        let key = InstanceRef::of(instance);
        match verdict(owner, status, &key, &instance.spec.name) {
            None => shown,
            Some(Verdict::Accepted) => {
                (Standing::Accepted, status.and_then(|status| status.primary.as_ref()) == Some(&key))
            }
            Some(Verdict::Waits(denial)) => (Standing::Waits(denial), false),
        }
    }

    /// Whether the pointer is still to move away from an instance that is being deleted.
    pub fn hands_over(&self, instance: &WhatsAppInstance) -> bool {
        let books = lock(&self.books);
        let Some(book) = owner_of(instance).and_then(|owner| books.get(owner)) else { return false };
        let Some(status) = book.ledger.as_ref().and_then(|ledger| ledger.status.as_ref()) else { return false };
        let key = InstanceRef::of(instance);
        // The settlement under way says whether there is another one to point at; one that fails holds nothing up.
        status.primary.as_ref() == Some(&key) && !book.is_settled() && book.failures < PATIENCE
    }

    /// Settles owners as they change, until `stop`. Instances whose verdict or mirror is then out of date go to `queue`.
    pub async fn run(
        self: Arc<Self>,
        context: Arc<Context>,
        woken: mpsc::UnboundedReceiver<String>,
        queue: mpsc::UnboundedSender<Key>,
        stop: CancellationToken,
    ) {
        let desk = Arc::new(settlement::Desk { owners: self, context, queue });
        let turn = |owner: String| {
            let desk = Arc::clone(&desk);
            async move { desk.settle(&owner).await }
        };
        turns::give(woken, WORKERS, stop, turn).await;
    }

    fn counts_changed(&self, owner: Option<&str>) {
        let mut books = lock(&self.books);
        if let Some((owner, book)) = owner.and_then(|owner| Some((owner, books.get_mut(owner)?))) {
            book.counts_since.get_or_insert_with(Instant::now);
            // As below.
            let _ = self.wakes.send(owner.to_owned());
        }
    }

    fn changed(&self, owner: &str, book: &mut Book) {
        book.seen += 1;
        // Nobody listens only when the controller has ended.
        let _ = self.wakes.send(owner.to_owned());
    }

    /// Takes a version of an owner's object for the newest, unless a newer one is known.
    fn learn(&self, mut object: WhatsAppOwner) {
        object.metadata.managed_fields = None;
        let owner = object.spec.owner.clone();
        let mut books = lock(&self.books);
        let book = books.entry(owner.clone()).or_default();
        let known = book.ledger.as_deref();
        if known.is_some_and(|known| version(known) >= version(&object)) {
            return;
        }
        let same = known.is_some_and(|known| {
            known.uid() == object.uid() && known.spec == object.spec && known.status == object.status
        });
        book.ledger = Some(Arc::new(object));
        book.foreign = false;
        if !same {
            self.changed(&owner, book);
        }
    }

    /// Our own write, or a read that found another version than expected. Not a change of its own.
    fn record(&self, owner: &str, mut object: WhatsAppOwner) {
        object.metadata.managed_fields = None;
        let mut books = lock(&self.books);
        let book = books.entry(owner.to_owned()).or_default();
        if book.ledger.as_deref().is_none_or(|known| version(known) < version(&object)) {
            book.ledger = Some(Arc::new(object));
        }
        book.foreign = false;
    }

    /// The object of this uid is gone.
    fn unlearn(&self, owner: &str, uid: Option<&str>) {
        let mut books = lock(&self.books);
        let Some(book) = books.get_mut(owner) else { return };
        if book.ledger.as_ref().is_some_and(|known| known.uid().as_deref() == uid) {
            book.ledger = None;
            self.changed(owner, book);
        }
    }

    fn looks_after(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|known| known == namespace)
    }
}

/// How much of the postponement is left of something that has waited `since` then.
fn left(since: Instant) -> Option<Duration> {
    POSTPONEMENT.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
}

/// Whether no place, no name and no primary depends on the difference. What an instance shows of its place and of the primary it
/// was told by the ledger, and whether it is connected matters only to a wish.
fn changes_counts_only(was: InstanceFacts, is: InstanceFacts) -> bool {
    let shown = |facts: InstanceFacts| InstanceFacts { accepted: false, connected: false, primary: false, ..facts };
    is.wish.is_none() && shown(was) == shown(is)
}

/// Whose instance it is; nobody's without `spec.owner`.
pub fn owner_of(instance: &WhatsAppInstance) -> Option<&str> {
    instance.spec.owner.as_deref().filter(|owner| !owner.is_empty())
}

fn foreign(owner: &str) -> Denial {
    Denial::new(
        conditions::reason::OWNER_OBJECT_FOREIGN,
        409,
        format!(
            "WhatsAppOwner {:?}, where the instances of owner {owner:?} are counted, belongs to another owner; delete it, and the operator makes the right one",
            object_name(owner),
        ),
    )
}

#[cfg(test)]
mod tests;
