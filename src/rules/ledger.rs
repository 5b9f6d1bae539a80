//! Taking slots and names in an owner's ledger, before the object that wants them exists.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{ComparableName, Denial, RESERVATION};
use crate::api::{InstanceRef, LedgerEntry, Waiting, conditions::reason};

/// What a request wants of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRequest {
    /// The instance.
    pub key: InstanceRef,
    /// The name, as written.
    pub display: String,
    /// The name, as compared.
    pub name: ComparableName,
    /// Whether a slot is wanted too, or the instance has one and only changes its name.
    pub kind: SlotRequestKind,
}

/// The two kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRequestKind {
    /// A slot and a name: the instance is being created, or gets its owner.
    Slot,
    /// A name only: the instance is being renamed.
    Name,
}

impl SlotRequest {
    /// A request of `key` for the name `display`.
    pub fn new(key: InstanceRef, display: &str, kind: SlotRequestKind) -> Self {
        Self { key, display: display.to_owned(), name: ComparableName::of(display), kind }
    }
}

/// What a check sees.
struct Question<'a> {
    owner: &'a str,
    entries: &'a [LedgerEntry],
    request: &'a SlotRequest,
    limit: u32,
}

/// A check answers with the refusal, when it has one.
type Check = fn(&Question) -> Option<Denial>;

/// What refuses a request, checked in this order.
const CHECKS: [Check; 5] = [name_is_blank, is_not_entered, name_is_taken, limit_is_reached, change_is_under_way];

/// Reserves what `request` wants, if the rules allow it. `entries` come back with the reservation in them, ordered by key.
///
/// A request made twice counts once: the slot is the same, its time starts again. Nothing is ever released here, however
/// old: that takes knowing which instances exist. So settle a ledger that refuses, against a live list, and ask again.
///
/// # Errors
/// The refusal.
pub fn reserve(
    owner: &str,
    entries: &[LedgerEntry],
    request: &SlotRequest,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<LedgerEntry>, Denial> {
    let question = Question { owner, entries, request, limit };
    if let Some(denial) = CHECKS.iter().find_map(|check| check(&question)) {
        return Err(denial);
    }
    let mut entries = entries.to_vec();
    match entries.iter_mut().find(|entry| order(entry, &request.key).is_eq()) {
        Some(entry) => {
            // A change promised before stays until a settlement sees it or gives it up, whatever is asked for now.
            let promised = entry.renaming_to.take();
            let asked = (entry.display_name != request.name.as_str()).then(|| request.name.as_str().to_owned());
            entry.renaming_to = promised.or(asked);
            entry.reserved_at = Some(Time(now));
            if request.kind == SlotRequestKind::Slot {
                entry.waiting = None;
            }
        }
        None => entries.push(LedgerEntry {
            namespace: request.key.namespace.clone(),
            name: request.key.name.clone(),
            display_name: request.name.as_str().to_owned(),
            reserved_at: Some(Time(now)),
            ..LedgerEntry::default()
        }),
    }
    entries.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(entries)
}

/// Whether an entry's reservation still counts.
pub fn is_reserved(entry: &LedgerEntry, now: Timestamp) -> bool {
    entry.reserved_at.as_ref().is_some_and(|at| {
        // A time from the future comes from another replica's clock, or from a damaged ledger; no further than that.
        now.duration_since(at.0).unsigned_abs() < RESERVATION
    })
}

/// How many slots are taken: what waits holds none.
pub fn used(entries: &[LedgerEntry]) -> usize {
    entries.iter().filter(|entry| entry.waiting.is_none()).count()
}

/// The order of entries: by namespace, then name.
pub(super) fn order(entry: &LedgerEntry, key: &InstanceRef) -> std::cmp::Ordering {
    (&entry.namespace, &entry.name).cmp(&(&key.namespace, &key.name))
}

/// The refusal for want of a slot.
pub(super) fn limit_exceeded(owner: &str, used: usize, waiting: usize, limit: u32) -> Denial {
    let queue = if waiting == 0 { String::new() } else { format!(" and {waiting} waiting") };
    Denial::new(
        reason::LIMIT_EXCEEDED,
        403,
        format!(
            "maximum instances reached: owner {owner:?} has {used} of {limit} instances{queue}; delete one, or have an administrator raise spec.maxInstances of WhatsAppOwner {:?}",
            super::owner::object_name(owner),
        ),
    )
}

/// The refusal for want of the name. It does not say where the other instance is: the requester may not be allowed to know.
pub(super) fn name_taken(owner: &str, display: &str) -> Denial {
    Denial::new(
        reason::NAME_TAKEN,
        409,
        format!(
            "instance name already exists: owner {owner:?} has an instance named {display:?} (upper and lower case, outer spaces and ways of writing a character count as the same); choose another spec.name",
        ),
    )
}

impl Question<'_> {
    fn others(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.entries.iter().filter(|entry| order(entry, &self.request.key).is_ne())
    }

    fn own(&self) -> Option<&LedgerEntry> {
        self.entries.iter().find(|entry| order(entry, &self.request.key).is_eq())
    }
}

