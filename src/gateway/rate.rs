//! How many requests a caller may send: a token bucket each. Pure but for the map.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::platform::lock;

/// Callers kept at most; those that have been quiet are forgotten first, which costs them nothing.
const MOST_CALLERS: usize = 10_000;

/// The buckets of all callers.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    /// So many requests a second, and twice as many at once; 0 for no limit.
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, burst: per_second * 2.0, buckets: Mutex::default() }
    }

    /// Counts a request of `caller`.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&self, caller: &str, now: Instant) -> Result<(), Duration> {
        if self.per_second <= 0.0 {
            return Ok(());
        }
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= MOST_CALLERS && !buckets.contains_key(caller) {
            buckets.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
            if buckets.len() >= MOST_CALLERS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = self.bucket_of(&mut buckets, caller, now);
        if bucket.left < 1.0 {
            return Err(self.until_one(bucket.left));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// Counts as many more requests, which one that was let through turned out to be worth. Those after it wait for all of them.
    ///
    /// # Errors
    /// How long to wait, when an earlier one is still being waited for: several that are let through before the first is known to
    /// be worth many would otherwise all be done.
    pub fn charge(&self, caller: &str, more: usize, now: Instant) -> Result<(), Duration> {
        if self.per_second <= 0.0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_or(f64::MAX, f64::from);
        let mut buckets = lock(&self.buckets);
        let bucket = self.bucket_of(&mut buckets, caller, now);
        if bucket.left < 0.0 {
            return Err(self.until_one(bucket.left));
        }
        bucket.left -= more;
        Ok(())
    }

    /// A caller's bucket as it is now; a full one for a new caller.
    fn bucket_of<'a>(&self, buckets: &'a mut HashMap<String, Bucket>, caller: &str, now: Instant) -> &'a mut Bucket {
        let bucket = buckets.entry(caller.to_owned()).or_insert(Bucket { left: self.burst, at: now });
        *bucket = Bucket { left: self.filled(*bucket, now), at: now };
        bucket
    }

    /// What a bucket has by now.
    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.burst)
    }

    /// How long it takes until a bucket with so much has one more.
    fn until_one(&self, left: f64) -> Duration {
        Duration::from_secs_f64((1.0 - left) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_then_the_pace_and_nobody_waits_for_another() {
        let (rate, start) = (Rate::new(10), Instant::now());
        assert!((0..20).all(|_| rate.take("alice", start).is_ok()));
        let wait = rate.take("alice", start).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(101), "{wait:?}");
        assert!(rate.take("bob", start).is_ok());
        assert!(rate.take("alice", start + wait).is_ok());
        assert!(rate.take("alice", start + wait).is_err());
    }

    #[test]
    fn one_that_is_worth_many_is_waited_for_by_those_after_it() {
        let (rate, start) = (Rate::new(10), Instant::now());
        assert!(rate.take("alice", start).is_ok());
        assert!(rate.take("alice", start).is_ok());
        assert_eq!(rate.charge("alice", 98, start), Ok(()));
        let wait = rate.charge("alice", 98, start).unwrap_err();
        assert!(wait > Duration::from_millis(8_000) && wait <= Duration::from_millis(8_101), "{wait:?}");
        let wait = rate.take("alice", start).unwrap_err();
        assert!(wait > Duration::from_millis(8_000) && wait <= Duration::from_millis(8_101), "{wait:?}");
        assert!(rate.take("bob", start).is_ok());
        assert!(rate.take("alice", start + wait).is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted_and_with_one_memory_is_bounded() {
        let (none, start) = (Rate::new(0), Instant::now());
        assert!((0..1000).all(|_| none.take("alice", start).is_ok()));
        let rate = Rate::new(1);
        for n in 0..MOST_CALLERS + 10 {
            let _ = rate.take(&n.to_string(), start);
        }
        assert!(lock(&rate.buckets).len() <= MOST_CALLERS);
        assert_eq!(rate.charge("0", 100, start), Ok(()));
        assert!(rate.take("late", start + Duration::from_secs(3)).is_ok(), "the quiet ones are forgotten");
        assert!(rate.take("0", start + Duration::from_secs(3)).is_err(), "what is still to be waited for is not");
    }
}
