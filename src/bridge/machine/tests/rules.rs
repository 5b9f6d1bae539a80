//! The rules that hold whatever happens.

use super::*;

fn spec() -> impl Strategy<Value = SessionSpec> {
    let wish = prop_oneof![
        2 => Just(DesiredState::Connected),
        1 => Just(DesiredState::Disconnected),
        1 => Just(DesiredState::Unlinked),
    ];
    (wish, 0..3_u8, any::<bool>(), any::<bool>()).prop_map(|(wish, window, auto_refresh, code)| SessionSpec {
        desired_state: wish.into(),
        pairing: PairingSpec {
            method: if code { PairingMethod::Code } else { PairingMethod::Qr }.into(),
            phone_number: code.then(|| Sensitive::new("+15550001111")),
            auto_refresh,
            window: window.to_string(),
            ..PairingSpec::default()
        },
        ..SessionSpec::default()
    })
}

fn news() -> impl Strategy<Value = ClientEvent> {
    prop_oneof![
        1 => (any::<bool>(), 0..9_u8).prop_map(|(code, text)| ClientEvent::Code {
            method: if code { PairingMethod::Code } else { PairingMethod::Qr },
            code: Sensitive::new(text.to_string()),
            valid_for: Duration::from_secs(20),
            of: None,
        }),
        1 => Just(ClientEvent::WindowPassed),
        1 => Just(ClientEvent::PasskeyWanted),
        1 => (any::<bool>(), 0..300_u64).prop_map(|(refused, pause)| ClientEvent::NoCode {
            refused: refused.then_some(R::TooManyRequests),
            pause: (pause < 200).then(|| Duration::from_secs(pause)),
        }),
        1 => any::<bool>().prop_map(|another| ClientEvent::CodeStale { another }),
        4 => Just(PAIRED),
        1 => Just(ClientEvent::Connected { phone_number: None, push_name: None }),
        1 => Just(ClientEvent::Traffic),
        1 => Just(ClientEvent::LoggedOut),
        1 => Just(ClientEvent::Replaced),
        1 => any::<bool>().prop_map(|pinned| outdated(pinned.then_some((2, 3000, 1)))),
        1 => Just(ClientEvent::Banned { code: 101, for_: Duration::from_secs(60) }),
        1 => any::<bool>().prop_map(|banned| ClientEvent::Barred(if banned { R::AccountBanned } else { R::AccountLocked })),
        1 => any::<bool>().prop_map(|done| ClientEvent::Unlinked(if done { Ok(()) } else { Err(R::ServerNotAnswering) })),
    ]
}

fn reason() -> impl Strategy<Value = SessionReason> {
    prop::sample::select(vec![
        R::ConnectionLost,
        R::ServerUnreachable,
        R::ServerNotAnswering,
        R::ServerNotTrusted,
        R::ServerRefused,
    ])
}

