//! The table of instances: what this process keeps of each one beside the object itself. One entry an instance, forgotten as
//! a whole when it is gone.
//!
//! It is also the index from a session's id back to its object, and counts what is bound to each shard.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    decide::facts::Leaving,
    error::{InRow, ReconcileError},
    metrics::{PairingTimes, PhaseCounts},
};
use crate::{
    api::{BridgeBinding, InstanceRef, Phase, WhatsAppInstance},
    bridge_api::BridgeError,
    drivers,
    platform::{lock, watch::Key},
};

/// A connection that broke under a call is the link's to judge; calls alone must fail this often in a row to count.
const BRIEF_FAILURES: u32 = 3;

/// What is asked of a bridge for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeCall {
    /// To have a session as it is wanted.
    Put,
    /// To delete it.
    Delete,
}

/// Sessions of a shard that are not of instances bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// No instance has their uid, not even one that cannot be read.
    pub unclaimed: usize,
    /// Their instance is bound to another shard, or not yet bound.
    pub elsewhere: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// Since when this process has known it.
    known_since: Instant,
    binding: Option<Arc<BridgeBinding>>,
    /// The binding is only reserved: nothing has shown it recorded yet.
    reserved: bool,
    phase: Option<Phase>,
    /// Since when it has shown a code; none once it is connected, or the window has passed.
    code_since: Option<Instant>,
    /// Since when this process has known that it is to go.
    leaving_since: Option<(Timestamp, Instant)>,
    /// Since then its bridge has shown that it had the session.
    met: bool,
    /// What has gone wrong, while something has. Boxed, since nearly always nothing has.
    failures: Option<Box<Failures>>,
}

#[derive(Debug, Default)]
struct Failures {
    /// The last call to the bridge, if it failed: which, why, and how often in a row.
    failure: Option<(BridgeCall, BridgeError, u32)>,
    /// Reconciles that failed in a row.
    in_row: InRow,
}

#[derive(Debug, Default)]
struct Entries {
    by_uid: HashMap<String, Entry>,
    /// How many are bound to each shard. Thousands of instances share the few names here.
    bound: HashMap<Arc<BridgeBinding>, usize>,
    unfit: Unfit,
    synced: bool,
}

/// The uids of objects that this version cannot read, and so knows nothing else of.
#[derive(Debug, Default)]
struct Unfit {
    by_key: HashMap<Key, String>,
    uids: HashSet<String>,
}

impl Unfit {
    fn insert(&mut self, key: &Key, uid: String) {
        self.remove(key);
        self.uids.insert(uid.clone());
        self.by_key.insert(Key::clone(key), uid);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(uid) = self.by_key.remove(key) {
            self.uids.remove(&uid);
        }
    }

    fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

/// The table. Kept by the watch and, ahead of it, by our own writes.
#[derive(Debug, Default)]
pub struct Instances {
    entries: Mutex<Entries>,
    phases: PhaseCounts,
    pairings: PairingTimes,
}

impl Instances {
    /// An empty table that keeps `phases` and `pairings` current.
    pub fn new(phases: PhaseCounts, pairings: PairingTimes) -> Self {
        Self { entries: Mutex::default(), phases, pairings }
    }

    /// Notes an instance as it is now. Returns whether it was not known before.
    pub fn note(&self, key: &Key, instance: &WhatsAppInstance) -> bool {
        let Some(uid) = instance.uid() else { return false };
        let mut entries = lock(&self.entries);
        let status = instance.status.as_ref();
        let (binding, phase) =
            (status.and_then(|status| status.bridge.as_ref()), status.and_then(|status| status.phase));
        let binding = binding.map(|binding| entries.shared(binding));
        entries.unfit.remove(key);
        let known = entries.by_uid.remove(&uid);
        let fresh = known.is_none();
        let known_since = known.as_ref().map_or_else(Instant::now, |known| known.known_since);
        let (old_binding, reserved, old_phase, code_since, leaving_since, met, failures) = known
            .map(|it| (it.binding, it.reserved, it.phase, it.code_since, it.leaving_since, it.met, it.failures))
            .unwrap_or_default();
        let code_since = self.code_since(fresh, code_since, phase);
        // Of a deletion that another process began, nobody here knows what its bridge has shown.
        let met = met || (fresh && instance.metadata.deletion_timestamp.is_some());
        // The watch may still show an object as it was before our own write: a binding, once made, stays.
        let reserved = binding.is_none() && reserved;
        let binding = binding.or_else(|| old_binding.clone());
        if old_binding != binding {
            entries.count(old_binding.as_ref(), binding.as_ref());
        }
        self.phases.change(old_phase, phase);
        let key = Key::clone(key);
        let entry = Entry { key, known_since, binding, reserved, phase, code_since, leaving_since, met, failures };
        entries.by_uid.insert(uid, entry);
        fresh
    }

