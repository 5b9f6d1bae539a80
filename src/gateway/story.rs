//! What is known of a request by the time it is answered: for its log line.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::platform::kubernetes::ObjectRef;

/// The header that names a request, both ways.
pub const REQUEST_ID: &str = "x-request-id";

/// No caller waits longer than this, counted from when the request came: many proxies answer by themselves after 60 s, and the gateway's
/// answer is lost then.
const LONGEST: Duration = Duration::from_secs(55);

/// One request's facts. Clones share them.
#[derive(Clone, Debug)]
pub struct Story(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    id: String,
    began: Instant,
    caller: OnceLock<String>,
    instance: OnceLock<ObjectRef>,
}

impl Story {
    /// Of a request with these headers: it is named as the caller says, or anew.
    pub fn begin(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_id(id));
        let id = given.map_or_else(|| format!("{:016x}", fastrand::u64(..)), str::to_owned);
        Self(Arc::new(Facts { id, began: Instant::now(), caller: OnceLock::new(), instance: OnceLock::new() }))
    }

    /// Until when the answer may wait, where the caller is ready to wait for so long from now on.
    pub fn until(&self, wait: Duration) -> Instant {
        (Instant::now() + wait).min(self.0.began + LONGEST)
    }

    /// When the request came.
    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// The request's name.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Notes the user who sent it.
    pub fn is_by(&self, user: &str) {
        let _ = self.0.caller.set(user.to_owned());
    }

    /// Notes which instance it is about.
    pub fn is_about(&self, instance: ObjectRef) {
        let _ = self.0.instance.set(instance);
    }

    /// The same request, about another instance.
    #[must_use]
    pub fn another(&self) -> Self {
        let Facts { id, began, caller, .. } = &*self.0;
        let (id, caller) = (id.clone(), caller.clone());
        Self(Arc::new(Facts { id, began: *began, caller, instance: OnceLock::new() }))
    }

    /// The user who sent it; empty while that is not known.
    pub fn caller(&self) -> &str {
        self.0.caller.get().map_or("", String::as_str)
    }

    /// Which instance it is about; empty when none.
    pub fn instance(&self) -> String {
        self.0.instance.get().map(ToString::to_string).unwrap_or_default()
    }
}

/// What may stand in logs and headers as it is.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_longer_than_proxies_do() {
        let (before, story) = (Instant::now(), Story::begin(&HeaderMap::new()));
        let came = story.0.began;
        assert!(story.until(Duration::from_secs(10)) >= before + Duration::from_secs(10));
        // However late the waiting begins.
        assert_eq!(story.until(Duration::from_secs(60)), came + LONGEST);
        assert_eq!(story.another().until(Duration::from_secs(60)), came + LONGEST);
    }

    #[test]
    fn a_callers_name_for_a_request_is_kept_when_it_is_harmless() {
        let story = |id: &str| {
            Story::begin(&[(REQUEST_ID, id)].iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
        };
        assert_eq!(story("order-17.a_B").id(), "order-17.a_B");
        for bad in ["", "a b", "a=b", &"x".repeat(65)] {
            assert_eq!(story(bad).id().len(), 16, "{bad:?}");
        }
    }
}
