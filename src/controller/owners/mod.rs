//! The owners: which of their instances are accepted, and which one is primary.
//!
//! One `WhatsAppOwner` each holds ledger and pointer. It is settled ([`settler`]) by the pure rules whenever an instance or
//! the object itself changes; instances read from it what the rules say of them, so that none is brought up before its
//! slot is written down. Admission writes the same ledger: every write carries the resourceVersion it was computed from.
//! The objects are kept once, in the cache that admission uses too. An instance without `spec.owner` has no
//! limit, no unique name and no primary.

mod settler;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::ResourceExt;
use tokio::{sync::mpsc, time::Instant};

pub use self::settler::OwnerSettler;
use super::{decide::facts::Acceptance, metrics::OwnerCounts};
use crate::{
    api::{InstanceRef, WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerStatus, conditions},
    model::NamespaceScope,
    platform::{
        kubernetes::version,
        lock,
        watch::{Cache, Change, Key},
    },
    rules::{Decision, Denial, InstanceFacts, decision, owner::object_name},
};

/// How long a change of counts alone waits for company, so that a hundred connects are not a hundred writes.
const POSTPONEMENT: Duration = Duration::from_secs(1);
/// Failures in a row after which a deletion no longer waits for its owner's settlement.
const PATIENCE: u32 = 5;

/// What is known of every owner.
pub struct Owners {
    states: Mutex<HashMap<String, OwnerState>>,
    /// Their objects: the newest version that was watched or written.
    objects: Cache<WhatsAppOwner>,
    wakes: mpsc::UnboundedSender<String>,
    /// The namespaces this operator looks after.
    scope: NamespaceScope,
    default_limit: u32,
    /// Told of every version of an object that is seen first, by whichever way.
    counts: OwnerCounts,
}

/// What is known of one owner beside their object.
#[derive(Debug, Default)]
struct OwnerState {
    members: HashSet<Key>,
    /// The version of the object that the rest of this is about; none while there is no object.
    version: Option<u64>,
    /// The object under this owner's name belongs to another owner.
    foreign: bool,
    /// Changes so far, and up to which of them the ledger is settled.
    seen: u64,
    settled: u64,
    /// Since when instances have changed in ways that only the counts show.
    counts_since: Option<Instant>,
    /// A settlement whose difference is not worth a write of its own.
    postponed: Option<Postponed>,
    failures: u32,
    /// Why the last settlement failed, if it did.
    trouble: Option<String>,
}

/// What a settlement found and left unwritten.
#[derive(Debug)]
struct Postponed {
    since: Instant,
    /// The version of the ledger it would have replaced.
    version: u64,
    status: WhatsAppOwnerStatus,
}

impl OwnerState {
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

    /// The status of the ledger `object` as it would be had nothing been postponed. What was found is not forgotten: above
    /// all that a reservation has come true, since otherwise the slot of an instance deleted a moment later would look like
    /// one still to be filled. As soon as anybody else has written the ledger, only what is written counts, for that may be a
    /// new reservation for the same name; and if that is not seen yet, the write that follows fails by its version.
    fn status<'a>(&'a self, object: &'a WhatsAppOwner) -> Option<&'a WhatsAppOwnerStatus> {
        let ahead = self.postponed.as_ref().filter(|postponed| postponed.version == version(object));
        ahead.map(|postponed| &postponed.status).or(object.status.as_ref())
    }
}

impl Owners {
    /// An empty table of owners, whose objects are in `objects`; and the queue of owners to be settled, for
    /// [`OwnerSettler::run`].
    pub fn new(
        objects: Cache<WhatsAppOwner>,
        scope: NamespaceScope,
        default_limit: u32,
        counts: OwnerCounts,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<String>) {
        let (wakes, woken) = mpsc::unbounded_channel();
        (Arc::new(Self { states: Mutex::default(), objects, wakes, scope, default_limit, counts }), woken)
    }

