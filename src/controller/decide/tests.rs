//! What the decision does, told as behaviour; and its invariants over any sequence of what a bridge may say.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::ResourceExt;
use proptest::prelude::*;

use super::{
    DeletionPlan, DeletionStep, Plan, binding, decide,
    facts::{Acceptance, BridgeFault, Facts, Leaving, LinkState},
    notices, session_spec,
};
use crate::controller::fixtures::{self, bound, candidate, default_bridge, facts, instance, now, session};
use crate::{
    api::{
        AllowedNamespaces, DeletionPolicy, DesiredState, NamespacesFrom, Phase, WhatsAppInstance,
        WhatsAppInstanceStatus,
        conditions::{self, reason},
        labels,
    },
    bridge_api::{
        BridgeError, ErrorCode, LastDisconnect, Restriction, RestrictionKind, Session, SessionPhase, SessionReason,
        SessionSpec,
    },
    model::Sensitive,
    rules::{Denial, InstanceFacts},
};

/// The object as it is after the plan was carried out.
fn after(instance: &WhatsAppInstance, plan: &Plan) -> WhatsAppInstance {
    let mut next = instance.clone();
    if plan.add_finalizer {
        next.finalizers_mut().push(labels::FINALIZER.into());
    }
    if let Some(status) = &plan.status {
        // What comes back from the API server: times in whole seconds, nothing else lost.
        next.status = Some(serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap());
    }
    next
}

/// The instance in the state that this session leads to.
fn reported(session: Session) -> WhatsAppInstance {
    let pending = bound(WhatsAppInstanceStatus::default());
    let first = after(&pending, &decide(&facts(&pending, None)));
    after(&first, &decide(&facts(&first, Some(session))))
}

#[test]
fn a_bridge_that_answers_the_last_moment_there_is_panics_nothing() {
    for phase in [SessionPhase::AwaitingPairing, SessionPhase::Connected] {
        let mut session = session(phase);
        (session.phase_since, session.connected_at) = (Timestamp::MAX, Some(Timestamp::MAX));
        session.last_active_at = Some(Timestamp::MAX);
        session.qr = session.qr.map(|qr| crate::bridge_api::Qr { expires_at: Timestamp::MAX, ..qr });
        let shown = reported(session.clone());
        decide(&facts(&shown, Some(session.clone())));
        let mut lost = Facts { session_since: Timestamp::MAX, ..facts(&shown, Some(session)) };
        lost.link = LinkState::Unknown;
        decide(&lost);
    }
}

/// How a deletion goes on that was seen first at the moment most tests happen at.
fn plan_deletion(facts: &Facts<'_>, patience: SignedDuration) -> DeletionPlan {
    super::plan_deletion(facts, Leaving { since: now(), lasted: facts.now.duration_since(now()) }, patience)
}

fn status(instance: &WhatsAppInstance) -> &WhatsAppInstanceStatus {
    instance.status.as_ref().unwrap()
}

/// Status and reason of a condition.
fn condition<'a>(status: &'a WhatsAppInstanceStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&found.status, &found.reason)
}

fn shown(session: Session) -> (Phase, String) {
    let instance = reported(session);
    let status = status(&instance);
    (status.phase.unwrap(), condition(status, conditions::READY).1.to_owned())
}

fn down() -> LinkState {
    LinkState::Down(BridgeFault::new(reason::BRIDGE_UNREACHABLE, "It is gone."))
}

#[test]
fn from_create_to_connected_takes_four_writes_when_the_first_code_is_scanned() {
    let mut object = instance();
    let mut writes = 0;
    let spec = session_spec(&object, None);
    let just_now = |phase| Session { phase_since: now(), spec: spec.clone(), ..session(phase) };
    let linking = Session { qr: None, ..just_now(SessionPhase::Linking) };
    let connected = Session { connected_at: Some(now()), ..just_now(SessionPhase::Connected) };
    let seen = [
        None,
        Some(just_now(SessionPhase::Queued)),
        Some(just_now(SessionPhase::Opening)),
        Some(just_now(SessionPhase::AwaitingPairing)),
        Some(just_now(SessionPhase::Linking)),
        Some(linking),
        Some(just_now(SessionPhase::Connecting)),
        Some(connected.clone()),
        Some(connected),
    ];
    for session in seen {
        let plan = decide(&facts(&object, session));
        writes += usize::from(plan.add_finalizer) + usize::from(plan.status.is_some());
        object = after(&object, &plan);
    }
    assert_eq!(writes, 4);
    let status = status(&object);
    assert_eq!(status.phase, Some(Phase::Connected));
    assert!(
        status.qr.is_none()
            && status.phone_number.is_some()
            && status.push_name.is_some()
            && status.connected_at.is_some()
    );
}

