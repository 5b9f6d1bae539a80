//! The objects that were looked at last, unpacked.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Key, ObjectRef};

/// So many objects are kept unpacked. What belongs together is looked at together: an owner by each of their instances, an
/// instance by the settlement of its owner and by its own reconcile. A few kilobytes each.
const ROOM: usize = 64;

/// Objects as they are now; the oldest leaves first.
pub(super) struct Recent<K> {
    objects: HashMap<Key, Arc<K>>,
    order: VecDeque<Key>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K> Recent<K> {
    pub(super) fn get(&self, key: &ObjectRef) -> Option<Arc<K>> {
        self.objects.get(key).map(Arc::clone)
    }

    /// Takes an object in, or its newer version.
    pub(super) fn put(&mut self, key: &Key, object: Arc<K>) {
        if self.objects.insert(Key::clone(key), object).is_some() {
            return;
        }
        self.order.push_back(Key::clone(key));
        while self.order.len() > ROOM
            && let Some(oldest) = self.order.pop_front()
        {
            self.objects.remove(&oldest);
        }
    }

    /// Forgets an object that is gone. Its position in the order is kept until its turn comes.
    pub(super) fn forget(&mut self, key: &ObjectRef) {
        self.objects.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::new(ObjectRef { namespace: String::new(), name: n.to_string() })
    }

    #[test]
    fn the_newest_are_there_as_they_are_now_and_the_oldest_leave() {
        let mut recent = Recent::default();
        for n in 0..2 * ROOM {
            recent.put(&key(n), Arc::new(n));
        }
        recent.put(&key(2 * ROOM - 1), Arc::new(7));
        assert_eq!(recent.get(&key(2 * ROOM - 1)).as_deref(), Some(&7));
        assert_eq!(recent.get(&key(ROOM - 1)), None);
        assert_eq!(recent.objects.len(), ROOM);
        recent.forget(&key(ROOM));
        assert_eq!(recent.get(&key(ROOM)), None);
        (0..10 * ROOM).for_each(|n| recent.put(&key(n % 3), Arc::new(n)));
        assert!(recent.order.len() <= ROOM && recent.objects.len() <= ROOM);
    }
}
