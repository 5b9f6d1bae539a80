use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use whatsapp_operator::{
    bridge_api::{DesiredState, PairingMethod, PairingSpec, SessionPhase, SessionReason, SessionSpec},
    model::Sensitive,
};

use super::{ClientEvent, Effect, End, Event, Kept, Parked, Presented, Start, State, Timings, later, step};
use crate::keys::LostKeys;

/// A device is linked, and it is not told whose.
const PAIRED: ClientEvent = ClientEvent::Paired { phone_number: None };

fn start_of_time() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A session with a clock, for tests that read as a story.
struct Story {
    state: State,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Story {
    fn of(kept: Kept) -> Self {
        let now = start_of_time();
        let state = State::new("s".to_owned(), kept, now, Timings::default(), 7, now);
        let mut story = Self { state, now, effects: Vec::new() };
        story.happens(Event::Tick);
        story
    }

    fn fresh() -> Self {
        Self::of(Kept::new(SessionSpec::default()))
    }

    fn happens(&mut self, event: Event) -> &mut Self {
        let (state, effects) = step(&self.state, event, self.now);
        self.state = state;
        self.effects = effects;
        self
    }

    fn hears(&mut self, event: ClientEvent) -> &mut Self {
        let generation = self.state.generation;
        self.happens(Event::Client(generation, event))
    }

    fn ends(&mut self, end: End) -> &mut Self {
        let generation = self.state.generation;
        self.happens(Event::ClientEnded(generation, end))
    }

    fn fails(&mut self, reason: SessionReason) -> &mut Self {
        self.ends(End::Failed(reason))
    }

    fn passes(&mut self, seconds: i64) -> &mut Self {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        self.happens(Event::Tick)
    }

    fn puts(&mut self, change: impl FnOnce(&mut SessionSpec)) -> &mut Self {
        let mut spec = self.state.kept.spec.clone();
        change(&mut spec);
        self.happens(Event::Put(spec))
    }

    fn opens(&mut self) -> &mut Self {
        self.happens(Event::PermitGranted)
    }

    fn shows(&mut self, code: &str, seconds: u64) -> &mut Self {
        self.hears(ClientEvent::Code {
            method: self.state.kept.spec.pairing.method.known().unwrap_or_default(),
            code: Sensitive::new(code),
            valid_for: Duration::from_secs(seconds),
            of: None,
        })
    }

    fn connects(&mut self) -> &mut Self {
        self.hears(ClientEvent::Connected {
            phone_number: Some(Sensitive::new("+15550001111")),
            push_name: Some(Sensitive::new("Anna")),
        })
    }

    fn linked() -> Self {
        let mut story = Self::fresh();
        story.opens().shows("one", 60).hears(PAIRED).connects();
        story
    }

    fn is(&mut self, phase: SessionPhase) -> &mut Self {
        assert_eq!(self.state.phase(), phase, "{:?}", self.state);
        self
    }

    fn because(&mut self, reason: impl Into<Option<SessionReason>>) -> &mut Self {
        assert_eq!(self.state.reason(), reason.into(), "{:?}", self.state);
        self
    }

    fn starts(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Start(_)))
    }

    fn asks(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }
}

use SessionPhase as P;
use SessionReason as R;

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
fn replaced_and_outdated_rest_until_a_new_window_or_off_and_on() {
    let pinned = Some((2, 3000, 1));
    for (event, reason) in [(ClientEvent::Replaced, R::StreamReplaced), (outdated(pinned), R::ClientOutdated)] {
        let mut story = Story::linked();
        story.hears(event.clone()).ends(End::Stopped).passes(100_000).is(P::Ended).because(reason);
        assert!(!story.starts());
        story.puts(|spec| spec.pairing.window = "2".to_owned()).is(P::Reconnecting);
        assert!(story.starts());
        story.hears(event).ends(End::Stopped);
        story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).is(P::Stopped);
        story.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Connecting);
        assert!(story.starts());
    }
}

/// This bridge, with that version configured, is too old.
fn outdated(version: Option<(u32, u32, u32)>) -> ClientEvent {
    ClientEvent::Outdated(Presented::by_this_bridge(version))
}

/// The session's record as it is on the disk.
fn on_disk(story: &Story) -> serde_json::Value {
    serde_json::to_value(Kept::clone(&story.state.kept)).unwrap()
}