#[test]
fn a_link_that_comes_up_just_after_the_binding_is_not_worth_a_write() {
    let object = instance();
    let mut early = facts(&object, None);
    early.candidates[0].shards[0].link = LinkState::Unknown;
    let plan = decide(&early);
    assert_eq!(condition(plan.status.as_ref().unwrap(), conditions::BRIDGE_AVAILABLE).0, "Unknown");
    assert!(plan.put.is_none());
    let object = after(&object, &plan);
    let up = decide(&facts(&object, None));
    assert!(up.status.is_none() && up.put.is_some());
    let opening = Session { phase_since: now(), ..session(SessionPhase::Opening) };
    assert!(decide(&facts(&object, Some(opening))).status.is_none());
    let lasting = decide(&facts(&object, Some(session(SessionPhase::Opening)))).status.unwrap();
    assert_eq!(condition(&lasting, conditions::BRIDGE_AVAILABLE).0, "True");
}

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
fn each_state_of_a_session_has_its_phase_and_reason() {
    use SessionPhase as P;
    let because = |phase, reason: SessionReason| Session { reason: Some(reason.into()), ..session(phase) };
    let unpaired = |session| Session { paired: false, phone_number: None, push_name: None, ..session };
    let timelock =
        |expires_at| Restriction { kind: RestrictionKind::ReachoutTimelock.into(), code: Some(463), expires_at };
    for (session, phase, why) in [
        (session(P::Queued), Phase::Pending, reason::PAIRING_QUEUED),
        (Session { paired: true, ..session(P::Queued) }, Phase::Connecting, reason::CONNECTING),
        (session(P::Opening), Phase::Pending, reason::NOT_STARTED),
        (because(P::Opening, SessionReason::ServerNotTrusted), Phase::Pending, reason::SERVER_NOT_TRUSTED),
        (session(P::AwaitingPairing), Phase::AwaitingPairing, reason::AWAITING_PAIRING),
        (session(P::PairingExpired), Phase::PairingExpired, reason::PAIRING_EXPIRED),
        (session(P::AwaitingPasskey), Phase::AwaitingPasskey, reason::AWAITING_PASSKEY),
        (session(P::Connecting), Phase::Connecting, reason::CONNECTING),
        (because(P::Connecting, SessionReason::ServerNotTrusted), Phase::Connecting, reason::SERVER_NOT_TRUSTED),
        (session(P::Connected), Phase::Connected, reason::CONNECTED),
        (session(P::Reconnecting), Phase::Reconnecting, reason::CONNECTING),
        (because(P::Reconnecting, SessionReason::ServerUnreachable), Phase::Reconnecting, reason::SERVER_UNREACHABLE),
        (
            because(P::Reconnecting, SessionReason::ServerNotAnswering),
            Phase::Reconnecting,
            reason::SERVER_NOT_ANSWERING,
        ),
        (because(P::Ended, SessionReason::StreamReplaced), Phase::Disconnected, reason::STREAM_REPLACED),
        (because(P::Ended, SessionReason::ClientOutdated), Phase::Disconnected, reason::CLIENT_OUTDATED),
        (because(P::Ended, SessionReason::AccountLocked), Phase::Disconnected, reason::ACCOUNT_LOCKED),
        (because(P::Ended, SessionReason::AccountBanned), Phase::Disconnected, reason::ACCOUNT_BANNED),
        (because(P::Banned, SessionReason::TemporaryBan), Phase::Restricted, reason::TEMPORARY_BAN),
        (session(P::LoggedOut), Phase::LoggedOut, reason::LOGGED_OUT),
        (
            Session { restriction: Some(timelock(None)), ..session(P::Connected) },
            Phase::Restricted,
            reason::REACHOUT_TIMELOCK,
        ),
        (
            Session { restriction: Some(timelock(Some(now()))), ..session(P::Connected) },
            Phase::Connected,
            reason::CONNECTED,
        ),
        (unpaired(session(P::Connected)), Phase::Pending, reason::NOT_STARTED),
        (
            because(P::Connected, SessionReason::MessagesNotAcknowledged),
            Phase::Connected,
            reason::MESSAGES_NOT_ACKNOWLEDGED,
        ),
        (because(P::Reconnecting, SessionReason::TooManyRequests), Phase::Reconnecting, reason::TOO_MANY_REQUESTS),
        (because(P::Opening, SessionReason::SessionLost), Phase::Pending, reason::SESSION_LOST),
        (because(P::AwaitingPairing, SessionReason::PairingFailed), Phase::AwaitingPairing, reason::PAIRING_FAILED),
        (
            because(P::PairingExpired, SessionReason::PairingCodesUnusable),
            Phase::PairingExpired,
            reason::PAIRING_CODES_UNUSABLE,
        ),
        (
            because(P::PairingExpired, SessionReason::CoexistenceNotSupported),
            Phase::PairingExpired,
            reason::COEXISTENCE_NOT_SUPPORTED,
        ),
    ] {
        assert_eq!(shown(session.clone()), (phase, why.to_owned()), "{session:?}");
    }
}

