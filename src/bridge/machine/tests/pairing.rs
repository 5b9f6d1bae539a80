//! Pairing windows and their codes.

use super::*;

#[test]
fn an_account_in_coexistence_is_told_so_and_gets_no_further_code_until_somebody_asks() {
    let mut story = Story::fresh();
    story.puts(|spec| spec.pairing.auto_refresh = true).opens().shows("one", 60);
    story.hears(ClientEvent::PairingFailed(R::CoexistenceNotSupported)).ends(End::Stopped);
    story.is(P::PairingExpired).because(R::CoexistenceNotSupported);
    story.passes(100_000).is(P::PairingExpired).because(R::CoexistenceNotSupported);
    story.puts(|spec| spec.pairing.window = "again".into()).opens().shows("two", 60).is(P::AwaitingPairing);
}

#[test]
fn a_window_has_as_many_codes_as_the_server_gave_references() {
    let mut story = Story::fresh();
    story.opens().hears(ClientEvent::Code {
        method: PairingMethod::Qr,
        code: Sensitive::new("one"),
        valid_for: Duration::from_secs(60),
        of: Some(1),
    });
    let qr = story.state.view().qr.unwrap();
    assert_eq!((qr.attempt, qr.attempts), (1, 1));
}

#[test]
fn a_scan_leads_from_the_first_code_to_connected() {
    let mut story = Story::fresh();
    assert!(story.asks(&Effect::RequestPermit));
    story.is(P::Queued).opens().is(P::Opening);
    assert!(story.starts());
    story.shows("one", 60).is(P::AwaitingPairing);
    let qr = story.state.view().qr.unwrap();
    assert_eq!((qr.attempt, qr.attempts), (1, 6));
    assert_eq!(qr.expires_at.duration_since(story.now), SignedDuration::from_secs(60));
    story.hears(PAIRED).is(P::Linking);
    assert!(
        story.state.view().qr.is_some(),
        "the code is shown until connected, so that no write is needed to take it off"
    );
    story.connects().is(P::Connected).because(None);
    assert!(story.asks(&Effect::ReleasePermit));
    let view = story.state.view();
    assert!(view.paired && view.qr.is_none() && view.connected_at == Some(story.now));
    assert_eq!(view.phone_number.unwrap().reveal(), "+15550001111");
}

#[test]
fn the_hang_up_that_follows_a_scan_is_answered_with_another_call_at_once() {
    let mut story = Story::fresh();
    story.opens().shows("one", 60).hears(PAIRED).is(P::Linking);
    story.fails(R::ServerRefused).is(P::Connecting).because(None);
    assert!(story.starts());
    // Once: after that it is a failure like any other.
    story.fails(R::ServerRefused).is(P::Connecting).because(Some(R::ServerRefused));
    assert!(!story.starts());
}

#[test]
fn each_code_of_a_window_has_its_number_and_end_and_then_the_window_is_over() {
    let mut story = Story::fresh();
    story.opens();
    for (number, seconds) in (1..).zip([60, 20, 20, 20, 20, 20]) {
        story.shows(&format!("code {number}"), seconds).is(P::AwaitingPairing);
        let qr = story.state.view().qr.unwrap();
        assert_eq!(qr.attempt, number);
        assert_eq!(qr.expires_at.duration_since(story.now).as_secs(), i64::try_from(seconds).unwrap());
        story.passes(i64::try_from(seconds).unwrap());
    }
    assert_eq!(story.now.duration_since(start_of_time()).as_secs(), 160);
    story.hears(ClientEvent::WindowPassed).is(P::PairingExpired);
    assert!(story.state.view().qr.is_none() && story.asks(&Effect::ReleasePermit));
    story.ends(End::Stopped).passes(100_000).is(P::PairingExpired);
    assert!(story.effects.is_empty() && story.state.wake_at().is_none());
}

#[test]
fn a_window_that_the_server_does_not_end_ends_after_its_last_code() {
    let mut story = Story::fresh();
    story.opens().shows("one", 60).passes(66).is(P::PairingExpired);
}

