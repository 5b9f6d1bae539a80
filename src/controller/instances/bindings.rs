//! Which shard each instance is bound to, and which of a shard's sessions are of instances bound to it.

use std::sync::Arc;

use super::{Entries, Instances};
use crate::{
    api::BridgeBinding,
    drivers,
    platform::{lock, watch::Key},
};

/// Sessions of a shard that are not of instances bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// No instance has their uid, not even one that cannot be read.
    pub unclaimed: usize,
    /// Their instance is bound to another shard, or not yet bound.
    pub elsewhere: usize,
}

impl Instances {
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

    /// Gives back a reservation whose binding could not be recorded, as far as we know: a write whose answer got lost may have been
    /// seen by the watch, and then the binding stays.
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

    /// Whether there is an instance of this uid, be it one that cannot be read.
    pub fn knows(&self, uid: &str) -> bool {
        let entries = lock(&self.entries);
        entries.by_uid.contains_key(uid) || entries.unfit.has(uid)
    }

    /// How many instances are bound to a shard.
    pub fn bound(&self, shard: &BridgeBinding) -> usize {
        lock(&self.entries).bound.get(shard).copied().unwrap_or(0)
    }
}

impl Entries {
    pub(super) fn shared(&self, binding: &BridgeBinding) -> Arc<BridgeBinding> {
        let known = self.bound.get_key_value(binding).map(|(known, _)| Arc::clone(known));
        known.unwrap_or_else(|| Arc::new(binding.clone()))
    }

    pub(super) fn count(&mut self, from: Option<&Arc<BridgeBinding>>, to: Option<&Arc<BridgeBinding>>) {
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
    use crate::controller::{
        fixtures::{self, UID, binding, key},
        instances::tests::knowing,
    };

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
}