#[test]
fn a_restricted_account_is_still_connected_and_the_end_of_it_is_looked_for() {
    let end = now() + SignedDuration::from_mins(30);
    let restriction =
        Restriction { kind: RestrictionKind::ReachoutTimelock.into(), code: Some(463), expires_at: Some(end) };
    let object = reported(Session { restriction: Some(restriction.clone()), ..session(SessionPhase::Connected) });
    assert_eq!(condition(status(&object), conditions::CONNECTED).0, "True");
    assert_eq!(condition(status(&object), conditions::READY), ("False", reason::REACHOUT_TIMELOCK));
    let known = facts(&object, Some(Session { restriction: Some(restriction), ..session(SessionPhase::Connected) }));
    assert_eq!(decide(&known).recheck, Some(end));
    let lifted = decide(&Facts { now: end, ..known }).status.unwrap();
    assert_eq!(lifted.phase, Some(Phase::Connected));
    assert!(lifted.restriction.is_none());
}

#[test]
fn disconnected_by_wish_waits_for_the_bridge_to_obey_and_keeps_the_link() {
    let mut object = reported(session(SessionPhase::Connected));
    object.spec.desired_state = DesiredState::Disconnected;
    object.metadata.generation = Some(2);
    let told = decide(&facts(&object, Some(session(SessionPhase::Connected))));
    assert_eq!(told.put.as_ref().unwrap().desired_state, DesiredState::Disconnected);
    assert!(told.status.is_none(), "nothing has happened yet");
    let spec = session_spec(&object, None);
    let obeying = decide(&facts(&object, Some(Session { spec: spec.clone(), ..session(SessionPhase::Connected) })));
    assert!(obeying.put.is_none() && obeying.status.is_none());
    let plan = decide(&facts(&object, Some(Session { spec, ..session(SessionPhase::Stopped) })));
    let status = plan.status.unwrap();
    assert_eq!((status.phase, status.observed_generation), (Some(Phase::Disconnected), Some(2)));
    assert_eq!(condition(&status, conditions::PAIRED).0, "True");
    assert!(status.phone_number.is_some() && status.connected_at.is_none());
}

#[test]
fn a_session_in_words_of_a_later_bridge_keeps_what_is_known_and_claims_nothing_more() {
    let object = reported(session(SessionPhase::Connected));
    let word = |text: &str| serde_json::from_value(serde_json::json!(text)).unwrap();
    let elsewhere = Session { phase: word("Hovering"), ..session(SessionPhase::Connected) };
    let status = decide(&facts(&object, Some(elsewhere))).status.unwrap();
    assert_eq!(condition(&status, conditions::PAIRED), ("True", reason::PAIRED));
    assert_eq!(condition(&status, conditions::CONNECTED), ("Unknown", reason::UNKNOWN));
    assert_eq!(condition(&status, conditions::READY), ("False", reason::UNKNOWN));
    let why = Session {
        reason: Some(serde_json::from_value(serde_json::json!("MoonEclipse")).unwrap()),
        ..session(SessionPhase::Reconnecting)
    };
    assert_eq!(shown(why), (Phase::Reconnecting, "MoonEclipse".to_owned()));
}

#[test]
fn a_session_that_cannot_be_read_is_not_called_lost() {
    let object = reported(session(SessionPhase::Connected));
    let plan = decide(&Facts { failure: Some(BridgeError::Unreadable), ..facts(&object, None) });
    let status = plan.status.unwrap();
    assert_eq!(condition(&status, conditions::BRIDGE_AVAILABLE), ("False", reason::BRIDGE_MALFORMED_ANSWER));
    assert_eq!(condition(&status, conditions::PAIRED), ("True", reason::PAIRED));
    assert!(status.phone_number.is_some());
}

#[test]
fn what_a_bridge_cannot_do_is_not_asked_of_it_and_its_echo_is_agreed_with() {
    let mut object = reported(session(SessionPhase::Connected));
    object.spec.presence = crate::api::Presence::Visible;
    let old = Facts { capabilities: Default::default(), ..facts(&object, Some(session(SessionPhase::Connected))) };
    assert!(decide(&old).put.is_none());
    let mut richer = session(SessionPhase::Connected);
    richer.spec = serde_json::from_value(serde_json::json!({"presence": "Visible", "fromTheFuture": 1})).unwrap();
    assert!(decide(&facts(&object, Some(richer))).put.is_none());
}

