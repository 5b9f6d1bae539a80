//! Linking links: how a person who has the phone, and no account of the cluster, gets to see the codes of one instance.
//!
//! A link holds a secret; the instance holds its digest, in the annotation [`LINKING_LINK`]. So a user who may read instances
//! learns no link, a user who may change one can make or revoke it (Kubernetes checks and audits that), and any replica of the
//! gateway recognises a good one. It works for one instance, until a device is linked, and ten minutes at most.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::{
    api::{DesiredState, Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions, labels::LINKING_LINK},
    platform::hex::sha256,
};

/// How long a link may work: long enough to reach for the phone, too short to be found later in a chat.
pub const LONGEST: Duration = Duration::from_secs(600);

/// How far the clocks of the gateway's replicas may differ.
const CLOCKS: Duration = Duration::from_secs(60);

/// What an instance knows of its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkingLink {
    /// SHA-256 of the secret, in lower-case hexadecimal digits.
    sha256: String,
    /// A device that was linked after this has used it.
    created_at: Timestamp,
    /// When it stops working.
    expires_at: Timestamp,
}

impl LinkingLink {
    /// One for an instance with this status.
    pub fn new(secret: &str, status: Option<&WhatsAppInstanceStatus>, now: Timestamp, lasts: Duration) -> Self {
        // The time of another machine, whose clock may be ahead of ours.
        let unpaired = status.and_then(paired).map_or(now, |(_, since)| since);
        let expires_at = now.checked_add(lasts.min(LONGEST)).unwrap_or(now);
        Self { sha256: sha256(secret), created_at: now.max(unpaired), expires_at }
    }

    /// The one that an instance has, if it has one that can be read.
    pub fn of(instance: &WhatsAppInstance) -> Option<Self> {
        let link: Self = serde_json::from_str(instance.annotations().get(LINKING_LINK)?).ok()?;
        // An annotation written by hand gives no more than a link from the gateway.
        let latest = link.created_at.checked_add(LONGEST).ok()?;
        Some(Self { expires_at: link.expires_at.min(latest), ..link })
    }

    /// The annotation's value.
    pub fn annotation(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// When it stops working.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Names it in logs.
    pub fn name(&self) -> &str {
        self.sha256.get(..8).unwrap_or_default()
    }

    /// Whether `secret` is its secret, and it has not expired. One that would work for longer than any was made by a clock that was ahead,
    /// or the clock has been set back since: when it was made is not known then.
    pub fn is_opened_by(&self, secret: &str, now: Timestamp) -> bool {
        let latest = now.saturating_add(CLOCKS).and_then(|now| now.checked_add(LONGEST)).unwrap_or(Timestamp::MAX);
        // Digests are compared: how long that takes tells nothing of the secret.
        now < self.expires_at && self.expires_at <= latest && self.sha256 == sha256(secret)
    }

    /// Whether a device was linked since it was made.
    pub fn is_used(&self, status: &WhatsAppInstanceStatus) -> bool {
        paired(status).is_some_and(|(paired, since)| paired || since > self.created_at)
    }
}

/// Whether linking a device to the instance is what it waits for.
pub fn wants_device(instance: &WhatsAppInstance) -> bool {
    let status = instance.status.as_ref();
    instance.metadata.deletion_timestamp.is_none()
        && instance.spec.desired_state == DesiredState::Connected
        && status.and_then(|status| status.phase) != Some(Phase::Rejected)
        && !status.and_then(paired).is_some_and(|(paired, _)| paired)
}

/// Whether a device is linked, and since when that is so.
fn paired(status: &WhatsAppInstanceStatus) -> Option<(bool, Timestamp)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == conditions::PAIRED)?;
    Some((condition.status == "True", condition.last_transition_time.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}Z").parse().unwrap()
    }

    fn status(paired: &str, since: &str) -> WhatsAppInstanceStatus {
        let condition =
            json!({"type": "Paired", "status": paired, "reason": "x", "message": "", "lastTransitionTime": at(since)});
        serde_json::from_value(json!({"conditions": [condition]})).unwrap()
    }

    fn instance(annotation: &str) -> WhatsAppInstance {
        let meta = json!({"name": "a", "annotations": {LINKING_LINK: annotation}});
        serde_json::from_value(json!({"metadata": meta, "spec": {"name": "A", "owner": "alice"}})).unwrap()
    }

    #[test]
    fn it_is_opened_by_its_secret_for_ten_minutes_at_most() {
        let link = LinkingLink::new("secret", None, at("12:00:00"), HOUR);
        assert!(!link.annotation().contains("secret"));
        let known = LinkingLink::of(&instance(&link.annotation())).unwrap();
        assert_eq!(known, link);
        assert!(known.is_opened_by("secret", at("12:09:59")));
        assert!(!known.is_opened_by("secret", at("12:10:00")) && !known.is_opened_by("other", at("12:00:01")));
        // Another replica's clock may be behind a little. By one that was set back, nobody knows when it was made.
        assert!(known.is_opened_by("secret", at("11:59:01")));
        assert!(!known.is_opened_by("secret", at("11:58:59")) && !known.is_opened_by("secret", at("11:00:00")));
        let short = LinkingLink::new("secret", None, at("12:00:00"), Duration::from_secs(60));
        assert!(!short.is_opened_by("secret", at("12:01:00")));
    }

    #[test]
    fn one_written_by_hand_lasts_no_longer_and_garbage_is_none() {
        let wanted = |expires: &str| {
            json!({"sha256": sha256("s"), "createdAt": at("12:00:00"), "expiresAt": expires}).to_string()
        };
        let hand = LinkingLink::of(&instance(&wanted("2099-01-01T00:00:00Z"))).unwrap();
        assert_eq!(hand.expires_at(), at("12:10:00"));
        for garbage in ["", "{}", "null", "[1]", &wanted("soon")] {
            assert_eq!(LinkingLink::of(&instance(garbage)), None, "{garbage}");
        }
    }

    #[test]
    fn it_is_used_once_a_device_was_linked_whatever_became_of_it() {
        let before = status("False", "12:00:05");
        // The controller's clock is five seconds ahead.
        let link = LinkingLink::new("secret", Some(&before), at("12:00:00"), LONGEST);
        assert!(!link.is_used(&before) && !link.is_used(&WhatsAppInstanceStatus::default()));
        assert!(link.is_used(&status("True", "12:01:00")));
        assert!(link.is_used(&status("False", "12:02:00")), "linked, and unlinked since");
    }

    #[test]
    fn only_what_waits_for_a_device_gets_one() {
        let mut some = instance("");
        assert!(wants_device(&some));
        some.status = Some(status("True", "12:00:00"));
        assert!(!wants_device(&some));
        some.status = Some(status("False", "12:00:00"));
        assert!(wants_device(&some));
        some.spec.desired_state = DesiredState::Disconnected;
        assert!(!wants_device(&some));
    }
}