    /// Notes what the watch says of an instance, before anybody decides about it.
    pub fn instance_changed(&self, key: &Key, before: Option<&WhatsAppInstance>, after: Option<&WhatsAppInstance>) {
        if let (Some(before), Some(after)) = (before, after)
            && before.owner() == after.owner()
        {
            let (was, is) = (InstanceFacts::from(before), InstanceFacts::from(after));
            if was == is {
                return;
            }
            if changes_counts_only(was, is) {
                return self.counts_changed(after.owner());
            }
        }
        let mut states = lock(&self.states);
        let mut touch = |instance: &WhatsAppInstance, is_member: bool| {
            let Some(owner) = instance.owner() else { return };
            let state = states.entry(owner.to_owned()).or_default();
            if is_member {
                state.members.insert(Key::clone(key));
            } else {
                state.members.remove(key);
            }
            self.changed(owner, state);
        };
        let changes = before.map(|before| (before, false)).into_iter().chain(after.map(|after| (after, true)));
        for (instance, is_member) in changes {
            touch(instance, is_member);
        }
    }

    /// Notes what the watch says of an owner's object.
    pub fn object_changed(&self, before: Option<&WhatsAppOwner>, change: Change<WhatsAppOwner>) {
        match &change {
            Change::Present(_, after) => self.counts.change(before, Some(after)),
            Change::Gone(_) => self.counts.change(before, None),
            Change::Unfit(..) | Change::Listing | Change::Listed => {}
        }
        match change {
            // An object under any other name is no owner's ledger.
            Change::Present(key, object) if key.name == object_name(&object.spec.owner) => {
                self.seen_by_watch(before, &object);
            }
            Change::Gone(key) => {
                if let Some(before) = before.filter(|before| key.name == object_name(&before.spec.owner)) {
                    self.gone(&before.spec.owner);
                }
            }
            Change::Present(..) | Change::Unfit(..) | Change::Listing | Change::Listed => {}
        }
    }

    /// What the ledger says of an instance, and whether it is its owner's primary.
    pub fn acceptance(&self, instance: &WhatsAppInstance) -> (Acceptance, bool) {
        instance.owner().map_or((Acceptance::Accepted, false), |owner| self.ledger(owner).acceptance(instance))
    }

    /// Why the ledger of an instance's owner could not be settled, while that is so.
    pub fn trouble(&self, instance: &WhatsAppInstance) -> Option<String> {
        lock(&self.states).get(instance.owner()?)?.trouble.clone()
    }

