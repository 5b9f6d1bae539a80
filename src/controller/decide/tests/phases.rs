//! What is shown of a session.

use super::*;

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
