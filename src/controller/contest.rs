//! Notices that another program writes over what this one has written, again and again.
//!
//! Two operators that serve the same bridge and see it differently (one may not read its token) would write each status by turns, and each
//! write is the other one's cause for the next: fifty a second. Nothing here decides who is right; the pauses between such writes grow,
//! and the log says what it looks like.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::platform::backoff::doubled;

/// So often it is put right at once: somebody may have edited a status, or restored it.
const FREE: u32 = 5;
/// The first pause after that; it doubles up to [`LAST`].
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_mins(5);
/// A status that was last written over so long ago is no longer contested.
const FORGOTTEN: Duration = Duration::from_mins(15);

/// What a status says, without its times, codes and counts.
pub fn digest(what: impl Debug, conditions: &[Condition]) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{what:?}").hash(&mut hasher);
    for condition in conditions {
        (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut hasher);
    }
    hasher.finish()
}

/// What this process wrote last, and how often it had to write the same again.
#[derive(Debug, Default)]
pub struct Contest {
    wrote: Option<(u64, Instant)>,
    again: u32,
    /// When it last had to.
    last: Option<Instant>,
}

impl Contest {
    /// How long to wait before `wanted` is written over `found`; no time at all, unless it is what we wrote and somebody else has
    /// written over it for the sixth time.
    pub fn wait(&mut self, found: u64, wanted: u64, now: Instant) -> Duration {
        let Some((wrote, at)) = self.wrote.filter(|_| found != wanted) else { return Duration::ZERO };
        let since = now.duration_since(at);
        if self.last.is_none_or(|last| now.duration_since(last) > FORGOTTEN) {
            self.again = 0;
        }
        if wrote != wanted {
            return Duration::ZERO;
        }
        let pause = if self.again < FREE { Duration::ZERO } else { doubled(FIRST, self.again - FREE, LAST) };
        pause.saturating_sub(since)
    }

    /// It was written. Says whether it was put right at once for the last time.
    pub fn wrote(&mut self, found: u64, wanted: u64, now: Instant) -> bool {
        let again = self.wrote.is_some_and(|(wrote, _)| wrote == wanted && found != wanted);
        if again {
            self.again = self.again.saturating_add(1);
            self.last = Some(now);
        }
        self.wrote = Some((wanted, now));
        again && self.again == FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u64 = 1;
    const THEIRS: u64 = 2;

    /// Puts it right as soon as that may be; how long that took, and whether it was said.
    fn put_right(contest: &mut Contest, now: &mut Instant) -> (Duration, bool) {
        let pause = contest.wait(THEIRS, OURS, *now);
        *now += pause;
        assert_eq!(contest.wait(THEIRS, OURS, *now), Duration::ZERO);
        (pause, contest.wrote(THEIRS, OURS, *now))
    }

    #[test]
    fn what_is_written_over_again_and_again_is_put_right_ever_more_slowly() {
        let (mut contest, mut now) = (Contest::default(), Instant::now());
        assert_eq!(put_right(&mut contest, &mut now), (Duration::ZERO, false));
        let tried: Vec<_> = (0..18).map(|_| put_right(&mut contest, &mut now)).collect();
        assert!(tried[..5].iter().all(|(pause, _)| pause.is_zero()), "{tried:?}");
        assert_eq!((tried[5].0, tried[6].0, tried[17].0), (FIRST, FIRST * 2, LAST));
        assert_eq!(tried.iter().filter(|(_, said)| *said).count(), 1);
        now += FORGOTTEN + FIRST;
        assert_eq!(put_right(&mut contest, &mut now), (Duration::ZERO, false));
    }

    #[test]
    fn corrections_that_are_far_apart_are_no_contest_however_often_the_status_is_written_meanwhile() {
        let (mut contest, mut now) = (Contest::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(put_right(&mut contest, &mut now), (Duration::ZERO, false));
            for other in [7, OURS] {
                now += FORGOTTEN * 2 / 3;
                contest.wrote(other, other, now);
            }
        }
    }

    #[test]
    fn what_changes_by_itself_is_written_at_once() {
        let (mut contest, now) = (Contest::default(), Instant::now());
        for turn in 0..100 {
            // A session that comes and goes, and a code that is another one every time.
            let (found, wanted) = (turn % 2, (turn + 1) % 2);
            assert_eq!(contest.wait(found, wanted, now), Duration::ZERO);
            assert!(!contest.wrote(found, wanted, now));
            assert_eq!(contest.wait(wanted, wanted, now), Duration::ZERO);
            assert!(!contest.wrote(wanted, wanted, now));
        }
    }
}