    /// The ledger of an owner as far as instances may be judged by it now.
    fn ledger<'a>(&self, owner: &'a str) -> LedgerView<'a> {
        let (foreign, settled) = {
            let states = lock(&self.states);
            let state = states.get(owner);
            let settled = state.filter(|state| state.is_settled()).and_then(|state| state.version);
            (state.is_some_and(|state| state.foreign), settled)
        };
        // A ledger that does not know of the latest change yet may speak of another object of an instance's name.
        let object = settled.and_then(|settled| self.object(owner).filter(|object| version(&**object) == settled));
        LedgerView { owner, foreign, object }
    }

    /// Whether the pointer is still to move away from an instance that is being deleted.
    pub fn is_handing_over_primary(&self, instance: &WhatsAppInstance) -> bool {
        let Some(owner) = instance.owner() else { return false };
        // The settlement under way says whether there is another one to point at; one that fails holds nothing up.
        let under_way = |state: &OwnerState| !state.is_settled() && state.failures < PATIENCE;
        if !lock(&self.states).get(owner).is_some_and(under_way) {
            return false;
        }
        let object = self.object(owner);
        let primary = object.as_ref().and_then(|object| object.status.as_ref()?.primary.as_ref());
        primary == Some(&InstanceRef::of(instance))
    }

    /// The owner's object, if there is one that is theirs.
    fn object(&self, owner: &str) -> Option<Arc<WhatsAppOwner>> {
        self.objects.named(&object_name(owner)).filter(|object| object.spec.owner == owner)
    }

    fn counts_changed(&self, owner: Option<&str>) {
        let mut states = lock(&self.states);
        if let Some((owner, state)) = owner.and_then(|owner| Some((owner, states.get_mut(owner)?))) {
            state.counts_since.get_or_insert_with(Instant::now);
            // As below.
            let _ = self.wakes.send(owner.to_owned());
        }
    }

    fn changed(&self, owner: &str, state: &mut OwnerState) {
        state.seen += 1;
        // The receiver is gone only when the controller has ended.
        let _ = self.wakes.send(owner.to_owned());
    }

    /// The watch shows a version of an owner's object.
    fn seen_by_watch(&self, before: Option<&WhatsAppOwner>, object: &WhatsAppOwner) {
        let same = before.is_some_and(|before| {
            before.uid() == object.uid() && before.spec == object.spec && before.status == object.status
        });
        let owner = &object.spec.owner;
        let mut states = lock(&self.states);
        let state = states.entry(owner.clone()).or_default();
        let known = state.version.replace(version(object));
        state.foreign = false;
        if !same || known.is_none() {
            self.changed(owner, state);
        }
    }

    /// Our own write, or a read that found another version than expected. Not a change of its own.
    fn learned(&self, owner: &str, object: WhatsAppOwner) {
        if let Some((before, after)) = self.objects.keep_newer(object) {
            self.counts.change(before.as_deref(), Some(&after));
        }
        let newest = self.object(owner).map(|object| version(&*object));
        let mut states = lock(&self.states);
        let state = states.entry(owner.to_owned()).or_default();
        (state.version, state.foreign) = (newest, false);
    }

    /// A call of ours found that the object is gone.
    fn learned_gone(&self, object: &WhatsAppOwner) {
        if let Some(gone) = self.objects.drop_gone(object) {
            self.counts.change(Some(&gone), None);
        }
        if self.object(&object.spec.owner).is_none() {
            self.gone(&object.spec.owner);
        }
    }

    fn gone(&self, owner: &str) {
        if let Some(state) = lock(&self.states).get_mut(owner)
            && state.version.take().is_some()
        {
            self.changed(owner, state);
        }
    }
}

/// What the instances of one owner can learn from its ledger now.
struct LedgerView<'a> {
    owner: &'a str,
    /// The object under this owner's name belongs to another owner.
    foreign: bool,
    /// The ledger; none while it is not settled.
    object: Option<Arc<WhatsAppOwner>>,
}

impl LedgerView<'_> {
    /// What the ledger says of an instance, and whether it is its owner's primary.
    fn acceptance(&self, instance: &WhatsAppInstance) -> (Acceptance, bool) {
        let shown = (Acceptance::Undecided, instance.status.as_ref().is_some_and(|status| status.primary));
        if self.foreign {
            let accepted = InstanceFacts::from(instance).accepted;
            return (if accepted { shown.0 } else { Acceptance::Waiting(is_foreign(self.owner)) }, shown.1);
        }
        let Some(status) = self.object.as_ref().and_then(|object| object.status.as_ref()) else { return shown };
        let key = InstanceRef::of(instance);
        match decision(self.owner, Some(status), &key, &instance.spec.name) {
            None => shown,
            Some(Decision::Accepted) => (Acceptance::Accepted, status.primary.as_ref() == Some(&key)),
            Some(Decision::Waiting(denial)) => (Acceptance::Waiting(denial), false),
        }
    }
}

/// How much of the postponement is left of something that has waited `since` then.
fn left(since: Instant) -> Option<Duration> {
    POSTPONEMENT.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
}

/// Whether no slot, no name and no primary depends on the difference. What an instance shows of its slot and of the primary comes
/// from the ledger, and whether it is connected matters only to a wish.
fn changes_counts_only(was: InstanceFacts, is: InstanceFacts) -> bool {
    let shown = |facts: InstanceFacts| InstanceFacts { accepted: false, connected: false, primary: false, ..facts };
    is.wish.is_none() && shown(was) == shown(is)
}

fn is_foreign(owner: &str) -> Denial {
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