/// The session of `record` in a bridge that starts with that version configured.
fn started(record: &serde_json::Value, version: Option<(u32, u32, u32)>, now: Timestamp) -> Story {
    let mut kept: Kept = serde_json::from_value(record.clone()).unwrap();
    kept.taken_up_by(&Presented::by_this_bridge(version));
    let turn = later(now, Duration::from_secs(5));
    let state = State::new("s".to_owned(), kept, turn, Timings::default(), 7, now);
    let mut story = Story { state, now, effects: Vec::new() };
    story.happens(Event::Tick);
    story
}

#[test]
fn what_was_too_old_is_tried_again_by_a_bridge_that_presents_something_else() {
    let (old, new) = (Some((2, 3000, 1)), Some((2, 3000, 2)));
    let mut story = Story::linked();
    story.hears(outdated(old)).ends(End::Stopped).is(P::Ended);
    let record = on_disk(&story);
    assert_eq!(record["rest"], "Outdated", "as earlier releases know it");
    started(&record, old, story.now).is(P::Ended).because(R::ClientOutdated).passes(1_000_000).is(P::Ended);
    for version in [new, None] {
        // In its turn, as any session.
        let mut story = started(&record, version, story.now);
        story.is(P::Queued).passes(5).is(P::Connecting);
        assert!(story.starts());
        story.hears(outdated(version)).ends(End::Stopped).is(P::Ended).because(R::ClientOutdated);
        started(&on_disk(&story), version, story.now).is(P::Ended);
    }
    // Of another release; and by one that kept nothing of it, or in a way that nobody knows yet.
    let mut of_another = record.clone();
    of_another["outdated"]["refused"]["release"] = "0.0.1".into();
    let mut of_an_earlier = record.clone();
    of_an_earlier.as_object_mut().unwrap().remove("outdated");
    let mut of_a_later = record.clone();
    of_a_later["outdated"] = "so".into();
    for record in [of_another, of_an_earlier, of_a_later] {
        let mut story = started(&record, old, story.now);
        story.is(P::Queued).passes(5).is(P::Connecting);
        // Nothing of it stays once it is connected, and that is a change that is stored.
        let before = Kept::clone(&story.state.kept);
        story.connects().is(P::Connected);
        assert_eq!(story.state.kept.outdated, None);
        assert_ne!(Kept::clone(&story.state.kept), before);
    }
    // Another client took over: that has nothing to do with who starts.
    let mut story = Story::linked();
    story.hears(ClientEvent::Replaced).ends(End::Stopped);
    started(&on_disk(&story), new, story.now).is(P::Ended).because(R::StreamReplaced);
}

#[test]
fn the_current_version_is_tried_once_a_day_when_it_was_too_old() {
    const HOUR: i64 = 3600;
    let mut story = Story::linked();
    let mut tries = Vec::new();
    for _ in 0..5 {
        let refused = story.now;
        story.hears(outdated(None)).ends(End::Stopped).is(P::Ended).because(R::ClientOutdated);
        // The library keeps the version that it asked for for a day.
        story.passes(24 * HOUR).is(P::Ended);
        while !story.starts() {
            story.passes(60);
        }
        tries.push(story.now.duration_since(refused).as_hours());
        story.is(P::Reconnecting);
    }
    assert!(tries.iter().all(|hours| (24..=26).contains(hours)), "{tries:?}");
    story.connects().is(P::Connected).because(None);

    // A restart in between changes nothing about it, also when the clock was wrong.
    story.hears(outdated(None)).ends(End::Stopped);
    let record = on_disk(&story);
    let mut restarted = started(&record, None, later(story.now, Duration::from_secs(3600)));
    restarted.is(P::Ended).passes(22 * HOUR).is(P::Ended).passes(4 * HOUR).is(P::Connecting);
    let mut late = started(&record, None, later(story.now, Duration::from_secs(100 * 3600)));
    late.is(P::Queued).passes(5).is(P::Connecting);
    let mut early = started(&record, None, start_of_time().saturating_sub(SignedDuration::from_hours(9_000)).unwrap());
    early.is(P::Ended).passes(27 * HOUR).is(P::Connecting);
    // A session that is to be offline stays so.
    story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).is(P::Stopped);
    assert_eq!(story.state.kept.parked, Parked::None);
    story.passes(100 * HOUR).is(P::Stopped);
}