#[test]
fn an_instance_without_a_device_by_wish_says_so() {
    let mut wished = Session { paired: true, ..session(SessionPhase::Unlinking) };
    wished.spec.desired_state = crate::api::DesiredState::Unlinked.into();
    let mut object = reported(session(SessionPhase::Connected));
    object.spec.desired_state = crate::api::DesiredState::Unlinked;
    let status_of = |session: Session| *decide(&facts_that_can_unlink(&object, session)).status.unwrap();
    let under_way = status_of(wished.clone());
    assert_eq!(under_way.phase, Some(Phase::Disconnected));
    assert_eq!(condition(&under_way, conditions::PAIRED), ("True", reason::PAIRED));
    assert_eq!(condition(&under_way, conditions::READY), ("False", reason::UNLINKING));
    let stopped = Session { phase: SessionPhase::Stopped.into(), paired: false, phone_number: None, ..wished };
    let done = status_of(stopped);
    assert_eq!((done.phase, &done.phone_number), (Some(Phase::Unlinked), &None));
    assert_eq!(condition(&done, conditions::PAIRED), ("False", reason::UNLINKED));
    assert_eq!(condition(&done, conditions::READY), ("False", reason::UNLINKED));
    // A bridge of an earlier release is asked for what it can do.
    let put = decide(&facts(&object, Some(session(SessionPhase::Connected)))).put.unwrap();
    assert_eq!(put.desired_state, crate::api::DesiredState::Disconnected);
}

fn facts_that_can_unlink(object: &WhatsAppInstance, session: Session) -> Facts<'_> {
    let capabilities = [crate::bridge_api::Capability::UnlinkAndKeep].into_iter().collect();
    Facts { capabilities, ..facts(object, Some(session)) }
}

/// The sentence of a condition.
fn says<'a>(status: &'a WhatsAppInstanceStatus, kind: &str) -> &'a str {
    &status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().message
}

#[test]
fn nobody_is_told_of_a_device_that_is_not_there_nor_of_a_session_that_is_not_begun() {
    let mut wished = bound(Default::default());
    wished.spec.desired_state = DesiredState::Disconnected;
    let wished = after(&wished, &decide(&facts(&wished, None)));
    let never = Session { spec: session_spec(&wished, None), ..session(SessionPhase::Stopped) };
    let never = Session { paired: false, phone_number: None, push_name: None, ..never };
    let offline = after(&wished, &decide(&facts(&wished, Some(never))));
    for kind in [conditions::PAIRED, conditions::CONNECTED, conditions::READY] {
        let said = says(status(&offline), kind);
        assert!(said.contains("no device is linked") && !said.contains("stays linked"), "{kind}: {said}");
    }
    let object = instance();
    let homeless = *decide(&Facts { candidates: vec![], ..facts(&object, None) }).status.unwrap();
    assert!(!says(&homeless, conditions::PAIRED).contains("being started"));
    let fresh = bound(Default::default());
    let down = *decide(&Facts { link: down(), ..facts(&fresh, None) }).status.unwrap();
    assert_eq!(condition(&down, conditions::PAIRED).0, "Unknown");
    assert!(says(&down, conditions::PAIRED).contains("cannot be used"));
}

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
        let told = notices::gave_up(super::status::is_to_unlink(&object)).note;
        assert_eq!(told.contains("device"), unlinks, "{told}");
    }
}

#[test]
fn what_the_user_wished_for_is_no_warning() {
    let before = reported(session(SessionPhase::Connected));
    let mut after = status(&before).clone();
    for wished in [reason::STOPPED, reason::UNLINKING, reason::UNLINKED] {
        for condition in after.conditions.iter_mut().filter(|condition| condition.type_ == conditions::READY) {
            condition.reason = wished.into();
        }
        let notices = notices::between(status(&before), &after);
        assert!(notices.len() == 1 && !notices[0].warning, "{wished}");
    }
}

#[test]
fn presence_is_passed_on_and_one_that_nobody_set_is_not_written() {
    let mut object = reported(session(SessionPhase::Connected));
    assert!(!serde_json::to_string(&session_spec(&object, None)).unwrap().contains("presence"));
    object.spec.presence = crate::api::Presence::Visible;
    let plan = decide(&facts(&object, Some(session(SessionPhase::Connected))));
    assert_eq!(plan.put.unwrap().presence, crate::api::Presence::Visible);
}

