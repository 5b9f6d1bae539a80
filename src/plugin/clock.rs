//! The time as the API server has it: codes end by the cluster's clocks, and this machine's may be minutes off.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::http::{HeaderMap, header::DATE};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// A date has no parts of a second, and its answer takes a while: less than this is no difference.
const UNSURE: i64 = 2_000;

/// This machine's clock, set by the answers of an API server.
#[derive(Debug, Clone, Default)]
pub struct ServerClock(Arc<AtomicI64>);

impl ServerClock {
    /// Now, there.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(SignedDuration::from_millis(self.0.load(Ordering::Relaxed))).unwrap_or(now)
    }

    /// Goes by the date of an answer that has just come.
    pub fn hear(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        if let Some(ahead) = date.and_then(|date| ahead(date, Timestamp::now())) {
            self.0.store(ahead, Ordering::Relaxed);
        }
    }
}

/// By how many milliseconds the clock that gave this date is ahead of `now`.
fn ahead(date: &str, now: Timestamp) -> Option<i64> {
    // In the middle of its second.
    let date = rfc2822::parse(date).ok()?.timestamp().as_millisecond() + 500;
    let ahead = date - now.as_millisecond();
    Some(if ahead.abs() <= UNSURE { 0 } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_by_the_date_of_an_answer_and_not_by_the_way_it_took() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (date, expected) in [
            ("Thu, 01 Jan 2026 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 2025 23:59:58 GMT", Some(0)),
            ("Thu, 01 Jan 2026 00:05:00 GMT", Some(300_500)),
            ("Wed, 31 Dec 2025 23:55:00 GMT", Some(-299_500)),
            ("yesterday", None),
        ] {
            assert_eq!(ahead(date, now), expected, "{date}");
        }
        let clock = ServerClock::default();
        clock.hear(&HeaderMap::new());
        assert!((clock.now().as_millisecond() - Timestamp::now().as_millisecond()).abs() < 1_000);
        let dated = [(DATE, "Thu, 01 Jan 2037 00:05:00 GMT".parse().unwrap())].into_iter().collect();
        clock.hear(&dated);
        assert!(clock.now().to_string().starts_with("2037-01-01T00:05:0"), "{}", clock.now());
    }
}