#[test]
fn an_account_that_is_locked_or_banned_keeps_its_keys_and_is_tried_once_a_day() {
    const HOUR: i64 = 3600;
    for why in [R::AccountLocked, R::AccountBanned] {
        let mut story = Story::linked();
        story.hears(ClientEvent::Barred(why)).ends(End::Stopped).is(P::Ended).because(why);
        assert!(story.state.kept.paired && !story.state.kept.keys_doomed);
        for _ in 0..3 {
            story.passes(24 * HOUR - 1).is(P::Ended).because(why);
            assert!(!story.starts());
            while !story.starts() {
                story.passes(60);
            }
            story.hears(ClientEvent::Barred(why)).ends(End::Stopped).is(P::Ended).because(why);
        }
        // A restart changes nothing about it; going off and on tries at once, and so does asking for a code.
        started(&on_disk(&story), None, story.now).is(P::Ended).because(why).passes(27 * HOUR).is(P::Connecting);
        story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).is(P::Stopped).because(None);
        story.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Connecting);
        assert!(story.starts());
        story.hears(ClientEvent::Barred(why)).ends(End::Stopped);
        story.puts(|spec| spec.pairing.window.push('+')).is(P::Connecting);
        story.connects().is(P::Connected).because(None);
        assert_eq!(story.state.kept.parked, Parked::None);
    }
    // Nor can its device be removed while it is barred. Its deletion tries that once an hour, until it is given up.
    let mut story = Story::linked();
    story.hears(ClientEvent::Barred(R::AccountBanned)).ends(End::Stopped).is(P::Ended);
    story.happens(Event::Delete { unlink: true });
    for _ in 0..3 {
        story.hears(ClientEvent::Barred(R::AccountBanned)).ends(End::Stopped).is(P::Deleting).because(R::AccountBanned);
        story.passes(50 * 60).is(P::Deleting);
        assert!(!story.starts());
        story.passes(10 * 60).is(P::Deleting);
        assert!(story.starts());
    }
    story.hears(ClientEvent::Barred(R::AccountBanned)).ends(End::Stopped).happens(Event::Delete { unlink: false });
    assert_eq!(story.effects, [Effect::Erase]);
    // One that is kept without a device is tried once a day, as one that is to be connected.
    let mut story = Story::linked();
    story.fails(R::ConnectionLost).puts(|spec| spec.desired_state = DesiredState::Unlinked.into());
    story.hears(ClientEvent::Barred(R::AccountBanned)).ends(End::Stopped).passes(24 * HOUR - 1).is(P::Unlinking);
    assert!(!story.starts());
    // A device that is not linked yet is only refused.
    let mut story = Story::fresh();
    story.opens().hears(ClientEvent::Barred(R::AccountBanned)).is(P::Opening).because(R::ServerRefused);
}

#[test]
fn a_ban_ends_by_itself_and_survives_a_restart() {
    let mut story = Story::linked();
    story.hears(ClientEvent::Banned { code: 101, for_: Duration::from_secs(3600) }).ends(End::Stopped);
    story.is(P::Banned).because(R::TemporaryBan).passes(3599).is(P::Banned);
    let restriction = story.state.view().restriction.unwrap();
    assert_eq!((restriction.code, restriction.expires_at), (Some(101), story.state.wake_at()));
    let mut restarted = Story {
        state: State::new("s".to_owned(), Kept::clone(&story.state.kept), story.now, Timings::default(), 7, story.now),
        now: story.now,
        effects: vec![],
    };
    for story in [&mut story, &mut restarted] {
        story.is(P::Banned).passes(1);
        assert!(story.state.view().restriction.is_none());
        story.passes(300);
        assert!(story.starts());
        story.connects().is(P::Connected);
    }
}

#[test]
fn sessions_banned_in_one_moment_come_back_one_after_the_other_and_none_too_early() {
    let mut ends: Vec<i64> = (0..50)
        .map(|seed| {
            let mut story = Story::linked();
            story.state = State::new(
                "s".to_owned(),
                Kept::clone(&story.state.kept),
                story.now,
                Timings::default(),
                seed * 7919,
                story.now,
            );
            story.passes(0).connects().is(P::Connected);
            let banned = story.now;
            story.hears(ClientEvent::Banned { code: 101, for_: Duration::from_secs(600) }).ends(End::Stopped);
            // The first moment is the end of the ban, when it is no longer shown.
            story.passes(600).is(P::Banned);
            story.state.wake_at().unwrap().duration_since(banned).as_secs() - 600
        })
        .collect();
    ends.sort_unstable();
    assert!(ends[0] >= 0 && ends[49] <= 60, "{ends:?}");
    assert!(ends[49] - ends[0] > 40 && ends.windows(10).all(|ten| ten[9] - ten[0] > 2), "{ends:?}");
}

