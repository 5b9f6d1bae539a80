use std::sync::Arc;

use kube::{ResourceExt, core::ObjectMeta};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Owners;
use crate::{
    api::{WhatsAppInstance, WhatsAppOwner},
    controller::{decide::facts::Acceptance, fixtures::named, metrics::OwnerCounts},
    platform::watch::{Cache, Change},
};

fn instance(name: &str, version: &str) -> WhatsAppInstance {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "team", "uid": format!("uid-{name}"), "resourceVersion": version},
        "spec": {"name": name, "owner": "alice"},
    }))
    .unwrap()
}

fn ledger(version: &str, entries: &[(&str, Option<&str>)]) -> WhatsAppOwner {
    let entry = |(name, waiting): &(&str, Option<&str>)| json!({"namespace": "team", "name": name, "displayName": name, "waiting": waiting});
    let entries: Vec<_> = entries.iter().map(entry).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "alice", "uid": "u1", "resourceVersion": version}, "spec": {"owner": "alice"},
        "status": {"instances": entries, "used": 1, "max": 1, "primary": {"namespace": "team", "name": "one"}},
    }))
    .unwrap()
}

fn owners() -> (Arc<Owners>, UnboundedReceiver<String>) {
    Owners::new(Cache::new(), crate::model::NamespaceScope::All, 10, OwnerCounts::default())
}

/// The watch brings a change: first the cache has it, then the owners hear of it.
fn watched(owners: &Owners, change: Change<WhatsAppOwner>) {
    let before = owners.objects.keep(&change);
    owners.object_changed(before.as_deref(), change);
}

fn shown(owners: &Owners, object: WhatsAppOwner) {
    watched(owners, Change::Present(named("", &object.name_any()), object));
}

fn settled(owners: &Owners) {
    for state in super::lock(&owners.states).values_mut() {
        state.settled = state.seen;
    }
}

#[test]
fn nobody_is_let_in_by_a_ledger_older_than_the_latest_change() {
    let (owners, mut woken) = owners();
    let one = instance("one", "1");
    shown(&owners, ledger("5", &[("one", None), ("two", Some("LimitExceeded"))]));
    owners.instance_changed(&named("team", "one"), None, Some(&one));
    assert_eq!(owners.acceptance(&one), (Acceptance::Undecided, false));
    assert_eq!(woken.try_recv().as_deref(), Ok("alice"));
    settled(&owners);
    assert_eq!(owners.acceptance(&one), (Acceptance::Accepted, true));
    assert!(
        matches!(owners.acceptance(&instance("two", "1")).0, Acceptance::Waiting(denial) if denial.reason == "LimitExceeded")
    );
    assert_eq!(owners.acceptance(&instance("unheard-of", "1")).0, Acceptance::Undecided);

    // One that goes may make room, and one of its name may come.
    owners.instance_changed(&named("team", "one"), Some(&one), None);
    assert_eq!(owners.acceptance(&one).0, Acceptance::Undecided);
}

#[test]
fn what_the_watch_has_not_shown_yet_is_not_undone_by_an_older_read() {
    let (owners, _woken) = owners();
    shown(&owners, ledger("9", &[("one", None)]));
    owners.learned("alice", ledger("10", &[("one", Some("NameTaken"))]));
    settled(&owners);
    assert!(matches!(owners.acceptance(&instance("one", "1")).0, Acceptance::Waiting(_)));
    owners.learned("alice", ledger("8", &[("one", None)]));
    settled(&owners);
    assert!(matches!(owners.acceptance(&instance("one", "1")).0, Acceptance::Waiting(_)));
    // Gone is gone only when it is the same object.
    let of = |uid: &str| {
        let mut object = ledger("10", &[]);
        object.metadata = ObjectMeta { uid: Some(uid.into()), ..object.metadata };
        object
    };
    owners.learned_gone(&of("another"));
    assert!(matches!(owners.acceptance(&instance("one", "1")).0, Acceptance::Waiting(_)));
    owners.learned_gone(&of("u1"));
    settled(&owners);
    assert_eq!(owners.acceptance(&instance("one", "1")).0, Acceptance::Undecided);
    shown(&owners, ledger("11", &[("one", None)]));
    settled(&owners);
    assert_eq!(owners.acceptance(&instance("one", "1")).0, Acceptance::Accepted);
    watched(&owners, Change::Gone(named("", "alice")));
    settled(&owners);
    assert_eq!(owners.acceptance(&instance("one", "1")).0, Acceptance::Undecided);
}

