//! A shard that restarts is waited for, so that its callers are answered a little later instead of being refused. One that stays away
//! is not: callers hear at once that it cannot be reached.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Unanswered;
use crate::{
    api::BridgeBinding,
    bridge_api::{BridgeError, ErrorCode, Open},
    platform::lock,
};

/// How soon a shard that is away is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How many requests wait at most; each holds a connection and a message. More are refused at once.
const MOST: usize = 512;

/// Which shards are away, and the requests that wait for them.
pub(super) struct Restarts {
    /// How long a shard may be away until it is no longer waited for.
    patience: Duration,
    /// Since when.
    away: Mutex<HashMap<BridgeBinding, Instant>>,
    places: Semaphore,
    over: CancellationToken,
}

impl Restarts {
    /// Shards are waited for until they have been away for `patience`, and not once `over` is cancelled.
    pub(super) fn new(patience: Duration, over: CancellationToken) -> Self {
        Self { patience, away: Mutex::default(), places: Semaphore::new(MOST), over }
    }

    /// Notes what came of a question to a shard.
    pub(super) fn note<T>(&self, binding: &BridgeBinding, answer: &Result<T, BridgeError>) {
        match answer {
            Err(error) if is_away(error) => {
                self.since().entry(binding.clone()).or_insert_with(Instant::now);
            }
            // It may be there and slow, or not there.
            Err(BridgeError::TimedOut) => {}
            _ => {
                self.since().remove(binding);
            }
        }
    }

    /// Asks until the shard has answered, or has been away for too long. `ask` may be carried out more than once, so it must ask for
    /// something that is done once however often it is asked for.
    ///
    /// When a connection broke and the shard does not answer afterwards, what it was asked for may have been done: the error of that
    /// try is returned, even if a later one says "connection refused".
    pub(super) async fn ask<T, F>(&self, binding: &BridgeBinding, ask: impl Fn() -> F) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, Unanswered>>,
    {
        let (mut open, mut place) = (None, None);
        loop {
            let error = match ask().await {
                Err(Unanswered::Bridge(error)) if is_away(&error) => error,
                Err(unanswered) if !is_definite(&unanswered) => {
                    return Err(open.map_or(unanswered, Unanswered::Bridge));
                }
                answered => return answered,
            };
            // The next connection may be a good one.
            if open.is_none() && error.leaves_open() {
                open = Some(error);
                continue;
            }
            if !self.waits(binding, &mut place).await {
                return Err(open.unwrap_or(error).into());
            }
        }
    }

    /// Waits a little for the shard; whether it is to be asked again. The request takes its place with the first wait.
    async fn waits<'a>(&'a self, binding: &BridgeBinding, place: &mut Option<SemaphorePermit<'a>>) -> bool {
        let (now, since) = (Instant::now(), self.since().get(binding).copied());
        // Another request has had an answer in between.
        let since = since.unwrap_or(now);
        if place.is_none() {
            *place = self.places.try_acquire().ok();
        }
        let again = now + ASK_AGAIN;
        place.is_some()
            && again < since + self.patience
            && self.over.run_until_cancelled(sleep_until(again)).await.is_some()
    }

    fn since(&self) -> MutexGuard<'_, HashMap<BridgeBinding, Instant>> {
        lock(&self.away)
    }
}

/// Whether the shard's process is not there, or about to end: no connection, one that broke, or a proxy in between that says so.
fn is_away(error: &BridgeError) -> bool {
    match error {
        BridgeError::Unreachable { .. } | BridgeError::Broken { .. } | BridgeError::StreamEnded => true,
        BridgeError::Malformed { status } => matches!(status, 502..=504),
        BridgeError::Refused { code, .. } => *code == Open::Known(ErrorCode::Closing),
        _ => false,
    }
}

/// Whether the shard has looked at what it was asked.
fn is_definite(unanswered: &Unanswered) -> bool {
    matches!(unanswered, Unanswered::Bridge(BridgeError::NotFound | BridgeError::Refused { .. }))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

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
        let times = Cell::new(0);
        let binding = shard();
        let answer = restarts.ask(&binding, || {
            let answer = answers[times.get().min(answers.len() - 1)].clone();
            times.set(times.get() + 1);
            restarts.note(&binding, &answer);
            std::future::ready(answer.map_err(Unanswered::Bridge))
        });
        let answer = answer.await.map_err(|unanswered| match unanswered {
            Unanswered::Bridge(error) => error,
            Unanswered::Unasked(failure) => panic!("{failure:?}"),
        });
        (answer, times.get())
    }

    #[tokio::test]
    async fn a_shard_that_restarts_is_waited_for_and_one_that_stays_away_is_not() {
        let restarts = Restarts::new(PATIENCE, CancellationToken::new());
        let away = [Err(gone()), Err(refused(ErrorCode::Closing)), Err(gone()), Ok(7)];
        // The second tells that what was asked may have been done: it is asked again at once.
        assert_eq!(heard(&restarts, &away).await, (Ok(7), 4));
        // It is gone for good: it is asked for as long as it may be away, and later not waited for.
        let begun = Instant::now();
        let (answer, asked) = heard(&restarts, &[Err(gone())]).await;
        assert!(answer == Err(gone()) && asked > 1 && begun.elapsed() + ASK_AGAIN * 2 > PATIENCE, "{asked}");
        assert_eq!(heard(&restarts, &[Err(gone())]).await, (Err(gone()), 1));
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
            // One that did not answer in time has had its time.
            (1, vec![Err(BridgeError::TimedOut), Ok(2)], Err(BridgeError::TimedOut), 1),
            (
                15,
                vec![Err(BridgeError::Malformed { status: 500 }), Ok(2)],
                Err(BridgeError::Malformed { status: 500 }),
                1,
            ),
            (1, vec![Err(broken()), Err(gone()), Err(gone()), Ok(2)], Ok(2), 4),
            (1, vec![Err(broken()), Err(gone()), Err(full())], Err(full()), 3),
            (1, vec![Err(BridgeError::Malformed { status: 503 }), Err(gone()), Ok(2)], Ok(2), 3),
        ] {
            let restarts = Restarts::new(Duration::from_secs(patience), CancellationToken::new());
            assert_eq!(heard(&restarts, &answers).await, (came, asked), "{answers:?}");
        }
        let restarts = Restarts::new(PATIENCE, CancellationToken::new());
        assert_eq!(heard(&restarts, &[Err(broken()), Err(gone())]).await.0, Err(broken()));
    }

    #[tokio::test]
    async fn few_wait_at_a_time_and_none_once_it_is_over() {
        let over = CancellationToken::new();
        let restarts = Restarts::new(PATIENCE, over.clone());
        let taken = restarts.places.try_acquire_many(u32::try_from(MOST).unwrap()).unwrap();
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(1)]).await, (Err(gone()), 1));
        drop(taken);
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(1)]).await, (Ok(1), 2));
        assert_eq!(restarts.places.available_permits(), MOST);
        over.cancel();
        assert_eq!(heard(&restarts, &[Err(gone()), Ok(1)]).await, (Err(gone()), 1));
    }
}
