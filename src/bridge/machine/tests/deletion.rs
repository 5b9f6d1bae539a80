//! Unlinking, and the end of a session.

use super::*;

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
