//! What the rules have decided, and what follows from it.

use super::*;

fn waits() -> Acceptance {
    Acceptance::Waiting(Denial::new(reason::LIMIT_EXCEEDED, 403, "maximum instances reached: 1 of 1; delete one"))
}

#[test]
fn what_a_rule_speaks_against_is_not_begun_and_says_what_to_do() {
    let new = instance();
    let plan = decide(&Facts { acceptance: waits(), ..facts(&new, None) });
    assert!(!plan.add_finalizer && plan.bind.is_none() && plan.put.is_none(), "{plan:?}");
    let rejected = after(&new, &plan);
    assert_eq!(status(&rejected).phase, Some(Phase::Rejected));
    assert_eq!(condition(status(&rejected), conditions::ACCEPTED), ("False", reason::LIMIT_EXCEEDED));
    assert_eq!(condition(status(&rejected), conditions::READY), ("False", reason::LIMIT_EXCEEDED));
    assert_eq!(plan.notices.len(), 1);
    // Said once, and over as soon as all rules are met.
    assert_eq!(decide(&Facts { acceptance: waits(), ..facts(&rejected, None) }), Plan::default());
    let plan = decide(&Facts { primary: true, ..facts(&rejected, None) });
    assert!(plan.add_finalizer && plan.bind.is_some() && plan.put.is_some(), "{plan:?}");
    let begun = after(&rejected, &plan);
    assert_eq!(condition(status(&begun), conditions::ACCEPTED).0, "True");
    assert!(status(&begun).primary, "the mirror needs no write of its own");
}

#[test]
fn what_is_up_and_no_longer_accepted_goes_offline_and_comes_back_without_a_scan() {
    let up = reported(session(SessionPhase::Connected));
    let plan = decide(&Facts { acceptance: waits(), ..facts(&up, Some(session(SessionPhase::Connected))) });
    assert_eq!(plan.put.as_ref().map(SessionSpec::wants_online), Some(false));
    let rejected = after(&up, &plan);
    assert_eq!(status(&rejected).phase, Some(Phase::Rejected));
    assert_eq!(condition(status(&rejected), conditions::PAIRED).0, "True");
    let stopped = || Session { spec: plan.put.clone().unwrap(), ..session(SessionPhase::Stopped) };
    assert_eq!(decide(&Facts { acceptance: waits(), ..facts(&rejected, Some(stopped())) }), Plan::default());
    let healed = decide(&facts(&rejected, Some(stopped())));
    assert_eq!(healed.put.as_ref().map(SessionSpec::wants_online), Some(true));
    assert_eq!(condition(status(&after(&rejected, &healed)), conditions::ACCEPTED).0, "True");
}

#[test]
fn what_runs_without_an_owner_is_accepted_by_the_ledger_of_the_one_it_gets_only_when_that_says_so() {
    let mut free = reported(session(SessionPhase::Connected));
    free.spec.owner = None;
    let up = || Some(session(SessionPhase::Connected));
    free = after(&free, &decide(&facts(&free, up())));
    let accepted = |instance: &WhatsAppInstance| {
        let condition = condition(status(instance), conditions::ACCEPTED);
        assert_eq!(condition.0, "True");
        (condition.1.to_owned(), InstanceFacts::from(instance).accepted)
    };
    assert_eq!(accepted(&free), (reason::NO_OWNER.to_owned(), false));

    let mut owned = free;
    owned.spec.owner = Some("alice".into());
    owned.metadata.generation = Some(2);
    owned = after(&owned, &decide(&Facts { acceptance: Acceptance::Undecided, ..facts(&owned, up()) }));
    assert_eq!(accepted(&owned), (reason::NO_OWNER.to_owned(), false), "it goes on, and nothing is claimed for it");
    let undecided =
        |instance: &WhatsAppInstance| decide(&Facts { acceptance: Acceptance::Undecided, ..facts(instance, None) });
    let mut unbound = owned.clone();
    unbound.status.as_mut().unwrap().bridge = None;
    assert_eq!(undecided(&unbound), Plan::default(), "what was not begun is not begun now");
    let refused = decide(&Facts { acceptance: waits(), ..facts(&owned, up()) });
    assert_eq!(refused.put.as_ref().map(SessionSpec::wants_online), Some(false));
    for link in [LinkState::Up, LinkState::Unknown] {
        let told = after(&owned, &decide(&Facts { link, ..facts(&owned, up()) }));
        assert_eq!(accepted(&told), (reason::ACCEPTED.to_owned(), true));
    }
}

#[test]
fn while_the_ledger_is_being_written_nothing_new_is_begun_and_nothing_stopped() {
    let new = instance();
    let waiting = Plan { recheck: Some(now() + SignedDuration::from_secs(10)), ..Plan::default() };
    assert_eq!(decide(&Facts { acceptance: Acceptance::Undecided, ..facts(&new, None) }), waiting);
    let up = reported(session(SessionPhase::Connected));
    let undecided = Facts { acceptance: Acceptance::Undecided, ..facts(&up, Some(session(SessionPhase::Connected))) };
    assert_eq!(decide(&undecided), Plan::default());
}

#[test]
fn what_waits_for_long_says_what_for_and_goes_on_from_there() {
    let long = SignedDuration::from_secs(10);
    let new = instance();
    let trouble = Some("write the owner's ledger: no (500)".to_owned());
    let undecided =
        |instance| Facts { acceptance: Acceptance::Undecided, trouble: trouble.clone(), ..facts(instance, None) };
    let plan = decide(&Facts { known_for: long, ..undecided(&new) });
    assert!(plan.bind.is_none() && !plan.add_finalizer && plan.put.is_none() && plan.notices.is_empty());
    let told = after(&new, &plan);
    assert_eq!(status(&told).phase, Some(Phase::Pending));
    assert_eq!(condition(status(&told), conditions::ACCEPTED).0, "Unknown");
    assert!(says(status(&told), conditions::READY).contains("(500)"));
    assert_eq!(decide(&Facts { known_for: long, ..undecided(&told) }), Plan::default(), "said once");
    let begun = decide(&facts(&told, None));
    assert!(begun.bind.is_some() && condition(&begun.status.unwrap(), conditions::ACCEPTED).0 == "True");

    let mut begun = instance();
    begun.finalizers_mut().push(labels::FINALIZER.into());
    let mut unlisted = Facts { known_for: long, ..facts(&begun, None) };
    unlisted.candidates[0].shards[0].link = LinkState::Unknown;
    let told = decide(&unlisted).status.unwrap();
    assert!(says(&told, conditions::READY).contains("shard s0 of WhatsAppBridge main"));
    assert_eq!(condition(&told, conditions::ACCEPTED).0, "True");
}
