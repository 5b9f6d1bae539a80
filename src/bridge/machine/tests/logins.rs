//! Logins, what ends them, and when there is another one.

use super::*;

#[test]
fn another_account_is_told_from_the_one_that_was_linked_before_however_that_went() {
    let (one, other) = (Sensitive::new("+15550001111"), Sensitive::new("+15550002222"));
    let paired = |number: &Sensitive| ClientEvent::Paired { phone_number: Some(number.clone()) };
    let mut story = Story::linked();
    for (number, is_another) in [(&one, false), (&other, true), (&other, false)] {
        story.hears(ClientEvent::LoggedOut).ends(End::Stopped).happens(Event::Erased);
        story.puts(|spec| spec.pairing.window.push('+')).opens().shows("one", 60);
        let before = story.state.clone();
        assert!(before.kept.phone_number.is_none());
        story.hears(paired(number));
        assert_eq!(story.state.is_another_account_than(&before), is_another);
        let before = story.state.clone();
        let connected = ClientEvent::Connected { phone_number: Some(number.clone()), push_name: None };
        story.hears(connected).is(P::Connected);
        assert!(!story.state.is_another_account_than(&before));
    }
    // A device that nobody told the owner of: the login tells.
    story.hears(ClientEvent::LoggedOut).ends(End::Stopped).happens(Event::Erased);
    story.puts(|spec| spec.pairing.window.push('+')).opens().shows("one", 60).hears(PAIRED);
    let before = story.state.clone();
    story.connects();
    assert!(story.state.is_another_account_than(&before));
}

#[test]
fn about_once_a_week_a_session_logs_in_anew_in_a_quiet_moment() {
    const WEEK: i64 = 7 * 24 * 3600;
    let mut story = Story::linked();
    story.passes(WEEK * 8 / 10).is(P::Connected).passes(WEEK * 3 / 10).is(P::Reconnecting).because(None);
    story.ends(End::Stopped);
    assert!(story.starts());
    story.connects().is(P::Connected);
    assert_eq!(story.state.view().last_disconnect, None, "nothing went wrong");
    // While messages come it waits, for a day at most.
    story.passes(WEEK * 9 / 10 - 60);
    for _ in 0..4 * 24 * 3 {
        story.hears(ClientEvent::Traffic).passes(900);
        if story.state.phase() != P::Connected {
            break;
        }
    }
    let late = story.now.duration_since(start_of_time()).as_secs() - WEEK * 11 / 10;
    assert!((WEEK..=WEEK + 25 * 3600).contains(&late), "{late}");
}

#[test]
fn disconnected_keeps_the_link_and_connected_needs_no_scan() {
    let mut story = Story::linked();
    story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).is(P::Stopped);
    assert!(story.asks(&Effect::Stop(1)));
    story.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Connecting);
    assert!(!story.starts(), "the former client still has the keys");
    story.ends(End::Stopped);
    assert!(story.starts());
    story.connects().is(P::Connected);
}

#[test]
fn a_lost_connection_comes_back_with_a_fresh_client_after_a_growing_wait() {
    let mut story = Story::linked();
    story.fails(R::ConnectionLost).is(P::Reconnecting).because(R::ConnectionLost);
    assert_eq!(story.state.view().last_disconnect.unwrap().reason, R::ConnectionLost);
    let mut last = 0.0;
    for _ in 0..5 {
        let due = story.state.wake_at().unwrap();
        let wait = due.duration_since(story.now).as_secs_f64();
        assert!(wait > last * 1.5, "{wait} after {last}");
        last = wait;
        story.now = due;
        story.happens(Event::Tick);
        assert!(story.starts());
        story.fails(R::ServerUnreachable).is(P::Reconnecting).because(R::ServerUnreachable);
    }
    let due = story.state.wake_at().unwrap();
    story.now = due;
    story.happens(Event::Tick).connects().is(P::Connected).because(None);
}

#[test]
fn a_connect_that_never_finishes_is_given_up_and_made_again() {
    let mut story = Story::fresh();
    story.opens().passes(29).is(P::Opening).because(None);
    story.passes(1).because(R::ServerNotAnswering).is(P::Opening);
    assert!(story.asks(&Effect::Stop(1)) && story.asks(&Effect::ReleasePermit));
    story.passes(2);
    assert!(story.asks(&Effect::RequestPermit));
    story.opens();
    assert!(!story.starts(), "the former client still has the keys");
    story.happens(Event::ClientEnded(1, End::Stopped));
    assert!(story.starts());
}

#[test]
fn a_server_that_is_not_trusted_shows_at_once_while_pairing_and_at_the_second_time_when_linked() {
    let mut story = Story::fresh();
    story.opens().fails(R::ServerNotTrusted).is(P::Opening).because(R::ServerNotTrusted);
    let mut story = Story::linked();
    story.fails(R::ServerNotTrusted).because(R::ConnectionLost).passes(2);
    story.fails(R::ServerNotTrusted).because(R::ServerNotTrusted);
}

