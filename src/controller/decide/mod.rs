//! The decision: facts in, plan out. Pure; `apply` carries the plan out.

pub mod binding;
pub mod facts;
pub mod finding;
pub mod notices;
pub mod readings;
mod sentences;
pub mod status;
#[cfg(test)]
mod tests;
pub mod times;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use self::{
    binding::{Choice, Unbound},
    facts::{Acceptance, BridgeFault, Facts, Leaving, LinkState},
    notices::Notice,
    status::{Next, Outlook},
    times::after,
};
use crate::{
    api::{
        DeletionPolicy, DesiredState, WhatsAppInstance, WhatsAppInstanceStatus,
        conditions::{self, reason},
        labels,
    },
    bridge_api::{PairingSpec, Session, SessionInstance, SessionSpec},
    model::Sensitive,
    platform::hex::sha256,
    rules::{Denial, link::LinkingLink},
};

/// What to do about a living instance, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The bridge has what was wanted of it, whatever the last call said: its failure is over.
    pub failure_is_over: bool,
    /// Add our finalizer, before anything outside the cluster is done.
    pub add_finalizer: bool,
    /// A binding that the status below records for the first time.
    pub bind: Option<Choice>,
    /// The status to write; `None` when it is written already.
    pub status: Option<Box<WhatsAppInstanceStatus>>,
    /// The Events to publish, once the status is written.
    pub notices: Vec<Notice>,
    /// What to ask of the bridge.
    pub put: Option<SessionSpec>,
    /// When to look again although nothing has changed.
    pub recheck: Option<Timestamp>,
}

/// What to do about an instance that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum DeletionStep {
    /// Nothing: our finalizer is gone, or another operator sees it off.
    Done,
    /// Nothing was ever started: remove the finalizer.
    Release,
    /// Ask the bridge to delete; when it says gone, remove the finalizer.
    Delete {
        /// Whether to unlink the device first.
        unlink: bool,
    },
    /// Wait for the bridge.
    Wait,
    /// The deadline has passed: say so, try once to have the keys deleted, remove the finalizer.
    GiveUp,
}

/// A deletion's plan.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletionPlan {
    /// The status to write before; `None` when it is written already.
    pub status: Option<Box<WhatsAppInstanceStatus>>,
    /// What to do.
    pub step: DeletionStep,
    /// When to look again although nothing has changed.
    pub recheck: Option<Timestamp>,
}

/// Whether it runs while the ledger is being written: what was begun goes on; what is not accepted yet is not begun.
fn may_go_on(facts: &Facts<'_>) -> bool {
    match facts.instance.status.as_ref().and_then(|status| status.true_because(conditions::ACCEPTED)) {
        Some(reason::ACCEPTED) => true,
        Some(_) => facts.binding().is_some(),
        None => false,
    }
}

/// Decides what a living instance needs.
pub fn decide(facts: &Facts<'_>) -> Plan {
    if facts.of_another_operator {
        return Plan::default();
    }
    match &facts.acceptance {
        Acceptance::Waiting(denial) => return hold_back(facts, denial),
        // The settlement of the ledger wakes this instance up.
        Acceptance::Undecided if !may_go_on(facts) => {
            return wait(facts, || status::awaiting_ledger(facts));
        }
        Acceptance::Undecided | Acceptance::Accepted => {}
    }
    // Our finalizer says that something may have been begun. The shard that knows will wake it up.
    if has_finalizer(facts.instance)
        && let Some(shard) = facts.awaited_shard()
    {
        return wait(facts, || status::awaiting_shard(facts, &shard));
    }
    let chosen = if facts.binding().is_none() { Some(binding::choose(facts)) } else { None };
    let (bind, fault) = match chosen {
        Some(Ok(choice)) => (Some(choice), None),
        Some(Err(Unbound::Fault(fault))) => (None, Some(fault)),
        Some(Err(Unbound::Awaits(shard))) => return wait(facts, || status::awaiting_shard(facts, &shard)),
        None => (None, None),
    };
    let link = bind.as_ref().map_or(&facts.link, |choice| &choice.link);
    let binding = facts.binding().or(bind.as_ref().map(|choice| &choice.binding));
    let session = facts.session.as_deref();
    let can = bind.as_ref().map_or(&facts.capabilities, |choice| &choice.capabilities);
    let wanted = session_spec(facts.instance, session).within(can);
    let agrees = session.is_some_and(|session| session.spec.fulfils(&wanted));
    // A call that failed on our side may have succeeded on theirs.
    let failure = facts.failure.as_ref().filter(|_| !agrees).map(|error| {
        BridgeFault::new(
            error.reason(),
            format!("The bridge could not do what this instance needs: {error}. It is tried again."),
        )
    });
    let outlook = match (&fault, link, &failure, session) {
        (Some(fault), ..) => Outlook::Unbound(fault),
        (None, LinkState::Down(fault), ..) => Outlook::Unusable(fault),
        (None, LinkState::Unknown, ..) => Outlook::Unknown,
        (None, LinkState::Up, Some(failure), _) => Outlook::Unusable(failure),
        (None, LinkState::Up, None, Some(session)) => Outlook::Known(session, agrees),
        (None, LinkState::Up, None, None) => Outlook::Absent,
    };
    let Next { status, recheck } = status::next(facts, binding, outlook);
    let old = facts.instance.status.clone().unwrap_or_default();
    Plan {
        failure_is_over: agrees && facts.failure.is_some(),
        add_finalizer: !has_finalizer(facts.instance),
        notices: notices::between(&old, &status),
        put: (binding.is_some() && *link == LinkState::Up && !agrees).then_some(wanted),
        status: (facts.instance.status.as_ref() != Some(&status)).then(|| Box::new(status)),
        recheck,
        bind,
    }
}

