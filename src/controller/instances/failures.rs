//! What has gone wrong with an instance: calls to its bridge, and reconciles.

use std::time::Duration;

use super::{Entry, Instances};
use crate::{
    bridge_api::BridgeError,
    controller::error::{InRow, ReconcileError},
    platform::lock,
};

/// A connection that broke under a call is the link's to judge; calls alone must fail this often in a row to count.
const BRIEF_FAILURES: u32 = 3;

/// What is asked of a bridge for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeCall {
    /// To have a session as it is wanted.
    Put,
    /// To delete it.
    Delete,
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The last call to the bridge, if it failed: which, why, and how often in a row.
    failure: Option<(BridgeCall, BridgeError, u32)>,
    /// Reconciles that failed in a row.
    in_row: InRow,
}

impl Instances {
    /// The last call to the bridge of this kind, if it failed and that means something.
    pub fn failure(&self, uid: &str, call: BridgeCall) -> Option<BridgeError> {
        let entries = lock(&self.entries);
        let (which, error, times) = entries.by_uid.get(uid)?.failures.as_ref()?.failure.as_ref()?;
        (*which == call && (!error.may_be_brief() || *times >= BRIEF_FAILURES)).then(|| error.clone())
    }

    /// Notes how a call to the bridge went. One that ends after the instance is gone is forgotten.
    pub fn call_ended(&self, uid: &str, call: BridgeCall, failure: Option<BridgeError>) {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.by_uid.get_mut(uid) else { return };
        match failure {
            Some(error) => {
                let failures = entry.failures.get_or_insert_default();
                let before = failures.failure.as_ref().filter(|(which, ..)| *which == call);
                let times = before.map_or(0, |(.., times)| *times).saturating_add(1);
                failures.failure = Some((call, error, times));
            }
            None => entry.change_failures(|failures| failures.failure = None),
        }
    }

    /// The pause before the next reconcile of an instance whose last one failed.
    pub fn pause(&self, uid: &str, error: &ReconcileError) -> Option<Duration> {
        let mut entries = lock(&self.entries);
        let entry = entries.by_uid.get_mut(uid)?;
        Some(entry.failures.get_or_insert_default().in_row.pause(error))
    }

    /// A reconcile went well.
    pub fn succeeded(&self, uid: &str) {
        if let Some(entry) = lock(&self.entries).by_uid.get_mut(uid) {
            entry.change_failures(|failures| failures.in_row = InRow::default());
        }
    }
}

impl Entry {
    fn change_failures(&mut self, change: impl FnOnce(&mut Failures)) {
        if let Some(failures) = &mut self.failures {
            change(failures);
            if failures.failure.is_none() && failures.in_row == InRow::default() {
                self.failures = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{
        fixtures::{self, UID, key},
        instances::tests::knowing,
    };

    #[test]
    fn a_failed_call_is_told_from_one_of_the_other_kind_and_forgotten_with_the_instance() {
        let instances = knowing(&fixtures::instance());
        instances.call_ended(UID, BridgeCall::Put, Some(BridgeError::Unauthorized));
        assert_eq!(instances.failure(UID, BridgeCall::Put), Some(BridgeError::Unauthorized));
        assert_eq!(instances.failure(UID, BridgeCall::Delete), None);
        // What the watch shows of it changes nothing about that.
        instances.note(&key(&fixtures::instance()), &fixtures::instance());
        assert!(instances.failure(UID, BridgeCall::Put).is_some());
        instances.call_ended(UID, BridgeCall::Put, None);
        assert_eq!(instances.failure(UID, BridgeCall::Put), None);

        instances.forget(UID);
        // A call that ends after its instance leaves nothing behind for one to come.
        instances.call_ended(UID, BridgeCall::Delete, Some(BridgeError::Unauthorized));
        instances.note(&key(&fixtures::instance()), &fixtures::instance());
        assert_eq!(instances.failure(UID, BridgeCall::Delete), None);
    }

    #[test]
    fn a_connection_that_broke_under_a_call_counts_from_the_third_time_on() {
        let instances = knowing(&fixtures::instance());
        for expected in [false, false, true] {
            instances.call_ended(UID, BridgeCall::Put, Some(BridgeError::TimedOut));
            assert_eq!(instances.failure(UID, BridgeCall::Put).is_some(), expected);
        }
    }

    #[test]
    fn an_instance_that_is_gone_has_no_pause() {
        let instances = knowing(&fixtures::instance());
        assert!(instances.pause(UID, &ReconcileError::TimedOut).is_some());
        instances.forget(UID);
        assert_eq!(instances.pause(UID, &ReconcileError::TimedOut), None);
    }
}
