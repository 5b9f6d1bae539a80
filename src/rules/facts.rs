//! What the rules need to know of an instance.

use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt as _,
    core::{DynamicObject, TypeMeta},
};

use super::ComparableName;
use crate::{
    api::{
        InstanceRef, LedgerEntry, WhatsAppInstance,
        conditions::{self, reason},
        labels,
    },
    platform::namespaces::Standing,
};

/// What the rules need to know of one existing instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // four things that are or are not so, each by itself
pub struct InstanceFacts {
    /// Which one.
    pub key: InstanceRef,
    /// Its uid, the tie-breaker among equally old ones.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it is called.
    pub name: ComparableName,
    /// Its own status says that its owner's ledger has accepted it, so it may run.
    pub accepted: bool,
    /// It is connected to WhatsApp.
    pub connected: bool,
    /// Since when it wishes to be primary; absent when it does not.
    pub wish: Option<Timestamp>,
    /// Its own status says that it is the primary one.
    pub primary: bool,
    /// It is being deleted.
    pub terminating: bool,
}

impl InstanceFacts {
    /// What ranks instances: the older first, the uid deciding among those of one second.
    pub fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.uid)
    }

    /// Of an object as it is stored, which may not fit this version: then it still takes its slot and its name.
    pub fn of_any(mut object: DynamicObject) -> Self {
        object.types = Some(TypeMeta::resource::<WhatsAppInstance>());
        let unreadable = Self {
            key: InstanceRef::of(&object),
            uid: object.uid().unwrap_or_default(),
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            name: ComparableName::of(object.data["spec"]["name"].as_str().unwrap_or_default()),
            accepted: false,
            connected: false,
            wish: None,
            primary: false,
            terminating: object.metadata.deletion_timestamp.is_some(),
        };
        object.try_parse::<WhatsAppInstance>().map_or(unreadable, |instance| Self::from(&instance))
    }

    /// Of an instance that may not be looked at, since another operator looks after its namespace: what that operator has written
    /// into the ledger. `None` when the namespace does not exist: then there is no operator left to write that the instance is gone.
    pub fn on_trust(entry: &LedgerEntry, standing: Option<Standing>) -> Option<Self> {
        if standing == Some(Standing::Absent) {
            return None;
        }
        Some(Self {
            key: InstanceRef { namespace: entry.namespace.clone(), name: entry.name.clone() },
            uid: String::new(),
            created: Timestamp::UNIX_EPOCH,
            name: ComparableName::of(&entry.display_name),
            accepted: entry.waiting.is_none(),
            connected: entry.connected,
            wish: entry.primary_since.as_ref().and_then(|since| since.parse().ok()),
            primary: false,
            terminating: false,
        })
    }
}

