//! Answers that are kept for a while, a bounded number of them.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// Answers kept at most; about 200 bytes each and what is in them.
const MOST: usize = 10_000;

/// Answers, each until a time.
pub struct Remembered<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// The answer, while it counts.
    pub fn get(&self, key: &K, now: Instant) -> Option<&V> {
        let (answer, until) = self.0.get(key)?;
        (now < *until).then_some(answer)
    }

    /// Keeps an answer for so long.
    pub fn put(&mut self, key: K, answer: V, keep: Duration, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (_, until)| now < *until);
        }
        // Those that end soonest go first: garbage before people.
        if self.0.len() >= MOST {
            let mut ends: Vec<Instant> = self.0.values().map(|(_, until)| *until).collect();
            let (_, middle, _) = ends.select_nth_unstable(MOST / 10);
            let middle = *middle;
            self.0.retain(|_, (_, until)| *until > middle);
        }
        if self.0.len() < MOST {
            self.0.insert(key, (answer, now + keep));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_neither_grows_the_memory_nor_drives_people_out() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(30));
        remembered.put(0, "somebody", long, now);
        for n in 1..3 * MOST {
            remembered.put(n, "nobody", short, now + Duration::from_micros(n as u64));
        }
        assert!(remembered.0.len() <= MOST);
        assert_eq!(remembered.get(&0, now + Duration::from_secs(29)), Some(&"somebody"));
        assert!(remembered.get(&0, now + long).is_none());
    }
}
