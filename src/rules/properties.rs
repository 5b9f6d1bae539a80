//! Any sequence of events, in any order, with crashes and damage in between: the rules hold.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    ComparableName, Decision, InstanceFacts, Settlement, decision, doubts,
    ledger::{SlotRequest, SlotRequestKind, is_reserved, reserve},
    settle,
};
use crate::api::{InstanceRef, WhatsAppOwnerStatus};

const KEYS: usize = 8;
const DISPLAYS: [&str; 5] = ["Sales", "SALES ", "Support", "Straße", "STRASSE"];

#[derive(Clone, Debug)]
enum Event {
    /// A create or, for an existing instance, a change of name passes admission; the write is under way.
    Admit(usize, usize),
    /// A write under way arrives, or never does.
    Land(usize),
    Fail(usize),
    Connect(usize, bool),
    Wish(usize, bool),
    Delete(usize),
    Gone(usize),
    /// The controller settles, having seen everything.
    Settle,
    /// The controller settles, having seen nothing since it last settled but the ledger.
    SettleBehind,
    /// The same, and it keeps the result in mind, for its next settlement to write.
    Postpone,
    /// The controller dies with what it had in mind, and the next one lists everything.
    Crash,
    /// The instance learns of its decision.
    Mirror(usize),
    Wait(i64),
    /// Past admission.
    Slip(usize, usize),
    SlipRename(usize, usize),
    SetLimit(u32),
    LoseLedger,
    LoseEntry(usize),
    RestoreLedger,
}

fn orderly() -> impl Strategy<Value = Event> {
    let (key, display) = (0..KEYS, 0..DISPLAYS.len());
    prop_oneof![
        8 => (key.clone(), display).prop_map(|(k, d)| Event::Admit(k, d)),
        8 => (0..4_usize).prop_map(Event::Land),
        2 => (0..4_usize).prop_map(Event::Fail),
        3 => (key.clone(), any::<bool>()).prop_map(|(k, on)| Event::Connect(k, on)),
        3 => (key.clone(), any::<bool>()).prop_map(|(k, on)| Event::Wish(k, on)),
        1 => key.clone().prop_map(Event::Delete),
        3 => key.clone().prop_map(Event::Gone),
        6 => Just(Event::Settle),
        2 => Just(Event::SettleBehind),
        3 => Just(Event::Postpone),
        1 => Just(Event::Crash),
        6 => key.prop_map(Event::Mirror),
        2 => (1..90_i64).prop_map(Event::Wait),
    ]
}

fn disorderly() -> impl Strategy<Value = Event> {
    let (key, display) = (0..KEYS, 0..DISPLAYS.len());
    prop_oneof![
        12 => orderly(),
        2 => (key.clone(), display.clone()).prop_map(|(k, d)| Event::Slip(k, d)),
        1 => (key.clone(), display).prop_map(|(k, d)| Event::SlipRename(k, d)),
        1 => (0..6_u32).prop_map(Event::SetLimit),
        1 => Just(Event::LoseLedger),
        1 => key.prop_map(Event::LoseEntry),
        1 => Just(Event::RestoreLedger),
    ]
}

struct Write {
    key: InstanceRef,
    display: &'static str,
    admitted: Timestamp,
}

