//! Pairing by a code that is typed into the phone.

use super::*;

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