    /// Notes an instance that cannot be read: its session is not nobody's.
    pub fn note_unfit(&self, key: &Key, uid: Option<String>) {
        if let Some(uid) = uid {
            lock(&self.entries).unfit.insert(key, uid);
        }
    }

    /// One of this name is gone.
    pub fn forget_unfit(&self, key: &Key) {
        lock(&self.entries).unfit.remove(key);
    }

    /// Since when an instance has shown a code that comes to `phase` now; how long that took is noted when it is connected.
    /// Of one that showed its code before this process began nothing is known, and nothing is noted.
    fn code_since(&self, fresh: bool, since: Option<Instant>, phase: Option<Phase>) -> Option<Instant> {
        match phase {
            Some(Phase::AwaitingPairing) if !fresh => since.or_else(|| Some(Instant::now())),
            Some(Phase::Connecting | Phase::Reconnecting | Phase::AwaitingPasskey) => since,
            Some(Phase::Connected) => {
                if let Some(since) = since {
                    self.pairings.observe(since.elapsed());
                }
                None
            }
            _ => None,
        }
    }

    /// Drops everything kept about an instance that is gone. Returns whether that leaves capacity on a shard free.
    pub fn forget(&self, uid: &str) -> bool {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.by_uid.remove(uid) else { return false };
        entries.count(entry.binding.as_ref(), None);
        self.phases.change(entry.phase, None);
        entry.binding.is_some()
    }

    /// For how long this process could have tried to delete the session of an instance that is to go: since `now`, when it
    /// is asked for the first time. The API server knows when the deletion was asked for, which may be while nobody was
    /// here to carry it out, and by another clock.
    pub fn leaving(&self, uid: &str, now: Timestamp) -> Leaving {
        let mut entries = lock(&self.entries);
        let known = entries.by_uid.get_mut(uid).map(|entry| *entry.leaving_since.get_or_insert((now, Instant::now())));
        let (since, started) = known.unwrap_or_else(|| (now, Instant::now()));
        let lasted = SignedDuration::try_from(started.elapsed()).unwrap_or(SignedDuration::MAX);
        Leaving { since, lasted }
    }

    /// For how long this process has known an instance.
    pub fn known_for(&self, uid: &str) -> SignedDuration {
        let since = lock(&self.entries).by_uid.get(uid).map(|entry| entry.known_since);
        since.and_then(|since| SignedDuration::try_from(since.elapsed()).ok()).unwrap_or_default()
    }

    /// The bridge has shown that it had the session that it is to delete.
    pub fn met(&self, uid: &str) {
        if let Some(entry) = lock(&self.entries).by_uid.get_mut(uid) {
            entry.met = true;
        }
    }

    /// Whether it ever did, since the instance is to go.
    pub fn was_met(&self, uid: &str) -> bool {
        lock(&self.entries).by_uid.get(uid).is_some_and(|entry| entry.met)
    }

    /// The last call to the bridge of this kind, if it failed and that means something.
    pub fn failure(&self, uid: &str, call: BridgeCall) -> Option<BridgeError> {
        let entries = lock(&self.entries);
        let (which, error, times) = entries.by_uid.get(uid)?.failures.as_ref()?.failure.as_ref()?;
        (*which == call && (!error.may_be_brief() || *times >= BRIEF_FAILURES)).then(|| error.clone())
    }

    /// Notes how a call to the bridge went. One that ends after the instance is gone concerns nobody.
    pub fn called(&self, uid: &str, call: BridgeCall, failure: Option<BridgeError>) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.by_uid.get_mut(uid) else { return };
        match failure {
            Some(error) => {
                let failures = entry.failures.get_or_insert_default();
                let before = failures.failure.as_ref().filter(|(which, ..)| *which == call);
                let times = before.map_or(0, |(.., times)| *times).saturating_add(1);
                failures.failure = Some((call, error, times));
            }
            None => entry.change_failures(|failures| failures.failure = None),
        }
    }

    /// The pause before the next reconcile of an instance whose last one failed.
    pub fn pause(&self, uid: &str, error: &ReconcileError) -> Option<Duration> {
        let mut entries = lock(&self.entries);
        let entry = entries.by_uid.get_mut(uid)?;
        Some(entry.failures.get_or_insert_default().in_row.pause(error))
    }

