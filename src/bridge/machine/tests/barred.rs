//! Sessions that WhatsApp does not let in for a while, or that it restricts.

use super::*;

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
