//! The reach-out timelock: the account may not start chats.

use std::sync::Arc;

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{Restriction, RestrictionKind};
use whatsapp_rust::Client;

use crate::{backend::EventSink, machine::ClientEvent, outbox::TIMELOCKED};

/// Asks whether the account may start new chats. Without an answer, what is known stays, or `suspected` is believed.
pub(super) async fn ask(client: Arc<Client>, suspected: Option<Restriction>, events: EventSink) {
    let answer = client.mex().fetch_reachout_timelock().await.unwrap_or_default();
    let ends = answer.time_enforcement_ends.and_then(|seconds| seconds.parse().ok());
    match (answer.is_active, suspected) {
        (Some(true), _) => events.tell(ClientEvent::Restricted(Some(reachout_timelock(ends)))),
        (Some(false), _) => events.tell(ClientEvent::Restricted(None)),
        (None, Some(suspected)) => events.tell(ClientEvent::Restricted(Some(suspected))),
        (None, None) => {}
    }
}

/// Reads the state of the reach-out timelock out of a notification: the object that has `is_active` in it, wherever it is. Nothing where
/// that cannot be read.
pub(super) fn read(payload: &serde_json::Value) -> Option<ClientEvent> {
    fn find(value: &serde_json::Value) -> Option<&serde_json::Map<String, serde_json::Value>> {
        match value {
            serde_json::Value::Object(map) if map.contains_key("is_active") => Some(map),
            serde_json::Value::Object(map) => map.values().find_map(find),
            serde_json::Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let lock = find(payload)?;
    if !lock.get("is_active")?.as_bool()? {
        return Some(ClientEvent::Restricted(None));
    }
    // Seconds since 1970, as a number or as text, by whom it was sent.
    let ends = lock.get("time_enforcement_ends").and_then(|at| match at {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    });
    Some(ClientEvent::Restricted(Some(reachout_timelock(ends))))
}

/// The restriction behind server error 463; `ends` in seconds since 1970.
pub(super) fn reachout_timelock(ends: Option<i64>) -> Restriction {
    Restriction {
        kind: RestrictionKind::ReachoutTimelock.into(),
        code: Some(TIMELOCKED),
        expires_at: ends.and_then(|seconds| Timestamp::from_second(seconds).ok()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timelock_is_read_with_its_end_and_lifted_when_inactive() {
        let active = json!({"data": {"xwa2_notify_account_reachout_timelock":
            {"is_active": true, "time_enforcement_ends": "1800000000", "enforcement_type": "DEFAULT"}}});
        let Some(ClientEvent::Restricted(Some(found))) = read(&active) else { panic!("it is active") };
        assert_eq!(found.expires_at.map(Timestamp::as_second), Some(1_800_000_000));
        let lifted = read(&json!({"data": {"x": {"is_active": false}}}));
        assert_eq!(lifted, Some(ClientEvent::Restricted(None)));
        for unknown in [json!(null), json!({"data": {"x": {"is_active": "true"}}}), json!({"data": {"active": false}})]
        {
            assert_eq!(read(&unknown), None, "{unknown}");
        }
    }
}