#[test]
fn a_logout_deletes_the_keys_once_and_a_new_window_waits_for_that() {
    let mut story = Story::linked();
    story.hears(ClientEvent::LoggedOut);
    assert!(story.state.is_transient() && !story.asks(&Effect::Erase), "the client still has the keys");
    story.ends(End::Stopped);
    assert!(story.asks(&Effect::Erase));
    story.puts(|spec| spec.pairing.window = "2".to_owned()).opens();
    assert!(!story.starts() && !story.asks(&Effect::Erase));
    story.happens(Event::Erased);
    assert!(story.starts());
    let mut story = Story::linked();
    story.hears(ClientEvent::LoggedOut).ends(End::Stopped).happens(Event::Erased).is(P::LoggedOut);
    assert!(!story.state.view().paired && story.state.wake_at().is_none());
    story.happens(Event::Tick);
    assert!(story.effects.is_empty());
}

#[test]
fn keys_that_cannot_be_deleted_are_tried_again() {
    let mut story = Story::linked();
    story.hears(ClientEvent::LoggedOut).ends(End::Stopped).happens(Event::EraseFailed);
    assert!(!story.asks(&Effect::Erase));
    story.passes(1);
    assert!(story.asks(&Effect::Erase));
}

#[test]
fn a_session_without_its_keys_is_lost_and_is_linked_anew() {
    for lost in [LostKeys::Missing, LostKeys::Unreadable, LostKeys::Foreign] {
        let mut story = Story::of(Kept::clone(&Story::linked().state.kept));
        assert!(story.starts(), "{:?}", story.state);
        story.ends(End::KeysLost(lost)).is(P::Queued).because(R::SessionLost);
        let view = story.state.view();
        assert!(!view.paired && view.phone_number.is_none() && story.asks(&Effect::RequestPermit), "{view:?}");
        // The reason stays the same until a device is linked.
        story.opens().is(P::Opening).because(R::SessionLost);
        assert!(matches!(&story.effects[..], [Effect::Start(Start { linked: None, .. })]), "{:?}", story.effects);
        story.shows("one", 60).is(P::AwaitingPairing).because(R::SessionLost);
        story.hears(ClientEvent::WindowPassed).ends(End::Stopped).is(P::PairingExpired).because(R::SessionLost);
        story.puts(|spec| spec.pairing.window = "again".to_owned()).opens().shows("two", 60);
        story.hears(PAIRED).connects().is(P::Connected).because(None);
    }
}

#[test]
fn only_an_event_that_changes_what_is_kept_copies_it() {
    let state = Story::linked().state;
    let same = |(next, _): (State, _)| std::ptr::eq(&raw const *next.kept, &raw const *state.kept);
    assert!(same(step(&state, Event::Client(1, ClientEvent::Traffic), start_of_time())));
    assert!(same(step(&state, Event::Tick, start_of_time())));
    let (next, _) = step(&state, Event::Client(1, ClientEvent::LoggedOut), start_of_time());
    assert!(state.kept.paired && !next.kept.paired && next.kept != state.kept);
}

#[test]
fn a_restart_resumes_in_turn_and_reopens_an_unused_window() {
    let now = start_of_time();
    let turn = now.saturating_add(SignedDuration::from_secs(5)).unwrap();
    let linked = Kept::clone(&Story::linked().state.kept);
    let mut story =
        Story { state: State::new("s".to_owned(), linked, turn, Timings::default(), 7, now), now, effects: vec![] };
    story.happens(Event::Tick).is(P::Queued);
    story.passes(5).is(P::Connecting);
    assert!(story.starts());
    let mut waiting = Story::fresh();
    waiting.opens().shows("one", 60);
    let mut story = Story::of(Kept::clone(&waiting.state.kept));
    story.opens().is(P::Opening);
}

#[test]
fn late_news_of_a_former_client_change_nothing() {
    let mut story = Story::linked();
    story.fails(R::ConnectionLost).passes(2);
    let before = story.state.clone();
    for event in [ClientEvent::LoggedOut, ClientEvent::Replaced, PAIRED] {
        story.happens(Event::Client(1, event));
        assert_eq!(story.state, before);
    }
    story.happens(Event::ClientEnded(1, End::Stopped));
    assert_eq!(story.state, before);
}

#[test]
fn logins_that_do_not_hold_become_rare_until_one_holds() {
    let mut story = linked();
    let mut logins = 0;
    for _ in 0..180 {
        if story.state.wants_client() {
            logs_in(&mut story).passes(1).fails(SessionReason::ConnectionLost);
            logins += 1;
        } else {
            story.passes(1);
        }
    }
    assert!((5..=9).contains(&logins), "{logins} logins in three minutes");
    while !story.state.wants_client() {
        story.passes(1);
    }
    logs_in(&mut story).passes(31).fails(SessionReason::ConnectionLost).passes(2);
    assert!(story.state.wants_client(), "it has held, so the next one comes at once");
}