fn name_is_blank(question: &Question) -> Option<Denial> {
    let blank = question.request.name.is_blank();
    blank.then(|| {
        Denial::new("NameBlank", 422, "spec.name must not be blank; give the instance a name of 1 to 100 characters")
    })
}

/// An instance that came in past admission is not entered until the next settlement, which lets the oldest in first. With a
/// new name it must not get in before that.
fn is_not_entered(question: &Question) -> Option<Denial> {
    let missing = question.request.kind == SlotRequestKind::Name && question.own().is_none();
    missing.then(|| under_way(&question.request.key))
}

fn name_is_taken(question: &Question) -> Option<Denial> {
    let name = question.request.name.as_str();
    // Also a promise that has run out: only a settlement, which sees the instances, can say what came of it.
    let promised = |entry: &LedgerEntry| entry.renaming_to.as_deref() == Some(name);
    let taken = question.others().any(|entry| entry.display_name == name || promised(entry));
    taken.then(|| name_taken(question.owner, &question.request.display))
}

/// Those who wait for a slot count too: a newcomer must not overtake them. Those who wait for a name want none yet.
fn limit_is_reached(question: &Question) -> Option<Denial> {
    let counts = |entry: &&LedgerEntry| entry.waiting != Some(Waiting::NameTaken);
    let others = question.others().filter(counts).count();
    let full = question.request.kind == SlotRequestKind::Slot
        && others >= usize::try_from(question.limit).unwrap_or(usize::MAX);
    let waiting = question.entries.iter().filter(|entry| entry.waiting == Some(Waiting::LimitExceeded)).count();
    full.then(|| limit_exceeded(question.owner, used(question.entries), waiting, question.limit))
}

/// An entry keeps two names free, the one it has and the one it is getting; there is no third. Nor is there a way back while
/// the change may still land: a settlement that sees it landed gives the old name up, whatever was promised since.
fn change_is_under_way(question: &Question) -> Option<Denial> {
    let name = question.request.name.as_str();
    let entry = question.own()?;
    let under_way = entry.renaming_to.as_deref().is_some_and(|promised| promised != name);
    under_way.then(|| self::under_way(&question.request.key))
}

