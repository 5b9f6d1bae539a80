//! The authority: what an owner's ledger, verdicts and primary pointer are, given what exists.
//!
//! One function, [`settle`], from the ledger before and the instances there are to the status after. It is the same
//! whether the ledger is right, empty, damaged or restored from a backup, and settling twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    Denial, InstanceFacts, RESERVATION,
    ledger::{is_reserved, limit_exceeded, name_taken, order, used},
    primary,
};
use crate::api::{InstanceRef, LedgerEntry, Waiting, WhatsAppOwnerStatus};

/// What became of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It holds a slot and its name: bring it up.
    Accepted,
    /// It waits; `Accepted=False` with this reason and message.
    Waiting(Denial),
}

/// What [`settle`] answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// The status to write, by replacing the one that was settled (same resourceVersion); equal to it when nothing is to do.
    pub status: WhatsAppOwnerStatus,
    /// When to settle again although nothing has happened: the next reservation runs out.
    pub again_at: Option<Timestamp>,
}

/// How far an instance has come; those that have come further get their slot and name first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EntryState {
    /// Accepted, and its status says so: it may be running. A lowered limit does not touch it.
    Running,
    /// Admitted, or accepted since, but its status does not say so yet.
    Granted,
    /// Waits, or came in past admission.
    Waiting,
}

/// The status of an owner, from the one `before` and every instance of the owner that exists.
///
/// Slots and names go, in order, to: those that run (even beyond a limit lowered since; among two of one name the one
/// that had it first, then the older); reservations of the last 60 s; those that were granted a slot; all others, the
/// oldest first by (creationTimestamp, uid), while there are slots. Who gets none waits, keeps its entry, and gets in by
/// itself in a later settlement.
///
/// The answer is only as good as `instances`. Where they come from a cache, pass every key of [`doubts`] through a live
/// read first: a cache that lags behind the ledger would give away the slots and names of instances it has not seen yet.
pub fn settle(
    before: Option<&WhatsAppOwnerStatus>,
    instances: &[InstanceFacts],
    limit: u32,
    now: Timestamp,
) -> Settlement {
    let empty = WhatsAppOwnerStatus::default();
    let before = before.unwrap_or(&empty);
    let known: BTreeMap<InstanceRef, &LedgerEntry> = before.instances.iter().map(|entry| (key(entry), entry)).collect();
    let existing: BTreeSet<&InstanceRef> = instances.iter().map(|instance| &instance.key).collect();

    let mut ledger = LedgerBuilder {
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        now,
        names: BTreeSet::new(),
        promised: Vec::new(),
        used: 0,
        entries: Vec::new(),
    };
    let mut queue: Vec<_> = instances.iter().map(|instance| (instance, known.get(&instance.key).copied())).collect();
    queue.sort_by_key(|(instance, entry)| {
        let entry_state = entry_state(instance, *entry);
        (entry_state, entry_state == EntryState::Running && !had_name(instance, *entry), instance.age())
    });
    let (running, others): (Vec<_>, Vec<_>) =
        queue.into_iter().partition(|(i, entry)| entry_state(i, *entry) == EntryState::Running);

    let (granted, waiting): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(i, entry)| entry_state(i, *entry) == EntryState::Granted);

    for (instance, entry) in running {
        ledger.enter(instance, entry, true);
    }
    known.iter().filter(|(key, _)| !existing.contains(key)).for_each(|(_, entry)| ledger.keep_reservation(entry));
    for (instance, entry) in granted {
        ledger.enter(instance, entry, false);
    }
    // A name promised to a rename is closed to waiting instances, but an instance that already has it keeps it.
    ledger.keep_promises();
    for (instance, entry) in waiting {
        ledger.enter(instance, entry, false);
        ledger.keep_promises();
    }

    let mut entries = ledger.entries;
    entries.sort_by(|one, other| order(one, &key(other)));
    entries.dedup_by(|one, other| order(one, &key(other)).is_eq());
    let accepted: BTreeSet<InstanceRef> = entries.iter().filter(|entry| entry.waiting.is_none()).map(key).collect();
    let candidates = || instances.iter().filter(|instance| accepted.contains(&instance.key));
    let again_at = entries.iter().filter_map(|entry| entry.reserved_at.as_ref()).map(|at| at.0).min();
    Settlement {
        status: WhatsAppOwnerStatus {
            used: count(used(&entries)),
            max: i64::from(limit),
            connected: count(candidates().filter(|instance| instance.connected).count()),
            primary: primary::choose(candidates(), current(before, instances).as_ref()),
            instances: entries,
        },
        again_at: again_at.and_then(|at| at.checked_add(SignedDuration::try_from(RESERVATION).ok()?).ok()),
    }
}

