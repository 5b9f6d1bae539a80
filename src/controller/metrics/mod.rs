//! The controller's metrics, under controller-runtime's names.
//!
//! No label names an object or an owner: there may be thousands, and owners are people. What one owner uses is in the
//! status of their `WhatsAppOwner`; what can be counted over all of them may be counted here.

mod owner_counts;
mod waits;

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

pub use self::{
    owner_counts::OwnerCounts,
    waits::{Wait, Waits},
};
use crate::{api::Phase, platform::metrics::Metrics};

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
    waits: Waits,
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
            waits: Waits::default(),
            pairings: PairingTimes::default(),
            owners: OwnerCounts::default(),
        };
        own.owners.register(metrics);
        own.waits.register(metrics);
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

    /// The phase counts, for the table of instances to keep.
    pub fn phases(&self) -> PhaseCounts {
        self.phases.clone()
    }

    /// How long instances have waited, for the table of instances to keep.
    pub fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// The times of pairings, for the table of instances to keep.
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
