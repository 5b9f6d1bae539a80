//! Health and metrics.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use whatsapp_operator::platform::admin::Shown;

use super::Api;
use crate::sessions::Shared;

/// Looking through the directories of a thousand sessions takes some ten milliseconds. A disk that does not answer is not
/// to cost the other metrics.
const MEASURE: Duration = Duration::from_secs(2);

#[async_trait]
impl Shown for Api {
    async fn obstacle(&self) -> Option<String> {
        if !self.ready.load(Ordering::Relaxed) {
            Some("stopping".to_owned())
        } else if self.shared.store.works().await {
            None
        } else {
            Some("sessions cannot be stored; the log says why".to_owned())
        }
    }

    async fn metrics(&self) -> String {
        let counts = self.shared.feed.sessions.count(|session| format!("{:?}", session.phase));
        if self.shared.metrics.measures(Instant::now())
            && let Ok(bytes) = timeout(MEASURE, data_bytes(&self.shared)).await
        {
            self.shared.metrics.data(bytes);
        }
        let oldest = timeout(MEASURE, self.shared.store.reader.oldest_waiting()).await;
        let age = oldest
            .ok()
            .and_then(Result::ok)
            .map(|oldest| oldest.map_or(0, |oldest| Timestamp::now().duration_since(oldest).as_secs().max(0)));
        self.shared.metrics.waiting(self.shared.outboxes.waiting(), age);
        self.shared.metrics.held_up(self.shared.outboxes.held_up.counts());
        self.shared.metrics.commits(self.shared.store.commits());
        self.shared.metrics.text(|phase| counts.get(&format!("{phase:?}")).copied().unwrap_or(0))
    }
}

/// What the disk holds, by kind. What cannot be read now is not shown anew.
async fn data_bytes(shared: &Shared) -> Vec<(&'static str, u64)> {
    let mut bytes = Vec::new();
    if let Ok(keys) = shared.keys.bytes().await {
        bytes.push(("keys", keys));
    }
    if let Ok((directory, database)) = shared.data.bytes().await {
        bytes.extend([("directory", directory), ("database", database)]);
    }
    bytes
}
