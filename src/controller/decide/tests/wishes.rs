//! What is asked of the bridge, and what it answers.

use super::*;

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
    early.candidates = vec![candidate(default_bridge("main", &["s0", "s1"]), &[("s0", 0), ("s1", 9)])];
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
