//! What can go wrong in a reconcile, and when to try again.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use thiserror::Error;

use super::cache::Key;
use crate::{bridge_api::BridgeError, platform::lock};

/// Why a reconcile failed. The variant's name is the metric label and the log's reason.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The API server did not take or give something.
    #[error("{doing}: {}", describe(source))]
    Kubernetes {
        /// What we were doing.
        doing: &'static str,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// The object changed while we decided; the next look sees it.
    #[error("{doing}: the object has changed meanwhile")]
    Outdated {
        /// What we were doing.
        doing: &'static str,
    },
    /// A call to the API server took too long.
    #[error("{doing}: no answer from the API server in time")]
    Slow {
        /// What we were doing.
        doing: &'static str,
    },
    /// The bridge did not do what it was asked.
    #[error("{doing}: {source}")]
    Bridge {
        /// What we were doing.
        doing: &'static str,
        /// The cause.
        source: BridgeError,
    },
    /// Another instance took the last place meanwhile.
    #[error("the place on the shard was taken meanwhile")]
    PlaceTaken,
    /// The reconcile as a whole took too long.
    #[error("the reconcile took too long")]
    TimedOut,
    /// A defect: the reconcile panicked.
    #[error("the reconcile panicked")]
    Panicked,
}

/// What an API error says, without the values of the refused object: they could be codes or phone numbers.
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_invalid() => {
            format!("the API server calls the object invalid ({})", status.code)
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        kube::Error::SerdeError(_) => "the answer does not fit this version's types".into(),
        other => other.to_string(),
    }
}

/// The first pause after a failure of one object; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(2);
/// Races are lost once or twice, not for long: this many times. After that the watch must be far behind, and a thousand
/// objects that try twenty times a second would keep it there; so the pause doubles, up to 64 times.
const RACES: u32 = 10;
const RACE_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct InRow {
    failed: u32,
    raced: u32,
}

/// How often each object has failed in a row.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<Key, InRow>>);

impl Backoff {
    /// The pause before the next attempt, jittered so that a thousand objects do not come back at once.
    pub fn after(&self, object: Key, error: &ReconcileError) -> Duration {
        let mut objects = lock(&self.0);
        let InRow { failed, raced } = objects.entry(object).or_default();
        let pause = match error {
            ReconcileError::Outdated { .. } | ReconcileError::PlaceTaken => {
                *raced = raced.saturating_add(1);
                RACE_PAUSE * (1_u32 << raced.saturating_sub(RACES).min(6))
            }
            _ => {
                *failed = failed.saturating_add(1);
                (FIRST_PAUSE * (1_u32 << failed.saturating_sub(1).min(10))).min(LAST_PAUSE)
            }
        };
        pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    /// The object is fine again, or gone.
    pub fn clear(&self, object: &Key) {
        lock(&self.0).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::fixtures::named;

    #[test]
    fn each_object_backs_off_for_itself_up_to_the_limit_and_starts_anew_once_fine() {
        let (one, other) = (named("team", "one"), named("team", "other"));
        let backoff = Backoff::default();
        let error = ReconcileError::TimedOut;
        let pauses: Vec<_> = (0..14).map(|_| backoff.after(one.clone(), &error)).collect();
        assert!(pauses[0] < FIRST_PAUSE * 2 && pauses[13] >= LAST_PAUSE.mul_f64(0.75), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LAST_PAUSE.mul_f64(1.25)));
        assert!(backoff.after(other, &error) < FIRST_PAUSE * 2);
        backoff.clear(&one);
        assert!(backoff.after(one, &error) < FIRST_PAUSE * 2);
    }

    #[test]
    fn a_lost_race_is_run_again_at_once() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            assert!(backoff.after(named("team", "one"), &ReconcileError::PlaceTaken) < FIRST_PAUSE);
        }
    }

    #[test]
    fn a_cache_that_stays_behind_is_waited_for() {
        let backoff = Backoff::default();
        let lost = ReconcileError::Outdated { doing: "write the status" };
        let pauses: Vec<_> = (0..30).map(|_| backoff.after(named("team", "one"), &lost)).collect();
        assert!(pauses[29] > Duration::from_secs(2) && pauses[29] < Duration::from_secs(5), "{pauses:?}");
    }
}
