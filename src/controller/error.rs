//! What can go wrong in a reconcile, and when to try again.

use std::time::Duration;

use thiserror::Error;

use crate::{
    bridge_api::BridgeError,
    platform::{
        backoff::{doubled, spread},
        kubernetes::CallError,
    },
};

/// The longest a reconcile may take: a few calls, each bounded by its own shorter limit.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why a reconcile failed. The variant's name is the metric label and the log's reason.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The object changed while we decided; the next look sees it.
    #[error("{doing}: the object has changed meanwhile")]
    Outdated {
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
    /// As many calls to the shard are under way as may be. Nothing has failed.
    #[error("the shard is busy with calls for other instances")]
    Busy,
    /// Another instance took the shard's last capacity meanwhile.
    #[error("the shard's last capacity was taken meanwhile")]
    CapacityTaken,
    /// Another program writes over the status, and has done so too often for it to be put right at once.
    #[error("another program writes over the status")]
    Contested {
        /// When it is put right again.
        left: Duration,
    },
    /// The reconcile as a whole took too long.
    #[error("the reconcile took too long")]
    TimedOut,
    /// A defect: the reconcile panicked.
    #[error("the reconcile panicked")]
    Panicked,
}

/// The first pause after a failure of one instance; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(2);
/// Races are lost once or twice, not for long: this many times. After that the watch must be far behind, and a thousand
/// objects that try twenty times a second would keep it there; so the pause doubles.
const RACES: u32 = 10;
const RACE_PAUSE: Duration = Duration::from_millis(50);
const LAST_RACE_PAUSE: Duration = Duration::from_millis(3200);
/// The pause before the next call to a shard that had as many under way as may be.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// How often an instance has failed in a row.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InRow {
    failed: u32,
    raced: u32,
}

impl InRow {
    /// The pause before the next attempt, jittered so that a thousand instances do not come back at once.
    pub fn pause(&mut self, error: &ReconcileError) -> Duration {
        let pause = match error {
            ReconcileError::Outdated { .. } | ReconcileError::CapacityTaken => {
                self.raced = self.raced.saturating_add(1);
                doubled(RACE_PAUSE, self.raced.saturating_sub(RACES), LAST_RACE_PAUSE)
            }
            ReconcileError::Busy => BUSY_PAUSE,
            ReconcileError::Contested { left } => return *left,
            _ => {
                self.failed = self.failed.saturating_add(1);
                doubled(FIRST_PAUSE, self.failed - 1, LAST_PAUSE)
            }
        };
        spread(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_back_off_up_to_the_limit() {
        let mut in_row = InRow::default();
        let pauses: Vec<_> = (0..14).map(|_| in_row.pause(&ReconcileError::TimedOut)).collect();
        assert!(pauses[0] < FIRST_PAUSE * 2 && pauses[13] >= LAST_PAUSE.mul_f64(0.75), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LAST_PAUSE.mul_f64(1.25)));
        assert!(InRow::default().pause(&ReconcileError::TimedOut) < FIRST_PAUSE * 2);
    }

    #[test]
    fn a_busy_shard_is_asked_again_soon_and_that_is_no_failure() {
        let mut in_row = InRow::default();
        for _ in 0..100 {
            let pause = in_row.pause(&ReconcileError::Busy);
            assert!(pause > BUSY_PAUSE / 2 && pause < BUSY_PAUSE * 2, "{pause:?}");
        }
        assert_eq!(in_row, InRow::default());
    }

    #[test]
    fn a_lost_race_is_run_again_at_once() {
        let mut in_row = InRow::default();
        for _ in 0..10 {
            assert!(in_row.pause(&ReconcileError::CapacityTaken) < FIRST_PAUSE);
        }
    }

    #[test]
    fn a_cache_that_stays_behind_is_waited_for() {
        let (mut in_row, lost) = (InRow::default(), ReconcileError::Outdated { doing: "write the status" });
        let pauses: Vec<_> = (0..30).map(|_| in_row.pause(&lost)).collect();
        assert!(pauses[29] > Duration::from_secs(2) && pauses[29] < Duration::from_secs(5), "{pauses:?}");
    }
}