#[test]
fn the_refresh_annotation_names_the_pairing_window() {
    let mut object = reported(session(SessionPhase::PairingExpired));
    assert!(decide(&facts(&object, Some(session(SessionPhase::PairingExpired)))).put.is_none());
    object.annotations_mut().insert(labels::REFRESH_QR.into(), "again".into());
    let plan = decide(&facts(&object, Some(session(SessionPhase::PairingExpired))));
    assert_eq!(plan.put.unwrap().pairing.window, "again");
    // Whoever has a link is waited for, on a bridge that can.
    let link = crate::rules::link::LinkingLink::new("secret", None, now(), std::time::Duration::from_secs(60));
    object.annotations_mut().insert(labels::LINKING_LINK.into(), link.annotation());
    let until = |facts: &Facts| decide(facts).put.unwrap().pairing.refresh_until;
    let expired = || Some(session(SessionPhase::PairingExpired));
    assert_eq!(until(&facts(&object, expired())), None);
    let capabilities = [crate::bridge_api::Capability::RefreshUntil].into_iter().collect();
    assert_eq!(until(&Facts { capabilities, ..facts(&object, expired()) }), Some(link.expires_at()));
    let mut window = |value: String| {
        object.annotations_mut().insert(labels::REFRESH_QR.into(), value);
        session_spec(&object, None).pairing.window
    };
    let (long, other) = (window("x".repeat(200_000)), window("y".repeat(200_000)));
    assert!(long.len() == 64 && other.len() == 64 && long != other);
}

#[test]
fn an_annotation_that_is_lost_asks_for_nothing() {
    let mut refreshed = session(SessionPhase::AwaitingPairing);
    refreshed.spec.pairing.window = "t1".into();
    let mut object = reported(refreshed.clone());
    assert!(decide(&facts(&object, Some(refreshed.clone()))).put.is_none());
    object.annotations_mut().insert(labels::REFRESH_QR.into(), String::new());
    assert!(decide(&facts(&object, Some(refreshed.clone()))).put.is_none());
    // What else changes is told, with the window that the session has.
    object.spec.desired_state = DesiredState::Disconnected;
    assert_eq!(decide(&facts(&object, Some(refreshed))).put.unwrap().pairing.window, "t1");
}

#[test]
fn a_paired_session_the_bridge_forgot_is_told_and_put_again_once() {
    let object = reported(session(SessionPhase::Connected));
    let plan = decide(&facts(&object, None));
    assert!(plan.put.is_some());
    assert_eq!(plan.notices.len(), 1);
    assert!(plan.notices[0].warning && plan.notices[0].reason == reason::SESSION_LOST);
    let object = after(&object, &plan);
    assert_eq!(condition(status(&object), conditions::PAIRED), ("False", reason::SESSION_LOST));
    assert_eq!(status(&object).last_disconnect.as_ref().unwrap().reason, reason::SESSION_LOST);
    assert!(status(&object).phone_number.is_none());
    let again = decide(&facts(&object, None));
    assert!(again.put.is_some() && again.status.is_none() && again.notices.is_empty());
    let waiting = after(&object, &decide(&facts(&object, Some(session(SessionPhase::AwaitingPairing)))));
    assert_eq!(condition(status(&waiting), conditions::PAIRED), ("False", reason::SESSION_LOST));
    assert_eq!(condition(status(&waiting), conditions::READY), ("False", reason::AWAITING_PAIRING));
    let linked = after(&waiting, &decide(&facts(&waiting, Some(session(SessionPhase::Connected)))));
    assert_eq!(condition(status(&linked), conditions::PAIRED), ("True", reason::PAIRED));
}

#[test]
fn a_bridge_that_is_down_leaves_what_is_known_and_says_what_is_not() {
    let object = reported(session(SessionPhase::Connected));
    let plan = decide(&Facts { link: down(), ..facts(&object, None) });
    let gone = plan.status.clone().unwrap();
    assert!(plan.put.is_none());
    assert_eq!(gone.phase, Some(Phase::BridgeUnavailable));
    assert_eq!(condition(&gone, conditions::BRIDGE_AVAILABLE), ("False", reason::BRIDGE_UNREACHABLE));
    assert_eq!(condition(&gone, conditions::PAIRED).0, "True");
    assert_eq!(condition(&gone, conditions::CONNECTED).0, "Unknown");
    assert_eq!(condition(&gone, conditions::READY), ("False", reason::BRIDGE_UNREACHABLE));
    assert_eq!(plan.notices[0].reason, reason::BRIDGE_UNREACHABLE);
    // Back, and the session is just being resumed: that is shown, since what stands is no longer true.
    let object = after(&object, &plan);
    let resumed = Session { phase_since: now(), ..session(SessionPhase::Connecting) };
    assert_eq!(decide(&facts(&object, Some(resumed))).status.unwrap().phase, Some(Phase::Connecting));
}