    /// A reconcile went well.
    pub fn is_fine(&self, uid: &str) {
        if let Some(entry) = lock(&self.entries).by_uid.get_mut(uid) {
            entry.change_failures(|failures| failures.in_row = InRow::default());
        }
    }

    /// Reserves capacity on a shard for an instance, if it has fewer than `capacity` bound.
    pub fn reserve(&self, uid: &str, binding: &BridgeBinding, capacity: usize) -> bool {
        let mut entries = lock(&self.entries);
        let entries = &mut *entries;
        let (binding, bound) = (&entries.shared(binding), entries.bound.get(binding).copied().unwrap_or(0));
        match entries.by_uid.get_mut(uid) {
            Some(entry) if entry.binding.is_some() => entry.binding.as_ref() == Some(binding),
            Some(entry) if bound < capacity => {
                (entry.binding, entry.reserved) = (Some(Arc::clone(binding)), true);
                entries.count(None, Some(binding));
                true
            }
            _ => false,
        }
    }

    /// Gives a reservation back that came to nothing, as far as we know: a write whose answer got lost may have been seen
    /// by the watch, and then the binding stands.
    pub fn unreserve(&self, uid: &str) {
        let mut entries = lock(&self.entries);
        let reserved = entries.by_uid.get_mut(uid).filter(|entry| entry.reserved);
        let taken = reserved.and_then(|entry| {
            entry.reserved = false;
            entry.binding.take()
        });
        entries.count(taken.as_ref(), None);
    }

    /// Where an instance is bound to, as far as this process knows: a binding, once made, stays.
    pub fn binding(&self, uid: &str) -> Option<BridgeBinding> {
        lock(&self.entries).by_uid.get(uid)?.binding.as_deref().cloned()
    }

    /// The watch has shown every instance once.
    pub fn set_synced(&self) {
        lock(&self.entries).synced = true;
    }

    /// The instance of this uid, when it is bound to that very shard.
    pub fn claimant(&self, uid: &str, shard: &BridgeBinding) -> Option<Key> {
        let entries = lock(&self.entries);
        let entry = entries.by_uid.get(uid)?;
        (entry.binding.as_deref() == Some(shard)).then(|| Key::clone(&entry.key))
    }

    /// Which of a shard's sessions are not of instances bound to it; `None` until every instance is known.
    pub fn strays<'a>(&self, sessions: impl Iterator<Item = &'a String>, shard: &BridgeBinding) -> Option<Strays> {
        let entries = lock(&self.entries);
        let mut strays = Strays::default();
        for id in sessions {
            let uid = drivers::instance_uid(id);
            match entries.by_uid.get(uid).map(|entry| entry.binding.as_deref()) {
                None if entries.unfit.has(uid) => {}
                None => strays.unclaimed += 1,
                Some(bound) if bound != Some(shard) => strays.elsewhere += 1,
                Some(_) => {}
            }
        }
        entries.synced.then_some(strays)
    }

    /// How many instances are bound to a shard.
    pub fn bound(&self, shard: &BridgeBinding) -> usize {
        lock(&self.entries).bound.get(shard).copied().unwrap_or(0)
    }

    /// The instances whose binding satisfies `which`.
    pub fn select(&self, which: impl Fn(&InstanceRef, Option<&BridgeBinding>) -> bool) -> Vec<Key> {
        let entries = lock(&self.entries);
        let chosen = entries.by_uid.values().filter(|entry| which(&entry.key, entry.binding.as_deref()));
        chosen.map(|entry| Key::clone(&entry.key)).collect()
    }
}

impl Entry {
    fn change_failures(&mut self, change: impl FnOnce(&mut Failures)) {
        if let Some(failures) = &mut self.failures {
            change(failures);
            if failures.failure.is_none() && failures.in_row == InRow::default() {
                self.failures = None;
            }
        }
    }
}

impl Entries {
    fn shared(&self, binding: &BridgeBinding) -> Arc<BridgeBinding> {
        let known = self.bound.get_key_value(binding).map(|(known, _)| Arc::clone(known));
        known.unwrap_or_else(|| Arc::new(binding.clone()))
    }

