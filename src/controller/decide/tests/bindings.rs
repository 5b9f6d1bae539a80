//! Which shard an instance goes to.

use super::*;

#[test]
fn the_binding_is_recorded_in_the_first_status_and_never_changes() {
    let object = instance();
    let plan = decide(&facts(&object, None));
    assert!(plan.add_finalizer);
    let first = plan.status.clone().unwrap();
    assert_eq!(first.bridge, Some(fixtures::binding()));
    assert_eq!(first.session_id.as_deref(), Some(fixtures::UID));
    assert_eq!(plan.bind.as_ref().unwrap().binding, fixtures::binding());
    let object = after(&object, &plan);
    let elsewhere =
        Facts { candidates: vec![candidate(default_bridge("other", &["x"]), &[("x", 0)])], ..facts(&object, None) };
    let again = decide(&elsewhere);
    assert!(again.bind.is_none() && again.status.is_none());
}

#[test]
fn the_emptiest_shard_with_room_is_chosen_and_one_that_is_down_last() {
    let object = instance();
    let on = |loads: &[(&str, usize)], down_at: Option<usize>| {
        let mut bridge = default_bridge("main", &[]);
        bridge.spec.capacity.sessions_per_shard = 10;
        let mut one = candidate(bridge, loads);
        if let Some(index) = down_at {
            one.shards[index].link = down();
        }
        let plan = decide(&Facts { candidates: vec![one], ..facts(&object, None) });
        plan.bind.map_or_else(|| condition(&plan.status.unwrap(), conditions::READY).1.to_owned(), |c| c.binding.shard)
    };
    assert_eq!(on(&[("a", 3), ("b", 2), ("c", 4)], None), "b");
    assert_eq!(on(&[("a", 3), ("b", 2)], Some(1)), "a");
    assert_eq!(on(&[("a", 10), ("b", 2)], Some(1)), "b");
    assert_eq!(on(&[("a", 10), ("b", 11)], None), reason::BRIDGE_FULL);
    assert_eq!(on(&[], None), reason::BRIDGE_FULL);
}

#[test]
fn of_several_default_bridges_the_oldest_serves_and_a_reference_beats_them() {
    let mut old = default_bridge("zzz", &["s"]);
    old.metadata.creation_timestamp = Some(Time("2020-01-01T00:00:00Z".parse().unwrap()));
    let young = default_bridge("aaa", &["s"]);
    let candidates = || vec![candidate(young.clone(), &[("s", 0)]), candidate(old.clone(), &[("s", 5)])];
    let mut object = instance();
    let plan = decide(&Facts { candidates: candidates(), ..facts(&object, None) });
    assert_eq!(plan.bind.unwrap().binding.name, "zzz");
    object.spec.bridge_ref = Some(crate::api::BridgeRef { name: "aaa".into() });
    let plan = decide(&Facts { candidates: candidates(), ..facts(&object, None) });
    assert_eq!(plan.bind.unwrap().binding.name, "aaa");
}

#[test]
fn without_a_bridge_to_go_to_each_cause_has_its_reason_and_nothing_is_put() {
    let mut object = instance();
    let why = |object: &WhatsAppInstance, candidates, labels: &[(&str, &str)]| {
        let namespace_labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let plan = decide(&Facts { candidates, namespace_labels, ..facts(object, None) });
        assert!(plan.put.is_none() || plan.bind.is_some());
        let status = plan.status.unwrap();
        condition(&status, conditions::BRIDGE_AVAILABLE).1.to_owned()
    };
    assert_eq!(why(&object, vec![], &[]), reason::NO_DEFAULT_BRIDGE);
    assert_eq!(
        why(&object, vec![candidate(fixtures::bridge("b", &["s"]), &[("s", 0)])], &[]),
        reason::NO_DEFAULT_BRIDGE
    );
    let mut picky = default_bridge("b", &["s"]);
    picky.spec.allowed_namespaces = AllowedNamespaces {
        from: NamespacesFrom::Selector,
        selector: Some(LabelSelector {
            match_labels: Some([("team".into(), "a".into())].into()),
            ..Default::default()
        }),
    };
    let picky = || vec![candidate(picky.clone(), &[("s", 0)])];
    assert_eq!(why(&object, picky(), &[("team", "b")]), reason::NAMESPACE_NOT_ALLOWED);
    assert_eq!(why(&object, picky(), &[("team", "a")]), reason::BRIDGE_READY);
    object.spec.bridge_ref = Some(crate::api::BridgeRef { name: "nowhere".into() });
    assert_eq!(why(&object, picky(), &[]), reason::BRIDGE_NOT_FOUND);
}

#[test]
fn who_asks_for_a_bridge_waits_for_no_other_to_be_listed() {
    let mut object = instance();
    object.finalizers_mut().push(labels::FINALIZER.into());
    let mut unlisted = facts(&object, None);
    unlisted.binding = None;
    unlisted.candidates[0].shards[0].link = LinkState::Unknown;
    assert!(unlisted.may_be_on_a_shard());
    let mut asks = object.clone();
    asks.spec.bridge_ref = Some(crate::api::BridgeRef { name: "another".into() });
    assert!(!Facts { instance: &asks, ..unlisted }.may_be_on_a_shard());
}

