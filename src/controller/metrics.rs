//! The controller's metrics, under controller-runtime's names.
//!
//! No label names an object or an owner: there may be thousands, and owners are people. What one owner uses is in the
//! status of their `WhatsAppOwner`; what can be counted over all of them may be counted here.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::{
    api::{Phase, Waiting, WhatsAppOwner},
    platform::metrics::Metrics,
};

/// The controller label of every metric here, as controller-runtime would derive it from the kind.
const CONTROLLER: &str = "whatsappinstance";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabel {
    name: String,
}

/// How many instances stand in each phase.
#[derive(Clone, Debug, Default)]
pub struct PhaseCounts(Family<PhaseLabel, Gauge>);

impl PhaseCounts {
    /// Moves one instance from a phase to another.
    pub fn change(&self, from: Option<Phase>, to: Option<Phase>) {
        if from == to {
            return;
        }
        let gauge = |phase: Phase| self.0.get_or_create_owned(&PhaseLabel { phase: phase.to_string() });
        if let Some(from) = from {
            gauge(from).dec();
        }
        if let Some(to) = to {
            gauge(to).inc();
        }
    }
}

/// From a phone that was ready to a whole pairing window (160 s) and the login after it.
const PAIRING_SECONDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 100.0, 160.0, 300.0];

/// How long people take to link an account: from the code that is shown to the session that can send.
#[derive(Clone, Debug)]
pub struct PairingTimes(Histogram);

impl Default for PairingTimes {
    fn default() -> Self {
        Self(Histogram::new(PAIRING_SECONDS))
    }
}

impl PairingTimes {
    /// An instance is connected that showed a code so long ago.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OwnerStateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitingLabel {
    reason: &'static str,
}

/// What can be counted over all owners, kept from what their ledgers show. It names none of them.
#[derive(Clone, Debug, Default)]
pub struct OwnerCounts {
    owners: Family<OwnerStateLabel, Gauge>,
    slots: Gauge,
    used: Gauge,
    reservations: Gauge,
    waiting: Family<WaitingLabel, Gauge>,
}

/// What one owner adds to the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OwnerShare {
    state: &'static str,
    slots: i64,
    used: i64,
    reservations: i64,
    for_slot: i64,
    for_name: i64,
}

impl OwnerShare {
    fn of(object: &WhatsAppOwner) -> Option<Self> {
        let status = object.status.as_ref()?;
        let state = match status.used.cmp(&status.max) {
            std::cmp::Ordering::Less => "Below",
            std::cmp::Ordering::Equal => "AtLimit",
            std::cmp::Ordering::Greater => "OverLimit",
        };
        let count = |which: &dyn Fn(&crate::api::LedgerEntry) -> bool| {
            i64::try_from(status.instances.iter().filter(|entry| which(entry)).count()).unwrap_or(i64::MAX)
        };
        Some(Self {
            state,
            slots: status.max,
            used: status.used,
            reservations: count(&|entry| entry.reserved_at.is_some()),
            for_slot: count(&|entry| entry.waiting == Some(Waiting::LimitExceeded)),
            for_name: count(&|entry| entry.waiting == Some(Waiting::NameTaken)),
        })
    }
}

impl OwnerCounts {
    /// How many owners have room for as many as they have and no more, and how many instances wait for a slot.
    #[cfg(test)]
    pub fn told(&self) -> (i64, i64) {
        let at_limit = self.owners.get_or_create_owned(&OwnerStateLabel { state: "AtLimit" }).get();
        (at_limit, self.waiting("LimitExceeded").get())
    }

    /// An owner's object was one thing and is another now; none where there is none.
    pub fn change(&self, before: Option<&WhatsAppOwner>, after: Option<&WhatsAppOwner>) {
        let (before, after) = (before.and_then(OwnerShare::of), after.and_then(OwnerShare::of));
        if before == after {
            return;
        }
        for (share, sign) in before.map(|share| (share, -1)).into_iter().chain(after.map(|share| (share, 1))) {
            self.owners.get_or_create_owned(&OwnerStateLabel { state: share.state }).inc_by(sign);
            self.slots.inc_by(sign * share.slots);
            self.used.inc_by(sign * share.used);
            self.reservations.inc_by(sign * share.reservations);
            self.waiting("LimitExceeded").inc_by(sign * share.for_slot);
            self.waiting("NameTaken").inc_by(sign * share.for_name);
        }
    }

