//! What the gateway counts. No label names an object, an owner or a caller.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::platform::metrics::Metrics;

/// From what an answer out of memory takes to the longest wait.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    /// "ok", or the code of the refusal.
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    answer: &'static str,
}

/// What the gateway counts.
#[derive(Clone)]
pub struct GatewayMetrics {
    requests: Family<Labels, Counter>,
    seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    reviews: Family<AnswerLabel, Counter>,
    streams: Gauge,
    feeds: Gauge,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            reviews: Family::default(),
            streams: Gauge::default(),
            feeds: Gauge::default(),
        }
    }
}

impl GatewayMetrics {
    /// New metrics, shown with the others.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("whatsapp_operator_gateway");
            registry.register("requests", "Requests answered, by method, route and code", own.requests.clone());
            registry.register("request_seconds", "Time to answer a request, waits included", own.seconds.clone());
            registry.register("token_reviews", "Times the API server was asked whose a token is", own.reviews.clone());
            registry.register("event_streams", "Event streams that are open", own.streams.clone());
            registry.register("message_feeds", "Shards whose messages are followed", own.feeds.clone());
        });
        own
    }

    pub(super) fn answered(&self, method: &'static str, route: &str, answer: &'static str, took: Duration) {
        self.requests.get_or_create(&Labels { method, route: route.to_owned(), answer }).inc();
        self.seconds.get_or_create(&RouteLabel { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    pub(super) fn asked(&self, answer: &'static str) {
        self.reviews.get_or_create(&AnswerLabel { answer }).inc();
    }

    pub(super) fn stream(&self, opened: bool) {
        count(&self.streams, opened);
    }

    pub(super) fn feed(&self, followed: bool) {
        count(&self.feeds, followed);
    }
}

fn count(gauge: &Gauge, more: bool) {
    if more {
        gauge.inc()
    } else {
        gauge.dec()
    };
}

impl fmt::Debug for GatewayMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayMetrics")
    }
}
