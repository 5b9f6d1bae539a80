//! What is worth a Kubernetes Event: derived from the old and the new status alone, so a restart repeats nothing. Pure.

use kube::runtime::events::{Event, EventType};

use crate::api::{InstanceRef, Phase, WhatsAppInstanceStatus, conditions, conditions::reason};

/// One Event to publish. Notes name no phone numbers, codes or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether a person should act.
    pub warning: bool,
    /// CamelCase and of low cardinality: the condition reason.
    pub reason: String,
    /// What the controller was doing.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

impl From<&Notice> for Event {
    fn from(notice: &Notice) -> Self {
        // The API server refuses notes of more than 1,024 bytes.
        let note: String = notice.note.chars().take(1000).collect();
        Self {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.clone(),
            note: Some(note),
            action: notice.action.into(),
            secondary: None,
        }
    }
}

/// The reason of the Event that ends a deletion which could not unlink.
pub const UNLINK_GAVE_UP: &str = "UnlinkGaveUp";

/// One notice at most: what Ready says now and did not say before.
pub fn between(old: &WhatsAppInstanceStatus, new: &WhatsAppInstanceStatus) -> Vec<Notice> {
    let ready = |status: &WhatsAppInstanceStatus| {
        status.conditions.iter().find(|condition| condition.type_ == conditions::READY).cloned()
    };
    let (before, Some(after)) = (ready(old), ready(new)) else { return Vec::new() };
    if before.is_some_and(|before| before.reason == after.reason) {
        return Vec::new();
    }
    let warning = match after.reason.as_str() {
        // On the way, or an echo of a deletion the user asked for.
        reason::NOT_STARTED | reason::CONNECTING | reason::PAIRING_QUEUED | reason::UNKNOWN | reason::TERMINATING => {
            return Vec::new();
        }
        reason::CONNECTED | reason::AWAITING_PAIRING | reason::STOPPED | reason::UNLINKING | reason::UNLINKED => false,
        _ => true,
    };
    let action = if new.phase == Some(Phase::BridgeUnavailable) { "Reach" } else { "Follow" };
    vec![Notice { warning, reason: after.reason, action, note: after.message }]
}

/// The deadline of a deletion has passed. `unlinks`: there may be a device, and it was to be unlinked.
pub fn gave_up(unlinks: bool) -> Notice {
    let note = if unlinks {
        "The bridge did not confirm the deletion in time. The device may still be linked: remove it on the phone under Linked \
         devices."
    } else {
        "The bridge did not confirm the deletion in time. It may still hold the session, as one that no instance claims."
    };
    Notice { warning: true, reason: UNLINK_GAVE_UP.into(), action: "Unlink", note: note.into() }
}

/// A bridge that answered had no session to unlink: its volume is gone or older, or it is another bridge.
pub fn nothing_to_unlink() -> Notice {
    Notice {
        warning: true,
        reason: reason::SESSION_LOST.into(),
        action: "Unlink",
        note: "The bridge no longer had this session when it was to be deleted, and so could not unlink the device. It may \
               still be linked: remove it on the phone under Linked devices."
            .into(),
    }
}

impl Notice {
    /// The same, for those who look after the bridge.
    pub fn of(&self, instance: &InstanceRef) -> Self {
        Self { note: format!("WhatsAppInstance {instance} was deleted. {}", self.note), ..self.clone() }
    }
}
