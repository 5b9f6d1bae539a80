//! A condition without its bookkeeping, and the one place that does the bookkeeping. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::sentences;

/// What was found out about one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// True, False or Unknown.
    pub status: &'static str,
    /// One of [`crate::api::conditions::reason`].
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Finding {
    /// A finding with a sentence of its own.
    pub fn new(status: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }

    /// It is so; the sentence is the reason's.
    pub fn yes(reason: &str) -> Self {
        Self::new("True", reason, sentences::of(reason))
    }

    /// It is not so.
    pub fn no(reason: &str) -> Self {
        Self::new("False", reason, sentences::of(reason))
    }

    /// It is not known.
    pub fn unknown(reason: &str) -> Self {
        Self::new("Unknown", reason, sentences::of(reason))
    }

    /// Whether a condition says it already.
    pub fn is_shown_by(&self, shown: &Condition) -> bool {
        (self.status, &self.reason, &self.message) == (shown.status.as_str(), &shown.reason, &shown.message)
    }

    /// The condition of this `kind`. Its time is that of the one in `old`, unless the status changes now.
    pub fn condition(self, kind: &str, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let before = old.iter().find(|condition| condition.type_ == kind && condition.status == self.status);
        // The API server keeps whole seconds.
        let now = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        Condition {
            type_: kind.into(),
            status: self.status.into(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            last_transition_time: before.map_or_else(now, |before| before.last_transition_time.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Finding;
    use crate::controller::fixtures::now;

    #[test]
    fn the_time_is_that_of_the_last_change_of_the_status() {
        let first = Finding::new("False", "Why", "Because.").condition("Ready", &[], Some(1), now());
        let later = now() + jiff::SignedDuration::from_millis(60_500);
        let old = [first.clone()];
        let same = Finding::new("False", "WhyElse", "Otherwise.").condition("Ready", &old, Some(2), later);
        assert_eq!((same.reason.as_str(), same.observed_generation), ("WhyElse", Some(2)));
        assert_eq!(same.last_transition_time, first.last_transition_time);
        let turned = Finding::new("True", "Fine", "Now.").condition("Ready", &old, Some(2), later);
        assert_eq!(turned.last_transition_time.0.duration_since(now()).as_millis(), 60_000);
        let other = Finding::new("False", "Why", "Because.").condition("Paired", &old, Some(2), later);
        assert_eq!(other.last_transition_time, turned.last_transition_time);
    }
}