#[test]
fn a_server_that_asks_for_fewer_logins_is_left_alone_for_half_a_minute() {
    let mut story = linked();
    story.fails(SessionReason::TooManyRequests).passes(25);
    assert!(!story.state.wants_client());
    assert_eq!(story.state.view().reason, Some(SessionReason::TooManyRequests.into()));
    story.passes(12);
    assert!(story.state.wants_client());
}

#[test]
fn keys_are_given_up_only_when_a_second_login_is_refused_too() {
    let mut story = linked();
    logs_in(&mut story).passes(2).hears(ClientEvent::Unauthorized);
    assert!(!story.effects.contains(&Effect::Erase) && story.state.kept.paired);
    // A mistake of the server's may last for a moment.
    story.ends(End::Stopped).passes(6);
    assert!(!story.state.wants_client());
    story.passes(6);
    logs_in(&mut story).passes(31).hears(ClientEvent::Unauthorized);
    assert!(story.state.kept.paired, "a connection has held since");
    story.ends(End::Stopped).passes(12).hears(ClientEvent::Unauthorized);
    assert!(!story.state.kept.paired);
    assert_eq!(story.state.phase(), SessionPhase::LoggedOut);
}

#[test]
fn a_login_that_held_counts_however_its_connection_ended() {
    let mut story = linked();
    logs_in(&mut story).passes(2).hears(ClientEvent::Unauthorized).ends(End::Stopped).passes(12);
    logs_in(&mut story).passes(31);
    story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).ends(End::Stopped).is(P::Stopped);
    story.puts(|spec| spec.desired_state = DesiredState::Connected.into());
    story.hears(ClientEvent::Unauthorized);
    assert!(story.state.kept.paired && !story.effects.contains(&Effect::Erase), "the first refusal since then");
}

#[test]
fn a_device_linked_anew_after_lost_keys_is_believed_like_any_other() {
    let mut story = linked();
    story.hears(ClientEvent::Unauthorized).ends(End::Stopped).passes(12);
    story.ends(End::KeysLost(LostKeys::Missing)).happens(Event::PermitGranted).hears(PAIRED);
    logs_in(&mut story).passes(2).hears(ClientEvent::Unauthorized);
    assert!(story.state.kept.paired, "the first refusal of this device");
}

#[test]
fn a_device_that_was_never_linked_is_refused_and_not_logged_out() {
    let mut story = Story::fresh();
    story.happens(Event::PermitGranted).hears(ClientEvent::Unauthorized);
    assert_eq!(story.state.phase(), SessionPhase::Opening);
    assert_eq!(story.state.view().reason, Some(SessionReason::ServerRefused.into()));
}

#[test]
fn keys_of_a_link_that_whatsapp_never_heard_of_make_way_for_a_new_code() {
    let mut story = Story::fresh();
    for erased in [false, true, false, true] {
        if story.state.phase() != SessionPhase::Opening || !story.starts() {
            story.passes(70);
        }
        story.happens(Event::PermitGranted).hears(ClientEvent::Unauthorized).ends(End::Stopped);
        assert_eq!(story.asks(&Effect::Erase), erased);
        if erased {
            story.happens(Event::Erased);
        }
        assert_ne!(story.state.phase(), SessionPhase::LoggedOut);
    }
    // The same where it is noted that a device was linked: a person waits for it, so there is another code.
    story.passes(70).happens(Event::PermitGranted).shows("one", 60).hears(PAIRED).hears(ClientEvent::Unauthorized);
    assert!(story.state.kept.paired, "the first refusal may be a mistake");
    story.ends(End::Stopped).passes(12).hears(ClientEvent::Unauthorized).ends(End::Stopped);
    assert!(story.asks(&Effect::Erase) && !story.state.kept.paired);
    story.happens(Event::Erased).because(R::PairingFailed).happens(Event::PermitGranted);
    assert!(story.starts());
    story.shows("two", 60).is(P::AwaitingPairing);
    // Of a device that is linked meanwhile, the first refusal is not the last one, whatever was refused before.
    let mut story = Story::fresh();
    story.happens(Event::PermitGranted).hears(ClientEvent::Unauthorized).ends(End::Stopped).passes(70);
    story.happens(Event::PermitGranted).shows("one", 60).hears(PAIRED).hears(ClientEvent::Unauthorized);
    assert!(story.state.kept.paired && !story.state.kept.keys_doomed);
}

#[test]
fn keys_are_not_given_up_for_a_mistake_of_a_moment_also_where_no_device_is_noted() {
    let mut story = Story::fresh();
    story.happens(Event::PermitGranted).hears(ClientEvent::Unauthorized).ends(End::Stopped);
    story.passes(6);
    assert!(!story.asks(&Effect::RequestPermit), "the next login comes some seconds later");
    story.passes(6);
    assert!(story.asks(&Effect::RequestPermit));
}

#[test]
fn a_login_lasts_as_long_as_something_arrives() {
    let mut story = linked();
    for _ in 0..10 {
        story.passes(20).hears(ClientEvent::Progress);
        assert!(story.state.wants_client());
    }
    story.passes(31);
    assert!(!story.state.wants_client());
}