#[test]
fn a_status_that_lost_its_binding_gets_it_back_and_begins_no_second_session() {
    let mut object = reported(session(SessionPhase::Connected));
    object.status.as_mut().unwrap().bridge = None;
    let known =
        || Facts { binding: Some(fixtures::binding()), ..facts(&object, Some(session(SessionPhase::Connected))) };
    let full = vec![candidate(default_bridge("main", &["s0"]), &[("s0", 1000)])];
    let plan = decide(&Facts { candidates: full, ..known() });
    assert_eq!((plan.bind, plan.status.unwrap().bridge), (None, Some(fixtures::binding())));
    let plan = plan_deletion(&known(), SignedDuration::from_mins(10));
    assert_eq!(
        (plan.step, plan.status.unwrap().bridge),
        (DeletionStep::Delete { unlink: true }, Some(fixtures::binding()))
    );
    // Everything is gone from it, and no shard has been listed yet.
    object.status = None;
    let mut unlisted = candidate(default_bridge("main", &["s0"]), &[("s0", 0)]);
    unlisted.shards[0].link = LinkState::Unknown;
    let unknown = Facts { candidates: vec![unlisted], ..facts(&object, None) };
    let waiting = Plan { recheck: Some(now() + SignedDuration::from_secs(10)), ..Plan::default() };
    assert_eq!(decide(&unknown), waiting);
    let patience = SignedDuration::from_mins(10);
    assert_eq!(plan_deletion(&unknown, patience).step, DeletionStep::Wait);
    assert_eq!(
        plan_deletion(&Facts { now: now() + patience, ..unknown.clone() }, patience).step,
        DeletionStep::Release
    );
    // What nothing was begun for waits too, until one shard tells whether it may have the session of this instance.
    let fresh = instance();
    assert_eq!(decide(&Facts { instance: &fresh, ..unknown.clone() }), waiting);
    let mut one_up = candidate(default_bridge("main", &["s0", "s1"]), &[("s0", 0), ("s1", 5)]);
    one_up.shards[0].link = LinkState::Unknown;
    assert!(decide(&Facts { instance: &fresh, candidates: vec![one_up], ..unknown }).bind.is_some());
}

/// Where an instance goes by its shards: name, link, whether the bridge takes over restored data, and the session that the instance had.
fn placed(shards: Vec<(&str, LinkState, bool, Option<bool>)>) -> Result<String, String> {
    let object = instance();
    let mut one = candidate(default_bridge("main", &[]), &[]);
    one.shards = shards
        .into_iter()
        .enumerate()
        .map(|(bound, (name, link, adopts, linked))| ShardLoad {
            name: name.into(),
            bound,
            link,
            capabilities: adopts.then_some(Capability::Adopt).into_iter().collect(),
            former: linked.map(|linked| FormerSession { linked }),
        })
        .collect();
    let plan = decide(&Facts { candidates: vec![one], ..facts(&object, None) });
    let why = |plan: &Plan| plan.status.as_ref().map(|status| says(status, conditions::BRIDGE_AVAILABLE).to_owned());
    assert!(plan.put.is_none() || plan.bind.is_some());
    plan.bind
        .as_ref()
        .map(|choice| choice.binding.shard.clone())
        .ok_or_else(|| why(&plan).unwrap_or("waits".to_owned()))
}

#[test]
fn an_instance_that_was_created_anew_goes_to_the_shard_that_has_its_session() {
    let up = || LinkState::Up;
    let on = |shard: &str| Ok(shard.to_owned());
    assert_eq!(placed(vec![("a", up(), true, None), ("b", up(), true, Some(true))]), on("b"));
    assert_eq!(placed(vec![("a", up(), true, None), ("b", up(), true, Some(false))]), on("b"));
    assert_eq!(placed(vec![("a", up(), true, None), ("b", up(), true, None)]), on("a"), "as always");
    assert_eq!(placed(vec![("a", up(), true, Some(false)), ("b", up(), true, Some(true))]), on("b"), "the linked one");
    // Which one it should have is not known: neither, where there is another shard.
    for linked in [true, false] {
        let two = vec![("a", up(), true, Some(linked)), ("b", up(), true, Some(linked)), ("c", up(), true, None)];
        assert_eq!(placed(two), on("c"));
        let nowhere = placed(vec![("a", up(), true, Some(linked)), ("b", up(), true, Some(linked))]).unwrap_err();
        assert!(
            nowhere.starts_with("Several shards of WhatsAppBridge main have a session of this instance"),
            "{nowhere}"
        );
    }
    // The bridge is being restarted with --adopt-data, shard by shard.
    let half = placed(vec![("a", up(), true, None), ("b", up(), false, None)]).unwrap_err();
    assert!(half.starts_with("Shard b of WhatsAppBridge main was not started with --adopt-data yet"), "{half}");
    assert_eq!(placed(vec![("a", up(), true, Some(true)), ("b", up(), false, None)]), on("a"));
}

