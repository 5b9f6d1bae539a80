//! How the watches of a process fare. One that cannot be made for long leaves the process blind, which its readiness shows.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::runtime::watcher;
use tokio::{sync::watch, time::Instant};

use crate::platform::backoff::Backoff;

/// For how long a watch may fail before it counts as blind. An API server that restarts is back sooner.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause after a failure. It doubles up to the last one. (The watcher's own begins anew with every list that it asks for,
/// even if that is refused.)
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// The watches that are blind, by their kind. Clones share them.
#[derive(Clone, Debug)]
pub struct Health {
    blind: watch::Sender<BTreeSet<(String, usize)>>,
    known: Arc<AtomicUsize>,
    patience: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { blind: watch::Sender::default(), known: Arc::default(), patience: PATIENCE }
    }
}

impl Health {
    /// As by default, except for how long a watch may fail.
    #[cfg(test)]
    pub fn with_patience(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Tells which kinds are not seen any more: at once, and at each change.
    pub fn follow(&self) -> Blind {
        let mut changes = self.blind.subscribe();
        changes.mark_changed();
        Blind(changes)
    }

    /// One more watch, of this kind.
    pub(super) fn of(&self, kind: &str) -> Course {
        let which = self.known.fetch_add(1, Ordering::Relaxed);
        Course {
            health: self.clone(),
            name: (kind.to_owned(), which),
            state: State::Works,
            pauses: Backoff::new(FIRST_PAUSE, LAST_PAUSE),
        }
    }
}

/// Tells which kinds are not seen.
#[derive(Debug)]
pub struct Blind(watch::Receiver<BTreeSet<(String, usize)>>);

impl Blind {
    /// The kinds that are not seen, as a list for people, the next time that it is another one; nothing when all are seen.
    pub async fn changed(&mut self) -> Option<String> {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let kinds: BTreeSet<String> = self.0.borrow_and_update().iter().map(|(kind, _)| kind.clone()).collect();
        (!kinds.is_empty()).then(|| kinds.into_iter().collect::<Vec<_>>().join(", "))
    }
}

/// How one watch fares.
#[derive(Debug)]
pub(super) struct Course {
    health: Health,
    name: (String, usize),
    state: State,
    pauses: Backoff,
}

/// How a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// It is started again with a list, and not taken up where it was. While the API server was away the cluster may have been restored
    /// from a backup, which counts from an older version again: asked for what came after a later one, it answers with nothing, not even
    /// an error, until it has counted that far. A list also shows at once that the watch works.
    pub anew: bool,
    /// After this long.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Works,
    /// It has failed since then, and lists anew: it works again once that is through.
    Fails(Instant),
    /// It has failed for too long.
    Blind,
}

/// What an event says of its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Works,
    Fails,
    Nothing,
}

impl Course {
    /// Takes in what the watch has said.
    pub(super) fn take<K>(&mut self, event: &Result<watcher::Event<K>, watcher::Error>, now: Instant) -> Next {
        let sign = sign(event);
        let next = next(self.state, sign, now, self.health.patience);
        let anew = self.state == State::Works && next != State::Works;
        self.turn(next);
        if sign == Sign::Works {
            self.pauses.reset();
        }
        let mut pause = Duration::ZERO;
        if event.is_err() {
            pause = self.pauses.pause();
        }
        Next { anew, pause }
    }

    /// It is known why there is nothing to see: that is no failure of the watch.
    pub(super) fn excuse(&mut self) {
        self.turn(State::Works);
        self.pauses.reset();
    }

    fn turn(&mut self, next: State) {
        let (was, is) = (self.state == State::Blind, next == State::Blind);
        self.state = next;
        if was != is {
            self.health.blind.send_modify(|blind| {
                if is {
                    blind.insert(self.name.clone());
                } else {
                    blind.remove(&self.name);
                }
            });
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.health.blind.send_if_modified(|blind| blind.remove(&self.name));
    }
}

fn sign<K>(event: &Result<watcher::Event<K>, watcher::Error>) -> Sign {
    match event {
        // Said before the list is asked for.
        Ok(watcher::Event::Init) => Sign::Nothing,
        // What broke had been there.
        Ok(_) | Err(watcher::Error::WatchFailed(_)) => Sign::Works,
        // It fell behind, and lists anew.
        Err(watcher::Error::WatchError(status)) if status.code == 410 => Sign::Nothing,
        Err(_) => Sign::Fails,
    }
}

fn next(state: State, sign: Sign, now: Instant, patience: Duration) -> State {
    match (sign, state) {
        (Sign::Works, _) => State::Works,
        (Sign::Nothing, state) | (Sign::Fails, state @ State::Blind) => state,
        (Sign::Fails, State::Fails(since)) if now - since >= patience => State::Blind,
        (Sign::Fails, State::Fails(since)) => State::Fails(since),
        (Sign::Fails, State::Works) => State::Fails(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_fails_is_begun_anew_with_a_list() {
        let mut course = Health::default().of("things");
        let mut is_begun_anew = |event| course.take::<()>(&event, Instant::now()).anew;
        let (refused, listed) = (|| Err(watcher::Error::NoResourceVersion), || Ok(watcher::Event::InitDone));
        assert!(is_begun_anew(refused()));
        assert!(!is_begun_anew(Ok(watcher::Event::Init)));
        assert!(!is_begun_anew(refused()), "it asks for a list already");
        assert!(!is_begun_anew(listed()));
        assert!(is_begun_anew(refused()));
    }

    /// Whether a watch is blind after these signs, each so many seconds after the start.
    fn is_blind(signs: &[(u64, Sign)]) -> bool {
        let start = Instant::now();
        let step = |state, (at, sign): &(u64, Sign)| next(state, *sign, start + Duration::from_secs(*at), PATIENCE);
        signs.iter().fold(State::Works, step) == State::Blind
    }

    #[test]
    fn a_watch_is_blind_once_it_has_failed_for_a_minute_and_until_it_works() {
        use Sign::{Fails, Nothing, Works};
        for (signs, expected) in [
            (&[(0, Fails), (59, Fails)][..], false),
            (&[(0, Fails), (30, Fails), (60, Fails)], true),
            (&[(0, Fails), (30, Works), (60, Fails), (100, Fails)], false),
            (&[(0, Fails), (30, Fails), (45, Nothing), (60, Fails)], true),
            (&[(0, Fails), (59, Fails), (61, Fails), (62, Nothing), (600, Fails)], true),
            (&[(0, Fails), (59, Fails), (61, Fails), (62, Works)], false),
        ] {
            assert_eq!(is_blind(signs), expected, "{signs:?}");
        }
    }

    #[test]
    fn pauses_grow_while_it_fails_though_lists_are_begun_and_are_short_again_once_it_works() {
        let mut course = Health::default().of("things");
        let mut pause = |event| course.take::<()>(&event, Instant::now()).pause;
        let refused = || Err(watcher::Error::NoResourceVersion);
        let pauses: Vec<_> = (0..6).map(|_| (pause(Ok(watcher::Event::Init)), pause(refused())).1).collect();
        assert_eq!((pauses[0], pauses[1], pauses[5]), (FIRST_PAUSE, FIRST_PAUSE * 2, LAST_PAUSE));
        assert_eq!(pause(Ok(watcher::Event::InitDone)), Duration::ZERO);
        assert_eq!(pause(refused()), FIRST_PAUSE);
    }
}
