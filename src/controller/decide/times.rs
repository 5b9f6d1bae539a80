//! Times as they are written, added and waited for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Kubernetes writes whole seconds; rounding here keeps what was written comparable with what is computed.
pub fn seconds(at: Timestamp) -> Time {
    Time(at.round(Unit::Second).unwrap_or(at))
}

/// `at` plus `wait`, or the end of time: a bridge may answer any time there is, and `+` panics past the end.
pub fn after(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// How long until `at`, and never so short that it becomes a loop.
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(50))
}