#[test]
fn a_new_window_value_opens_a_window_and_the_same_value_does_nothing() {
    let mut story = Story::fresh();
    story.opens().shows("one", 60).hears(ClientEvent::WindowPassed).ends(End::Stopped);
    story.puts(|_| {}).is(P::PairingExpired);
    assert!(story.effects.is_empty());
    story.puts(|spec| spec.pairing.window = "2".to_owned()).opens().is(P::Opening);
    assert!(story.starts());
    story.shows("new", 60);
    let before = story.state.clone();
    story.puts(|spec| spec.pairing.window = "2".to_owned());
    assert_eq!((&story.state, &story.effects), (&before, &vec![]));
    story.puts(|spec| spec.pairing.window = "3".to_owned()).is(P::Opening);
    assert!(!story.starts(), "the former client still has the keys");
    story.ends(End::Stopped);
    assert!(story.starts());
    story.shows("newer", 60);
    assert_eq!(story.state.view().qr.unwrap().attempt, 1);
}

#[test]
fn a_window_reopens_by_itself_at_growing_intervals_when_asked_to() {
    let mut story = Story::fresh();
    story.puts(|spec| spec.pairing.auto_refresh = true).opens();
    let mut waits = Vec::new();
    for _ in 0..9 {
        story.shows("a code", 60).hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired);
        let due = story.state.wake_at().unwrap();
        waits.push(due.duration_since(story.now).as_secs_f64() / 60.0);
        story.now = due;
        story.happens(Event::Tick).opens().is(P::Opening);
    }
    for (wait, expected) in waits.into_iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
        assert!((expected * 0.9..=expected * 1.1).contains(&wait), "{wait} instead of {expected} minutes");
    }
}

#[test]
fn while_somebody_is_expected_a_window_reopens_at_once_and_no_longer() {
    let mut story = Story::fresh();
    story.opens();
    let until = later(story.now, Duration::from_secs(600));
    story.puts(|spec| spec.pairing.refresh_until = Some(until));
    for _ in 0..3 {
        story.shows("a code", 60).hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired);
        story.passes(1).opens().is(P::Opening);
    }
    story.shows("a code", 60).hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired);
    story.puts(|spec| spec.pairing.refresh_until = None).passes(600).is(P::PairingExpired);
    assert!(story.state.wake_at().is_none(), "nobody is expected any more");
    story.puts(|spec| spec.pairing.refresh_until = Some(until)).passes(600).is(P::PairingExpired);
    assert!(story.state.wake_at().is_none(), "nor after the time");
}

#[test]
fn somebody_is_expected_until_a_time_of_the_wall_clock_however_far_that_was_set() {
    for ahead in [-48, 48].map(SignedDuration::from_hours) {
        let mut story = Story::fresh();
        story.state.set_wall_ahead(ahead);
        let until = story.now + ahead + SignedDuration::from_secs(100);
        story.opens().puts(|spec| spec.pairing.refresh_until = Some(until));
        story.shows("a code", 60).hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired);
        assert!(story.state.wake_at().is_some(), "{ahead}");
        story.passes(1).opens().shows("a code", 60);
        story.now = later(story.now, Duration::from_secs(100));
        story.hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired);
        assert_eq!(story.state.wake_at(), None, "{ahead}");
    }
}

#[test]
fn a_server_that_hangs_up_after_the_first_code_is_asked_ever_more_slowly() {
    let mut story = Story::fresh();
    story.opens();
    let mut last = 0.0;
    for _ in 0..5 {
        story.shows("one", 60).fails(R::ConnectionLost);
        let due = story.state.wake_at().unwrap();
        let wait = due.duration_since(story.now).as_secs_f64();
        assert!(wait > last * 1.5, "{wait} after {last}");
        last = wait;
        story.now = due;
        story.happens(Event::Tick).opens();
    }
    story.shows("one", 60).shows("two", 20).fails(R::ConnectionLost);
    assert!(story.state.wake_at().unwrap().duration_since(story.now).as_secs_f64() < 2.0);
}

