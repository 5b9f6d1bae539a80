//! Whether a session is in use. Its state notes that once in a quarter of an hour, so not every stanza has to tell it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Traffic is told of at most this often. What is noted of it is no finer than 15 minutes.
const EVERY: Duration = Duration::from_secs(60);

/// When the traffic of a client was last told of.
pub struct Activity {
    began: Instant,
    /// In milliseconds after `began`, plus one; zero before the first time.
    told: AtomicU64,
}

impl Activity {
    /// A client of which nothing has been told.
    pub fn new() -> Self {
        Self { began: Instant::now(), told: AtomicU64::new(0) }
    }

    /// Something came or went. Returns whether that is to be told: `false` for a minute after it was `true`.
    pub fn is_news(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let told = self.told.load(Ordering::Relaxed);
        let due = told == 0 || u128::from(now.saturating_sub(told)) >= EVERY.as_millis();
        due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_told_once_a_minute() {
        let activity = Activity::new();
        assert!(activity.is_news());
        assert!(!activity.is_news());
        let later = Activity { began: activity.began.checked_sub(EVERY).unwrap(), ..activity };
        assert!(later.is_news());
        assert!(!later.is_news());
    }
}