#[test]
fn a_device_is_not_unlinked_by_logins_during_a_ban() {
    let ban = || ClientEvent::Banned { code: 101, for_: Duration::from_secs(60) };
    let mut before = Story::linked();
    before.hears(ban()).ends(End::Stopped).happens(Event::Delete { unlink: true });
    let mut during = Story::linked();
    during.fails(R::ConnectionLost).happens(Event::Delete { unlink: true }).hears(ban()).ends(End::Stopped);
    let again = |story: &Story| Story {
        state: State::new("s".to_owned(), Kept::clone(&story.state.kept), story.now, Timings::default(), 7, story.now),
        now: story.now,
        effects: vec![],
    };
    let (mut restarted_before, mut restarted_during) = (again(&before), again(&during));
    for story in [&mut before, &mut during, &mut restarted_before, &mut restarted_during] {
        for _ in 0..59 {
            story.is(P::Deleting).passes(1);
            assert!(!story.starts());
        }
        story.passes(1).is(P::Deleting).connects();
        assert!(story.asks(&Effect::Unlink(story.state.generation)), "{:?}", story.state);
    }
}

#[test]
fn bans_that_ended_while_the_bridge_was_away_wait_for_their_turn() {
    let mut story = Story::linked();
    story.hears(ClientEvent::Banned { code: 101, for_: Duration::from_secs(60) }).ends(End::Stopped);
    story.now = story.now.saturating_add(SignedDuration::from_secs(3600)).unwrap();
    let turn = story.now.saturating_add(SignedDuration::from_secs(5)).unwrap();
    story.state = State::new("s".to_owned(), Kept::clone(&story.state.kept), turn, Timings::default(), 7, story.now);
    story.effects.clear();
    story.passes(0).is(P::Queued);
    assert!(!story.starts());
    story.passes(5).is(P::Connecting);
    assert!(story.starts() && story.state.view().restriction.is_none());
}

#[test]
fn a_ban_without_a_length_is_not_tried_again_at_once() {
    let mut story = Story::linked();
    story.hears(ClientEvent::Banned { code: 101, for_: Duration::ZERO }).ends(End::Stopped);
    story.passes(900).is(P::Banned).passes(90);
    assert!(story.starts());
}

#[test]
fn a_restriction_is_shown_while_connected_and_ends() {
    use whatsapp_operator::bridge_api::{Restriction, RestrictionKind};
    let mut story = Story::linked();
    let expires_at = story.now.saturating_add(SignedDuration::from_secs(10)).ok();
    let restriction = Restriction { kind: RestrictionKind::ReachoutTimelock.into(), code: Some(463), expires_at };
    story.hears(ClientEvent::Restricted(Some(restriction))).is(P::Connected).passes(9);
    assert!(story.state.view().restriction.is_some());
    story.passes(1).is(P::Connected);
    assert!(story.state.view().restriction.is_none());
}

#[test]
fn a_restriction_without_an_end_is_lifted_by_the_server_or_after_ten_minutes() {
    use whatsapp_operator::bridge_api::{Restriction, RestrictionKind};
    let untimed = || Restriction { kind: RestrictionKind::ReachoutTimelock.into(), code: Some(463), expires_at: None };
    let mut story = Story::linked();
    story.hears(ClientEvent::Restricted(Some(untimed()))).hears(ClientEvent::Restricted(None));
    assert!(story.state.view().restriction.is_none());
    story.hears(ClientEvent::Restricted(Some(untimed()))).passes(300);
    let before = Kept::clone(&story.state.kept);
    story.hears(ClientEvent::Restricted(Some(untimed())));
    assert_eq!(*story.state.kept, before, "every refused message says it again");
    story.passes(299);
    assert!(story.state.view().restriction.is_some());
    story.passes(1).is(P::Connected);
    assert!(story.state.view().restriction.is_none());
}

