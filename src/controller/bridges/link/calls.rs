//! How many calls to a shard may be under way. One that hangs answers none of them, and each holds one of the [`WORKERS`] that every
//! other shard needs too.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::controller::WORKERS;

/// How many calls to all shards are under way. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct AllCalls(Arc<AtomicUsize>);

/// The calls to one shard.
#[derive(Debug)]
pub struct ShardCalls {
    own: AtomicUsize,
    all: AllCalls,
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub struct Call<'a>(&'a ShardCalls);

impl ShardCalls {
    /// Of a shard among those that `all` counts.
    pub fn among(all: AllCalls) -> Self {
        Self { own: AtomicUsize::default(), all }
    }

    /// Begins a call; none where the shard has its share already.
    pub fn begin(&self) -> Option<Call<'_>> {
        let own = self.own.fetch_add(1, Ordering::Relaxed);
        let all = self.all.0.fetch_add(1, Ordering::Relaxed);
        let call = Call(self);
        (own < share(all)).then_some(call)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.own.fetch_sub(1, Ordering::Relaxed);
        self.0.all.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many calls one shard may have while so many to all are under way: a third of the workers that are left, so that the more shards hang
/// the less each of them takes; and one as long as there is a worker left. (Dynamic thresholds, as switches share a buffer among their ports: Choudhury and Hahne, 1998.)
fn share(all: usize) -> usize {
    let left = usize::from(WORKERS).saturating_sub(all);
    (left / 3).max(left.min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_hang_leave_places_to_the_next() {
        let all = AllCalls::default();
        let shards: Vec<ShardCalls> = (0..12).map(|_| ShardCalls::among(all.clone())).collect();
        // Each in turn takes as many as it can, and none of them ends.
        let taken: Vec<Vec<Call<'_>>> =
            shards.iter().map(|shard| std::iter::from_fn(|| shard.begin()).collect()).collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [8, 6, 4, 3, 3, 2, 1, 1, 1, 1, 1, 1]);
        drop(taken);
        assert_eq!(all.0.load(Ordering::Relaxed), 0, "what was refused does not count");
        assert_eq!(std::iter::from_fn(|| shards[11].begin()).collect::<Vec<_>>().len(), 8);
    }
}