fn under_way(instance: &InstanceRef) -> Denial {
    Denial::new(
        "ChangeUnderWay",
        409,
        format!("another change of instance {:?} is under way; try again in a minute", instance.name),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::{SlotRequest, SlotRequestKind, reserve, used};
    use crate::api::{InstanceRef, LedgerEntry, Waiting};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn key(name: &str) -> InstanceRef {
        InstanceRef { namespace: "shop".into(), name: name.into() }
    }

    fn slot(name: &str, display: &str) -> SlotRequest {
        SlotRequest::new(key(name), display, SlotRequestKind::Slot)
    }

    fn full(n: usize) -> Vec<LedgerEntry> {
        (0..n).fold(Vec::new(), |entries, i| {
            reserve("alice", &entries, &slot(&format!("i{i}"), &format!("Instance {i}")), 100, now()).unwrap()
        })
    }

    #[test]
    fn the_tenth_gets_in_and_the_eleventh_is_told_what_to_do() {
        let ten = reserve("alice", &full(9), &slot("x", "X"), 10, now()).unwrap();
        assert_eq!(used(&ten), 10);
        let denial = reserve("alice", &ten, &slot("y", "Y"), 10, now()).unwrap_err();
        assert_eq!((denial.reason, denial.code), ("LimitExceeded", 403));
        assert_eq!(
            denial.message,
            "maximum instances reached: owner \"alice\" has 10 of 10 instances; delete one, or have an administrator raise spec.maxInstances of WhatsAppOwner \"alice\""
        );
    }

    #[test]
    fn a_name_is_taken_in_any_spelling() {
        let one = reserve("alice", &[], &slot("a", "Sales"), 10, now()).unwrap();
        for spelling in ["Sales", " SALES", "ｓales"] {
            let denial = reserve("alice", &one, &slot("b", spelling), 10, now()).unwrap_err();
            assert_eq!((denial.reason, denial.code), ("NameTaken", 409), "{denial}");
        }
    }

    #[test]
    fn the_same_request_again_takes_nothing_more() {
        let ten = full(10);
        assert_eq!(reserve("alice", &ten, &slot("i3", "Instance 3"), 10, now()).unwrap(), ten);
    }

    #[test]
    fn a_newcomer_does_not_overtake_those_who_wait() {
        let mut entries = full(11);
        entries[10].waiting = Some(Waiting::LimitExceeded);
        entries.remove(0);
        let denial = reserve("alice", &entries, &slot("new", "New"), 10, now()).unwrap_err();
        assert!(denial.message.contains("9 of 10 instances and 1 waiting"), "{denial}");
    }

    #[test]
    fn who_waits_for_a_name_takes_no_place() {
        let mut entries = full(9);
        entries[8].waiting = Some(Waiting::NameTaken);
        entries.extend(full(10).pop());
        assert!(reserve("alice", &entries, &slot("new", "New"), 10, now()).is_ok());
        entries[7].waiting = Some(Waiting::LimitExceeded);
        let denial = reserve("alice", &entries, &slot("new", "New"), 9, now()).unwrap_err();
        assert!(denial.message.contains("8 of 9 instances and 1 waiting"), "{denial}");
    }

    #[test]
    fn what_came_in_past_admission_is_settled_before_it_is_renamed() {
        let rename = SlotRequest::new(key("slipped"), "Other", SlotRequestKind::Name);
        assert_eq!(reserve("alice", &full(2), &rename, 10, now()).unwrap_err().reason, "ChangeUnderWay");
    }

    #[test]
    fn a_name_being_changed_keeps_both_free_until_settled() {
        let two = full(2);
        let rename = |to: &str| SlotRequest::new(key("i0"), to, SlotRequestKind::Name);
        let changing = reserve("alice", &two, &rename("Other"), 2, now()).unwrap();
        for kept in ["Other", "instance 0"] {
            assert_eq!(
                reserve("alice", &changing, &slot("z", kept), 10, now()).unwrap_err().reason,
                "NameTaken",
                "{kept}"
            );
        }
        assert_eq!(reserve("alice", &changing, &rename("Third"), 2, now()).unwrap_err().reason, "ChangeUnderWay");
    }

    #[test]
    fn renaming_needs_no_place() {
        let ten = full(10);
        assert!(reserve("alice", &ten, &SlotRequest::new(key("i0"), "Other", SlotRequestKind::Name), 3, now()).is_ok());
    }

    #[test]
    fn a_name_that_shows_nothing_is_refused() {
        assert_eq!(reserve("alice", &[], &slot("a", "\u{200b}"), 10, now()).unwrap_err().reason, "NameBlank");
    }
}