#[test]
fn deletion_unlinks_first_then_deletes_the_keys_then_says_so() {
    let mut story = Story::linked();
    story.happens(Event::Delete { unlink: true }).is(P::Deleting);
    assert_eq!(story.effects, [Effect::Unlink(1)]);
    story.hears(ClientEvent::Unlinked(Ok(())));
    assert_eq!(story.effects, [Effect::Stop(1)]);
    story.ends(End::Stopped);
    assert_eq!(story.effects, [Effect::Erase]);
    story.happens(Event::Erased);
    assert_eq!(story.effects, [Effect::Forget]);
    assert!(story.state.is_gone());
}

#[test]
fn deletion_connects_when_it_has_to_and_keeps_trying() {
    let mut story = Story::linked();
    story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).ends(End::Stopped);
    story.happens(Event::Delete { unlink: true }).is(P::Deleting);
    assert!(story.starts());
    story.fails(R::ServerUnreachable).is(P::Deleting).because(R::ServerUnreachable);
    story.happens(Event::Delete { unlink: true });
    assert!(story.effects.is_empty());
    story.passes(2);
    assert!(story.starts());
    story.connects();
    assert_eq!(story.effects, [Effect::Unlink(3)]);
    story.hears(ClientEvent::Unlinked(Err(R::ServerNotAnswering)));
    assert_eq!(story.effects, [Effect::Stop(3)]);
    story.happens(Event::Delete { unlink: false }).ends(End::Stopped);
    assert_eq!(story.effects, [Effect::Erase]);
}

#[test]
fn deletion_goes_on_after_a_restart() {
    let mut story = Story::linked();
    story.happens(Event::Delete { unlink: true });
    let mut restarted = Story::of(Kept::clone(&story.state.kept));
    restarted.is(P::Deleting);
    assert!(restarted.starts());
    restarted.connects();
    assert_eq!(restarted.effects, [Effect::Unlink(1)]);
    restarted.hears(ClientEvent::LoggedOut).ends(End::Stopped);
    let mut restarted = Story::of(Kept::clone(&restarted.state.kept));
    assert_eq!(restarted.effects, [Effect::Erase]);
    restarted.happens(Event::Erased);
    assert!(restarted.state.is_gone());
}

#[test]
fn the_wish_to_be_unlinked_removes_the_device_and_keeps_the_session() {
    let unlinked = |spec: &mut SessionSpec| spec.desired_state = DesiredState::Unlinked.into();
    let mut story = Story::linked();
    story.puts(unlinked).is(P::Unlinking).because(None);
    assert_eq!(story.effects, [Effect::Unlink(1)]);
    story.hears(ClientEvent::Unlinked(Ok(()))).is(P::Stopped).because(None);
    assert_eq!(story.effects, [Effect::Stop(1)]);
    assert!(story.state.is_transient(), "the keys are still there");
    story.ends(End::Stopped);
    assert_eq!(story.effects, [Effect::Erase]);
    story.happens(Event::Erased).is(P::Stopped);
    let view = story.state.view();
    assert!(!view.paired && view.phone_number.is_none() && !story.state.is_transient() && !story.state.is_gone());
    // Linking anew is one wish, without a refresh.
    story.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Queued);
    story.opens().shows("two", 60).is(P::AwaitingPairing);
    story.puts(unlinked).is(P::Stopped);
}

#[test]
fn unlinking_by_wish_goes_on_over_failures_and_restarts_and_can_be_taken_back() {
    let unlinked = |spec: &mut SessionSpec| spec.desired_state = DesiredState::Unlinked.into();
    let mut story = Story::linked();
    story.puts(|spec| spec.desired_state = DesiredState::Disconnected.into()).ends(End::Stopped).is(P::Stopped);
    story.puts(unlinked).is(P::Unlinking);
    assert!(story.starts());
    story.fails(R::ServerUnreachable).is(P::Unlinking).because(R::ServerUnreachable).passes(2);
    let mut story = Story::of(Kept::clone(&story.state.kept));
    story.is(P::Unlinking);
    assert!(story.starts());
    // Another client has taken over: the keys still can be given up.
    story.hears(ClientEvent::Replaced).is(P::Unlinking).ends(End::Stopped).passes(3).connects();
    assert!(matches!(story.effects[..], [Effect::Unlink(_)]));
    story.puts(|spec| spec.pairing.window = "again".to_owned()).is(P::Unlinking);
    assert!(story.effects.is_empty(), "{:?}", story.effects);
    // Taken back before the server has answered.
    story.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Connecting).ends(End::Stopped);
    story.connects().is(P::Connected);
    // What the phone does first is what was wished for.
    story.puts(unlinked).hears(ClientEvent::LoggedOut).is(P::Stopped).because(None);
    // A device that was unlinked before, and a window that passed, are forgotten with the wish.
    let mut out = Story::linked();
    out.hears(ClientEvent::LoggedOut).ends(End::Stopped).happens(Event::Erased).is(P::LoggedOut);
    out.puts(unlinked).is(P::Stopped).because(None);
    out.puts(|spec| spec.desired_state = DesiredState::Connected.into()).is(P::Queued).because(None);
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
fn a_session_without_its_keys_is_deleted_without_an_unlink_that_nobody_can_make() {
    let mut story = Story::of(Kept::clone(&Story::linked().state.kept));
    story.happens(Event::Delete { unlink: true }).ends(End::KeysLost(LostKeys::Missing));
    assert_eq!(story.effects, [Effect::Erase]);
    story.happens(Event::Erased);
    assert!(story.state.is_gone());
}

