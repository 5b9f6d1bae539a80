//! Which instances there are and where they are bound: the index from a session's id back to its object.

use std::{collections::HashMap, sync::Mutex};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::metrics::PhaseCounts;
use crate::{
    api::{BridgeBinding, Phase, WhatsAppInstance},
    platform::lock,
};

/// A reference to an instance, as the reconcile queue takes it.
pub type InstanceRef = ObjectRef<WhatsAppInstance>;

#[derive(Debug)]
struct Entry {
    reference: InstanceRef,
    binding: Option<BridgeBinding>,
    phase: Option<Phase>,
}

#[derive(Debug, Default)]
struct Entries {
    by_uid: HashMap<String, Entry>,
    bound: HashMap<BridgeBinding, usize>,
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

    /// Notes an instance as the watch or our own write shows it. Returns whether it was not known before.
    pub fn note(&self, instance: &WhatsAppInstance) -> bool {
        let Some(uid) = instance.uid() else { return false };
        let status = instance.status.as_ref();
        let (binding, phase) =
            (status.and_then(|status| status.bridge.clone()), status.and_then(|status| status.phase));
        let mut entries = lock(&self.entries);
        let entries = &mut *entries;
        let known = entries.by_uid.get(&uid);
        let fresh = known.is_none();
        // The watch may still show an object as it was before our own write: a binding, once made, stays.
        let binding = binding.or_else(|| known.and_then(|entry| entry.binding.clone()));
        let (old_binding, old_phase) = known.map_or((None, None), |entry| (entry.binding.clone(), entry.phase));
        if old_binding != binding {
            entries.count(old_binding.as_ref(), binding.as_ref());
        }
        self.phases.change(old_phase, phase);
        entries.by_uid.insert(uid, Entry { reference: reference(instance), binding, phase });
        fresh
    }

    /// Reserves a place for an instance on a shard, if it has fewer than `places` bound.
    pub fn reserve(&self, uid: &str, binding: &BridgeBinding, places: usize) -> bool {
        let mut entries = lock(&self.entries);
        let entries = &mut *entries;
        let bound = entries.bound.get(binding).copied().unwrap_or(0);
        match entries.by_uid.get_mut(uid) {
            Some(entry) if entry.binding.is_some() => entry.binding.as_ref() == Some(binding),
            Some(entry) if bound < places => {
                entry.binding = Some(binding.clone());
                entries.count(None, Some(binding));
                true
            }
            _ => false,
        }
    }

    /// Gives a reservation back that came to nothing.
    pub fn unreserve(&self, uid: &str) {
        let mut entries = lock(&self.entries);
        let taken = entries.by_uid.get_mut(uid).and_then(|entry| entry.binding.take());
        entries.count(taken.as_ref(), None);
    }

    /// Forgets a deleted instance.
    pub fn forget(&self, uid: &str) {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.by_uid.remove(uid) {
            entries.count(entry.binding.as_ref(), None);
            self.phases.change(entry.phase, None);
        }
    }

    /// The watch has shown every instance once.
    pub fn set_synced(&self) {
        lock(&self.entries).synced = true;
    }

    /// The instance a session belongs to, when it is bound to that very shard.
    pub fn claimant(&self, session_id: &str, shard: &BridgeBinding) -> Option<InstanceRef> {
        let entries = lock(&self.entries);
        let entry = entries.by_uid.get(session_id)?;
        (entry.binding.as_ref() == Some(shard)).then(|| entry.reference.clone())
    }

    /// How many of a shard's sessions no instance claims; `None` until every instance is known.
    pub fn unclaimed<'a>(&self, sessions: impl Iterator<Item = &'a String>, shard: &BridgeBinding) -> Option<usize> {
        let entries = lock(&self.entries);
        let claimed = |id: &String| entries.by_uid.get(id).is_some_and(|entry| entry.binding.as_ref() == Some(shard));
        entries.synced.then(|| sessions.filter(|id| !claimed(id)).count())
    }

    /// How many instances are bound to a shard.
    pub fn bound(&self, shard: &BridgeBinding) -> usize {
        lock(&self.entries).bound.get(shard).copied().unwrap_or(0)
    }

    /// The instances whose binding satisfies `which`.
    pub fn select(&self, which: impl Fn(&InstanceRef, Option<&BridgeBinding>) -> bool) -> Vec<InstanceRef> {
        let entries = lock(&self.entries);
        let chosen = entries.by_uid.values().filter(|entry| which(&entry.reference, entry.binding.as_ref()));
        chosen.map(|entry| entry.reference.clone()).collect()
    }
}

impl Entries {
    fn count(&mut self, from: Option<&BridgeBinding>, to: Option<&BridgeBinding>) {
        if let Some(from) = from
            && let Some(count) = self.bound.get_mut(from)
        {
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.bound.entry(to.clone()).or_default() += 1;
        }
    }
}

/// A reference without resourceVersion and uid, which would make equal references differ and cost memory.
pub fn reference(instance: &WhatsAppInstance) -> InstanceRef {
    let reference = ObjectRef::new(&instance.name_any());
    match instance.namespace() {
        Some(namespace) => reference.within(&namespace),
        None => reference,
    }
}