/// Nothing can be decided yet. The status says so only when it says nothing else, and only when that lasts.
fn wait(facts: &Facts<'_>, status: impl FnOnce() -> WhatsAppInstanceStatus) -> Plan {
    if facts.instance.status.as_ref().is_some_and(|status| !status.conditions.is_empty()) {
        return Plan::default();
    }
    let left = status::QUICK_DECISION.saturating_sub(facts.known_for);
    if left.is_positive() {
        return Plan { recheck: Some(after(facts.now, left)), ..Plan::default() };
    }
    Plan { status: Some(Box::new(status())), ..Plan::default() }
}

/// An instance that breaks a rule is not brought up; one that was up goes offline and stays linked.
fn hold_back(facts: &Facts<'_>, denial: &Denial) -> Plan {
    let old = facts.instance.status.clone().unwrap_or_default();
    let status = status::rejected(facts, denial);
    let running = facts.session.as_deref().filter(|session| session.spec.desired_state != DesiredState::Disconnected);
    let stopped = |spec: &SessionSpec| SessionSpec { desired_state: DesiredState::Disconnected.into(), ..spec.clone() };
    Plan {
        notices: notices::between(&old, &status),
        put: running.map(|session| stopped(&session.spec)),
        status: (facts.instance.status.as_ref() != Some(&status)).then(|| Box::new(status)),
        ..Plan::default()
    }
}

/// Decides how a deletion goes on that has lasted so long; after `patience` it gives up.
pub fn plan_deletion(facts: &Facts<'_>, leaving: Leaving, patience: SignedDuration) -> DeletionPlan {
    let only = |step| DeletionPlan { status: None, step, recheck: None };
    if facts.of_another_operator {
        return only(DeletionStep::Done);
    }
    if !has_finalizer(facts.instance) {
        // One that nothing holds any more is as good as gone.
        let stays = !facts.instance.finalizers().is_empty() && facts.instance.status.is_some();
        let status = stays.then(|| Box::new(status::ended(facts)));
        let changed = status.filter(|status| facts.instance.status.as_ref() != Some(&**status));
        return DeletionPlan { status: changed, ..only(DeletionStep::Done) };
    }
    let left = patience.saturating_sub(leaving.lasted);
    let is_over = !left.is_positive();
    let recheck = Some(after(facts.now, left));
    if facts.binding().is_none() {
        let waits = facts.may_be_on_a_shard() && !is_over;
        return if waits {
            DeletionPlan { status: None, step: DeletionStep::Wait, recheck }
        } else {
            only(DeletionStep::Release)
        };
    }
    if is_over {
        return only(DeletionStep::GiveUp);
    }
    let failure =
        facts.failure.as_ref().map(|error| BridgeFault::new(error.reason(), format!("The bridge failed: {error}.")));
    let (step, fault) = match &facts.link {
        LinkState::Up => (
            DeletionStep::Delete { unlink: facts.instance.spec.deletion_policy == DeletionPolicy::Unlink },
            failure.as_ref(),
        ),
        LinkState::Unknown => (DeletionStep::Wait, None),
        LinkState::Down(fault) => (DeletionStep::Wait, Some(fault)),
    };
    let next = status::terminating(facts, leaving, patience, fault);
    // The deletion goes by what the status says.
    let next = next.or_else(|| (!facts.binding_is_shown()).then(|| status::rebound(facts)));
    let changed = next.filter(|status| facts.instance.status.as_ref() != Some(status));
    DeletionPlan { status: changed.map(Box::new), step, recheck }
}

/// What is wanted of the bridge for an instance. The refresh annotation's value names the pairing window; without one
/// the session keeps the window that it has, so that applying a file without the annotation asks for nothing.
pub fn session_spec(instance: &WhatsAppInstance, session: Option<&Session>) -> SessionSpec {
    let pairing = &instance.spec.pairing;
    let asked = instance.annotations().get(labels::REFRESH_QR).filter(|value| !value.is_empty());
    let kept = || session.map(|session| session.spec.pairing.window.clone()).unwrap_or_default();
    SessionSpec {
        desired_state: instance.spec.desired_state.into(),
        presence: instance.spec.presence.into(),
        pairing: PairingSpec {
            method: pairing.method.into(),
            phone_number: pairing.phone_number.clone(),
            auto_refresh: pairing.auto_refresh,
            refresh_until: LinkingLink::of(instance).map(|link| link.expires_at()),
            window: asked.map_or_else(kept, |value| window(value)),
            ..PairingSpec::default()
        },
        sending: instance.spec.sending,
        instance: session_instance(instance).map(Box::new),
        ..SessionSpec::default()
    }
}

/// Whose session it is, told so that the instance gets it back when it is created anew. One that has no owner cannot be told from
/// somebody else's.
pub fn session_instance(instance: &WhatsAppInstance) -> Option<SessionInstance> {
    Some(SessionInstance {
        namespace: instance.namespace()?,
        name: instance.name_any(),
        owner: Sensitive::new(instance.owner()?),
    })
}

/// Names the window that the refresh annotation asks for. A value may be a quarter of a megabyte, and the bridge repeats
/// the name with every list: one that is no timestamp or word any more is known by its hash.
fn window(value: &str) -> String {
    if value.len() <= 128 {
        return value.to_owned();
    }
    sha256(value)
}

/// Whether an instance has our finalizer.
pub fn has_finalizer(instance: &WhatsAppInstance) -> bool {
    instance.finalizers().iter().any(|name| name == labels::FINALIZER)
}