#[test]
fn what_was_never_linked_is_deleted_at_once() {
    let mut story = Story::fresh();
    story.opens().shows("one", 60).happens(Event::Delete { unlink: true }).ends(End::Stopped);
    assert_eq!(story.effects, [Effect::Erase]);
}

#[test]
fn a_scan_in_the_moment_of_the_deletion_is_unlinked_when_that_was_asked_for() {
    let scanned = |unlink: &[bool]| {
        let mut story = Story::fresh();
        story.opens().shows("one", 60);
        for unlink in unlink {
            story.happens(Event::Delete { unlink: *unlink });
        }
        story.hears(PAIRED).ends(End::Stopped).is(P::Deleting);
        story
    };
    let mut story = scanned(&[true]);
    assert!(story.starts() && story.state.view().paired, "{:?}", story.state);
    story.connects();
    assert_eq!(story.effects, [Effect::Unlink(2)]);
    story.hears(ClientEvent::Unlinked(Ok(()))).ends(End::Stopped);
    assert_eq!(story.effects, [Effect::Erase]);
    for forgotten in [&[false][..], &[false, true], &[true, false]] {
        assert_eq!(scanned(forgotten).effects, [Effect::Erase], "{forgotten:?}");
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
fn a_pairing_code_is_shown_alone_and_ends_its_window() {
    let mut spec = SessionSpec::default();
    spec.pairing = PairingSpec {
        method: PairingMethod::Code.into(),
        phone_number: Some(Sensitive::new("+15550001111")),
        ..spec.pairing
    };
    let mut story = Story::of(Kept::new(spec));
    story.opens();
    assert!(
        matches!(&story.effects[..], [Effect::Start(start)] if start.pair_with_code.is_some()),
        "{:?}",
        story.effects
    );
    story.hears(ClientEvent::Code {
        method: PairingMethod::Qr,
        code: Sensitive::new("qr"),
        valid_for: Duration::from_secs(60),
        of: None,
    });
    story.is(P::Opening).shows("ABCD1234", 180).is(P::AwaitingPairing);
    let view = story.state.view();
    assert!(view.qr.is_none() && view.pairing_code.is_some());
    story.passes(186).is(P::PairingExpired);
}

/// A session that is linked by pairing code, with its first client.
fn by_code() -> Story {
    let mut story = Story::fresh();
    story.puts(|spec| {
        spec.pairing.method = PairingMethod::Code.into();
        spec.pairing.phone_number = Some(Sensitive::new("+15550001111"));
    });
    story.opens();
    assert!(story.starts());
    story
}

fn refused(reason: SessionReason, pause: Option<u64>) -> ClientEvent {
    ClientEvent::NoCode { refused: Some(reason), pause: pause.map(Duration::from_secs) }
}

#[test]
fn a_window_without_a_code_ends_when_the_server_refuses_one_and_it_is_asked_rarely() {
    for reason in [R::TooManyRequests, R::PairingFailed] {
        let mut story = by_code();
        let opened = story.now;
        let mut asked = 0;
        while story.state.phase() != P::PairingExpired {
            story.hears(refused(reason, None)).because(reason).ends(End::Stopped);
            asked += 1;
            while story.state.phase() == P::Opening && !story.starts() {
                story.passes(1).opens();
            }
        }
        let took = story.now.duration_since(opened).as_secs();
        assert!((80..=160).contains(&took), "{took} s");
        assert!((2..=4).contains(&asked), "asked {asked} times");
        story.because(reason).passes(100_000).is(P::PairingExpired);
        // And like any window it opens again when somebody wishes it, and after a pause when it is to do so by itself.
        story.puts(|spec| spec.pairing.window = "again".into()).opens().is(P::Opening).shows("ABCD1234", 180);
        story.is(P::AwaitingPairing);
    }
}

#[test]
fn a_pause_that_the_server_wants_is_kept_however_the_next_window_is_opened() {
    let hour = 3600;
    let mut story = by_code();
    story.puts(|spec| spec.pairing.refresh_until = Some(later(start_of_time(), Duration::from_secs(100_000))));
    story.hears(refused(R::TooManyRequests, Some(hour))).ends(End::Stopped);
    story.is(P::PairingExpired).because(R::TooManyRequests);
    story.passes(60).is(P::PairingExpired);
    story.puts(|spec| spec.pairing.window = "again".into()).is(P::Opening).because(R::TooManyRequests);
    assert!(!story.asks(&Effect::RequestPermit));
    story.passes(3500);
    assert!(!story.asks(&Effect::RequestPermit), "a minute too early");
    story.passes(400);
    assert!(story.asks(&Effect::RequestPermit));
    // A shorter one is waited for within the window.
    story.opens().hears(refused(R::TooManyRequests, Some(100))).ends(End::Stopped).is(P::Opening);
    story.passes(99).opens();
    assert!(!story.starts());
    story.passes(12).opens();
    assert!(story.starts());
    // It is about codes for that number: a QR code may be asked for at once.
    story.hears(refused(R::TooManyRequests, Some(hour))).ends(End::Stopped);
    story.puts(|spec| {
        spec.pairing = PairingSpec { window: "by QR".into(), ..PairingSpec::default() };
    });
    story.opens().shows("2@x", 60).is(P::AwaitingPairing);
}

#[test]
fn a_server_that_does_not_answer_is_asked_for_a_code_again_and_again() {
    let mut story = by_code();
    for _ in 0..20 {
        story.hears(ClientEvent::NoCode { refused: None, pause: None }).is(P::Opening);
        assert!(story.state.wants_client());
        story.passes(31).because(R::ServerNotAnswering).ends(End::Stopped).passes(70).opens();
        assert!(story.starts());
    }
}

#[test]
fn a_pairing_code_that_is_of_no_use_any_more_is_taken_down() {
    // The server refused what the phone made of it, or was not there for it: another code follows within the window.
    for refused in [Some(R::PairingFailed), None] {
        let mut story = by_code();
        story.shows("ABCD1234", 180).passes(20).hears(ClientEvent::NoCode { refused, pause: None });
        assert!(story.state.view().pairing_code.is_none());
        story.is(P::Opening).because(R::PairingFailed).ends(End::Stopped).passes(40).opens().shows("EFGH5678", 180);
        let code = story.state.view().pairing_code.unwrap();
        assert_eq!(code.expires_at, later(start_of_time(), Duration::from_secs(180)), "no longer than the window");
    }
    // The server wants another one, on the same connection.
    let mut story = by_code();
    story.shows("ABCD1234", 180).passes(20).hears(ClientEvent::CodeStale { another: true }).is(P::Opening);
    assert!(story.state.view().pairing_code.is_none() && story.state.wants_client());
    story.shows("EFGH5678", 180).is(P::AwaitingPairing);
    // It never comes: the window goes on to its end.
    story.passes(20).hears(ClientEvent::CodeStale { another: true });
    for _ in 0..30 {
        story.passes(15).ends(End::Stopped).opens();
    }
    story.is(P::PairingExpired);
    // One that a person has to ask for.
    let mut story = by_code();
    story.shows("ABCD1234", 180).hears(ClientEvent::CodeStale { another: false }).is(P::PairingExpired);
    assert!(story.state.view().pairing_code.is_none());
    // And nobody is shown codes for ever because the server goes on making them stale.
    let mut story = by_code();
    story.shows("one", 180);
    for _ in 0..4 {
        story.passes(60).hears(ClientEvent::CodeStale { another: true }).shows("another", 180);
    }
    story.is(P::PairingExpired);
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

fn linked() -> Story {
    Story::of(Kept { paired: true, ..Kept::new(SessionSpec::default()) })
}

fn logs_in(story: &mut Story) -> &mut Story {
    story.hears(ClientEvent::Connected { phone_number: None, push_name: None })
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
