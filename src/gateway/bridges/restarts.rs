//! A shard that restarts is waited for, so that its callers are answered a little later instead of being refused. One that stays away
//! is not: callers hear at once that it cannot be reached.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::Unanswered;
use crate::{
    api::BridgeBinding,
    bridge_api::BridgeError,
    gateway::{
        code::Code,
        failure::Failure,
        seats::{Seat, Seats},
        story::Story,
    },
    platform::lock,
};

/// How often a request may break the connection, with a wait in between: it may be the request that ends the shard's process. Breaks without
/// a wait count once, because a process that ends breaks all connections that were kept.
const BREAKS: usize = 2;
/// A shard of which nothing was heard for so long may have been back since it was seen to be away.
const STALE: Duration = Duration::from_secs(60);
/// How soon a shard that is away is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How many requests wait at most; each holds a connection and a message. More are refused at once.
const MOST: usize = 512;
/// How many of those one caller may have: the others are not refused because one application asks for much.
const MOST_OF_A_CALLER: usize = MOST / 4;

/// Which shards are away, and the requests that wait for them.
pub(super) struct Restarts {
    /// How long a shard may be away until it is no longer waited for, and how old a request is at most that waits.
    patience: Duration,
    away: Mutex<HashMap<BridgeBinding, Absence>>,
    seats: Seats,
    over: CancellationToken,
}

/// A shard that is away.
#[derive(Clone)]
struct Absence {
    since: Instant,
    /// When it was last asked and not there.
    seen: Instant,
    /// One of the requests that wait for the shard asks it now and then; the others follow when it is back.
    turn: Arc<Turn<()>>,
    back: Arc<watch::Sender<bool>>,
}

impl Absence {
    fn new(now: Instant) -> Self {
        Self { since: now, seen: now, turn: Arc::default(), back: Arc::new(watch::Sender::new(false)) }
    }
}

impl Restarts {
    /// Shards are waited for until they have been away for `patience`, and not once `over` is cancelled.
    pub(super) fn new(patience: Duration, over: CancellationToken) -> Self {
        Self { patience, away: Mutex::default(), seats: Seats::new(MOST, MOST_OF_A_CALLER), over }
    }

    /// Notes what came of a question to a shard.
    pub(super) fn note<T>(&self, binding: &BridgeBinding, answer: &Result<T, BridgeError>) {
        match answer {
            Err(error) if is_away(error) => {
                let (now, mut away) = (Instant::now(), self.away());
                away.retain(|_, absence| now - absence.seen < STALE);
                away.entry(binding.clone()).or_insert_with(|| Absence::new(now)).seen = now;
            }
            // It may be there and slow, or not there.
            Err(BridgeError::TimedOut) => {}
            _ => {
                if let Some(absence) = self.away().remove(binding) {
                    absence.back.send_replace(true);
                }
            }
        }
    }

    /// Asks for a request, until the shard has answered, or has been away for too long. `ask` may be carried out more
    /// than once, so it must ask for something that is done once however often it is asked for.
    ///
    /// When a connection broke and the shard does not answer afterwards, what it was asked for may have been done: the error of that
    /// try is returned, even if a later one says "connection refused".
    pub(super) async fn ask<T, F>(
        &self,
        story: &Story,
        binding: &BridgeBinding,
        ask: impl Fn() -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, Unanswered>>,
    {
        let last = story.began() + self.patience;
        let (mut open, mut breaks, mut has_broken, mut turn) = (None, 0, false, None);
        let mut seat: Option<Seat> = None;
        loop {
            let answer = ask().await;
            drop(turn.take());
            let error = match answer {
                Err(Unanswered::Bridge(error)) if is_away(&error) => error,
                Err(unanswered) if !is_definite(&unanswered) => {
                    return Err(open.map_or(unanswered, Unanswered::Bridge));
                }
                answered => return answered,
            };
            if matches!(error, BridgeError::Broken { .. } | BridgeError::StreamEnded) && !has_broken {
                (has_broken, breaks) = (true, breaks + 1);
                if breaks == BREAKS {
                    return Err(open.unwrap_or(error).into());
                }
            }
            // The next connection may be a good one.
            if open.is_none() && error.leaves_open() {
                open = Some(error);
                continue;
            }
            if seat.is_none() {
                seat = self.seats.take(story.caller()).ok();
                if seat.is_none() {
                    return Err(open.map_or_else(|| too_many().into(), Unanswered::Bridge));
                }
                let BridgeBinding { name, shard } = binding;
                tracing::debug!(bridge = name, shard, "a request waits for a shard that restarts");
            }
            match self.until_next(binding, last).await {
                Some(next) => (turn, has_broken) = (next, false),
                None => return Err(open.unwrap_or(error).into()),
            }
        }
    }

    /// Waits until the shard is to be asked again: it is back, or it is this request's turn to look, which is held meanwhile. `None` when it is
    /// not waited for any more.
    async fn until_next(&self, binding: &BridgeBinding, last: Instant) -> Option<Option<OwnedMutexGuard<()>>> {
        let absence = self.away().get(binding).cloned();
        let until = absence.as_ref().map_or(last, |absence| last.min(absence.since + self.patience));
        let next = async {
            // Another request has had an answer in between.
            let Some(absence) = absence else {
                sleep(ASK_AGAIN).await;
                return None;
            };
            let mut back = absence.back.subscribe();
            let back = async { _ = back.wait_for(|is_back| *is_back).await };
            tokio::select! {
                turn = Arc::clone(&absence.turn).lock_owned() => {
                    sleep(ASK_AGAIN).await;
                    Some(turn)
                }
                () = back => None,
            }
        };
        self.over.run_until_cancelled(timeout_at(until, next)).await?.ok()
    }

    fn away(&self) -> MutexGuard<'_, HashMap<BridgeBinding, Absence>> {
        lock(&self.away)
    }
}