    fn count(&mut self, from: Option<&Arc<BridgeBinding>>, to: Option<&Arc<BridgeBinding>>) {
        if let Some(from) = from
            && let Some(count) = self.bound.get_mut(from)
        {
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.bound.entry(Arc::clone(to)).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fixtures::{self, UID, binding, key};

    fn knowing(instance: &WhatsAppInstance) -> Instances {
        let instances = Instances::default();
        instances.note(&key(instance), instance);
        instances
    }

    #[test]
    fn a_reservation_is_given_back_unless_the_watch_has_shown_the_binding() {
        let instances = knowing(&fixtures::instance());
        assert!(instances.reserve(UID, &binding(), 1));
        instances.unreserve(UID);
        assert_eq!(instances.bound(&binding()), 0);
        assert!(!instances.forget(UID));
        let instances = knowing(&fixtures::instance());
        assert!(instances.reserve(UID, &binding(), 1));
        for shown in [fixtures::instance(), fixtures::bound(Default::default())] {
            instances.note(&key(&shown), &shown);
        }
        instances.unreserve(UID);
        assert_eq!(instances.bound(&binding()), 1);
        assert!(instances.claimant(UID, &binding()).is_some());
    }

    #[test]
    fn patience_with_a_deletion_counts_from_when_this_process_could_first_try() {
        let mut going = fixtures::bound(Default::default());
        let now = fixtures::now();
        let asked_for = now - jiff::SignedDuration::from_hours(24);
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(asked_for));
        let instances = knowing(&going);
        assert_eq!(instances.leaving(UID, now).since, now);
        instances.note(&key(&going), &going);
        // The clock was set, or the machine slept: no time in which anything could have been tried.
        let later = instances.leaving(UID, now + jiff::SignedDuration::from_hours(1));
        assert_eq!(later.since, now, "it starts anew with every look");
        assert!(later.lasted < jiff::SignedDuration::from_mins(10), "{later:?}");
    }

    #[test]
    fn a_failed_call_is_told_from_one_of_the_other_kind_and_forgotten_with_the_instance() {
        let instances = knowing(&fixtures::instance());
        instances.called(UID, BridgeCall::Put, Some(BridgeError::Unauthorized));
        assert_eq!(instances.failure(UID, BridgeCall::Put), Some(BridgeError::Unauthorized));
        assert_eq!(instances.failure(UID, BridgeCall::Delete), None);
        // What the watch shows of it changes nothing about that.
        instances.note(&key(&fixtures::instance()), &fixtures::instance());
        assert!(instances.failure(UID, BridgeCall::Put).is_some());
        instances.called(UID, BridgeCall::Put, None);
        assert_eq!(instances.failure(UID, BridgeCall::Put), None);

        instances.forget(UID);
        // A call that ends after its instance leaves nothing behind for one to come.
        instances.called(UID, BridgeCall::Delete, Some(BridgeError::Unauthorized));
        instances.note(&key(&fixtures::instance()), &fixtures::instance());
        assert_eq!(instances.failure(UID, BridgeCall::Delete), None);
    }

    #[test]
    fn a_connection_that_broke_under_a_call_counts_from_the_third_time_on() {
        let instances = knowing(&fixtures::instance());
        for expected in [false, false, true] {
            instances.called(UID, BridgeCall::Put, Some(BridgeError::TimedOut));
            assert_eq!(instances.failure(UID, BridgeCall::Put).is_some(), expected);
        }
    }

    #[test]
    fn a_session_whose_instance_is_bound_elsewhere_is_not_called_nobodys() {
        let instances = knowing(&fixtures::bound(Default::default()));
        let sessions = [UID.to_owned(), "nobodys".to_owned()];
        assert_eq!(instances.strays(sessions.iter(), &binding()), None, "not every instance is known");
        instances.set_synced();
        assert_eq!(instances.strays(sessions.iter(), &binding()), Some(Strays { unclaimed: 1, elsewhere: 0 }));
        let unread = fixtures::named("team", "unread");
        instances.note_unfit(&unread, Some("nobodys".into()));
        assert_eq!(instances.strays(sessions.iter(), &binding()), Some(Strays::default()), "it only cannot be read");
        // An object of the same name, made after that one was deleted.
        instances.note_unfit(&unread, Some("another".into()));
        assert_eq!(instances.strays(sessions.iter(), &binding()), Some(Strays { unclaimed: 1, elsewhere: 0 }));
        instances.forget_unfit(&unread);
        let renamed = BridgeBinding { name: "renamed".into(), ..binding() };
        assert_eq!(instances.strays(sessions.iter(), &renamed), Some(Strays { unclaimed: 1, elsewhere: 1 }));
    }

    #[test]
    fn an_instance_that_is_gone_has_no_pause() {
        let instances = knowing(&fixtures::instance());
        assert!(instances.pause(UID, &ReconcileError::TimedOut).is_some());
        instances.forget(UID);
        assert_eq!(instances.pause(UID, &ReconcileError::TimedOut), None);
    }
}