#[test]
fn while_a_shard_may_have_the_session_of_an_instance_no_other_begins_one() {
    let (up, unknown) = (|| LinkState::Up, || LinkState::Unknown);
    let on = |shard: &str| Ok(shard.to_owned());
    let may_be_there = Err(
        "It is gone. The session of this instance may be there: the bridge takes over restored data (--adopt-data), \
                            so no other shard begins one."
            .to_owned(),
    );
    // The order in which they come up does not matter.
    assert_eq!(placed(vec![("a", down(), false, None), ("b", down(), false, None)]), Err("It is gone.".to_owned()));
    assert_eq!(placed(vec![("a", up(), true, None), ("b", down(), false, None)]), may_be_there);
    assert_eq!(placed(vec![("a", up(), true, None), ("b", unknown(), false, None)]), Err("waits".to_owned()));
    assert_eq!(
        placed(vec![("a", up(), true, Some(false)), ("b", down(), true, None)]),
        may_be_there,
        "it may be linked there"
    );
    assert_eq!(placed(vec![("a", up(), true, Some(true)), ("b", down(), true, None)]), on("a"));
    // A bridge that does not take over anything does not hold up new instances.
    assert_eq!(placed(vec![("a", down(), false, None), ("b", up(), false, None)]), on("b"));
}

#[test]
fn the_bridge_is_told_with_the_first_request_whose_session_it_is() {
    let object = instance();
    let mut one = candidate(default_bridge("main", &["s0"]), &[("s0", 0)]);
    one.shards[0].capabilities = [Capability::Instance, Capability::Adopt].into_iter().collect();
    let plan = decide(&Facts {
        candidates: vec![one.clone()],
        capabilities: [].into_iter().collect(),
        ..facts(&object, None)
    });
    let told = plan.put.unwrap().instance.unwrap();
    assert_eq!((&*told.namespace, &*told.name, told.owner.reveal()), ("team", "one", "alice"));
    assert_eq!(plan.bind.unwrap().capabilities, one.shards[0].capabilities);
    // Nobody's could be anybody's.
    let mut nobodys = object.clone();
    nobodys.spec.owner = None;
    assert_eq!(decide(&Facts { candidates: vec![one], ..facts(&nobodys, None) }).put.unwrap().instance, None);
    // A bridge of an earlier release is not told.
    assert_eq!(decide(&facts(&object, None)).put.unwrap().instance, None);
}

#[test]
fn a_session_is_found_on_the_bridge_that_its_instance_asks_for() {
    let at = |name: &str, shard: &str| crate::api::BridgeBinding { name: name.into(), shard: shard.into() };
    let mut object = instance();
    assert_eq!(binding::found(&object, vec![at("main", "s1"), at("main", "s0")]), Some(at("main", "s0")));
    object.spec.bridge_ref = Some(crate::api::BridgeRef { name: "main".into() });
    assert_eq!(binding::found(&object, vec![at("another", "s0"), at("main", "s1")]), Some(at("main", "s1")));
    assert_eq!(binding::found(&object, vec![at("another", "s0")]), None);
}

#[test]
fn an_instance_of_another_operators_bridge_is_left_alone() {
    let object = reported(session(SessionPhase::Connected));
    let theirs = Facts { of_another_operator: true, link: down(), ..facts(&object, None) };
    assert_eq!(decide(&theirs), Plan::default());
    let plan = plan_deletion(&Facts { now: now() + SignedDuration::from_hours(1), ..theirs }, SignedDuration::ZERO);
    assert_eq!((plan.step, plan.status), (DeletionStep::Done, None));

    let is_of_another_operator = |object: &WhatsAppInstance, bound: Option<&str>, default: Option<&str>| {
        let bound = bound.map(|name| crate::api::BridgeBinding { name: name.into(), shard: "s0".into() });
        let exists = |name: &str| ["green", "blue"].contains(&name);
        binding::is_of_another_operator(
            object,
            bound.as_ref(),
            exists,
            |name| name == "blue",
            || default.map(Into::into),
        )
    };
    let mut object = instance();
    // Asks for none: whoever has the default bridge. Nobody's default is everybody's to tell.
    for (default, theirs) in [(None, false), (Some("blue"), false), (Some("green"), true)] {
        assert_eq!(is_of_another_operator(&object, None, default), theirs, "{default:?}");
    }
    // What it is on beats the default, and a bridge that is gone is told by everybody.
    for (bound, theirs) in [("blue", false), ("green", true), ("gone", false)] {
        assert_eq!(is_of_another_operator(&object, Some(bound), Some("green")), theirs, "{bound}");
        object.spec.bridge_ref = Some(crate::api::BridgeRef { name: bound.into() });
        assert_eq!(is_of_another_operator(&object, None, Some("green")), theirs, "{bound} by name");
        object.spec.bridge_ref = None;
    }
}

#[test]
fn what_was_never_bound_or_is_not_ours_just_goes() {
    let mut object = instance();
    assert_eq!(plan_deletion(&facts(&object, None), SignedDuration::ZERO).step, DeletionStep::Done);
    object.finalizers_mut().push(labels::FINALIZER.into());
    assert_eq!(plan_deletion(&facts(&object, None), SignedDuration::ZERO).step, DeletionStep::Release);
}