impl From<&WhatsAppInstance> for InstanceFacts {
    fn from(instance: &WhatsAppInstance) -> Self {
        let created = instance.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let because = |kind: &str| instance.status.as_ref().and_then(|status| status.true_because(kind));
        // A wish without its stamp came in while admission was away; it is as old as the object, for want of better.
        let since = || {
            instance.annotations().get(labels::PRIMARY_SINCE).and_then(|stamp| stamp.parse().ok()).unwrap_or(created)
        };
        Self {
            key: InstanceRef::of(instance),
            uid: instance.uid().unwrap_or_default(),
            created,
            name: ComparableName::of(&instance.spec.name),
            accepted: because(conditions::ACCEPTED) == Some(reason::ACCEPTED),
            connected: because(conditions::CONNECTED).is_some(),
            wish: instance.spec.primary.then(since),
            primary: instance.status.as_ref().is_some_and(|status| status.primary),
            terminating: instance.metadata.deletion_timestamp.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::{
        api::{Waiting, WhatsAppOwnerStatus},
        rules::{
            doubts,
            ledger::{SlotRequest, SlotRequestKind, order, reserve},
            settle,
        },
    };

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn instance(namespace: &str, since: &str) -> InstanceFacts {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions = ["Accepted", "Connected"].map(condition);
        InstanceFacts::from(
            &serde_json::from_value::<WhatsAppInstance>(json!({
                "metadata": {
                    "name": "a", "namespace": namespace, "uid": namespace, "annotations": {labels::PRIMARY_SINCE: since},
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                },
                "spec": {"name": namespace, "owner": "alice", "primary": true},
                "status": {"conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn on_trust(entry: &LedgerEntry) -> Option<InstanceFacts> {
        InstanceFacts::on_trust(entry, Some(Standing::Active))
    }

    /// A settlement by the operator of `own`'s namespace, which may not look into any other.
    fn settled(before: Option<&WhatsAppOwnerStatus>, own: &InstanceFacts) -> WhatsAppOwnerStatus {
        let entries = before.into_iter().flat_map(|status| &status.instances);
        let others = entries.filter(|entry| entry.namespace != own.key.namespace).filter_map(on_trust);
        let facts: Vec<_> = others.chain([own.clone()]).collect();
        settle(before, &facts, 10, now()).status
    }

    #[test]
    fn operators_that_may_not_see_each_others_instances_come_to_rest() {
        let (first, second) = (instance("here", "2026-01-01T00:00:01Z"), instance("there", "2026-01-01T00:00:02Z"));
        let mut status = settled(None, &first);
        status = settled(Some(&status), &second);
        for viewer in [&first, &second, &first] {
            let next = settled(Some(&status), viewer);
            assert_eq!(next, status, "nothing to write");
        }
        assert_eq!((status.connected, status.primary), (2, Some(second.key)));
    }

    /// What the operator of `own`'s namespace makes of the ledger, asking about doubts as it does.
    fn asked(before: &WhatsAppOwnerStatus, own: &InstanceFacts, limit: u32) -> WhatsAppOwnerStatus {
        let doubts = doubts(Some(before), std::slice::from_ref(own), now());
        let others = before.instances.iter().filter(|entry| entry.namespace != own.key.namespace);
        let doubtful = others.filter(|entry| doubts.iter().any(|key| order(entry, key).is_eq()));
        let facts: Vec<_> = doubtful.filter_map(on_trust).chain([own.clone()]).collect();
        settle(Some(before), &facts, limit, now()).status
    }

    #[test]
    fn a_reservation_for_what_exists_elsewhere_moves_nothing() {
        let (first, second) = (instance("here", "2026-01-01T00:00:01Z"), instance("there", "2026-01-01T00:00:02Z"));
        let status = settled(Some(&settled(None, &first)), &second);
        for (name, kind) in [("Anew", SlotRequestKind::Name), ("there", SlotRequestKind::Slot)] {
            let request = SlotRequest::new(second.key.clone(), name, kind);
            let instances = reserve("alice", &status.instances, &request, 10, now()).unwrap();
            let reserved = WhatsAppOwnerStatus { instances, ..status.clone() };
            let after = asked(&reserved, &first, 10);
            assert_eq!((&after.primary, after.used), (&status.primary, status.used), "{kind:?}");
        }
        let mut waiting = status.clone();
        waiting.primary = Some(first.key.clone());
        waiting.instances[1].waiting = Some(Waiting::LimitExceeded);
        let request = SlotRequest::new(second.key.clone(), "Anew", SlotRequestKind::Name);
        waiting.instances = reserve("alice", &waiting.instances, &request, 1, now()).unwrap();
        assert_eq!(asked(&waiting, &first, 1).instances[1].waiting, Some(Waiting::LimitExceeded));
    }

    #[test]
    fn operators_agree_on_wishes_of_one_instant_and_on_what_is_going() {
        let since = "2026-01-01T00:00:01Z";
        let (first, mut second) = (instance("here", since), instance("there", since));
        let mut status = settled(Some(&settled(None, &first)), &second);
        for viewer in [&first, &second, &first] {
            let next = settled(Some(&status), viewer);
            assert_eq!(next.primary, status.primary, "both take the same one");
            status = next;
        }
        second.wish = second.wish.map(|since| since + SignedDuration::from_secs(1));
        status = settled(Some(&status), &second);
        assert_eq!(status.primary.as_ref(), Some(&second.key));
        // Only its own operator sees that it is being deleted.
        second.terminating = true;
        for viewer in [&second, &first, &second] {
            status = settled(Some(&status), viewer);
            assert_eq!(status.primary.as_ref(), Some(&first.key));
        }
    }

    #[test]
    fn a_promised_name_is_asked_about_live_also_when_the_time_for_it_has_run_out() {
        let own = instance("here", "2026-01-01T00:00:01Z");
        let mut status = settled(None, &own);
        status.primary = None;
        assert_eq!(doubts(Some(&status), std::slice::from_ref(&own), now()), []);
        let request = SlotRequest::new(own.key.clone(), "Anew", SlotRequestKind::Name);
        let long_ago = now() - SignedDuration::from_hours(1);
        status.instances = reserve("alice", &status.instances, &request, 10, long_ago).unwrap();
        assert_eq!(doubts(Some(&status), std::slice::from_ref(&own), now()), std::slice::from_ref(&own.key));
        // The cache has not seen it, but the change has landed: the name is theirs, and nobody else's.
        let live = InstanceFacts { name: ComparableName::of("Anew"), ..own };
        let entry = settle(Some(&status), &[live], 10, now()).status.instances.remove(0);
        assert_eq!((entry.display_name.as_str(), entry.renaming_to), ("anew", None));
    }

    #[test]
    fn the_slots_of_a_namespace_that_is_gone_are_given_back_and_of_no_other() {
        let (first, second) = (instance("here", "2026-01-01T00:00:01Z"), instance("there", "2026-01-01T00:00:02Z"));
        let status = settled(Some(&settled(None, &first)), &second);
        for (standing, used) in
            [(Some(Standing::Absent), 1), (Some(Standing::Ending), 2), (Some(Standing::Active), 2), (None, 2)]
        {
            let others = status.instances.iter().filter(|entry| entry.namespace == "there");
            let facts = others.filter_map(|entry| InstanceFacts::on_trust(entry, standing)).chain([first.clone()]);
            let after = settle(Some(&status), &facts.collect::<Vec<_>>(), 10, now()).status;
            assert_eq!(after.used, used, "{standing:?}");
        }
    }

    #[test]
    fn an_object_that_does_not_fit_takes_its_place_and_name() {
        let object = serde_json::from_value(json!({
            "apiVersion": "whatsapp-operator.dev/v9", "kind": "WhatsAppInstance",
            "metadata": {"name": "a", "namespace": "here", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"name": " Sales", "owner": "alice", "desiredState": "Sideways"},
        }));
        let facts = InstanceFacts::of_any(object.unwrap());
        assert_eq!((facts.name.as_str(), facts.uid.as_str(), facts.accepted), ("sales", "u", false));
    }
}
