//! What the webhooks count. No label names an object, an owner or a requester.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

use crate::platform::metrics::Metrics;

/// From what a decision without any call takes to what the API server waits.
const SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.015, 0.05, 0.25, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    webhook: &'static str,
    /// "allowed", "malformed", or the reason of the refusal.
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabel {
    webhook: &'static str,
}

/// What the webhooks count.
#[derive(Clone)]
pub struct AdmissionMetrics {
    total: Family<Labels, Counter>,
    seconds: Family<WebhookLabel, Histogram, fn() -> Histogram>,
}

impl Default for AdmissionMetrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self { total: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }
}

impl AdmissionMetrics {
    /// New metrics, shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("whatsapp_operator_admission");
            registry.register("reviews", "Reviews answered, by webhook and answer", own.total.clone());
            registry.register("review_seconds", "Time to answer a review", own.seconds.clone());
        });
        own
    }

    pub(super) fn answered(&self, webhook: &'static str, answer: &'static str, took: Duration) {
        self.total.get_or_create(&Labels { webhook, answer }).inc();
        self.seconds.get_or_create(&WebhookLabel { webhook }).observe(took.as_secs_f64());
    }
}

impl fmt::Debug for AdmissionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmissionMetrics")
    }
}
