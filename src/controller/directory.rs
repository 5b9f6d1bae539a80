//! Which instances there are and where they are bound: the index from a session's id back to its object.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kube::ResourceExt;

use super::{cache::Key, metrics::PhaseCounts};
use crate::{
    api::{BridgeBinding, InstanceRef, Phase, WhatsAppInstance},
    platform::lock,
};

#[derive(Debug)]
struct Entry {
    key: Key,
    binding: Option<Arc<BridgeBinding>>,
    /// The binding is only reserved: nothing has shown it recorded yet.
    reserved: bool,
    phase: Option<Phase>,
}

#[derive(Debug, Default)]
struct Entries {
    by_uid: HashMap<String, Entry>,
    /// How many are bound to each shard. Thousands of instances share the few names here.
    bound: HashMap<Arc<BridgeBinding>, usize>,
    synced: bool,
}

/// The index. Kept by the watch and, ahead of it, by our own writes.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Mutex<Entries>,
    phases: PhaseCounts,
}

impl Directory {
    /// An empty index that keeps `phases` current.
    pub fn new(phases: PhaseCounts) -> Self {
        Self { entries: Mutex::default(), phases }
    }

    /// Notes an instance as the watch shows it. Returns whether it was not known before.
    pub fn note(&self, key: &Key, instance: &WhatsAppInstance) -> bool {
        instance.uid().is_some_and(|uid| self.put(&mut lock(&self.entries), uid, key, instance))
    }

    /// Notes an instance as the answer to our own write shows it, and returns whether it is still there: the watch may
    /// have told of its end before the answer came, and nobody would ever take it off again.
    pub fn note_own(&self, instance: &WhatsAppInstance) -> bool {
        let Some(uid) = instance.uid() else { return false };
        let mut entries = lock(&self.entries);
        let known = entries.by_uid.get(&uid).map(|entry| Key::clone(&entry.key));
        if let Some(key) = &known {
            self.put(&mut entries, uid, key, instance);
        }
        known.is_some()
    }

    fn put(&self, entries: &mut Entries, uid: String, key: &Key, instance: &WhatsAppInstance) -> bool {
        let status = instance.status.as_ref();
        let (binding, phase) =
            (status.and_then(|status| status.bridge.as_ref()), status.and_then(|status| status.phase));
        let binding = binding.map(|binding| entries.shared(binding));
        let known = entries.by_uid.get(&uid);
        let fresh = known.is_none();
        // The watch may still show an object as it was before our own write: a binding, once made, stays.
        let reserved = binding.is_none() && known.is_some_and(|entry| entry.reserved);
        let binding = binding.or_else(|| known.and_then(|entry| entry.binding.clone()));
        let (old_binding, old_phase) = known.map_or((None, None), |entry| (entry.binding.clone(), entry.phase));
        if old_binding != binding {
            entries.count(old_binding.as_ref(), binding.as_ref());
        }
        self.phases.change(old_phase, phase);
        entries.by_uid.insert(uid, Entry { key: Key::clone(key), binding, reserved, phase });
        fresh
    }

    /// Whether there is such an instance.
    pub fn knows(&self, uid: &str) -> bool {
        lock(&self.entries).by_uid.contains_key(uid)
    }

    /// Reserves a place for an instance on a shard, if it has fewer than `places` bound.
    pub fn reserve(&self, uid: &str, binding: &BridgeBinding, places: usize) -> bool {
        let mut entries = lock(&self.entries);
        let entries = &mut *entries;
        let (binding, bound) = (&entries.shared(binding), entries.bound.get(binding).copied().unwrap_or(0));
        match entries.by_uid.get_mut(uid) {
            Some(entry) if entry.binding.is_some() => entry.binding.as_ref() == Some(binding),
            Some(entry) if bound < places => {
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

    /// Forgets a deleted instance. Returns whether that leaves a place on a shard free.
    pub fn forget(&self, uid: &str) -> bool {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.by_uid.remove(uid) else { return false };
        entries.count(entry.binding.as_ref(), None);
        self.phases.change(entry.phase, None);
        entry.binding.is_some()
    }

    /// The watch has shown every instance once.
    pub fn set_synced(&self) {
        lock(&self.entries).synced = true;
    }

    /// The instance a session belongs to, when it is bound to that very shard.
    pub fn claimant(&self, session_id: &str, shard: &BridgeBinding) -> Option<Key> {
        let entries = lock(&self.entries);
        let entry = entries.by_uid.get(session_id)?;
        (entry.binding.as_deref() == Some(shard)).then(|| Key::clone(&entry.key))
    }

    /// How many of a shard's sessions no instance claims; `None` until every instance is known.
    pub fn unclaimed<'a>(&self, sessions: impl Iterator<Item = &'a String>, shard: &BridgeBinding) -> Option<usize> {
        let entries = lock(&self.entries);
        let claimed = |id: &String| entries.by_uid.get(id).is_some_and(|entry| entry.binding.as_deref() == Some(shard));
        entries.synced.then(|| sessions.filter(|id| !claimed(id)).count())
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

    fn knowing(instance: &WhatsAppInstance) -> Directory {
        let directory = Directory::default();
        directory.note(&key(instance), instance);
        directory
    }

    #[test]
    fn the_answer_to_our_write_does_not_bring_a_deleted_instance_back() {
        let bound = fixtures::bound(Default::default());
        let directory = knowing(&bound);
        assert!(directory.note_own(&bound));
        assert!(directory.forget(UID), "its place is free");
        assert!(!directory.note_own(&bound));
        assert_eq!((directory.bound(&binding()), directory.claimant(UID, &binding())), (0, None));
    }

    #[test]
    fn a_reservation_is_given_back_unless_the_watch_has_shown_the_binding() {
        let directory = knowing(&fixtures::instance());
        assert!(directory.reserve(UID, &binding(), 1));
        directory.unreserve(UID);
        assert_eq!(directory.bound(&binding()), 0);
        assert!(!directory.forget(UID));
        let directory = knowing(&fixtures::instance());
        assert!(directory.reserve(UID, &binding(), 1));
        for shown in [fixtures::instance(), fixtures::bound(Default::default())] {
            directory.note(&key(&shown), &shown);
        }
        directory.unreserve(UID);
        assert_eq!(directory.bound(&binding()), 1);
        assert!(directory.claimant(UID, &binding()).is_some());
    }
}