/// What the world may do next. Whether it can is decided when it comes to it.
#[derive(Clone, Debug)]
enum Move {
    Put(SessionSpec),
    Delete(bool),
    Wait(i64),
    Grant,
    News(ClientEvent),
    End(SessionReason),
    Erase(bool),
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => spec().prop_map(Move::Put),
        1 => any::<bool>().prop_map(Move::Delete),
        4 => (0..200_i64).prop_map(Move::Wait),
        4 => Just(Move::Grant),
        8 => news().prop_map(Move::News),
        4 => reason().prop_map(Move::End),
        3 => prop::bool::weighted(0.8).prop_map(Move::Erase),
        1 => Just(Move::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the world does, in whatever order: the rules that keep a session alive hold.
    #[test]
    fn no_story_breaks_the_rules(moves in prop::collection::vec(moves(), 1..80)) {
        let now = start_of_time();
        let state = State::new("s".to_owned(), Kept::new(SessionSpec::default()), now, Timings::default(), 7, now);
        let mut story = Story { state, now, effects: vec![] };
        // The world's own account of the client, the permit, and the deletion of keys that is under way.
        let (mut live, mut stopping, mut permit, mut erasing) = (None::<u64>, false, 0_u8, false);
        // Whether the phone lists the device, whether it was removed from there during this client's life (which links no
        // other one), and whether the deletions so far want it removed.
        let (mut linked, mut removed, mut unlink) = (false, false, true);
        let mut first = true;
        for next in moves {
            if story.state.is_gone() {
                break;
            }
            let event = match next {
                _ if std::mem::take(&mut first) => Event::Tick,
                Move::Put(spec) => Event::Put(spec),
                Move::Delete(unlink) => Event::Delete { unlink },
                Move::Wait(seconds) => {
                    story.now = story.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
                    Event::Tick
                }
                Move::Grant if permit == 1 => { permit = 2; Event::PermitGranted }
                Move::News(event) => match live { Some(generation) => Event::Client(generation, event), None => Event::Tick },
                Move::End(reason) => match live.take() {
                    Some(generation) => {
                        let end = if std::mem::take(&mut stopping) { End::Stopped } else { End::Failed(reason) };
                        Event::ClientEnded(generation, end)
                    }
                    None => Event::Tick,
                },
                Move::Erase(done) if erasing => { erasing = false; if done { Event::Erased } else { Event::EraseFailed } }
                Move::Restart => {
                    story.state = State::new("s".to_owned(), Kept::clone(&story.state.kept), story.now, Timings::default(), 7, story.now);
                    (live, stopping, permit, erasing) = (None, false, 0, false);
                    Event::Tick
                }
                Move::Grant | Move::Erase(_) => Event::Tick,
            };
            let before = story.state.clone();
            match &event {
                Event::Delete { unlink: wanted } => unlink &= wanted,
                Event::Client(_, ClientEvent::Paired { .. }) => linked = !removed,
                Event::Client(_, ClientEvent::Connected { .. }) if !stopping => linked = !removed,
                Event::Client(_, ClientEvent::LoggedOut) => (linked, removed) = (false, true),
                Event::Client(_, ClientEvent::Unlinked(Ok(()))) if before.unlinks() => (linked, removed) = (false, true),
                _ => {}
            }
            story.happens(event);
            for effect in &story.effects {
                match effect {
                    Effect::Start(_) => {
                        prop_assert!(live.is_none(), "two clients: {:?}", story.state);
                        prop_assert!(!erasing && !story.state.kept.keys_doomed, "a client on doomed keys: {:?}", story.state);
                        let phase = story.state.phase();
                        prop_assert!(matches!(phase, P::Opening | P::Connecting | P::Reconnecting | P::Deleting | P::Unlinking), "started in {phase:?}");
                        live = Some(story.state.generation);
                        (stopping, removed) = (false, false);
                    }
                    Effect::Stop(generation) => {
                        prop_assert_eq!(live, Some(*generation));
                        stopping = true;
                    }
                    Effect::Unlink(generation) => {
                        prop_assert_eq!(live, Some(*generation));
                        prop_assert!(story.state.unlinks() && !stopping);
                    }
                    Effect::ShowOnline(generation, online) => {
                        prop_assert_eq!(live, Some(*generation));
                        prop_assert_eq!(*online, story.state.kept.spec.shows_online());
                    }
                    Effect::Erase => {
                        prop_assert!(live.is_none() && !erasing, "keys deleted under a client: {:?}", story.state);
                        erasing = true;
                    }
                    Effect::RequestPermit => { prop_assert_eq!(permit, 0); permit = 1; }
                    Effect::ReleasePermit => { prop_assert!(permit > 0); permit = 0; }
                    Effect::Forget => {
                        prop_assert!(before.is_deleting() && live.is_none());
                        prop_assert!(!(linked && unlink), "left on the phone: {before:?}");
                    }
                }
            }
            // What shows a code has a client, what needs no client has none that is not on its way out.
            let view = story.state.view();
            if view.qr.is_some() || view.pairing_code.is_some() {
                prop_assert!(live.is_some() && matches!(story.state.phase(), P::AwaitingPairing | P::Linking), "{:?}", view.phase);
            }
            if matches!(story.state.phase(), P::Stopped | P::Queued | P::PairingExpired | P::Ended | P::Banned | P::LoggedOut) {
                prop_assert!(live.is_none() || stopping, "{:?}", story.state);
            }
            prop_assert_eq!(view.connected_at.is_some() && !story.state.is_deleting(), view.phase == P::Connected);
            prop_assert!(view.phase != P::Stopped || !story.state.kept.spec.wants_unlinked() || !view.paired, "{view:?}");
            // Nothing is due for ever in the past, and the same moment twice changes nothing.
            let converged = story.state.clone();
            let (again, effects) = step(&converged, Event::Tick, story.now);
            prop_assert_eq!(&again, &converged);
            prop_assert!(effects.is_empty());
            // Putting what is wanted already changes nothing.
            let (again, effects) = step(&converged, Event::Put(converged.kept.spec.clone()), story.now);
            prop_assert_eq!(&again, &converged);
            prop_assert!(effects.is_empty());
            // And nobody waits for something that nobody will do.
            let waits = story.state.wake_at().is_some() || live.is_some() || erasing || permit == 1;
            let rests = matches!(story.state.phase(), P::Stopped | P::PairingExpired | P::Ended | P::LoggedOut) || story.state.is_gone();
            prop_assert!(waits || rests, "stuck: {:?}", story.state);
        }
    }
}
