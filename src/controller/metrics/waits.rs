//! How long instances have waited: for a connection, which should take seconds, and for a person.
//!
//! In a large fleet there is always one that is just being connected, so how many there are at a moment says nothing about whether any of
//! them gets there.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    api::Phase,
    platform::{lock, metrics::Metrics},
};

/// What an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// To be connected, or connected again; that comes by itself.
    Connection,
    /// Somebody has to link it.
    Person,
}

impl Wait {
    const ALL: [Self; 2] = [Self::Connection, Self::Person];

    /// What an instance in this phase waits for.
    pub fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::BridgeUnavailable | Phase::Connecting | Phase::Pending | Phase::Reconnecting => {
                Some(Self::Connection)
            }
            Phase::AwaitingPairing | Phase::PairingExpired | Phase::AwaitingPasskey => Some(Self::Person),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Person => "Person",
        }
    }
}

/// How many instances wait, by what for and since when. Clones share it.
#[derive(Clone, Default)]
pub struct Waits(Arc<Mutex<BTreeMap<(Wait, Instant), usize>>>);

impl Waits {
    /// What an instance waited for and since when, and what it does now.
    pub fn change(&self, before: Option<(Wait, Instant)>, after: Option<(Wait, Instant)>) {
        if before == after {
            return;
        }
        let mut waits = lock(&self.0);
        if let Some(before) = before
            && let Some(count) = waits.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                waits.remove(&before);
            }
        }
        if let Some(after) = after {
            *waits.entry(after).or_default() += 1;
        }
    }

    /// How many seconds the one has waited that has waited longest; 0 where none does.
    fn longest(&self, wait: Wait, now: Instant) -> u64 {
        let waits = lock(&self.0);
        let first = waits.keys().find(|(of, _)| *of == wait);
        first.map_or(0, |(_, since)| now.saturating_duration_since(*since).as_secs())
    }

    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| registry.register_collector(Box::new(self.clone())));
    }
}

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "whatsapp_instances_longest_wait_seconds",
            "How long the instance has waited that has waited longest, by what for: a connection, or a person who links it",
            None,
            MetricType::Gauge,
        )?;
        let now = Instant::now();
        for wait in Wait::ALL {
            let seconds = ConstGauge::new(self.longest(wait, now));
            seconds.encode(metric.encode_family(&[("waits_for", wait.name())])?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waits")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_wait_is_that_of_whoever_still_waits() {
        let (waits, begin) = (Waits::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (first, second) = ((Wait::Connection, at(0)), (Wait::Connection, at(10)));
        for wait in [first, second, first] {
            waits.change(None, Some(wait));
        }
        waits.change(None, Some((Wait::Person, at(20))));
        let longest = |wait| waits.longest(wait, at(60));
        assert_eq!((longest(Wait::Connection), longest(Wait::Person)), (60, 40));
        waits.change(Some(first), None);
        waits.change(Some(first), Some(first));
        assert_eq!(longest(Wait::Connection), 60, "another has waited since then");
        waits.change(Some(first), Some((Wait::Person, at(50))));
        assert_eq!((longest(Wait::Connection), longest(Wait::Person)), (50, 40));
        waits.change(Some(second), None);
        assert_eq!(longest(Wait::Connection), 0);
        let metrics = Metrics::default();
        waits.register(&metrics);
        let text = metrics.text();
        assert!(text.contains("whatsapp_instances_longest_wait_seconds{waits_for=\"Connection\"} 0\n"), "{text}");
    }
}
