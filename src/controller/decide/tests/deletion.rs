//! The end of an instance.

use super::*;

#[test]
fn a_deletion_speaks_of_a_device_only_where_one_is_to_be_unlinked() {
    let never = reported(session(SessionPhase::PairingExpired));
    let linked = reported(session(SessionPhase::Connected));
    let mut forgotten = linked.clone();
    forgotten.spec.deletion_policy = DeletionPolicy::Forget;
    for (object, unlinks) in [(linked, true), (never, false), (forgotten, false)] {
        let slow = Facts { now: now() + SignedDuration::from_secs(6), ..facts(&object, None) };
        let shown = plan_deletion(&slow, SignedDuration::from_mins(10)).status.unwrap();
        assert_eq!(says(&shown, conditions::READY).contains("device"), unlinks, "{shown:?}");
        let told = notices::gave_up(super::super::status::is_to_unlink(&object)).note;
        assert_eq!(told.contains("device"), unlinks, "{told}");
    }
}

#[test]
fn deletion_waits_for_the_bridge_until_the_deadline_and_then_gives_up() {
    let object = reported(session(SessionPhase::Connected));
    let patience = SignedDuration::from_mins(10);
    let gone = Facts { link: down(), ..facts(&object, None) };
    let plan = plan_deletion(&gone, patience);
    assert_eq!(plan.step, DeletionStep::Wait);
    let shown = plan.status.unwrap();
    assert_eq!((shown.phase, plan.recheck), (Some(Phase::Terminating), Some(now() + patience)));
    let ready = shown.conditions.iter().find(|condition| condition.type_ == conditions::READY).unwrap();
    assert!(ready.message.contains("until 2027-01-15T08:10:00Z"), "{}", ready.message);
    let late = Facts { now: now() + patience, ..gone };
    assert_eq!(plan_deletion(&late, patience).step, DeletionStep::GiveUp);
    assert!(notices::gave_up(true).note.contains("may still be linked"));
}

#[test]
fn a_clock_that_is_set_neither_ends_the_patience_with_a_deletion_nor_prolongs_it() {
    let object = reported(session(SessionPhase::Connected));
    let patience = SignedDuration::from_mins(10);
    let at = |clock, lasted| {
        let facts = Facts { now: now() + clock, link: down(), ..facts(&object, None) };
        let plan = super::super::plan_deletion(&facts, Leaving { since: now(), lasted }, patience);
        (plan.step, plan.recheck.map(|at| at.duration_since(facts.now)))
    };
    let minute = SignedDuration::from_mins(1);
    assert_eq!(at(SignedDuration::from_hours(1), minute), (DeletionStep::Wait, Some(SignedDuration::from_mins(9))));
    assert_eq!(at(SignedDuration::from_hours(-1), patience).0, DeletionStep::GiveUp);
}

#[test]
fn a_quick_deletion_writes_no_status_and_says_what_the_policy_wants() {
    let mut object = reported(session(SessionPhase::Connected));
    let patience = SignedDuration::from_mins(10);
    let plan = plan_deletion(&facts(&object, None), patience);
    assert_eq!((plan.step, plan.status), (DeletionStep::Delete { unlink: true }, None));
    object.spec.deletion_policy = DeletionPolicy::Forget;
    assert_eq!(plan_deletion(&facts(&object, None), patience).step, DeletionStep::Delete { unlink: false });
    let slow = Facts { now: now() + SignedDuration::from_secs(6), ..facts(&object, None) };
    assert_eq!(plan_deletion(&slow, patience).status.unwrap().phase, Some(Phase::Terminating));
}

#[test]
fn what_others_hold_after_its_session_is_deleted_is_no_longer_ready() {
    let mut object = reported(session(SessionPhase::Connected));
    object.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let held = |object: &WhatsAppInstance| {
        let plan = plan_deletion(&Facts { primary: true, ..facts(object, None) }, SignedDuration::ZERO);
        assert_eq!((plan.step, plan.recheck), (DeletionStep::Done, None));
        plan.status
    };
    let ended = held(&object).unwrap();
    assert_eq!((ended.phase, ended.primary), (Some(Phase::Terminating), false));
    for (kind, holds) in
        [(conditions::READY, "False"), (conditions::PAIRED, "Unknown"), (conditions::CONNECTED, "False")]
    {
        assert_eq!(condition(&ended, kind), (holds, reason::TERMINATING));
    }
    let ready = ended.conditions.iter().find(|condition| condition.type_ == conditions::READY).unwrap();
    assert!(ready.message.contains("example.com/hold"), "{}", ready.message);
    assert_eq!(ended.bridge, Some(fixtures::binding()), "a binding stays");
    object.status = Some(*ended);
    assert_eq!(held(&object), None, "told once");
    object.metadata.finalizers = None;
    object.status.as_mut().unwrap().phase = Some(Phase::Connected);
    assert_eq!(held(&object), None, "it is gone already");
}
