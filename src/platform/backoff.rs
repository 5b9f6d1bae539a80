//! Pauses between attempts: they double with each failure, and are spread so that many that failed together do not come back
//! together.

use std::time::Duration;

/// A pause that doubles with each failure in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with the pause `first`, and doubles up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause after one more failure.
    pub fn pause(&mut self) -> Duration {
        self.pause_up_to(self.longest)
    }

    /// The same, while the pause after it may grow no longer than this.
    pub fn pause_up_to(&mut self, longest: Duration) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(longest);
        pause
    }

    /// Begins again: it worked.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `first`, doubled `times` times, but no longer than `longest`: for callers that count failures anyway.
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest)
}

/// The pause, by chance up to a quarter shorter or longer.
pub fn spread(pause: Duration) -> Duration {
    spread_by(pause, 0.25)
}

/// The pause, by chance shorter or longer by up to this share of itself.
pub fn spread_by(pause: Duration, share: f64) -> Duration {
    pause.mul_f64(1.0 - share + 2.0 * share * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(SECOND, SECOND * 5);
        let pauses = [(); 5].map(|()| backoff.pause().as_secs());
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!([backoff.pause_up_to(SECOND), backoff.pause(), backoff.pause()], [SECOND, SECOND, SECOND * 2]);
        assert_eq!(
            [0, 2, 3, 31, 32, 1000].map(|times| doubled(SECOND, times, SECOND * 5).as_secs()),
            [1, 4, 5, 5, 5, 5]
        );
        assert_eq!(doubled(Duration::MAX, u32::MAX, SECOND), SECOND);
    }

    #[test]
    fn a_spread_pause_stays_near() {
        for _ in 0..1000 {
            assert!((SECOND * 3 / 4..=SECOND * 5 / 4).contains(&spread(SECOND)));
            assert!((SECOND * 9 / 10..=SECOND * 11 / 10).contains(&spread_by(SECOND, 0.1)));
        }
    }
}