#[test]
fn what_was_found_counts_until_somebody_else_writes() {
    let reserved = |version: &str, at: &str| {
        let mut object = ledger(version, &[("one", None)]);
        object.status.as_mut().unwrap().instances[0].reserved_at = Some(serde_json::from_value(json!(at)).unwrap());
        object
    };
    let (owners, _woken) = owners();
    let is_reserved = || {
        let object = owners.object("alice").unwrap();
        super::lock(&owners.states)["alice"].status(&object).unwrap().instances[0].reserved_at.is_some()
    };
    shown(&owners, reserved("5", "2026-01-01T00:00:00Z"));
    assert!(is_reserved());
    // The instance is there: the reservation has come true.
    let found = ledger("5", &[("one", None)]).status.unwrap();
    super::lock(&owners.states).get_mut("alice").unwrap().postpone(5, found, None);
    assert!(!is_reserved());
    // Another one of its name is on its way.
    shown(&owners, reserved("6", "2026-01-01T00:00:01Z"));
    assert!(is_reserved());
}

#[test]
fn counts_alone_wait_for_company_and_unsettle_nothing() {
    let (owners, mut woken) = owners();
    let (key, before) = (named("team", "one"), instance("one", "1"));
    shown(&owners, ledger("5", &[("one", None)]));
    owners.instance_changed(&key, None, Some(&before));
    while woken.try_recv().is_ok() {}
    settled(&owners);
    let rests = || super::lock(&owners.states)["alice"].rest().is_some();
    assert!(!rests());

    let connected = |mut instance: WhatsAppInstance| {
        instance.status = serde_json::from_value(json!({"conditions": [
            {"type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}))
        .unwrap();
        instance
    };
    owners.instance_changed(&key, Some(&before), Some(&connected(before.clone())));
    assert_eq!(woken.try_recv().as_deref(), Ok("alice"));
    assert!(rests());
    assert_eq!(owners.acceptance(&before), (Acceptance::Accepted, true));

    // Of one that wishes to be primary, somebody waits for it.
    let mut wishing = before.clone();
    wishing.spec.primary = true;
    owners.instance_changed(&key, Some(&wishing), Some(&connected(wishing.clone())));
    assert!(!rests());
    assert_eq!(owners.acceptance(&before).0, Acceptance::Undecided);
}

#[test]
fn what_no_rule_asks_about_wakes_nobody() {
    let (owners, mut woken) = owners();
    let before = instance("one", "1");
    owners.instance_changed(&named("team", "one"), None, Some(&before));
    woken.try_recv().unwrap();
    let mut after = instance("one", "2");
    after.annotations_mut().insert("note".into(), "new".into());
    owners.instance_changed(&named("team", "one"), Some(&before), Some(&after));
    assert!(woken.try_recv().is_err());
    // Nor does what belongs to nobody.
    let mut free = instance("free", "1");
    free.spec.owner = None;
    owners.instance_changed(&named("team", "free"), None, Some(&free));
    assert!(woken.try_recv().is_err());
    assert_eq!(owners.acceptance(&free), (Acceptance::Accepted, false));
}

#[tokio::test]
async fn what_is_counted_over_all_owners_is_what_their_ledgers_say_whoever_wrote_them() {
    let (owners, _woken) = owners();
    let heard = Arc::clone(&owners);
    owners.objects.listen(move |before, change| heard.object_changed(before.as_deref(), change));
    let watched = async |object: WhatsAppOwner| {
        let change = Change::Present(named("", "alice"), object);
        owners.objects.clone().follow(futures::stream::iter([vec![change]])).await;
    };
    let two = [("one", None), ("two", Some("LimitExceeded"))];
    watched(ledger("1", &two[..1])).await;
    assert_eq!(owners.counts.told(), (1, 0));
    // Our own write comes back by the watch, and then somebody else's follows.
    owners.learned("alice", ledger("2", &two));
    assert_eq!(owners.counts.told(), (1, 1));
    watched(ledger("2", &two)).await;
    assert_eq!(owners.counts.told(), (1, 1));
    watched(ledger("3", &[two[0], two[1], ("three", Some("LimitExceeded"))])).await;
    assert_eq!(owners.counts.told(), (1, 2));
    // An older one that comes late counts for nothing.
    owners.learned("alice", ledger("2", &two[..1]));
    assert_eq!(owners.counts.told(), (1, 2));
    owners.learned_gone(&ledger("3", &[]));
    assert_eq!(owners.counts.told(), (0, 0));
}