struct Cluster {
    now: Timestamp,
    limit: u32,
    status: Option<WhatsAppOwnerStatus>,
    /// How often the status was written, and what the controller found for which of these versions.
    version: u32,
    postponed: Option<(u32, WhatsAppOwnerStatus)>,
    backup: Option<WhatsAppOwnerStatus>,
    /// What the controller has seen.
    cache: BTreeMap<InstanceRef, InstanceFacts>,
    objects: BTreeMap<InstanceRef, (InstanceFacts, &'static str)>,
    writes: Vec<Write>,
    serial: u32,
}

fn key(k: usize) -> InstanceRef {
    InstanceRef { namespace: "shop".into(), name: format!("i{k}") }
}

impl Cluster {
    fn new(limit: u32) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
            now,
            limit,
            status: None,
            version: 0,
            postponed: None,
            backup: None,
            cache: BTreeMap::new(),
            objects: BTreeMap::new(),
            writes: Vec::new(),
            serial: 0,
        }
    }

    fn facts(&self) -> Vec<InstanceFacts> {
        self.objects.values().map(|(facts, _)| facts.clone()).collect()
    }

    fn settled(&self) -> Settlement {
        settle(self.status.as_ref(), &self.facts(), self.limit, self.now)
    }

    /// By the controller, which knows what it has postponed as long as nobody else has written, and reads live what it
    /// doubts.
    fn settled_by_controller(&self) -> WhatsAppOwnerStatus {
        let postponed = self.postponed.as_ref().filter(|(version, _)| *version == self.version);
        let before = postponed.map(|(_, status)| status).or(self.status.as_ref());
        let mut facts: Vec<_> = self.cache.values().cloned().collect();
        for key in doubts(before, &facts, self.now) {
            facts.retain(|facts| facts.key != key);
            facts.extend(self.objects.get(&key).map(|(facts, _)| facts.clone()));
        }
        settle(before, &facts, self.limit, self.now).status
    }

    fn look(&mut self) {
        self.cache = self.objects.iter().map(|(key, (facts, _))| (key.clone(), facts.clone())).collect();
    }

    fn write(&mut self, status: Option<WhatsAppOwnerStatus>) {
        self.status = status;
        self.version += 1;
    }

    fn create(&mut self, key: InstanceRef, display: &'static str) {
        self.serial += 1;
        let facts = InstanceFacts {
            key: key.clone(),
            uid: format!("{:x}", self.serial.wrapping_mul(0x9e37_79b9)),
            created: self.now,
            name: ComparableName::of(display),
            accepted: false,
            connected: false,
            wish: None,
            primary: false,
            terminating: false,
        };
        self.objects.insert(key, (facts, display));
    }

    fn rename(&mut self, key: &InstanceRef, display: &'static str) {
        if let Some((facts, shown)) = self.objects.get_mut(key) {
            facts.name = ComparableName::of(display);
            *shown = display;
        }
    }

    fn happen(&mut self, event: &Event) {
        let now = self.now;
        let object = |objects: &mut BTreeMap<_, _>, k: usize, change: &dyn Fn(&mut InstanceFacts)| {
            if let Some((facts, _)) = objects.get_mut(&key(k)) {
                change(facts);
            }
        };
        match *event {
            Event::Admit(k, d) => {
                // What admission does: settle a ledger that is not there or that refuses, then reserve.
                let kind =
                    if self.objects.contains_key(&key(k)) { SlotRequestKind::Name } else { SlotRequestKind::Slot };
                let request = SlotRequest::new(key(k), DISPLAYS[d], kind);
                let held = self.status.as_ref().map(|status| status.instances.clone());
                let claimed = held.and_then(|entries| reserve("alice", &entries, &request, self.limit, now).ok());
                let claimed = claimed.or_else(|| {
                    self.write(Some(self.settled().status));
                    let entries = &self.status.as_ref().unwrap().instances;
                    reserve("alice", entries, &request, self.limit, now).ok()
                });
                if let Some(entries) = claimed {
                    let status = WhatsAppOwnerStatus { instances: entries, ..self.status.clone().unwrap() };
                    self.write(Some(status));
                    self.writes.push(Write { key: key(k), display: DISPLAYS[d], admitted: now });
                }
            }
            Event::Land(i) if i < self.writes.len() => {
                let Write { key, display, .. } = self.writes.remove(i);
                // Of two creates of one object, and of two changes of one version, the API server lets one through.
                self.writes.retain(|write| write.key != key);
                if self.objects.contains_key(&key) {
                    self.rename(&key, display);
                } else {
                    self.create(key, display);
                }
            }
            Event::Fail(i) if i < self.writes.len() => drop(self.writes.remove(i)),
            Event::Land(_) | Event::Fail(_) => {}
            Event::Connect(k, on) => object(&mut self.objects, k, &|facts| facts.connected = on && facts.accepted),
            Event::Wish(k, on) => object(&mut self.objects, k, &|facts| facts.wish = on.then_some(now)),
            Event::Delete(k) => object(&mut self.objects, k, &|facts| facts.terminating = true),
            Event::Gone(k) => {
                if self.objects.remove(&key(k)).is_some() {
                    self.writes.retain(|write| write.key != key(k));
                }
            }
            Event::Settle => {
                self.look();
                self.happen(&Event::SettleBehind);
            }
            Event::SettleBehind => {
                let status = self.settled_by_controller();
                self.write(Some(status));
            }
            Event::Postpone => self.postponed = Some((self.version, self.settled_by_controller())),
            Event::Crash => {
                self.postponed = None;
                self.look();
            }
            Event::Mirror(k) => {
                let decision = decision("alice", self.status.as_ref(), &key(k), "any");
                object(&mut self.objects, k, &|facts| facts.accepted = decision == Some(Decision::Accepted));
            }
            Event::Wait(seconds) => {
                self.now += SignedDuration::from_secs(seconds);
                let now = self.now;
                self.writes.retain(|write| now.duration_since(write.admitted) < SignedDuration::from_secs(60));
            }
            Event::Slip(k, d) => {
                if !self.objects.contains_key(&key(k)) {
                    self.create(key(k), DISPLAYS[d]);
                }
            }
            Event::SlipRename(k, d) => self.rename(&key(k), DISPLAYS[d]),
            Event::SetLimit(limit) => self.limit = limit,
            Event::LoseLedger => {
                self.backup = self.status.take();
                self.write(None);
            }
            Event::LoseEntry(k) => {
                if let Some(mut status) = self.status.clone() {
                    status.instances.retain(|entry| entry.name != key(k).name);
                    self.write(Some(status));
                }
            }
            Event::RestoreLedger => self.write(self.backup.clone()),
        }
    }

    /// What must be true of a settled status, whatever came before.
    fn check_settled(&self) -> Result<(), TestCaseError> {
        let Settlement { status, again_at } = self.settled();
        let again = settle(Some(&status), &self.facts(), self.limit, self.now);
        prop_assert_eq!(&again.status, &status, "settling twice changes nothing");
        let changing =
            |key: &InstanceRef| status.instances.iter().any(|e| e.name == key.name && e.renaming_to.is_some());
        prop_assert!(doubts(Some(&status), &self.facts(), self.now).iter().all(changing));

        let entry_of = |key: &InstanceRef| status.instances.iter().find(|e| e.name == key.name);
        let (mut names, mut accepted) = (BTreeSet::new(), BTreeSet::new());
        for (key, (facts, _)) in &self.objects {
            let entry = entry_of(key).ok_or_else(|| TestCaseError::fail(format!("{key:?} has no entry")))?;
            prop_assert_eq!(&entry.display_name, facts.name.as_str());
            if entry.waiting.is_none() {
                prop_assert!(
                    names.insert(entry.display_name.clone()),
                    "two accepted are called {}",
                    &entry.display_name
                );
                accepted.insert(key.clone());
            }
        }
        for entry in &status.instances {
            let exists = self.objects.keys().any(|key| key.name == entry.name);
            prop_assert!(exists || is_reserved(entry, self.now), "leaked: {:?}", entry);
            prop_assert!(entry.reserved_at.is_none() || again_at.is_some());
        }

        let used = usize::try_from(status.used).unwrap();
        let ran = |key: &InstanceRef| self.objects[key].0.accepted;
        if used > self.limit as usize {
            let reserved = |e: &&crate::api::LedgerEntry| !self.objects.keys().any(|key| key.name == e.name);
            let newly = accepted.iter().filter(|key| !ran(key)).count();
            prop_assert_eq!(
                newly,
                0,
                "accepted beyond the limit though it never ran; reserved {}",
                status.instances.iter().filter(reserved).count()
            );
        }
        for entry in &status.instances {
            match entry.waiting {
                Some(crate::api::Waiting::LimitExceeded) => {
                    prop_assert!(used >= self.limit as usize, "waits beside a free slot");
                }
                Some(crate::api::Waiting::NameTaken) => prop_assert!(
                    status.instances.iter().any(|other| other.name != entry.name
                        && other.waiting.is_none()
                        && (other.display_name == entry.display_name
                            || other.renaming_to.as_ref() == Some(&entry.display_name))),
                    "waits for a name nobody has: {:?}",
                    entry
                ),
                None => {}
            }
        }
        prop_assert_eq!(
            status.primary.is_some(),
            !accepted.is_empty(),
            "one primary exactly when there is an accepted instance"
        );
        prop_assert!(status.primary.iter().all(|primary| accepted.contains(primary)));
        Ok(())
    }

    /// What must be true at every moment while nothing gets past admission and nothing damages the ledger.
    fn check_strict(&self) -> Result<(), TestCaseError> {
        let mut existing: BTreeSet<&InstanceRef> = self.objects.keys().collect();
        existing.extend(self.writes.iter().map(|write| &write.key));
        prop_assert!(existing.len() <= self.limit as usize, "{} of {}", existing.len(), self.limit);
        let mut names = BTreeSet::new();
        for (facts, _) in self.objects.values() {
            prop_assert!(names.insert(facts.name.as_str()), "two are called {}", facts.name.as_str());
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_settled_owner_is_in_order(events in proptest::collection::vec(disorderly(), 1..60)) {
        let mut cluster = Cluster::new(3);
        for event in &events {
            cluster.happen(event);
            cluster.check_settled()?;
        }
    }

    #[test]
    fn with_admission_in_place_limit_and_names_hold_at_every_moment(events in proptest::collection::vec(orderly(), 1..80)) {
        let mut cluster = Cluster::new(3);
        for event in &events {
            cluster.happen(event);
            cluster.check_strict()?;
            cluster.check_settled()?;
        }
    }

    #[test]
    fn who_runs_is_stopped_neither_by_a_lower_limit_nor_by_a_lost_ledger(
        events in proptest::collection::vec(orderly(), 1..60),
        limit in 0..3_u32,
        lose in any::<bool>(),
    ) {
        let mut cluster = Cluster::new(4);
        for event in &events {
            cluster.happen(event);
        }
        // Whose acceptance is known on both sides.
        cluster.happen(&Event::Settle);
        (0..KEYS).for_each(|k| cluster.happen(&Event::Mirror(k)));
        let runs: Vec<_> = cluster.objects.values().filter(|(f, _)| f.accepted).map(|(f, _)| f.key.clone()).collect();
        cluster.limit = limit;
        if lose {
            cluster.status = None;
        }
        let status = cluster.settled().status;
        for key in &runs {
            prop_assert_eq!(decision("alice", Some(&status), key, "any"), Some(Decision::Accepted));
        }
    }

    #[test]
    fn what_came_in_past_admission_gets_in_oldest_first(ages in proptest::collection::vec(0..5_i64, 1..12), limit in 0..12_u32) {
        let mut cluster = Cluster::new(limit);
        for (k, age) in ages.iter().enumerate() {
            let start = cluster.now;
            cluster.now -= SignedDuration::from_secs(*age);
            cluster.create(key(k), "x");
            cluster.now = start;
            cluster.objects.get_mut(&key(k)).unwrap().0.name = ComparableName::of(&format!("name {k}"));
        }
        let mut in_order = cluster.facts();
        in_order.sort_by(|one, other| one.age().cmp(&other.age()));
        let status = cluster.settled().status;
        for (position, facts) in in_order.iter().enumerate() {
            let accepted = decision("alice", Some(&status), &facts.key, "any") == Some(Decision::Accepted);
            prop_assert_eq!(accepted, position < limit as usize);
        }
    }
}

#[test]
fn lists_disagreements_to_be_read_live() {
    let mut cluster = Cluster::new(3);
    for event in &[Event::Admit(0, 0), Event::Land(0), Event::Settle] {
        cluster.happen(event);
    }
    let doubts = |cluster: &Cluster, facts: &[_]| doubts(cluster.status.as_ref(), facts, cluster.now);
    assert_eq!(doubts(&cluster, &[]), vec![key(0)], "not seen");
    let seen = cluster.facts();
    cluster.happen(&Event::Admit(1, 2));
    assert_eq!(doubts(&cluster, &seen), vec![], "a fresh reservation is no doubt");
    for event in &[Event::Land(0), Event::Admit(0, 3), Event::Land(0)] {
        cluster.happen(event);
    }
    assert_eq!(doubts(&cluster, &cluster.facts()), vec![key(0), key(1)], "a reservation that may have come true");
    cluster.happen(&Event::Settle);
    assert_eq!(doubts(&cluster, &cluster.facts()), vec![]);
    assert_eq!(doubts(&cluster, &seen), vec![key(0), key(1)], "another name, and not seen");
}

#[test]
fn a_controller_that_lags_behind_gives_nothing_away() {
    let mut cluster = Cluster::new(1);
    for event in &[Event::Admit(0, 0), Event::Land(0), Event::Settle] {
        cluster.happen(event);
    }
    // Replaced by one of the same key, which the controller has not seen: its slot is not free.
    for event in &[Event::Gone(0), Event::Admit(0, 2), Event::Postpone, Event::SettleBehind, Event::Admit(1, 3)] {
        cluster.happen(event);
    }
    cluster.check_strict().unwrap();
    // Renamed, and settled by admission: its name is not free.
    for event in &[Event::Land(0), Event::Settle, Event::Admit(0, 3), Event::Land(0)] {
        cluster.happen(event);
    }
    cluster.limit = 2;
    for event in &[Event::Admit(1, 3), Event::SettleBehind, Event::Admit(1, 3), Event::Land(0)] {
        cluster.happen(event);
        cluster.check_strict().unwrap();
    }
}

#[test]
fn a_place_is_free_as_soon_as_its_instance_is_seen_gone() {
    let mut cluster = Cluster::new(1);
    for event in &[Event::Admit(0, 0), Event::Land(0)] {
        cluster.happen(event);
    }
    cluster.look();
    // That the reservation has come true was found and not written.
    for event in &[Event::Postpone, Event::Gone(0), Event::Settle] {
        cluster.happen(event);
    }
    assert_eq!(cluster.status.unwrap().instances, vec![]);
}

#[test]
fn a_name_slipped_past_admission_goes_to_the_one_that_had_it() {
    let mut cluster = Cluster::new(3);
    for event in [Event::Admit(0, 2), Event::Land(0), Event::Wait(5), Event::Admit(1, 0), Event::Land(0), Event::Settle]
    {
        cluster.happen(&event);
    }
    for event in &[Event::Mirror(0), Event::Mirror(1), Event::SlipRename(0, 1), Event::Settle] {
        cluster.happen(event);
    }
    let told = |k| decision("alice", cluster.status.as_ref(), &key(k), "SALES");
    assert_eq!(told(1), Some(Decision::Accepted));
    assert!(
        matches!(told(0), Some(Decision::Waiting(denial)) if denial.reason == "NameTaken"),
        "the older one came later to it"
    );
}
