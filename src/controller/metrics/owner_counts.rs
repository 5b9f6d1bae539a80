//! What can be counted over all owners.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};

use crate::{
    api::{LedgerEntry, Waiting, WhatsAppOwner},
    platform::metrics::Metrics,
};

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
        let count = |which: &dyn Fn(&LedgerEntry) -> bool| {
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

    pub(super) fn register(&self, metrics: &Metrics) {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::ReconcileMetrics, *};

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
