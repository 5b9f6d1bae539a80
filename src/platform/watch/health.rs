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

use super::pauses::{Pauses, QUIET};

/// For how long a watch may fail before it counts as blind. An API server that restarts is back sooner.
const PATIENCE: Duration = Duration::from_secs(60);

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
        Course { health: self.clone(), name: (kind.to_owned(), which), state: State::Works, pauses: Pauses::default() }
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
    pauses: Pauses,
}

/// How a watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// It is started again with a list, and not taken up where it was: where the API server may have been away, and after failing for long,
    /// since a list shows at once that it works.
    pub anew: bool,
    /// After this long.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Works,
    /// It has failed since the one time, last at the other.
    Fails(Instant, Instant),
    /// It has failed for too long, and lists anew: it works again once that is through.
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
        let anew = self.turn(next);
        match event {
            Ok(_) => Next { anew, pause: Duration::ZERO },
            Err(error) => Next { anew: anew || may_have_been_away(error), pause: self.pauses.after_failure(now) },
        }
    }

    /// It is known why there is nothing to see: that is no failure of the watch.
    pub(super) fn excuse(&mut self) {
        self.turn(State::Works);
        self.pauses = Pauses::default();
    }

    /// Takes the next state. Whether it has just gone blind.
    fn turn(&mut self, next: State) -> bool {
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
        is && !was
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        // Whoever goes on after a panic of those who watch sees nothing any more.
        let failed = std::thread::panicking();
        let turn =
            |blind: &mut BTreeSet<_>| if failed { blind.insert(self.name.clone()) } else { blind.remove(&self.name) };
        self.health.blind.send_if_modified(turn);
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

/// Whether the API server may have been away. Meanwhile the cluster may have been restored from a backup, which counts from an earlier
/// version: asked for what came after a later one, the API server answers with nothing, not even an error, until it has counted that
/// far. One that refuses a watch has been there all the time.
fn may_have_been_away(error: &watcher::Error) -> bool {
    match error {
        // 410: too old.
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410 || !is_refusal(status.code),
        watcher::Error::WatchError(status) => !is_refusal(status.code),
        watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_) | watcher::Error::NoResourceVersion => {
            true
        }
        // It asks for a list anyway.
        watcher::Error::InitialListFailed(_) => false,
    }
}

fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code)
}

fn next(state: State, sign: Sign, now: Instant, patience: Duration) -> State {
    match (sign, state) {
        (Sign::Works, _) => State::Works,
        (Sign::Nothing, state) | (Sign::Fails, state @ State::Blind) => state,
        (Sign::Fails, State::Fails(since, last)) if now - last < QUIET => {
            if now - since < patience {
                State::Fails(since, now)
            } else {
                State::Blind
            }
        }
        (Sign::Fails, State::Fails(..) | State::Works) => State::Fails(now, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::watch::pauses::{FIRST, LAST};

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
            // Taken up again in between, without a sign.
            (&[(0, Fails), (60, Fails), (110, Fails)], false),
            (&[(0, Fails), (59, Fails), (61, Fails), (62, Nothing), (600, Fails)], true),
            (&[(0, Fails), (59, Fails), (61, Fails), (62, Works)], false),
        ] {
            assert_eq!(is_blind(signs), expected, "{signs:?}");
        }
    }

    #[test]
    fn a_watch_is_begun_anew_with_a_list_where_the_api_server_may_have_been_away() {
        let answered = |code| Box::new(kube::core::Status { code, ..Default::default() });
        let refused = |code| watcher::Error::WatchStartFailed(kube::Error::Api(answered(code)));
        let anew = |error| Health::default().of("things").take::<()>(&Err(error), Instant::now()).anew;
        assert!(anew(refused(503)) && anew(refused(410)) && anew(watcher::Error::WatchError(answered(500))));
        assert!(anew(watcher::Error::WatchStartFailed(kube::Error::LinesCodecMaxLineLengthExceeded)));
        assert!(anew(watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded)));
        assert!(!anew(refused(429)) && !anew(refused(403)), "it is there");
        assert!(!anew(watcher::Error::WatchError(answered(410))), "the watcher lists by itself");
        assert!(!anew(watcher::Error::InitialListFailed(kube::Error::LinesCodecMaxLineLengthExceeded)));
    }

    #[test]
    fn lists_that_are_answered_while_watches_break_make_no_pause_short() {
        let (mut course, now) = (Health::default().of("things"), Instant::now());
        let broken = || Err(watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded));
        let mut pause = |event| course.take::<()>(&event, now).pause;
        let pauses: Vec<_> = (0..6)
            .map(|_| {
                assert_eq!(pause(Ok(watcher::Event::Init)), Duration::ZERO);
                assert_eq!(pause(Ok(watcher::Event::InitDone)), Duration::ZERO);
                pause(broken())
            })
            .collect();
        assert_eq!((pauses[0], pauses[1], pauses[5]), (FIRST, FIRST * 2, LAST));
    }
}
