//! The rules that hold whatever a bridge tells.

use super::*;

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
