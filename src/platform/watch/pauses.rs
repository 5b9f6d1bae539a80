//! Pauses between the attempts to watch.

use std::time::Duration;

use tokio::time::Instant;

use crate::platform::backoff::Backoff;

/// The pause after a failure. It doubles up to the last one. (The watcher's own begins anew with every list that it asks for,
/// even if that is refused.)
pub(super) const FIRST: Duration = Duration::from_millis(800);
pub(super) const LAST: Duration = Duration::from_secs(15);
/// An attempt takes 25 s at most, the silence after which a connection is given up. When more than that and a pause lies
/// between two failures, the watch has worked in between. There is no other sign of that: lists may be answered while every watch is
/// refused, or breaks at once.
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// The pauses of one watch.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    failed: Option<Instant>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST, LAST), failed: None }
    }
}

impl Pauses {
    /// How long to wait after one more failure.
    pub(super) fn after_failure(&mut self, now: Instant) -> Duration {
        if self.failed.replace(now).is_some_and(|before| now - before >= QUIET) {
            self.backoff.reset();
        }
        self.backoff.pause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_the_watch_has_worked_for_a_while() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
        let mut after = |seconds| pauses.after_failure(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 3, 6, 13, 26, 42].map(&mut after)[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!([58, 117].map(&mut after), [LAST, LAST], "never quiet for long");
        assert_eq!([177, 178].map(&mut after), [FIRST, FIRST * 2]);
    }
}
