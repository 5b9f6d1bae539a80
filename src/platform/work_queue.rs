//! A deduplicating, delaying work queue: each key is worked on at most once at a time, and never later than the earliest
//! time asked for.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::Hash,
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// After work that panicked, which is a bug: not soon.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Works on every key that comes in, `workers` at once, each on a task of its own. `work` answers after how long the key is due
/// again by itself. Once told to `stop`, work that has begun is waited for, and none begins.
pub async fn run<K, T>(mut keys: UnboundedReceiver<K>, workers: usize, stop: CancellationToken, work: impl Fn(K) -> T)
where
    K: Clone + Ord + Hash,
    T: Future<Output = Option<Duration>> + Send + 'static,
{
    let (mut queue, mut running, mut whose) = (Queue::<K>::default(), JoinSet::new(), HashMap::new());
    loop {
        while running.len() < workers
            && !stop.is_cancelled()
            && let Some(key) = queue.begin(Instant::now())
        {
            whose.insert(running.spawn(work(key.clone())).id(), key);
        }
        if stop.is_cancelled() && running.is_empty() {
            return;
        }
        let next = queue.next().filter(|_| running.len() < workers && !stop.is_cancelled());
        tokio::select! {
            Some(key) = keys.recv() => queue.add(key, Instant::now()),
            Some(ended) = running.join_next_with_id() => {
                let (id, pause) = ended.unwrap_or_else(|panic| (panic.id(), Some(AFTER_PANIC)));
                if let Some(key) = whose.remove(&id) {
                    queue.end(key, pause.map(|pause| Instant::now() + pause));
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

/// Keys that are due at some time, and those being worked on.
#[derive(Debug)]
struct Queue<K> {
    due: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
    /// Those being worked on, and when they are due again.
    running: HashMap<K, Option<Instant>>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: HashMap::new(), running: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// Has a key due at `when`, or earlier if that was asked for before.
    fn add(&mut self, key: K, when: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(when, |again| again.min(when)));
            return;
        }
        match self.at.get(&key) {
            Some(at) if *at <= when => return,
            Some(at) => drop(self.due.remove(&(*at, key.clone()))),
            None => {}
        }
        self.at.insert(key.clone(), when);
        self.due.insert((when, key));
    }

    /// Begins the work on the first key that is due.
    fn begin(&mut self, now: Instant) -> Option<K> {
        if self.due.first()?.0 > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.at.remove(&key);
        self.running.insert(key.clone(), None);
        Some(key)
    }

    /// Ends the work on a key; `later`, if it is due again by itself.
    fn end(&mut self, key: K, later: Option<Instant>) {
        let again = self.running.remove(&key).flatten();
        if let Some(when) = again.into_iter().chain(later).min() {
            self.add(key, when);
        }
    }

    /// When the next key is due.
    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Queue;

    #[test]
    fn a_key_is_worked_on_once_at_a_time_and_none_is_lost() {
        let now = Instant::now();
        let mut queue = Queue::<String>::default();
        queue.add("alice".into(), now);
        queue.add("alice".into(), now);
        assert_eq!(queue.begin(now).as_deref(), Some("alice"));
        assert_eq!(queue.begin(now), None);
        queue.add("alice".into(), now);
        assert_eq!(queue.begin(now), None, "work on it has not ended");
        queue.end("alice".into(), None);
        assert_eq!(queue.begin(now).as_deref(), Some("alice"));
        queue.end("alice".into(), None);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn the_earliest_time_asked_for_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = Queue::<String>::default();
        queue.add("alice".into(), later);
        queue.add("bob".into(), later);
        assert_eq!(queue.begin(now), None);
        queue.add("bob".into(), now);
        queue.add("bob".into(), later);
        assert_eq!(queue.begin(now).as_deref(), Some("bob"));
        queue.end("bob".into(), Some(later));
        assert_eq!(queue.begin(now), None);
        assert_eq!((queue.begin(later).as_deref(), queue.begin(later).as_deref()), (Some("alice"), Some("bob")));
    }
}
