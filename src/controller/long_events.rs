//! Events about objects of long names. The recorder of the client library calls an Event by its object's name and the time, and with more
//! than 236 characters before it that is no name any more: the API server refuses it, and nobody hears that a device may still be linked.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event as Written},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// What an object's name may have at most (a DNS subdomain), without the point and the nanoseconds in hexadecimal digits.
const LONGEST: usize = 253 - 17;

/// Publishes an Event; one about an object of a long name under a shorter name of its own. Repetitions of that one are not counted but
/// told again.
///
/// # Errors
/// When the API server does not take it.
pub async fn publish(
    recorder: &Recorder,
    client: &Client,
    reporter: &Reporter,
    event: &Event,
    about: &ObjectReference,
) -> Result<(), kube::Error> {
    let name = about.name.as_deref().unwrap_or_default();
    if name.len() <= LONGEST {
        return recorder.publish(event, about).await;
    }
    let namespace = about.namespace.as_deref().unwrap_or("default");
    let written = written(reporter, event, about, Timestamp::now());
    Api::<Written>::namespaced(client.clone(), namespace).create(&PostParams::default(), &written).await.map(drop)
}

/// As the recorder would write it, but for the name.
fn written(reporter: &Reporter, event: &Event, about: &ObjectReference, now: Timestamp) -> Written {
    let begin: String = about.name.iter().flat_map(|name| name.chars()).take(LONGEST).collect();
    // What is before a point ends with a letter or a digit.
    let begin = begin.trim_end_matches(['-', '.']);
    let Event { type_, reason, note, action, secondary } = event;
    let kind = match type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    Written {
        metadata: ObjectMeta {
            name: Some(format!("{begin}.{:x}", now.as_nanosecond())),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some(action.clone()),
        event_time: Some(MicroTime(now)),
        note: note.clone(),
        reason: Some(reason.clone()),
        regarding: Some(about.clone()),
        related: secondary.clone(),
        reporting_controller: Some(reporter.controller.clone()),
        reporting_instance: Some(reporter.instance.clone().unwrap_or_else(|| reporter.controller.clone())),
        type_: Some(kind.to_owned()),
        ..Written::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router};
    use serde_json::Value;

    use super::*;
    use crate::{controller::decide::notices, platform::lock};

    /// What is written of an Event about an object of this name.
    async fn told(name: &str) -> Value {
        let seen = Arc::new(Mutex::new(Value::Null));
        let noted = Arc::clone(&seen);
        let answer = move |Json(event): Json<Value>| async move {
            *lock(&noted) = event.clone();
            Json(event)
        };
        let client = Client::new(Router::new().fallback(answer), "ns");
        let reporter = Reporter { controller: "test".into(), instance: None };
        let about = ObjectReference { name: Some(name.into()), namespace: Some("ns".into()), ..Default::default() };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        publish(&recorder, &client, &reporter, &(&notices::gave_up(true)).into(), &about).await.unwrap();
        lock(&seen).clone()
    }

    #[tokio::test]
    async fn the_longest_names_have_events_like_all_others() {
        let short = told("shop").await;
        for name in
            ["a".repeat(236), "b".repeat(237), "c".repeat(253), format!("{}.-{}", "d".repeat(234), "e".repeat(17))]
        {
            let long = told(&name).await;
            let called = long["metadata"]["name"].as_str().unwrap();
            let (begin, time) = called.rsplit_once('.').unwrap();
            assert!(called.len() <= 253 && name.starts_with(begin) && time.len() == 16, "{called}");
            assert!(begin.ends_with(|last: char| last.is_ascii_alphanumeric()), "{called}");
            assert_eq!(long["regarding"]["name"], name);
            for field in ["action", "reason", "note", "type", "reportingController", "reportingInstance"] {
                assert!(long[field] == short[field] && long[field].is_string(), "{field}: {long} {short}");
            }
            assert!(long["eventTime"].is_string() && long["metadata"]["namespace"] == "ns", "{long}");
        }
    }
}
