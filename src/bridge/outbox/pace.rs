//! How fast a session may send: a bucket of permissions that fills up evenly, and a pause before the same person is written to
//! again.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::bridge_api::Sending;

use super::RecipientKey;
use crate::machine::later;

/// The shortest time between two messages to one person, spread by up to half of it. Meta's own API allows one in 6 s.
const SAME_RECIPIENT: Duration = Duration::from_secs(1);

/// The pace of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    spec: Sending,
    /// When the bucket would be full again. Every message moves it on by one interval.
    full_at: Option<Timestamp>,
    /// Who was written to within the last second or two, and when they may be again.
    recent: Vec<(RecipientKey, Timestamp)>,
}

impl Pace {
    /// A bucket that is full.
    pub fn new(spec: Sending) -> Self {
        Self { spec, full_at: None, recent: Vec::new() }
    }

    /// What it goes by.
    pub fn spec(&self) -> Sending {
        self.spec
    }

    /// Goes by another pace from now on.
    pub fn set(&mut self, spec: Sending) {
        if spec != self.spec {
            *self = Self { recent: std::mem::take(&mut self.recent), ..Self::new(spec) };
        }
    }

    /// From one message to the next, at the average; `None` when nothing slows it down.
    pub fn interval(&self) -> Option<Duration> {
        (self.spec.per_minute > 0).then(|| Duration::from_secs(60) / self.spec.per_minute)
    }

    /// When the next message, to this person, may go.
    pub fn next(&self, recipient: RecipientKey, now: Timestamp) -> Timestamp {
        let Some(interval) = self.interval() else { return now };
        let reserve = interval.saturating_mul(self.spec.burst.max(1) - 1);
        let permitted = self.full_at.map_or(now, |full_at| earlier(full_at, reserve));
        let again = self.recent.iter().filter(|(written, _)| *written == recipient).map(|(_, at)| *at).max();
        permitted.max(again.unwrap_or(now)).max(now)
    }

    /// When the message after `before` others may go, by the average.
    pub fn estimate(&self, before: usize, now: Timestamp) -> Timestamp {
        let Some(interval) = self.interval() else { return now };
        let burst = usize::try_from(self.spec.burst.max(1)).unwrap_or(usize::MAX);
        let free =
            self.full_at.map_or(now, |full_at| earlier(full_at, interval.saturating_mul(self.spec.burst.max(1) - 1)));
        let paced = u32::try_from(before.saturating_sub(burst - 1).min(before)).unwrap_or(u32::MAX);
        later(free.max(now), interval.saturating_mul(paced))
    }

    /// Whoever was known as `written` is this person.
    pub fn rename(&mut self, written: RecipientKey, person: RecipientKey) {
        for (recent, _) in &mut self.recent {
            if *recent == written {
                *recent = person;
            }
        }
    }

    /// A message goes to this person now; `jitter` is any number.
    pub fn spend(&mut self, recipient: RecipientKey, now: Timestamp, jitter: u64) {
        let Some(interval) = self.interval() else { return };
        self.full_at = Some(later(self.full_at.map_or(now, |full_at| full_at.max(now)), interval));
        let spread = SAME_RECIPIENT / 2 * u32::try_from(jitter % 1001).unwrap_or(0) / 1000;
        self.recent.retain(|(written, at)| *at > now && *written != recipient);
        self.recent.push((recipient, later(now, SAME_RECIPIENT + spread)));
    }
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
    at.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_burst_goes_at_once_and_then_one_per_interval() {
        let mut pace = Pace::new(Sending { per_minute: 60, burst: 3 });
        for n in 0..3 {
            assert_eq!(pace.next(n, at(0)), at(0));
            pace.spend(n, at(0), 0);
        }
        assert_eq!(pace.next(9, at(0)), at(1000));
        pace.spend(9, at(1000), 0);
        assert_eq!(pace.next(10, at(1000)), at(2000));
        assert_eq!(pace.estimate(2, at(1000)), at(2000), "what waits may still go in the burst that fills up");
        // After a pause the bucket is full again, and not fuller.
        for n in 20..23 {
            assert_eq!(pace.next(n, at(60_000)), at(60_000));
            pace.spend(n, at(60_000), 0);
        }
        assert!(pace.next(30, at(60_000)) > at(60_000));
    }

    #[test]
    fn the_same_person_is_not_written_to_again_within_a_second() {
        let mut pace = Pace::new(Sending { per_minute: 6000, burst: 100 });
        pace.spend(1, at(0), 1000);
        assert_eq!(pace.next(1, at(0)), at(1500));
        assert_eq!(pace.next(2, at(0)), at(0));
        // Nor when somebody else was written to between.
        pace.spend(5, at(10), 0);
        assert_eq!((pace.next(1, at(20)), pace.next(5, at(20))), (at(1500), at(1010)));
        pace.rename(3, 4);
        pace.rename(1, 2);
        assert_eq!((pace.next(2, at(0)), pace.next(4, at(0))), (at(1500), at(0)));
        pace.spend(6, at(1600), 0);
        assert_eq!(pace.recent.len(), 1, "who may be written to again is forgotten");
    }

    #[test]
    fn without_a_pace_nothing_waits() {
        let mut pace = Pace::new(Sending { per_minute: 0, burst: 0 });
        for _ in 0..1000 {
            pace.spend(1, at(0), 7);
        }
        assert_eq!(pace.next(1, at(0)), at(0));
        assert_eq!(pace.estimate(100_000, at(0)), at(0));
    }

    #[test]
    fn the_estimate_counts_what_waits_before() {
        let pace = Pace::new(Sending { per_minute: 20, burst: 5 });
        assert_eq!(pace.estimate(0, at(0)), at(0));
        assert_eq!(pace.estimate(4, at(0)), at(0));
        assert_eq!(pace.estimate(24, at(0)), at(60_000));
    }
}
