//! Which of an owner's instances is the primary one, and who may ask to be.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Denial, InstanceFacts};
use crate::api::{InstanceRef, WhatsAppInstance, labels};

/// The owner's primary among `instances`, which are the accepted ones; none only when there are none.
///
/// In order: (1) the one whose wish to be primary was made last, among those that are connected or primary already: a
/// primary that loses its connection stays; (2) the one that is primary now; (3) the oldest. One that is being deleted is
/// chosen only when nothing else is left.
pub fn choose<'a>(
    instances: impl IntoIterator<Item = &'a InstanceFacts>,
    current: Option<&InstanceRef>,
) -> Option<InstanceRef> {
    let (going, staying): (Vec<_>, Vec<_>) = instances.into_iter().partition(|instance| instance.terminating);
    let candidates = if staying.is_empty() { going } else { staying };
    let is_current = |instance: &InstanceFacts| Some(&instance.key) == current;

    let wished = candidates
        .iter()
        .filter(|instance| instance.connected || is_current(instance))
        // Two wishes of one instant: the first by name, which every reader knows alike, while an age may not be known.
        .filter_map(|instance| Some(((instance.wish?, std::cmp::Reverse(&instance.key)), instance)))
        .max_by(|(one, _), (other, _)| one.cmp(other))
        .map(|(_, instance)| instance);
    let chosen = wished
        .or_else(|| candidates.iter().find(|instance| is_current(instance)))
        .or_else(|| candidates.iter().min_by(|one, other| one.age().cmp(&other.age())));
    chosen.map(|instance| instance.key.clone())
}

/// Whether `spec.primary` of an existing instance may change from `before` to `after`.
///
/// # Errors
/// The refusal, when it turns true on an instance that is not connected.
pub fn check_wish(name: &str, before: bool, after: bool, connected: bool) -> Result<(), Denial> {
    if before || !after || connected {
        return Ok(());
    }
    Err(Denial::new(
        "NotConnected",
        422,
        format!(
            "instance {name:?} must be connected to be set as primary; wait until its Connected condition is True (kubectl get wa {name}), then set spec.primary again",
        ),
    ))
}

/// The patch that wishes an instance to be primary: one step on one object. Its stamp orders wishes; one later than the
/// instance's own makes its wish anew, so it is that even by a clock that is slow. Admission writes its own in its place;
/// this one counts where admission is away.
pub fn wish(instance: &WhatsAppInstance, now: Timestamp) -> Value {
    let next = |before: Timestamp| before.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(before);
    let since = InstanceFacts::from(instance).wish.map_or(now, |before| now.max(next(before)));
    json!({
        "metadata": { "annotations": { labels::PRIMARY_SINCE: since.to_string() } },
        "spec": { "primary": true },
    })
}

/// How far the clocks of those who ask for stamps may be ahead.
const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// Whether the stamp in a request asks for a new one, `stored` being the one there is: only a later time does, and not one
/// that is still to come. So a client that means it makes a wish anew by one patch, while a file with a stamp in it, applied
/// again however often, changes nothing.
pub fn wishes_anew(given: Option<&str>, stored: Option<&str>, now: Timestamp) -> bool {
    let stored = stored.and_then(parsed);
    let latest = stored.map_or(now, |stored| stored.max(now)).saturating_add(CLOCKS).unwrap_or(Timestamp::MAX);
    given.and_then(parsed).is_some_and(|given| Some(given) > stored && given <= latest)
}

/// The stamp of a wish made now: later than the one before, whatever clock that was made by.
pub fn stamp(stored: Option<&str>, now: Timestamp) -> Timestamp {
    let after = stored.and_then(parsed).and_then(|stored| stored.checked_add(SignedDuration::from_nanos(1)).ok());
    after.map_or(now, |after| after.max(now))
}

fn parsed(stamp: &str) -> Option<Timestamp> {
    stamp.parse().ok()
}

/// The warning that goes with a wish which takes over from another instance, at once or, when the asking one is only
/// being created, once it is connected. The other one is named only to those who may see it; `visible` says whether the
/// requester is one of them.
pub fn takeover_warning(
    asking: &InstanceRef,
    current: Option<&InstanceRef>,
    visible: bool,
    at_once: bool,
) -> Option<String> {
    let current = current.filter(|current| *current != asking)?;
    let from = if visible {
        format!("{}/{}", current.namespace, current.name)
    } else {
        "the owner's present primary".to_owned()
    };
    let when = if at_once { "takes over" } else { "will take over, once it is connected," };
    Some(format!("{}/{} {when} as primary instance from {from}", asking.namespace, asking.name))
}

#[cfg(test)]
mod tests {
    use super::{check_wish, choose, stamp, takeover_warning, wishes_anew};
    use crate::{
        api::InstanceRef,
        rules::{ComparableName, InstanceFacts},
    };

