//! Metrics under the names controller-runtime made a standard, so that stock dashboards work.

use std::{fmt, sync::Mutex};

use prometheus_client::{encoding::text, registry::Registry};

use super::lock;

/// Where every room registers its metrics, and what `/metrics` shows.
#[derive(Default)]
pub struct Metrics(Mutex<Registry>);

impl Metrics {
    /// Registers metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut lock(&self.0));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &lock(&self.0));
        out
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
