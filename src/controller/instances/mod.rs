//! The table of instances: what this process keeps of each one beside the object itself. One entry an instance, forgotten as
//! a whole when it is gone.
//!
//! It is also the index from a session's id back to its object, and counts what is bound to each shard.

mod bindings;
mod contests;
mod failures;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use self::failures::Failures;
pub use self::{bindings::Strays, failures::BridgeCall};
use super::{
    contest::Contest,
    decide::facts::Leaving,
    metrics::{PairingTimes, PhaseCounts, Wait, Waits},
};
use crate::{
    api::{BridgeBinding, InstanceRef, Phase, WhatsAppInstance},
    platform::{lock, watch::Key},
};

#[derive(Debug)]
struct Entry {
    key: Key,
    /// Since when this process has known it.
    known_since: Instant,
    binding: Option<Arc<BridgeBinding>>,
    /// The binding is only reserved: nothing has shown it recorded yet.
    reserved: bool,
    phase: Option<Phase>,
    /// What it waits for, and since when.
    wait: Option<(Wait, Instant)>,
    /// Since when it has shown a code; none once it is connected, or the window has passed.
    code_since: Option<Instant>,
    /// Since when this process has known that it is to go.
    leaving_since: Option<(Timestamp, Instant)>,
    /// Since it is to go, its bridge has shown that it had the session.
    bridge_had_session: bool,
    /// Nothing is left to do for its session: only its finalizer is still to be taken off.
    session_over: bool,
    /// What this process wrote of its status, and whether others write over that.
    contest: Contest,
    /// What has gone wrong, while something has. Boxed, since nearly always nothing has.
    failures: Option<Box<Failures>>,
}

impl Entry {
    /// Of an instance that this process sees for the first time.
    fn new(key: &Key, instance: &WhatsAppInstance) -> Self {
        Self {
            key: Key::clone(key),
            known_since: Instant::now(),
            binding: None,
            reserved: false,
            phase: None,
            wait: None,
            code_since: None,
            leaving_since: None,
            // What the bridge showed during a deletion that another process began is not known here.
            bridge_had_session: instance.metadata.deletion_timestamp.is_some(),
            session_over: false,
            contest: Contest::default(),
            failures: None,
        }
    }
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
    waits: Waits,
    pairings: PairingTimes,
}

impl Instances {
    /// An empty table that keeps `phases`, `waits` and `pairings` current.
    pub fn new(phases: PhaseCounts, waits: Waits, pairings: PairingTimes) -> Self {
        Self { entries: Mutex::default(), phases, waits, pairings }
    }

    /// Notes an instance as it is now. Returns whether it was not known before.
    pub fn note(&self, key: &Key, instance: &WhatsAppInstance) -> bool {
        let Some(uid) = instance.uid() else { return false };
        let mut entries = lock(&self.entries);
        let entries = &mut *entries;
        let status = instance.status.as_ref();
        let phase = status.and_then(|status| status.phase);
        let binding = status.and_then(|status| status.bridge.as_ref()).map(|binding| entries.shared(binding));
        entries.unfit.remove(key);
        let fresh = !entries.by_uid.contains_key(&uid);
        let entry = entries.by_uid.entry(uid).or_insert_with(|| Entry::new(key, instance));
        entry.code_since = self.code_since(fresh, entry.code_since, phase);
        self.phases.change(std::mem::replace(&mut entry.phase, phase), phase);
        let wait = phase.and_then(Wait::of).map(|wait| {
            let lasting = entry.wait.filter(|(before, _)| *before == wait);
            lasting.unwrap_or_else(|| (wait, Instant::now()))
        });
        self.waits.change(std::mem::replace(&mut entry.wait, wait), wait);
        // The watch may still show an object as it was before our own write: a binding, once made, stays.
        if let Some(binding) = binding {
            entry.reserved = false;
            let before = entry.binding.replace(Arc::clone(&binding));
            if before.as_ref() != Some(&binding) {
                entries.count(before.as_ref(), Some(&binding));
            }
        }
        fresh
    }

    /// Notes an instance that cannot be read, so that its session is not taken for one without an instance.
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
        self.waits.change(entry.wait, None);
        entry.binding.is_some()
    }

    /// For how long this process could have tried to delete the session of an instance that is to go: since `now`, when it is asked for
    /// the first time. The time at which the API server got the request does not count: no controller may have run then, and it is by
    /// another clock.
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
    pub fn note_bridge_had_session(&self, uid: &str) {
        if let Some(entry) = lock(&self.entries).by_uid.get_mut(uid) {
            entry.bridge_had_session = true;
        }
    }

    /// Whether it ever did, since the instance is to go.
    pub fn bridge_had_session(&self, uid: &str) -> bool {
        lock(&self.entries).by_uid.get(uid).is_some_and(|entry| entry.bridge_had_session)
    }

    /// The session of an instance that is to go is gone, or was given up.
    pub fn note_session_over(&self, uid: &str) {
        if let Some(entry) = lock(&self.entries).by_uid.get_mut(uid) {
            entry.session_over = true;
        }
    }

    /// Whether it is.
    pub fn is_session_over(&self, uid: &str) -> bool {
        lock(&self.entries).by_uid.get(uid).is_some_and(|entry| entry.session_over)
    }

    /// The watch has shown every instance once.
    pub fn set_synced(&self) {
        lock(&self.entries).synced = true;
    }

    /// The instances whose binding satisfies `which`.
    pub fn select(&self, which: impl Fn(&InstanceRef, Option<&BridgeBinding>) -> bool) -> Vec<Key> {
        let entries = lock(&self.entries);
        let chosen = entries.by_uid.values().filter(|entry| which(&entry.key, entry.binding.as_deref()));
        chosen.map(|entry| Key::clone(&entry.key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fixtures::{self, UID, key};

    pub(super) fn knowing(instance: &WhatsAppInstance) -> Instances {
        let instances = Instances::default();
        instances.note(&key(instance), instance);
        instances
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
}