/// The entries on which `instances` may not be as new as the ledger: read each live before [`settle`], and take that for
/// what exists. They are those whose instance is not among them, those whose reservation it would end (it may be one of the
/// same name that is gone by now, and the one that the slot is reserved for still on its way), those it would give
/// another name, and those that were promised one: the change may have landed unseen, also when the time for it has run out. Not those that are reserved and nothing else, since nothing of them need exist yet.
///
/// An instance without an entry is no doubt: if it is gone already, its slot is given back when that is seen.
pub fn doubts(before: Option<&WhatsAppOwnerStatus>, instances: &[InstanceFacts], now: Timestamp) -> Vec<InstanceRef> {
    let entries = before.map(|status| status.instances.as_slice()).unwrap_or_default();
    let names: BTreeMap<&InstanceRef, &str> =
        instances.iter().map(|instance| (&instance.key, instance.name.as_str())).collect();
    let pointer = before.and_then(|status| status.primary.as_ref());
    let exists =
        |entry: &LedgerEntry| entry.waiting.is_some() || entry.renaming_to.is_some() || pointer == Some(&key(entry));
    let doubtful = |entry: &&LedgerEntry| match names.get(&key(entry)) {
        None => !is_reserved(entry, now) || exists(entry),
        Some(name) => is_reserved(entry, now) || entry.renaming_to.is_some() || entry.display_name != *name,
    };
    entries.iter().filter(doubtful).map(key).collect()
}

/// What the ledger says of one instance, with the sentence for its `Accepted` condition; none while it says nothing, and
/// then the instance must not be brought up.
///
/// `display` is the instance's `spec.name`.
pub fn decision(
    owner: &str,
    status: Option<&WhatsAppOwnerStatus>,
    instance: &InstanceRef,
    display: &str,
) -> Option<Decision> {
    let status = status?;
    let entry = status.instances.iter().find(|entry| order(entry, instance).is_eq())?;
    Some(match entry.waiting {
        None => Decision::Accepted,
        Some(Waiting::NameTaken) => Decision::Waiting(name_taken(owner, display)),
        Some(Waiting::LimitExceeded) => {
            let used = used(&status.instances);
            let limit = u32::try_from(status.max.max(0)).unwrap_or(u32::MAX);
            // Not how many wait: each newcomer would change the sentence, and so the status, of all others.
            Decision::Waiting(limit_exceeded(owner, used, 0, limit))
        }
    })
}

/// The ledger while it is being written anew.
struct LedgerBuilder {
    limit: usize,
    now: Timestamp,
    names: BTreeSet<String>,
    promised: Vec<String>,
    used: usize,
    entries: Vec<LedgerEntry>,
}

impl LedgerBuilder {
    fn enter(&mut self, instance: &InstanceFacts, entry: Option<&LedgerEntry>, runs: bool) {
        let name = instance.name.as_str();
        let waiting = if self.names.contains(name) {
            Some(Waiting::NameTaken)
        } else if !runs && self.used >= self.limit {
            // Once it waits, a promised name is kept from it too: say so at once, not in the next settlement.
            let promised = self.promised.iter().any(|promised| promised == name);
            Some(if promised { Waiting::NameTaken } else { Waiting::LimitExceeded })
        } else {
            None
        };
        // A change of name that is not seen yet keeps the new name free; one that is seen is done.
        let promised = entry.filter(|entry| is_reserved(entry, self.now) && waiting.is_none());
        let renaming_to = promised.and_then(|entry| entry.renaming_to.clone()).filter(|promised| promised != name);
        if waiting.is_none() {
            self.names.insert(name.to_owned());
            self.used += 1;
        }
        self.promised.extend(renaming_to.clone());
        self.entries.push(LedgerEntry {
            namespace: instance.key.namespace.clone(),
            name: instance.key.name.clone(),
            display_name: name.to_owned(),
            reserved_at: promised.filter(|_| renaming_to.is_some()).and_then(|entry| entry.reserved_at.clone()),
            renaming_to,
            waiting,
            connected: instance.connected,
            // Other instances are not to wait for one that is on its way out.
            primary_since: instance.wish.filter(|_| !instance.terminating).map(|since| since.to_string()),
        });
    }

    fn keep_promises(&mut self) {
        self.names.extend(self.promised.drain(..));
    }

    fn keep_reservation(&mut self, entry: &LedgerEntry) {
        if is_reserved(entry, self.now) {
            self.used += 1;
            self.names.insert(entry.display_name.clone());
            self.promised.extend(entry.renaming_to.clone());
            self.entries.push(LedgerEntry { waiting: None, ..entry.clone() });
        }
    }
}

/// The primary before; where the pointer is lost or points at nothing, what the instances themselves show.
fn current(before: &WhatsAppOwnerStatus, instances: &[InstanceFacts]) -> Option<InstanceRef> {
    let stands = |primary: &&InstanceRef| instances.iter().any(|instance| instance.key == **primary);
    let shows =
        || instances.iter().filter(|instance| instance.primary).min_by(|one, other| one.age().cmp(&other.age()));
    before.primary.as_ref().filter(stands).cloned().or_else(|| shows().map(|instance| instance.key.clone()))
}

/// Two sources say whether an instance may be running, its own status and the ledger; either may be lost or be one write
/// behind the other.
fn entry_state(instance: &InstanceFacts, entry: Option<&LedgerEntry>) -> EntryState {
    match (entry.map(|entry| entry.waiting.is_none()), instance.accepted) {
        (Some(true) | None, true) => EntryState::Running,
        (Some(true), false) => EntryState::Granted,
        (Some(false), _) | (None, false) => EntryState::Waiting,
    }
}

fn had_name(instance: &InstanceFacts, entry: Option<&LedgerEntry>) -> bool {
    let name = instance.name.as_str();
    entry.is_some_and(|entry| entry.display_name == name || entry.renaming_to.as_deref() == Some(name))
}

fn key(entry: &LedgerEntry) -> InstanceRef {
    InstanceRef { namespace: entry.namespace.clone(), name: entry.name.clone() }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