/// Whether the shard's process is not there, or about to end: no connection, one that broke, or a proxy in between that says so.
fn is_away(error: &BridgeError) -> bool {
    match error {
        BridgeError::Unreachable { .. }
        | BridgeError::Broken { .. }
        | BridgeError::Closing
        | BridgeError::StreamEnded => true,
        BridgeError::Malformed { status } => matches!(status, 502 | 503),
        _ => false,
    }
}

/// There is no seat to wait, and nothing is known to have come of the request.
fn too_many() -> Failure {
    Failure::new(
        Code::BridgeUnavailable,
        format!(
            "the bridge of this session restarts, and as many requests wait for a bridge as may ({MOST} in all, {MOST_OF_A_CALLER} of \
             one caller); nothing was done, so try this one again in a moment"
        ),
    )
}

/// Whether the shard has looked at what it was asked.
fn is_definite(unanswered: &Unanswered) -> bool {
    match unanswered {
        Unanswered::Bridge(error @ (BridgeError::NotFound | BridgeError::Refused { .. })) => !error.leaves_open(),
        Unanswered::Bridge(_) | Unanswered::Unasked(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use axum::http::HeaderMap;

    use super::*;
    use crate::bridge_api::ErrorCode;

    /// Longer than any test.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn shard() -> BridgeBinding {
        BridgeBinding { name: "main".to_owned(), shard: "shard-0".to_owned() }
    }

    fn gone() -> BridgeError {
        BridgeError::Unreachable { cause: "connection refused".into() }
    }

    fn broken() -> BridgeError {
        BridgeError::Broken { cause: "connection reset".into() }
    }

    fn refused(code: ErrorCode) -> BridgeError {
        BridgeError::Refused { code: code.into(), retry_after: None }
    }

    /// What a caller hears of a shard that answers in this way, the last for ever; how often it is asked.
    async fn heard(restarts: &Restarts, answers: &[Result<u32, BridgeError>]) -> (Result<u32, BridgeError>, usize) {
        let (answer, times) = heard_by("app", restarts, answers).await;
        let answer = answer.map_err(|unanswered| match unanswered {
            Unanswered::Bridge(error) => error,
            Unanswered::Unasked(failure) => panic!("{failure:?}"),
        });
        (answer, times)
    }

    async fn heard_by(
        caller: &str,
        restarts: &Restarts,
        answers: &[Result<u32, BridgeError>],
    ) -> (Result<u32, Unanswered>, usize) {
        let times = Cell::new(0);
        let binding = shard();
        let story = story(caller);
        let answer = restarts.ask(&story, &binding, || {
            let answer = answers[times.get().min(answers.len() - 1)].clone();
            times.set(times.get() + 1);
            restarts.note(&binding, &answer);
            std::future::ready(answer.map_err(Unanswered::Bridge))
        });
        let answer = answer.await;
        (answer, times.get())
    }

    fn story(caller: &str) -> Story {
        let story = Story::begin(&HeaderMap::new());
        story.is_by(caller);
        story
    }

    #[tokio::test]
    async fn a_shard_that_restarts_is_waited_for_and_one_that_stays_away_is_not() {
        let restarts = Restarts::new(PATIENCE, CancellationToken::new());
        let away = [Err(gone()), Err(BridgeError::Closing), Err(gone()), Ok(7)];
        // The second tells that what was asked may have been done: it is asked again at once.
        assert_eq!(heard(&restarts, &away).await, (Ok(7), 4));
        // It is gone for good: one that comes later is refused at once.
        let short = Restarts::new(Duration::from_millis(500), CancellationToken::new());
        assert_eq!(heard(&short, &[Err(gone())]).await.0, Err(gone()));
        assert!(short.away()[&shard()].since.elapsed() + ASK_AGAIN * 2 > short.patience, "it was waited for");
        assert_eq!(heard(&short, &[Err(gone()), Ok(1)]).await, (Err(gone()), 1));
        // That was long ago, and nobody has asked since: it may have come back, and restarts again.
        short.away().get_mut(&shard()).unwrap().seen = Instant::now().checked_sub(STALE).unwrap();
        heard(&short, &[Err(gone())]).await.0.unwrap_err();
        assert!(short.away()[&shard()].since.elapsed() < STALE);
        // It has come back, and goes again.
        assert_eq!(heard(&restarts, &[Ok(1)]).await, (Ok(1), 1));
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(2)]).await, (Ok(2), 2));
    }

    #[tokio::test]
    async fn what_is_not_known_after_a_broken_connection_stays_so_until_the_shard_has_looked() {
        let full = || refused(ErrorCode::QueueFull);
        for (patience, answers, came, asked) in [
            (0, vec![Ok(1), Ok(2)], Ok(1), 1),
            (0, vec![Err(broken()), Ok(2)], Ok(2), 2),
            (0, vec![Err(broken()), Err(full())], Err(full()), 2),
            (0, vec![Err(broken()), Err(gone())], Err(broken()), 2),
            (0, vec![Err(broken()), Err(BridgeError::TimedOut)], Err(broken()), 2),
            (0, vec![Err(broken()), Err(BridgeError::Unauthorized)], Err(broken()), 2),
            (0, vec![Err(gone()), Ok(2)], Err(gone()), 1),
            // It may be the request itself that ends the bridge.
            (60, vec![Err(broken()), Err(gone()), Err(broken()), Ok(2)], Err(broken()), 3),
            // All connections that were kept broke with the process.
            (60, vec![Err(broken()), Err(broken()), Err(gone()), Ok(2)], Ok(2), 4),
            // One that did not answer in time has had its time.
            (60, vec![Err(BridgeError::TimedOut), Ok(2)], Err(BridgeError::TimedOut), 1),
            (
                15,
                vec![Err(BridgeError::Malformed { status: 500 }), Ok(2)],
                Err(BridgeError::Malformed { status: 500 }),
                1,
            ),
            (60, vec![Err(broken()), Err(gone()), Err(gone()), Ok(2)], Ok(2), 4),
            (60, vec![Err(broken()), Err(gone()), Err(full())], Err(full()), 3),
            (60, vec![Err(BridgeError::Malformed { status: 503 }), Err(gone()), Ok(2)], Ok(2), 3),
        ] {
            let restarts = Restarts::new(Duration::from_secs(patience), CancellationToken::new());
            assert_eq!(heard(&restarts, &answers).await, (came, asked), "{answers:?}");
        }
        let restarts = Restarts::new(Duration::from_millis(500), CancellationToken::new());
        assert_eq!(heard(&restarts, &[Err(broken()), Err(gone())]).await.0, Err(broken()));
    }

    #[tokio::test]
    async fn one_of_those_that_wait_asks_and_all_follow_when_the_shard_is_back() {
        const MANY: usize = 100;
        let restarts = Restarts::new(Duration::from_secs(30), CancellationToken::new());
        let (binding, asked, is_back) = (shard(), Cell::new(0), Cell::new(false));
        let ask = || {
            asked.set(asked.get() + 1);
            // All have come, and a few have looked.
            is_back.set(is_back.get() || asked.get() == MANY + 4);
            let answer = if is_back.get() { Ok(()) } else { Err(gone()) };
            restarts.note(&binding, &answer);
            std::future::ready(answer.map_err(Unanswered::Bridge))
        };
        let story = story("app");
        let answers = futures::future::join_all((0..MANY).map(|_| restarts.ask(&story, &binding, ask))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked.get(), MANY + 4 + MANY - 1, "while it is away one asks, and then each once");
    }

    #[tokio::test]
    async fn a_request_that_fails_while_others_are_answered_has_an_end() {
        let restarts = Restarts::new(Duration::from_millis(700), CancellationToken::new());
        let (binding, story) = (shard(), story("app"));
        let answer = restarts.ask(&story, &binding, || {
            restarts.note::<()>(&binding, &Err(gone()));
            restarts.note(&binding, &Ok(()));
            std::future::ready(Err::<(), _>(gone().into()))
        });
        assert!(matches!(answer.await, Err(Unanswered::Bridge(BridgeError::Unreachable { .. }))));
    }

    #[tokio::test]
    async fn few_of_one_caller_wait_at_a_time_and_none_once_it_is_over() {
        let over = CancellationToken::new();
        let restarts = Restarts::new(PATIENCE, over.clone());
        let taken: Vec<_> = (0..MOST).filter_map(|_| restarts.seats.take("greedy").ok()).collect();
        // Refused at once and told what to do; a caller who has asked for nothing else waits.
        let Err(Unanswered::Unasked(refused)) = heard_by("greedy", &restarts, &[Err(gone()), Ok(1)]).await.0 else {
            panic!("one caller took all seats");
        };
        assert!(
            refused.code == Code::BridgeUnavailable && refused.message.contains("512 in all, 128 of one caller"),
            "{}",
            refused.message
        );
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(1)]).await, (Ok(1), 2));
        // Where something may have come of it, that is what counts.
        let unknown = heard_by("greedy", &restarts, &[Err(broken()), Err(gone())]).await.0;
        assert!(matches!(unknown, Err(Unanswered::Bridge(BridgeError::Broken { .. }))), "{unknown:?}");
        drop(taken);
        assert!(matches!(heard_by("greedy", &restarts, &[Err(gone()), Ok(1)]).await, (Ok(1), 2)));
        over.cancel();
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(1)]).await, (Err(gone()), 1));
    }
}