    fn waiting(&self, reason: &'static str) -> Gauge {
        self.waiting.get_or_create_owned(&WaitingLabel { reason })
    }

    fn register(&self, metrics: &Metrics) {
        // A state without instances reads 0, instead of being absent.
        for state in ["Below", "AtLimit", "OverLimit"] {
            drop(self.owners.get_or_create(&OwnerStateLabel { state }));
        }
        let _ = (self.waiting("LimitExceeded"), self.waiting("NameTaken"));
        metrics.register(|registry| {
            registry.register(
                "whatsapp_owners",
                "Owners by how many instances they have: fewer than allowed, as many, or more (their limit was lowered)",
                self.owners.clone(),
            );
            registry.register("whatsapp_owner_slots", "Instances that all owners together may have", self.slots.clone());
            registry.register("whatsapp_owner_slots_used", "Slots that are taken, over all owners", self.used.clone());
            registry.register(
                "whatsapp_owner_reservations",
                "Slots and names kept for objects that have not been seen yet, over all owners",
                self.reservations.clone(),
            );
            registry.register(
                "whatsapp_owner_instances_waiting",
                "Instances that are not accepted, by what they wait for",
                self.waiting.clone(),
            );
        });
    }
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more to do.
    Success,
    /// Fine, and due again at a known time.
    RequeueAfter,
    /// Failed, to be retried.
    Error,
}

/// What the reconcile loop counts.
#[derive(Clone)]
pub struct ReconcileMetrics {
    total: Family<ResultLabels, Counter>,
    errors: Family<ControllerLabel, Counter>,
    panics: Family<ControllerLabel, Counter>,
    timeouts: Family<ControllerLabel, Counter>,
    seconds: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    active: Family<ControllerLabel, Gauge>,
    leader: Family<LeaseLabel, Gauge>,
    events_dropped: Counter,
    phases: PhaseCounts,
    pairings: PairingTimes,
    owners: OwnerCounts,
}

impl fmt::Debug for ReconcileMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReconcileMetrics")
    }
}

impl ReconcileMetrics {
    /// Registers everything; `workers` is the bound on concurrent reconciles.
    pub fn register(metrics: &Metrics, workers: u16) -> Self {
        // From a no-op (well under a millisecond) to the time limit of one reconcile.
        let histogram: fn() -> Histogram =
            || Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        let own = Self {
            total: Family::default(),
            errors: Family::default(),
            panics: Family::default(),
            timeouts: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            active: Family::default(),
            leader: Family::default(),
            events_dropped: Counter::default(),
            phases: PhaseCounts::default(),
            pairings: PairingTimes::default(),
            owners: OwnerCounts::default(),
        };
        own.owners.register(metrics);
        let bound: Family<ControllerLabel, Gauge> = Family::default();
        bound.get_or_create(&LABEL).set(workers.into());
        metrics.register(|registry| {
            registry.register("whatsapp_instances", "WhatsAppInstances by phase", own.phases.0.clone());
            registry.register(
                "whatsapp_pairing_seconds",
                "Time from the code that is shown to the connected session, of instances that were linked",
                own.pairings.0.clone(),
            );
            registry.register(
                "whatsapp_events_dropped",
                "Kubernetes Events that were not written, because too many waited or the API server did not take them",
                own.events_dropped.clone(),
            );
            registry.register(
                "leader_election_master_status",
                "Whether this process holds the lease",
                own.leader.clone(),
            );
            let runtime = registry.sub_registry_with_prefix("controller_runtime");
            runtime.register("reconcile", "Reconciles by result", own.total.clone());
            runtime.register("reconcile_errors", "Reconciles that failed", own.errors.clone());
            runtime.register("reconcile_panics", "Reconciles that panicked", own.panics.clone());
            runtime.register("reconcile_timeouts", "Reconciles that ran out of time", own.timeouts.clone());
            runtime.register("reconcile_time_seconds", "Time per reconcile", own.seconds.clone());
            runtime.register("active_workers", "Reconciles running now", own.active.clone());
            runtime.register("max_concurrent_reconciles", "Bound on concurrent reconciles", bound);
        });
        for result in ["success", "error", "requeue_after"] {
            drop(own.total.get_or_create(&ResultLabels { controller: CONTROLLER, result }));
        }
        drop(own.errors.get_or_create(&LABEL));
        own
    }