    fn instance(name: &str, age: i64) -> InstanceFacts {
        InstanceFacts {
            key: key(name),
            uid: name.into(),
            created: k8s_openapi::jiff::Timestamp::from_second(1_000_000 - age).unwrap(),
            name: ComparableName::of(name),
            accepted: true,
            connected: false,
            wish: None,
            primary: false,
            terminating: false,
        }
    }

    fn key(name: &str) -> InstanceRef {
        InstanceRef { namespace: "shop".into(), name: name.into() }
    }

    fn wishing(name: &str, age: i64, since: i64, connected: bool) -> InstanceFacts {
        let wish = Some(k8s_openapi::jiff::Timestamp::from_second(since).unwrap());
        InstanceFacts { connected, wish, ..instance(name, age) }
    }

    fn chosen(instances: &[InstanceFacts], current: Option<&str>) -> Option<String> {
        choose(instances, current.map(key).as_ref()).map(|chosen| chosen.name)
    }

    #[test]
    fn the_first_is_primary_and_the_second_is_not() {
        assert_eq!(chosen(&[], None), None);
        assert_eq!(chosen(&[instance("young", 1), instance("old", 2)], None).as_deref(), Some("old"));
        assert_eq!(chosen(&[instance("young", 1), instance("old", 2)], Some("young")).as_deref(), Some("young"));
    }

    #[test]
    fn a_wish_counts_once_connected_and_the_last_one_wins() {
        let old = instance("old", 9);
        assert_eq!(chosen(&[old.clone(), wishing("w", 1, 5, false)], Some("old")).as_deref(), Some("old"));
        assert_eq!(chosen(&[old.clone(), wishing("w", 1, 5, true)], Some("old")).as_deref(), Some("w"));
        let both = [old, wishing("w", 1, 5, true), wishing("v", 3, 6, true)];
        assert_eq!(chosen(&both, Some("w")).as_deref(), Some("v"));
    }

    #[test]
    fn a_primary_that_loses_its_connection_stays_until_a_wish_says_otherwise() {
        assert_eq!(chosen(&[instance("old", 9), wishing("w", 1, 5, false)], Some("w")).as_deref(), Some("w"));
        assert_eq!(chosen(&[wishing("v", 9, 4, true), wishing("w", 1, 5, false)], Some("w")).as_deref(), Some("w"));
        assert_eq!(chosen(&[wishing("v", 9, 6, true), wishing("w", 1, 5, false)], Some("w")).as_deref(), Some("v"));
    }

    #[test]
    fn a_primary_being_deleted_hands_over_unless_it_is_the_last() {
        let going = InstanceFacts { terminating: true, ..instance("old", 9) };
        assert_eq!(chosen(&[going.clone(), instance("young", 1)], Some("old")).as_deref(), Some("young"));
        assert_eq!(chosen(&[going], Some("old")).as_deref(), Some("old"));
    }

    #[test]
    fn only_a_connected_instance_can_be_set_as_primary() {
        let denial = check_wish("sales", false, true, false).unwrap_err();
        assert!(denial.message.contains("must be connected to be set as primary"), "{denial}");
        for (before, after, connected) in
            [(false, true, true), (true, true, false), (true, false, false), (false, false, false)]
        {
            assert_eq!(check_wish("sales", before, after, connected), Ok(()));
        }
    }

    #[test]
    fn only_a_later_stamp_is_a_new_wish() {
        let (early, late) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:00.5Z"));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (given, stored, anew) in [
            (late, early, true),
            (early, late, false),
            (late, late, false),
            (None, early, false),
            (early, None, true),
            (Some("nonsense"), None, false),
            (early, Some("nonsense"), true),
            // In a file, this would be anew each time the file is applied.
            (Some("2026-01-01T00:10:01Z"), early, false),
            // By the clock of whoever wrote the stamp before.
            (Some("2027-01-01T00:00:00.5Z"), Some("2027-01-01T00:00:00Z"), true),
        ] {
            assert_eq!(wishes_anew(given, stored, now), anew, "{given:?} {stored:?}");
        }
        assert_eq!(stamp(None, now), now);
        assert_eq!(stamp(Some("2025-01-01T00:00:00Z"), now), now);
        assert_eq!(stamp(late, now).to_string(), "2026-01-01T00:00:00.500000001Z", "never back");
    }

    #[test]
    fn the_warning_names_the_one_before_only_to_those_who_may_see_it() {
        let warning = takeover_warning(&key("w"), Some(&key("old")), true, true).unwrap();
        assert_eq!(warning, "shop/w takes over as primary instance from shop/old");
        assert!(!takeover_warning(&key("w"), Some(&key("old")), false, true).unwrap().contains("old"));
        assert!(takeover_warning(&key("w"), Some(&key("old")), true, false).unwrap().contains("once it is connected"));
        assert_eq!(takeover_warning(&key("w"), Some(&key("w")), true, true), None);
        assert_eq!(takeover_warning(&key("w"), None, true, true), None);
    }
}
