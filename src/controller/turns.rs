//! Whose turn it is: each key at most once at a time, and never later than the earliest time asked for.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::Hash,
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// After a turn that panicked, which is a bug: not soon.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Gives a turn to whoever is woken, `workers` at once, each on a task of its own. A turn answers in how long the key is to
/// have another one without being woken. Once told to `stop`, turns that have begun are waited for, and none begins.
pub async fn give<K, T>(mut woken: UnboundedReceiver<K>, workers: usize, stop: CancellationToken, turn: impl Fn(K) -> T)
where
    K: Clone + Ord + Hash,
    T: Future<Output = Option<Duration>> + Send + 'static,
{
    let (mut turns, mut running, mut whose) = (Turns::<K>::default(), JoinSet::new(), HashMap::new());
    loop {
        while running.len() < workers
            && !stop.is_cancelled()
            && let Some(key) = turns.begin(Instant::now())
        {
            whose.insert(running.spawn(turn(key.clone())).id(), key);
        }
        if stop.is_cancelled() && running.is_empty() {
            return;
        }
        let next = turns.next().filter(|_| running.len() < workers && !stop.is_cancelled());
        tokio::select! {
            Some(key) = woken.recv() => turns.wake(key, Instant::now()),
            Some(ended) = running.join_next_with_id() => {
                let (id, pause) = ended.unwrap_or_else(|panic| (panic.id(), Some(AFTER_PANIC)));
                if let Some(key) = whose.remove(&id) {
                    turns.end(key, pause.map(|pause| Instant::now() + pause));
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

/// Keys waiting for their turn, and those who have it.
#[derive(Debug)]
struct Turns<K> {
    due: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
    /// Those whose turn it is, and when they want another one.
    running: HashMap<K, Option<Instant>>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: HashMap::new(), running: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Turns<K> {
    /// Asks for a turn at `when`, or earlier if that was asked for before.
    fn wake(&mut self, key: K, when: Instant) {
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

    /// Begins the turn of the first key that is due.
    fn begin(&mut self, now: Instant) -> Option<K> {
        if self.due.first()?.0 > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.at.remove(&key);
        self.running.insert(key.clone(), None);
        Some(key)
    }

    /// Ends a turn; `later`, if the key is to have another one by itself.
    fn end(&mut self, key: K, later: Option<Instant>) {
        let again = self.running.remove(&key).flatten();
        if let Some(when) = again.into_iter().chain(later).min() {
            self.wake(key, when);
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

    use super::Turns;

    #[test]
    fn a_key_has_one_turn_at_a_time_and_none_is_lost() {
        let now = Instant::now();
        let mut turns = Turns::<String>::default();
        turns.wake("alice".into(), now);
        turns.wake("alice".into(), now);
        assert_eq!(turns.begin(now).as_deref(), Some("alice"));
        assert_eq!(turns.begin(now), None);
        turns.wake("alice".into(), now);
        assert_eq!(turns.begin(now), None, "its turn has not ended");
        turns.end("alice".into(), None);
        assert_eq!(turns.begin(now).as_deref(), Some("alice"));
        turns.end("alice".into(), None);
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn the_earliest_time_asked_for_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut turns = Turns::<String>::default();
        turns.wake("alice".into(), later);
        turns.wake("bob".into(), later);
        assert_eq!(turns.begin(now), None);
        turns.wake("bob".into(), now);
        turns.wake("bob".into(), later);
        assert_eq!(turns.begin(now).as_deref(), Some("bob"));
        turns.end("bob".into(), Some(later));
        assert_eq!(turns.begin(now), None);
        assert_eq!((turns.begin(later).as_deref(), turns.begin(later).as_deref()), (Some("alice"), Some("bob")));
    }
}