    /// The phase counts, for the directory to keep.
    pub fn phases(&self) -> PhaseCounts {
        self.phases.clone()
    }

    /// The times of pairings, for the directory to keep.
    pub fn pairings(&self) -> PairingTimes {
        self.pairings.clone()
    }

    /// The counts over all owners, to be kept by what watches their objects.
    pub fn owners(&self) -> OwnerCounts {
        self.owners.clone()
    }

    /// Counts the Events that were not written.
    pub fn events_dropped(&self) -> Counter {
        self.events_dropped.clone()
    }

    /// Says whether this process holds the lease `name`.
    pub fn set_leader(&self, name: &str, held: bool) {
        self.leader.get_or_create(&LeaseLabel { name: name.into() }).set(i64::from(held));
    }

    /// A reconcile starts.
    pub fn started(&self) {
        self.active.get_or_create(&LABEL).inc();
    }

    /// A reconcile ended.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        let result = match outcome {
            Outcome::Success => "success",
            Outcome::RequeueAfter => "requeue_after",
            Outcome::Error => "error",
        };
        self.active.get_or_create(&LABEL).dec();
        self.total.get_or_create(&ResultLabels { controller: CONTROLLER, result }).inc();
        self.seconds.get_or_create(&LABEL).observe(took.as_secs_f64());
        if outcome == Outcome::Error {
            self.errors.get_or_create(&LABEL).inc();
        }
    }

    /// A reconcile panicked; a defect.
    pub fn panicked(&self) {
        self.panics.get_or_create(&LABEL).inc();
    }

    /// A reconcile ran out of time.
    pub fn timed_out(&self) {
        self.timeouts.get_or_create(&LABEL).inc();
    }
}

const LABEL: ControllerLabel = ControllerLabel { controller: CONTROLLER };

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn owner(used: i64, max: i64, instances: Value) -> WhatsAppOwner {
        serde_json::from_value(json!({
            "metadata": {"name": "o"}, "spec": {"owner": "somebody@example.com"},
            "status": {"used": used, "max": max, "instances": instances},
        }))
        .unwrap()
    }

    #[test]
    fn owners_are_counted_as_they_change_and_named_nowhere() {
        let metrics = Metrics::default();
        let own = ReconcileMetrics::register(&metrics, 1);
        let counts = own.owners();
        let waits = json!([
            {"namespace": "n", "name": "a", "displayName": "a", "waiting": "LimitExceeded"},
            {"namespace": "n", "name": "b", "displayName": "b", "reservedAt": "2026-01-01T00:00:00Z"},
        ]);
        let (few, over) = (owner(1, 10, json!([])), owner(3, 2, waits));
        counts.change(None, Some(&few));
        counts.change(Some(&few), Some(&over));
        counts.change(None, Some(&owner(2, 2, json!([]))));
        let text = metrics.text();
        for line in [
            "whatsapp_owners{state=\"Below\"} 0",
            "whatsapp_owners{state=\"AtLimit\"} 1",
            "whatsapp_owners{state=\"OverLimit\"} 1",
            "whatsapp_owner_slots 4",
            "whatsapp_owner_slots_used 5",
            "whatsapp_owner_reservations 1",
            "whatsapp_owner_instances_waiting{reason=\"LimitExceeded\"} 1",
            "whatsapp_owner_instances_waiting{reason=\"NameTaken\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        counts.change(Some(&over), None);
        assert!(metrics.text().contains("whatsapp_owners{state=\"OverLimit\"} 0"));
        assert!(!metrics.text().contains("somebody"));
    }
}