#[test]
fn a_link_being_made_changes_nothing() {
    let object = reported(session(SessionPhase::Connected));
    let plan = decide(&Facts { link: LinkState::Unknown, ..facts(&object, None) });
    assert!(plan.status.is_none() && plan.put.is_none() && plan.notices.is_empty());
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
fn what_the_bridge_refuses_is_a_typed_reason_and_is_tried_again() {
    let object = after(&bound(Default::default()), &decide(&facts(&bound(Default::default()), None)));
    for (error, why) in [
        (BridgeError::Refused { code: ErrorCode::Full.into(), retry_after: None }, reason::BRIDGE_FULL),
        (BridgeError::Refused { code: ErrorCode::Invalid.into(), retry_after: None }, reason::BRIDGE_REFUSED),
        (BridgeError::Malformed { status: 200 }, reason::BRIDGE_MALFORMED_ANSWER),
        (BridgeError::Unauthorized, reason::BRIDGE_UNAUTHORIZED),
        (BridgeError::TimedOut, reason::BRIDGE_UNREACHABLE),
    ] {
        let plan = decide(&Facts { failure: Some(error.clone()), ..facts(&object, None) });
        assert_eq!(condition(&plan.status.unwrap(), conditions::BRIDGE_AVAILABLE), ("False", why), "{error:?}");
        assert!(plan.put.is_some());
        let done = decide(&Facts { failure: Some(error), ..facts(&object, Some(session(SessionPhase::Connected))) });
        assert_eq!(done.status.unwrap().phase, Some(Phase::Connected), "it had worked after all");
    }
}

#[test]
fn passing_states_are_shown_only_when_they_last() {
    let object = reported(session(SessionPhase::Connected));
    for (phase, seconds) in [(SessionPhase::Connecting, 5), (SessionPhase::Reconnecting, 3)] {
        let moment = |after| now() + SignedDuration::from_secs(after);
        let fresh = Session { phase_since: now(), ..session(phase) };
        let plan = decide(&facts(&object, Some(fresh.clone())));
        assert_eq!((plan.status, plan.recheck), (None, Some(moment(seconds))));
        let lasting = decide(&Facts { now: moment(seconds), ..facts(&object, Some(fresh)) });
        assert!(lasting.status.is_some(), "{phase:?}");
    }
}

#[test]
fn a_code_past_its_end_is_removed_even_when_the_bridge_is_silent() {
    let waiting = Session { phase_since: now(), qr: Some(fixtures::qr(2)), ..session(SessionPhase::AwaitingPairing) };
    let object = reported(waiting.clone());
    let end = status(&object).qr.as_ref().unwrap().expires_at.0;
    let known = facts(&object, Some(waiting));
    let plan = decide(&known);
    assert!(plan.status.is_none());
    let recheck = plan.recheck.unwrap();
    assert!(recheck > end && recheck < end + SignedDuration::from_secs(10));
    let stale = decide(&Facts { now: recheck, ..known.clone() });
    assert!(stale.status.unwrap().qr.is_none());
    // The same while the link is being made.
    let silent = decide(&Facts { now: recheck, link: LinkState::Unknown, session: None, ..known });
    assert!(silent.status.unwrap().qr.is_none());
}

#[test]
fn a_clock_that_differs_from_the_bridges_hides_no_code_that_it_shows_and_that_is_said() {
    let code =
        |seconds| crate::bridge_api::Qr { expires_at: now() + SignedDuration::from_secs(seconds), ..fixtures::qr(2) };
    let showing = |seconds| Session { qr: Some(code(seconds)), ..session(SessionPhase::AwaitingPairing) };
    let pending = after(&bound(Default::default()), &decide(&facts(&bound(Default::default()), None)));
    let shown = |seconds| *decide(&facts(&pending, Some(showing(seconds)))).status.unwrap();
    for (seconds, differ) in [(20, false), (1, false), (-6, true), (-3600, true), (3600, true)] {
        let status = shown(seconds);
        assert!(status.qr.is_some(), "{seconds}");
        assert_eq!(says(&status, conditions::READY).contains("clocks"), differ, "{seconds}");
    }
    // One to type is good for three minutes.
    let typed = |seconds| {
        let expires_at = now() + SignedDuration::from_secs(seconds);
        crate::bridge_api::PairingCode { code: Sensitive::new("ABCD1234"), expires_at }
    };
    for (seconds, differ) in [(180, false), (-6, true), (200, true)] {
        let session = Session { qr: None, pairing_code: Some(typed(seconds)), ..showing(20) };
        let status = *decide(&facts(&pending, Some(session))).status.unwrap();
        assert!(status.pairing_code.is_some(), "{seconds}");
        assert_eq!(says(&status, conditions::READY).contains("clocks"), differ, "{seconds}");
    }
    // It goes when it must have ended, and at once with the bridge silent.
    let known = facts(&pending, Some(showing(-6)));
    let object = after(&pending, &decide(&known));
    let later = Facts { instance: &object, now: now() + SignedDuration::from_secs(26), ..known.clone() };
    assert!(decide(&later).status.unwrap().qr.is_none());
    let silent = Facts { instance: &object, link: LinkState::Unknown, session: None, ..known };
    assert!(decide(&silent).status.unwrap().qr.is_none());
}

#[test]
fn activity_is_coarse() {
    let at = |minutes| now() + SignedDuration::from_mins(minutes);
    let connected =
        |active| Session { connected_at: Some(now()), last_active_at: active, ..session(SessionPhase::Connected) };
    let object = reported(connected(None));
    assert!(decide(&facts(&object, Some(connected(Some(at(1)))))).status.is_none());
    let plan = decide(&facts(&object, Some(connected(Some(at(16))))));
    let object = after(&object, &plan);
    assert_eq!(status(&object).last_active_at, Some(Time(at(16))));
    assert!(decide(&facts(&object, Some(connected(Some(at(30)))))).status.is_none());
    assert!(decide(&facts(&object, Some(connected(Some(at(31)))))).status.is_some());
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
        let plan = super::plan_deletion(&facts, Leaving { since: now(), lasted }, patience);
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
    // What nothing was begun for waits for nobody.
    let fresh = instance();
    assert!(decide(&Facts { instance: &fresh, ..unknown }).bind.is_some());
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

fn any_phase() -> impl Strategy<Value = SessionPhase> {
    use SessionPhase as P;
    prop::sample::select(vec![
        P::Stopped,
        P::Queued,
        P::Opening,
        P::AwaitingPairing,
        P::Linking,
        P::PairingExpired,
        P::AwaitingPasskey,
        P::Connecting,
        P::Connected,
        P::Reconnecting,
        P::Ended,
        P::Banned,
        P::LoggedOut,
        P::Unlinking,
        P::Deleting,
    ])
}

fn any_reason() -> impl Strategy<Value = Option<SessionReason>> {
    use SessionReason as R;
    prop::option::of(prop::sample::select(vec![
        R::ConnectionLost,
        R::ServerUnreachable,
        R::ServerNotAnswering,
        R::ServerNotTrusted,
        R::ServerRefused,
        R::StreamReplaced,
        R::ClientOutdated,
        R::TemporaryBan,
        R::AccountLocked,
        R::AccountBanned,
        R::LoggedOut,
    ]))
}

fn any_restriction() -> impl Strategy<Value = Option<Restriction>> {
    let kind = prop::sample::select(vec![RestrictionKind::TemporaryBan, RestrictionKind::ReachoutTimelock]);
    let parts = (kind, prop::option::of(0_i64..900), prop::option::of(-100_i64..100));
    prop::option::of(parts.prop_map(|(kind, code, end)| Restriction {
        kind: kind.into(),
        code,
        expires_at: end.map(moment),
    }))
}

fn moment(offset: i64) -> Timestamp {
    now() + SignedDuration::from_millis(offset * 1_337)
}

prop_compose! {
    /// Anything a bridge may say, sensible or not.
    fn any_session()(
        phase in any_phase(), reason in any_reason(), paired in any::<bool>(), since in -20_i64..5,
        active in prop::option::of(-2000_i64..2000), end in -30_i64..60, window in 0_u8..2, online in any::<bool>(),
        restriction in any_restriction(), last in prop::option::of(-50_i64..50), has_qr in any::<bool>(), attempt in 1_u32..7,
    ) -> Session {
        let mut base = session(phase);
        base.spec.pairing.window = if window == 0 { String::new() } else { "again".into() };
        base.spec.desired_state = if online { DesiredState::Connected } else { DesiredState::Disconnected }.into();
        Session {
            reason: reason.map(Into::into), paired, phase_since: moment(since), restriction,
            last_active_at: active.map(moment),
            qr: has_qr.then(|| crate::bridge_api::Qr { expires_at: moment(end), ..fixtures::qr(attempt) }),
            phone_number: paired.then(|| crate::model::Sensitive::new("+15550001")),
            last_disconnect: last.map(|at| LastDisconnect { reason: SessionReason::ConnectionLost.into(), at: moment(at) }),
            ..base
        }
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Session(Session),
    Absent,
    Down,
    LinkUnknown,
    Failed(BridgeError),
    Refresh,
    Wish(DesiredState),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => any_session().prop_map(Happening::Session),
        1 => Just(Happening::Absent),
        1 => Just(Happening::Down),
        1 => Just(Happening::LinkUnknown),
        1 => Just(Happening::Failed(BridgeError::Refused { code: ErrorCode::Internal.into(), retry_after: None })),
        1 => Just(Happening::Refresh),
        1 => prop_oneof![Just(DesiredState::Connected), Just(DesiredState::Disconnected)].prop_map(Happening::Wish),
    ]
}

fn check(status: &WhatsAppInstanceStatus, at: Timestamp) -> Result<(), TestCaseError> {
    let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    prop_assert_eq!(kinds, conditions::ALL);
    for one in &status.conditions {
        prop_assert!(["True", "False", "Unknown"].contains(&one.status.as_str()));
        prop_assert!(!one.reason.is_empty() && one.reason.chars().all(|c| c.is_ascii_alphanumeric()));
        prop_assert!(one.message.ends_with(['.', ')']), "not a sentence: {}", one.message);
    }
    let is_true = |kind| condition(status, kind).0 == "True";
    prop_assert_eq!(is_true(conditions::READY), status.phase == Some(Phase::Connected));
    if is_true(conditions::READY) {
        let all = conditions::ALL.into_iter().all(is_true);
        prop_assert!(all);
    }
    if is_true(conditions::CONNECTED) {
        prop_assert!(is_true(conditions::PAIRED));
    }
    if status.phase != Some(Phase::AwaitingPairing) {
        prop_assert!(status.qr.is_none() && status.pairing_code.is_none());
    }
    if let Some(qr) = &status.qr {
        // Every code of these stories was first seen at their beginning.
        let known = qr.expires_at.0.max(now() + SignedDuration::from_secs(60));
        prop_assert!(known + SignedDuration::from_secs(6) > at);
    }
    prop_assert!(status.bridge.is_some() && status.session_id.is_some());
    let secrets = serde_json::to_string(&status.conditions).unwrap();
    prop_assert!(!secrets.contains("SECRET") && !secrets.contains("+1555"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: the status obeys its rules, deciding twice changes nothing, events name no secrets.
    #[test]
    fn any_history_keeps_the_rules_and_is_idempotent(history in prop::collection::vec((any_happening(), 0_i64..40), 1..40)) {
        let mut object = instance();
        object = after(&object, &decide(&facts(&object, None)));
        let (mut session, mut link, mut at) = (None, LinkState::Up, now());
        for (happening, later) in history {
            at += SignedDuration::from_secs(later);
            let mut failure = None;
            match happening {
                Happening::Session(seen) => (session, link) = (Some(seen), LinkState::Up),
                Happening::Absent => (session, link) = (None, LinkState::Up),
                Happening::Down => (session, link) = (None, down()),
                Happening::LinkUnknown => (session, link) = (None, LinkState::Unknown),
                Happening::Failed(error) => failure = Some(error),
                Happening::Refresh => drop(object.annotations_mut().insert(labels::REFRESH_QR.into(), "again".into())),
                Happening::Wish(wish) => {
                    object.spec.desired_state = wish;
                    object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
                }
            }
            #[allow(clippy::ref_option)] // what the story keeps
            fn seen<'a>(object: &'a WhatsAppInstance, session: &Option<Session>, link: &LinkState, failure: &Option<BridgeError>, at: Timestamp) -> Facts<'a> {
                Facts { now: at, link: link.clone(), failure: failure.clone(), ..facts(object, session.clone()) }
            }
            let plan = decide(&seen(&object, &session, &link, &failure, at));
            if let Some(status) = &plan.status {
                check(status, at)?;
                prop_assert_eq!(status.bridge.as_ref(), Some(&fixtures::binding()));
            }
            for notice in &plan.notices {
                prop_assert!(!notice.note.contains("SECRET") && !notice.note.contains("+1555"));
                prop_assert!(plan.status.is_some(), "an event without a change");
            }
            if link != LinkState::Up {
                prop_assert!(plan.put.is_none());
            }
            object = after(&object, &plan);
            let again = decide(&seen(&object, &session, &link, &failure, at));
            prop_assert!(again.status.is_none(), "wrote again: {:?} then {:?}", plan.status, again.status);
            prop_assert!(again.notices.is_empty() && again.bind.is_none() && !again.add_finalizer);
            prop_assert_eq!(again.put, plan.put);
        }
    }
}
