//! How many inputs may wait for a session's task.

use std::time::Duration;

use tokio::time::Instant;

/// While the store fails or is slow, the session's inputs wait in memory. When there are more than this, its client is stopped: what
/// WhatsApp has not delivered by then, WhatsApp keeps, and delivers when the session connects again.
pub(super) const MOST_INPUTS: usize = 1000;

/// More may come at once when an account has been away for long. They are too many when there are still more after this time.
const CROWDED: Duration = Duration::from_secs(1);

/// Since when more inputs wait than may.
#[derive(Default)]
pub(super) struct Crowd {
    since: Option<Instant>,
}

impl Crowd {
    /// So many inputs wait `now`; whether too many have for too long.
    pub(super) fn lasts(&mut self, inputs: usize, now: Instant) -> bool {
        if inputs <= MOST_INPUTS {
            self.since = None;
            return false;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now)) >= CROWDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_inputs_at_once_are_not_too_many_unless_the_store_is_too_slow_for_them() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        assert!(!crowd.lasts(5 * MOST_INPUTS, start));
        assert!(!crowd.lasts(MOST_INPUTS, start + CROWDED));
        assert!(!crowd.lasts(5 * MOST_INPUTS, start + 2 * CROWDED), "those have been taken in time");
        assert!(crowd.lasts(5 * MOST_INPUTS, start + 3 * CROWDED));
    }
}