#[test]
fn a_hang_up_does_not_make_the_window_longer() {
    let mut story = Story::fresh();
    story.opens();
    for seconds in [60, 20, 20, 20, 20] {
        story.shows(&format!("code after {seconds}"), seconds).passes(i64::try_from(seconds).unwrap());
    }
    story.shows("six", 20).passes(19).fails(R::ConnectionLost).is(P::PairingExpired).because(None);
    assert!(story.asks(&Effect::ReleasePermit));
    story.passes(100_000).is(P::PairingExpired);
    assert!(story.effects.is_empty() && story.state.wake_at().is_none());

    // In the middle of it, the window goes on over another connection, and ends when it would have.
    let mut story = Story::fresh();
    story.opens().shows("one", 140).passes(130).fails(R::ConnectionLost).is(P::Opening);
    story.passes(2).opens();
    assert!(story.starts());
    story.shows("other", 60).is(P::AwaitingPairing);
    let left = story.state.view().qr.unwrap().expires_at.duration_since(start_of_time());
    assert_eq!(left.as_secs(), 160);
    story.passes(20).shows("another", 20).passes(13).is(P::PairingExpired);
    // Asked for again, it is as long as the first.
    story.ends(End::Stopped).puts(|spec| spec.pairing.window = "2".to_owned()).opens().shows("new", 60);
    assert_eq!(story.state.view().qr.unwrap().expires_at.duration_since(story.now).as_secs(), 60);
}

#[test]
fn a_window_that_a_hang_up_ended_reopens_by_itself_only_when_asked_to() {
    let mut story = Story::fresh();
    story.puts(|spec| spec.pairing.auto_refresh = true).opens().shows("one", 60).passes(61).shows("two", 120);
    story.passes(90).fails(R::ConnectionLost).is(P::Opening).passes(6).opens().fails(R::ServerUnreachable);
    story.is(P::PairingExpired);
    let due = story.state.wake_at().unwrap();
    assert!(due.duration_since(story.now).as_secs() > 50);
    story.now = due;
    story.happens(Event::Tick).opens();
    assert!(story.starts());
    story.shows("new", 60).is(P::AwaitingPairing);
}

#[test]
fn a_window_that_nobody_names_any_more_asks_for_nothing() {
    let mut story = Story::fresh();
    story.puts(|spec| spec.pairing.window = "2".to_owned()).opens().shows("one", 60);
    story.puts(|spec| spec.pairing.window.clear()).is(P::AwaitingPairing);
    assert_eq!(story.state.view().qr.unwrap().attempt, 1);
    let mut story = Story::linked();
    story.puts(|spec| spec.pairing.window = "2".to_owned());
    story.hears(ClientEvent::Replaced).ends(End::Stopped).passes(100_000).is(P::Ended);
    story.puts(|spec| spec.pairing.window.clear()).is(P::Ended).because(R::StreamReplaced);
    assert!(!story.starts());
}

#[test]
fn a_scan_while_the_client_is_told_to_stop_still_links() {
    let mut story = Story::fresh();
    story.opens().shows("one", 60).puts(|spec| spec.desired_state = DesiredState::Disconnected.into());
    story.hears(PAIRED).ends(End::Stopped).is(P::Stopped);
    assert!(story.state.view().paired);
    let mut story = Story::fresh();
    story.opens().shows("one", 60).hears(ClientEvent::WindowPassed).hears(PAIRED).ends(End::Stopped);
    assert!(story.starts(), "{:?}", story.state);
}

#[test]
fn a_code_that_was_used_in_vain_is_taken_down_with_the_reason_and_followed_by_another() {
    let mut story = Story::fresh();
    let code = |code: &str| ClientEvent::Code {
        method: PairingMethod::Qr,
        code: Sensitive::new(code.to_owned()),
        valid_for: Duration::from_secs(60),
        of: None,
    };
    story.happens(Event::PermitGranted).hears(code("first"));
    story.hears(ClientEvent::PairingFailed(SessionReason::PairingFailed));
    assert!(story.state.view().qr.is_none() && !story.state.wants_client());
    story.ends(End::Stopped).passes(3).happens(Event::PermitGranted).hears(code("second"));
    assert_eq!(story.state.phase(), SessionPhase::AwaitingPairing);
    assert_eq!(story.state.view().reason, Some(SessionReason::PairingFailed.into()), "until a device is linked");
}

#[test]
fn a_server_without_codes_is_not_a_window_that_nobody_used() {
    let mut story = Story::fresh();
    story.happens(Event::PermitGranted).hears(ClientEvent::WindowPassed);
    assert_eq!(story.state.phase(), SessionPhase::Opening);
    assert_eq!(story.state.view().reason, Some(SessionReason::PairingCodesUnusable.into()));
}
