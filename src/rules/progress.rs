//! Whether what was asked of an instance has been answered yet: pure questions to one version of it.

use crate::api::{WhatsAppInstance, WhatsAppInstanceStatus, conditions};

/// Holds back a status that is older than the request. A refresh does not change `metadata.generation`, so the status
/// that stood there when it was asked for is not an answer to it; any other is.
#[derive(Debug, Default)]
pub struct Gate {
    generation: i64,
    before: Option<WhatsAppInstanceStatus>,
}

impl Gate {
    /// Lets everything through.
    pub fn open() -> Self {
        Self::default()
    }

    /// For a change of spec, given the object the change returned.
    pub fn after_change(changed: &WhatsAppInstance) -> Self {
        Self { generation: changed.metadata.generation.unwrap_or(0), before: None }
    }

    /// For a refresh, given the object the annotation's patch returned. An object without status has not been answered yet.
    pub fn after_refresh(changed: &WhatsAppInstance) -> Self {
        Self { before: Some(changed.status.clone().unwrap_or_default()), ..Self::after_change(changed) }
    }

    /// Whether this status may be an answer to the request.
    pub fn lets_through(&mut self, instance: &WhatsAppInstance) -> bool {
        let status = instance.status.clone().unwrap_or_default();
        if status.observed_generation.unwrap_or(0) < self.generation {
            return false;
        }
        if self.before.as_ref() == Some(&status) {
            return false;
        }
        self.before = None;
        true
    }
}

/// Whether the status still describes an older spec.
pub fn lags_behind(instance: &WhatsAppInstance, status: &WhatsAppInstanceStatus) -> bool {
    status.observed_generation.unwrap_or(0) < instance.metadata.generation.unwrap_or(0)
}

/// Whether what holds the instance back does not pass by waiting: a person has to change something first.
pub fn needs_somebody(status: &WhatsAppInstanceStatus) -> bool {
    let ready = status.conditions.iter().find(|condition| condition.type_ == conditions::READY);
    ready.is_some_and(|ready| conditions::NEEDS_SOMEBODY.contains(&ready.reason.as_str()))
}
