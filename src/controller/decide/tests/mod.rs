//! What the decision does, told as behaviour; and its invariants over any sequence of what a bridge may say.

mod acceptance;
mod bindings;
mod deletion;
mod phases;
mod rules;
mod wishes;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::ResourceExt;
use proptest::prelude::*;

use super::{
    DeletionPlan, DeletionStep, Plan, binding, decide,
    facts::{Acceptance, BridgeFault, Facts, FormerSession, Leaving, LinkState, ShardLoad},
    notices, session_spec,
};
use crate::controller::fixtures::{self, bound, candidate, default_bridge, facts, instance, now, session};
use crate::{
    api::{
        AllowedNamespaces, DeletionPolicy, DesiredState, NamespacesFrom, Phase, WhatsAppInstance,
        WhatsAppInstanceStatus,
        conditions::{self, reason},
        labels,
    },
    bridge_api::{
        BridgeError, Capability, ErrorCode, LastDisconnect, Restriction, RestrictionKind, Session, SessionPhase,
        SessionReason, SessionSpec,
    },
    model::Sensitive,
    rules::{Denial, InstanceFacts},
};

/// The object as it is after the plan was carried out.
fn after(instance: &WhatsAppInstance, plan: &Plan) -> WhatsAppInstance {
    let mut next = instance.clone();
    if plan.add_finalizer {
        next.finalizers_mut().push(labels::FINALIZER.into());
    }
    if let Some(status) = &plan.status {
        // What comes back from the API server: times in whole seconds, nothing else lost.
        next.status = Some(serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap());
    }
    next
}

/// The instance in the state that this session leads to.
fn reported(session: Session) -> WhatsAppInstance {
    let pending = bound(WhatsAppInstanceStatus::default());
    let first = after(&pending, &decide(&facts(&pending, None)));
    after(&first, &decide(&facts(&first, Some(session))))
}

/// How a deletion goes on that was seen first at the moment most tests happen at.
fn plan_deletion(facts: &Facts<'_>, patience: SignedDuration) -> DeletionPlan {
    super::plan_deletion(facts, Leaving { since: now(), lasted: facts.now.duration_since(now()) }, patience)
}

fn status(instance: &WhatsAppInstance) -> &WhatsAppInstanceStatus {
    instance.status.as_ref().unwrap()
}

/// Status and reason of a condition.
fn condition<'a>(status: &'a WhatsAppInstanceStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&found.status, &found.reason)
}

fn shown(session: Session) -> (Phase, String) {
    let instance = reported(session);
    let status = status(&instance);
    (status.phase.unwrap(), condition(status, conditions::READY).1.to_owned())
}

fn down() -> LinkState {
    LinkState::Down(BridgeFault::new(reason::BRIDGE_UNREACHABLE, "It is gone."))
}

/// The sentence of a condition.
fn says<'a>(status: &'a WhatsAppInstanceStatus, kind: &str) -> &'a str {
    &status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().message
}
