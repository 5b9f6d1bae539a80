use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use whatsapp_operator::bridge_api::MessageCause;

use super::{flight::*, recipient_failures::*, *};
use crate::machine::Generation;

const CLIENT: Generation = 1;

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// An outbox with a clock and a disk, for tests that read as a story.
struct Story {
    outbox: Outbox,
    now: Timestamp,
    writes: Vec<Write>,
    effects: Vec<Effect>,
}

impl Story {
    fn paced(spec: Sending) -> Self {
        Self { outbox: Outbox::new([], spec, 7), now: start(), writes: Vec::new(), effects: Vec::new() }
    }

    fn unpaced() -> Self {
        Self::paced(Sending { per_minute: 0, burst: 0 })
    }

    fn happens(&mut self, event: Event) -> &mut Self {
        (self.writes, self.effects) = self.outbox.step(event, self.now);
        assert_eq!(answers(&self.outbox, self.now), answers(&found_anew(&self.outbox), self.now));
        self
    }

    fn accepts(&mut self, sequence: u64, recipient: RecipientKey) -> &mut Self {
        let expires_at = later(self.now, Duration::from_secs(3600));
        self.happens(Event::Accepted(Waiting { sequence, recipient, known: false, expires_at, handed_over: false }))
    }

    fn goes_up(&mut self, client: Generation) -> &mut Self {
        self.happens(Event::Reach(Reach::Up { client, timelocked: false }))
    }

    fn passes(&mut self, seconds: u64) -> &mut Self {
        self.now = later(self.now, Duration::from_secs(seconds));
        self.happens(Event::Tick)
    }

    fn is_acknowledged(&mut self, sequence: u64) -> &mut Self {
        self.happens(Event::HandedOver { sequence, keyed: true }).happens(Event::Acknowledged { sequence, at: None })
    }

    fn sends(&mut self, sequence: impl Into<Option<u64>>) -> &mut Self {
        let sent = self.effects.iter().find_map(|effect| match effect {
            Effect::Send { sequence, .. } => Some(*sequence),
            Effect::Suspect(_) => None,
        });
        assert_eq!(sent, sequence.into(), "{:?}", self.outbox);
        self
    }

    fn settles(&mut self, sequence: u64, state: MessageState, cause: impl Into<Option<MessageCause>>) -> &mut Self {
        let settled = self.writes.iter().find_map(|write| match write {
            Write::Settle(settled, how) if *settled == sequence => Some((how.state, how.cause)),
            _ => None,
        });
        assert_eq!(settled, Some((state, cause.into())), "{:?}", self.writes);
        self
    }

    fn waits_for(&self, sequence: u64) -> Option<WaitsFor> {
        self.outbox.waits(sequence, self.now).map(|(why, _)| why)
    }
}

/// An outbox that has to look for what is next.
fn found_anew(outbox: &Outbox) -> Outbox {
    Outbox { plan: None, ..outbox.clone() }
}

/// What follows from what is next.
fn answers(outbox: &Outbox, now: Timestamp) -> (Option<Timestamp>, Option<(WaitsFor, usize)>) {
    (outbox.wake_at(now), outbox.held_up(now))
}

#[test]
fn what_a_step_found_is_not_looked_for_again() {
    let mut story = Story::paced(Sending { per_minute: 60, burst: 1 });
    story.accepts(1, 1).accepts(2, 2).goes_up(CLIENT).sends(1).is_acknowledged(1).sends(None);
    assert_eq!(story.outbox.plan.and_then(|plan| plan.candidate).map(|waiting| waiting.sequence), Some(2));
    story.outbox.withdraw(2);
    assert_eq!((story.outbox.plan, story.outbox.held_up(story.now)), (None, None));
}

#[test]
fn messages_go_one_after_the_other_and_each_is_handed_over_on_the_disk_first() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).sends(None);
    assert_eq!(story.waits_for(1), Some(WaitsFor::Connection));
    story.goes_up(CLIENT).sends(1);
    assert_eq!(story.writes, [Write::HandOver(1)]);
    assert_eq!((story.waits_for(1), story.waits_for(2)), (Some(WaitsFor::Acknowledgement), Some(WaitsFor::Turn)));
    story.is_acknowledged(1).settles(1, MessageState::Sent, None).sends(2);
    story.is_acknowledged(2).settles(2, MessageState::Sent, None).sends(None);
    assert_eq!(story.outbox.len(), 0);
    // With nothing before it a message goes at once.
    story.accepts(3, 1).sends(3);
    assert_eq!(story.writes, [Write::HandOver(3)]);
}

#[test]
fn a_person_who_is_written_in_two_ways_is_one_person_once_the_server_has_said_so() {
    let mut story = Story::paced(Sending { per_minute: 6000, burst: 100 });
    // The first is written in another way than the second, and the third is somebody else.
    story.accepts(1, 10).accepts(2, 20).accepts(3, 30).goes_up(CLIENT).sends(1);
    story.outbox.recognize(&[20, 10], 20);
    story.is_acknowledged(1).settles(1, MessageState::Sent, None).sends(None);
    assert_eq!(story.waits_for(2), Some(WaitsFor::Pacing));
    story.passes(2).sends(2);
    // Said again, nothing changes.
    story.outbox.recognize(&[20, 10], 20);
    story.is_acknowledged(2).sends(3);
}

#[test]
fn what_waits_for_a_person_under_another_key_keeps_to_their_pace_and_their_order() {
    let mut story = Story::paced(Sending { per_minute: 6000, burst: 100 });
    // The second is written by the linked id, before the server has said whose that is.
    story.accepts(1, 20).accepts(2, 10).goes_up(CLIENT).sends(1);
    story.outbox.recognize(&[20, 10], 20);
    story.is_acknowledged(1).sends(None);
    assert_eq!(story.waits_for(2), Some(WaitsFor::Pacing));
    // So is one that is accepted later, and by somebody who has forgotten what the server said.
    story.passes(2).sends(2).accepts(3, 10).is_acknowledged(2).sends(None);
    assert_eq!(story.waits_for(3), Some(WaitsFor::Pacing));
    // A person who has another key now.
    story.outbox.recognize(&[20], 30);
    story.outbox.recognize(&[30], 20);
    story.passes(2).sends(3);
}

#[test]
fn who_is_known_in_one_way_is_known_in_the_other() {
    let mut story = Story::unpaced();
    let expires_at = later(story.now, Duration::from_secs(3600));
    let known = Waiting { sequence: 1, recipient: 10, known: true, expires_at, handed_over: false };
    story.happens(Event::Accepted(known)).accepts(2, 20).accepts(3, 30);
    story.happens(Event::Reach(Reach::Up { client: CLIENT, timelocked: true })).sends(1);
    story.outbox.recognize(&[20, 10], 20);
    story.is_acknowledged(1).sends(2);
    assert_eq!(story.waits_for(3), Some(WaitsFor::Restriction));
    // What the store knows is under the key that they were written with.
    story.outbox.recognize(&[30, 40], 30);
    story.outbox.mark_known(&[40]);
    story.is_acknowledged(2).sends(3);
}

#[test]
fn a_message_was_sent_when_the_server_says_so() {
    let mut story = Story::unpaced();
    for (sequence, at) in [(1, Some(later(story.now, Duration::from_secs(7)))), (2, None)] {
        story.accepts(sequence, 1).goes_up(CLIENT).happens(Event::HandedOver { sequence, keyed: true });
        story.happens(Event::Acknowledged { sequence, at });
        let settled = Settled {
            state: MessageState::Sent,
            cause: None,
            code: None,
            at: at.unwrap_or(story.now),
            by_server: at.is_some(),
        };
        assert_eq!(story.writes, [Write::Settle(sequence, settled)]);
    }
}

#[test]
fn what_was_handed_over_goes_out_again_by_the_next_client_and_does_not_expire() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).goes_up(CLIENT).sends(1);
    story.happens(Event::Reach(Reach::Down(WaitsFor::Connection)));
    story.passes(7200).settles(2, MessageState::Expired, None);
    assert!(!story.outbox.can_be_called_back(1));
    story.goes_up(CLIENT + 1).sends(1);
    assert_eq!(story.writes, [], "it is on the disk already that it was");
    story.is_acknowledged(1).settles(1, MessageState::Sent, None);
}

#[test]
fn a_message_is_called_back_until_it_is_handed_over() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).goes_up(CLIENT).sends(1);
    assert!(!story.outbox.can_be_called_back(1) && story.outbox.can_be_called_back(2));
    story.happens(Event::CallBack(1));
    assert_eq!(story.writes, []);
    story.happens(Event::CallBack(2)).settles(2, MessageState::Cancelled, None);
    story.is_acknowledged(1).sends(None);
}

#[test]
fn without_an_acknowledgement_the_connection_is_suspected_once() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).happens(Event::HandedOver { sequence: 1, keyed: true });
    assert_eq!(story.outbox.wake_at(story.now), Some(later(story.now, ACKNOWLEDGED_WITHIN)));
    story.passes(20);
    assert_eq!(story.effects, [Effect::Suspect(CLIENT)]);
    story.passes(20);
    assert_eq!(story.effects, []);
    story.happens(Event::Reach(Reach::Down(WaitsFor::Connection))).goes_up(2).sends(1);
}

#[test]
fn connections_on_which_nothing_is_acknowledged_are_suspected_less_and_less_often() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).goes_up(1);
    for (client, patience) in [(2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 600), (8, 600)] {
        if client > 4 {
            // Nobody else waits; whoever did would be next.
            story.sends(None).passes(30);
        }
        story.sends(1).happens(Event::HandedOver { sequence: 1, keyed: true }).passes(patience - 1);
        assert_eq!(story.effects, []);
        story.passes(1);
        assert_eq!(story.effects, [Effect::Suspect(client - 1)]);
        assert!(story.outbox.is_unacknowledged());
        story.happens(Event::Reach(Reach::Down(WaitsFor::Connection))).goes_up(client);
    }
    story.sends(None).passes(30).sends(1).is_acknowledged(1).sends(2);
    assert!(!story.outbox.is_unacknowledged());
    story.happens(Event::HandedOver { sequence: 2, keyed: true });
    assert_eq!(story.outbox.wake_at(story.now), Some(later(story.now, ACKNOWLEDGED_WITHIN)));
}

#[test]
fn a_message_that_the_server_has_no_word_on_is_overtaken_and_goes_again() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).accepts(3, 3).goes_up(1);
    for (client, patience) in [(2, 20), (3, 40), (4, 80)] {
        story.sends(1).happens(Event::HandedOver { sequence: 1, keyed: true }).passes(patience);
        story.happens(Event::Reach(Reach::Down(WaitsFor::Connection))).goes_up(client);
    }
    story.sends(3).happens(Event::HandedOver { sequence: 3, keyed: true });
    story.happens(Event::Acknowledged { sequence: 3, at: None }).settles(3, MessageState::Sent, None).sends(None);
    assert!(!story.outbox.can_be_called_back(1), "nobody knows whether it was sent");
    story.passes(30).sends(1).is_acknowledged(1).sends(2);
}

#[test]
fn several_who_cannot_be_written_to_hold_up_the_others_for_some_minutes_and_no_longer() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).accepts(3, 3).goes_up(CLIENT);
    let mut waited = 0;
    // The server has trouble with the first two, for as long as they are asked for.
    while story.outbox.waits(3, story.now).is_some() {
        let handed = story.effects.iter().find_map(|effect| match effect {
            Effect::Send { sequence, .. } => Some(*sequence),
            Effect::Suspect(_) => None,
        });
        match handed {
            Some(3) => {
                story.is_acknowledged(3);
            }
            Some(sequence) => {
                story.happens(Event::NotHandedOver { sequence, why: Obstacle::Passing });
            }
            None => {
                waited += 1;
                story.passes(1);
            }
        }
        assert!(waited < 300, "the third waits for ever");
    }
    assert!(waited > 120, "{waited} s: the first two had their minutes");
}

#[test]
fn the_server_has_its_time_from_when_the_message_is_handed_over() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).sends(1);
    // The disk was full for a minute before the client could be told.
    story.now = later(story.now, Duration::from_secs(70));
    story.outbox.handing_over(1, story.now);
    story.passes(30);
    assert_eq!(story.effects, [], "asking for the recipient's devices takes time");
    story.happens(Event::HandedOver { sequence: 1, keyed: true }).passes(19);
    assert_eq!(story.effects, []);
    story.passes(1);
    assert_eq!(story.effects, [Effect::Suspect(CLIENT)]);
}

#[test]
fn a_client_that_never_hands_over_is_suspected_and_the_recipient_is_overtaken_at_last() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).accepts(3, 3).goes_up(1);
    for (client, patience) in [(2, 60), (3, 120), (4, 240)] {
        story.sends(1).passes(patience);
        assert_eq!(story.effects, [Effect::Suspect(client - 1)]);
        story.happens(Event::Reach(Reach::Down(WaitsFor::Connection))).goes_up(client);
    }
    story.sends(3).is_acknowledged(3).sends(None).passes(AGAIN_MAX.as_secs()).sends(1);
    assert!(!story.outbox.can_be_called_back(1), "nobody knows whether it was sent");
}

#[test]
fn what_cannot_be_handed_over_holds_up_others_for_a_minute_and_is_given_up_at_last() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 1).accepts(3, 3).goes_up(CLIENT);
    let fails = Event::NotHandedOver { sequence: 1, why: Obstacle::Recipient };
    let mut waited = 0;
    for pause in [2, 4, 8, 16] {
        story.sends(1).happens(fails).sends(None);
        assert_eq!(story.writes, [Write::TakeBack(1)]);
        assert_eq!(story.waits_for(3), Some(WaitsFor::Turn));
        story.passes(pause);
        waited += pause;
    }
    assert_eq!(waited, 30);
    story.sends(1).happens(fails).passes(32).sends(3);
    assert_eq!((story.waits_for(1), story.waits_for(2)), (Some(WaitsFor::Pacing), Some(WaitsFor::Pacing)));
    assert!(story.outbox.can_be_called_back(1), "nothing was sent");
    story.is_acknowledged(3).sends(None);
    for _ in 6..10 {
        story.passes(AGAIN_MAX.as_secs()).sends(1).happens(fails);
        assert_eq!(story.writes, [Write::TakeBack(1)]);
    }
    story.passes(AGAIN_MAX.as_secs()).sends(1).happens(fails);
    story.settles(1, MessageState::Failed, MessageCause::RecipientUnreachable).sends(2);
}

#[test]
fn what_is_not_the_recipients_fault_is_tried_for_as_long_as_the_message_lasts_and_counts_for_no_other() {
    let mut story = Story::unpaced();
    let expires_at = later(story.now, Duration::from_secs(24 * 3600));
    for sequence in [1, 2] {
        story.happens(Event::Accepted(Waiting {
            sequence,
            recipient: 1,
            known: false,
            expires_at,
            handed_over: false,
        }));
    }
    story.goes_up(CLIENT);
    for why in [Obstacle::Recipient, Obstacle::Passing, Obstacle::Passing].repeat(9) {
        story.sends(1).happens(Event::NotHandedOver { sequence: 1, why });
        assert_eq!(story.writes, [Write::TakeBack(1)]);
        story.passes(AGAIN_MAX.as_secs());
    }
    // One more word on this person would end it. It is not the next message's, which has not been tried.
    story.sends(1).happens(Event::Refused { sequence: 1, code: 503 }).happens(Event::CallBack(1));
    story.settles(1, MessageState::Cancelled, None).passes(AGAIN_MAX.as_secs()).sends(2);
    story.happens(Event::NotHandedOver { sequence: 2, why: Obstacle::Recipient });
    assert_eq!(story.writes, [Write::TakeBack(2)]);
}

#[test]
fn who_is_not_mentioned_again_and_again_has_no_account() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).sends(1);
    let fails = Event::NotHandedOver { sequence: 1, why: Obstacle::NotMentioned };
    story.happens(fails).passes(2).sends(1).happens(fails).passes(4).sends(1).happens(fails);
    story.settles(1, MessageState::Failed, MessageCause::NotOnWhatsApp);
}

#[test]
fn an_attempt_without_an_answer_stays_one_whatever_is_said_to_a_later_one() {
    for code in [463, 503] {
        let mut story = Story::unpaced();
        story.accepts(1, 1).goes_up(CLIENT).sends(1).happens(Event::Reach(Reach::Down(WaitsFor::Connection)));
        story.goes_up(2).sends(1).happens(Event::Refused { sequence: 1, code });
        assert_eq!(story.writes, []);
        assert!(!story.outbox.can_be_called_back(1), "{code}: the first may have arrived");
        story.passes(7200);
        assert!(story.waits_for(1).is_some(), "{code}: it does not expire");
        // To the only attempt there was an answer.
        let mut story = Story::unpaced();
        story.accepts(1, 1).goes_up(CLIENT).sends(1).happens(Event::Refused { sequence: 1, code });
        assert_eq!(story.writes, [Write::TakeBack(1)]);
        assert!(story.outbox.can_be_called_back(1));
    }
}

#[test]
fn a_message_is_not_sent_until_the_phone_can_read_it_and_is_given_up_at_last() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).sends(1);
    for _ in 1..KEYING_TRIES {
        // The server may be faster than the client's own word.
        story.happens(Event::Acknowledged { sequence: 1, at: None });
        story.happens(Event::HandedOver { sequence: 1, keyed: false }).sends(None);
        assert_eq!(story.writes, []);
        story.passes(300).sends(1);
        assert!(story.effects.iter().any(|effect| matches!(effect, Effect::Send { fresh: true, .. })));
    }
    story
        .happens(Event::HandedOver { sequence: 1, keyed: false })
        .happens(Event::Acknowledged { sequence: 1, at: None });
    story.settles(1, MessageState::Failed, MessageCause::RecipientUnreachable);
}

#[test]
fn a_restriction_keeps_new_chats_back_and_lets_known_ones_go_on() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).is_acknowledged(1);
    story.accepts(2, 2).sends(2).accepts(3, 3);
    story.happens(Event::Accepted(Waiting {
        sequence: 4,
        recipient: 1,
        known: true,
        expires_at: later(story.now, Duration::from_secs(3600)),
        handed_over: false,
    }));
    story.happens(Event::Refused { sequence: 2, code: TIMELOCKED }).sends(4);
    assert_eq!((story.waits_for(2), story.waits_for(3)), (Some(WaitsFor::Restriction), Some(WaitsFor::Restriction)));
    assert!(story.outbox.can_be_called_back(2), "the server has said that it did not take it");
    story.is_acknowledged(4).sends(None);
    // Another client changes nothing about it; that it is known to be over does.
    story.goes_up(2).sends(None).happens(Event::Reach(Reach::Up { client: 2, timelocked: true })).sends(None);
    story.happens(Event::Unrestricted).goes_up(2).sends(2).is_acknowledged(2).sends(3);
}

#[test]
fn a_restriction_that_nobody_confirms_is_tried_again_later_and_not_at_once() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).goes_up(CLIENT).happens(Event::Refused { sequence: 1, code: TIMELOCKED }).sends(None);
    story.goes_up(CLIENT).sends(None).passes(599).sends(None);
    assert_eq!(story.outbox.wake_at(story.now), Some(later(story.now, Duration::from_secs(1))));
    story.passes(1).sends(1);
}

#[test]
fn an_account_that_is_not_restricted_goes_on_without_whom_it_may_not_write_to() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).goes_up(CLIENT).sends(1);
    story.happens(Event::Refused { sequence: 1, code: TIMELOCKED }).sends(None);
    story.happens(Event::Unrestricted).sends(2).is_acknowledged(2).sends(None);
    assert_eq!(story.waits_for(1), Some(WaitsFor::Restriction));
    // Each time it is refused it is kept back for longer.
    story.passes(600).sends(1).happens(Event::Refused { sequence: 1, code: TIMELOCKED }).happens(Event::Unrestricted);
    story.passes(1199).sends(None).passes(1).sends(1);
}

#[test]
fn many_who_are_refused_are_the_account_s_trouble_whatever_is_said() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).accepts(3, 3).accepts(4, 4).goes_up(CLIENT);
    for sequence in 1..=3 {
        story.sends(sequence).happens(Event::Refused { sequence, code: NEW_CHATS_CAPPED }).sends(None);
        story.happens(Event::Unrestricted);
    }
    story.sends(None);
    assert_eq!(story.waits_for(4), Some(WaitsFor::Restriction));
}

#[test]
fn what_is_for_one_person_stays_in_order_under_a_restriction() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).goes_up(CLIENT).sends(1);
    story.happens(Event::Refused { sequence: 1, code: TIMELOCKED }).sends(None);
    let expires_at = later(story.now, Duration::from_secs(3600));
    // This person was written to before, which is found out when the next message to them comes.
    let known = Waiting { sequence: 3, recipient: 2, known: true, expires_at, handed_over: false };
    story.happens(Event::Accepted(known)).sends(2).is_acknowledged(2).sends(3);
}

#[test]
fn a_refusal_fails_and_one_that_may_pass_waits() {
    let mut story = Story::unpaced();
    story.accepts(1, 1).accepts(2, 2).goes_up(CLIENT).happens(Event::Refused { sequence: 1, code: 479 });
    story.settles(1, MessageState::Failed, MessageCause::RefusedByServer).sends(2);
    story.happens(Event::Refused { sequence: 2, code: 503 }).sends(None).passes(1).sends(None).passes(1).sends(2);
    story.happens(Event::NotHandedOver { sequence: 2, why: Obstacle::NotOnWhatsApp });
    story.settles(2, MessageState::Failed, MessageCause::NotOnWhatsApp);
}

#[test]
fn what_the_server_could_not_read_fails_with_a_cause_of_its_own() {
    for code in [491, 550] {
        let mut story = Story::unpaced();
        story.accepts(1, 1).goes_up(CLIENT).happens(Event::Refused { sequence: 1, code });
        story.settles(1, MessageState::Failed, MessageCause::NotUnderstood);
    }
}

#[test]
fn a_pace_is_kept_and_estimated() {
    let mut story = Story::paced(Sending { per_minute: 60, burst: 1 });
    story.goes_up(CLIENT).accepts(1, 1).sends(1).accepts(2, 2).is_acknowledged(1).sends(None);
    assert_eq!(story.waits_for(2), Some(WaitsFor::Pacing));
    assert_eq!(story.outbox.waits(2, story.now).unwrap().1, later(story.now, Duration::from_secs(1)));
    assert_eq!(story.outbox.wake_at(story.now), Some(later(story.now, Duration::from_secs(1))));
    story.passes(1).sends(2);
}

#[test]
fn whatever_a_message_waits_for_it_is_told_when_it_goes_at_the_earliest() {
    let mut story = Story::paced(Sending { per_minute: 60, burst: 1 });
    let after = |story: &Story, sequence| {
        let (_, at) = story.outbox.waits(sequence, story.now).unwrap();
        at.duration_since(story.now).as_secs()
    };
    story.accepts(1, 1).accepts(2, 2).accepts(3, 3);
    assert_eq!([1, 2, 3].map(|sequence| after(&story, sequence)), [0, 1, 2], "no connection");
    story.goes_up(CLIENT).sends(1);
    assert_eq!(after(&story, 1), 0, "it is with the server");
    story.happens(Event::Refused { sequence: 1, code: TIMELOCKED });
    assert!(after(&story, 1) >= 600, "restricted for as long as that is believed");
}

#[test]
fn what_waits_is_told_with_what_holds_up_the_session() {
    let mut story = Story::paced(Sending { per_minute: 60, burst: 1 });
    let held_up = |story: &Story| story.outbox.held_up(story.now);
    assert_eq!(held_up(&story), None);
    story.accepts(1, 1).accepts(2, 2).accepts(3, 3);
    assert_eq!(held_up(&story), Some((WaitsFor::Connection, 3)));
    story.happens(Event::Reach(Reach::Down(WaitsFor::Pairing)));
    assert_eq!(held_up(&story), Some((WaitsFor::Pairing, 3)));
    story.goes_up(CLIENT).sends(1);
    assert_eq!(held_up(&story), Some((WaitsFor::Acknowledgement, 3)));
    story.is_acknowledged(1);
    assert_eq!(held_up(&story), Some((WaitsFor::Pacing, 2)));
    story.happens(Event::Reach(Reach::Up { client: CLIENT, timelocked: true }));
    assert_eq!(held_up(&story), Some((WaitsFor::Restriction, 2)));
}

#[test]
fn what_the_phone_has_is_sent_whether_the_server_says_so_or_not() {
    let mut story = Story::unpaced();
    // While it is with the server.
    story.accepts(1, 1).goes_up(CLIENT).happens(Event::HandedOver { sequence: 1, keyed: true });
    story.happens(Event::Arrived { sequence: 1, at: story.now }).settles(1, MessageState::Sent, None);
    // Before the client has said that it handed it over. Who the recipient is, by which what is next goes, comes with that.
    for (sequence, word) in [
        (2, Event::HandedOver { sequence: 2, keyed: false }),
        (3, Event::NotHandedOver { sequence: 3, why: Obstacle::Connection }),
        (4, Event::Refused { sequence: 4, code: 479 }),
        (5, Event::Reach(Reach::Down(WaitsFor::Connection))),
    ] {
        story.accepts(sequence, 1).sends(sequence);
        story.happens(Event::Arrived { sequence, at: story.now });
        assert_eq!(story.outbox.len(), 1, "{sequence}");
        story.happens(word).settles(sequence, MessageState::Sent, None);
    }
    // When its connection is gone, before it goes again.
    story.accepts(6, 1).goes_up(2).happens(Event::HandedOver { sequence: 6, keyed: true });
    story.happens(Event::Reach(Reach::Down(WaitsFor::Connection)));
    assert_eq!(story.outbox.len(), 1);
    story.happens(Event::Arrived { sequence: 6, at: story.now }).settles(6, MessageState::Sent, None);
    // What was never handed over has arrived nowhere.
    story.accepts(7, 1);
    story.happens(Event::Arrived { sequence: 7, at: story.now });
    assert_eq!(story.outbox.len(), 1);
}

#[test]
fn what_could_not_be_written_was_never_accepted() {
    let mut story = Story::unpaced();
    story.goes_up(CLIENT).accepts(1, 1).sends(1);
    story.outbox.withdraw(1);
    assert_eq!(story.outbox.len(), 0);
    story.accepts(2, 1).sends(2);
}

#[test]
fn a_hundred_thousand_waiting_messages_are_few_megabytes() {
    assert!(std::mem::size_of::<Waiting>() <= 48, "{}", std::mem::size_of::<Waiting>());
}

/// What a crash leaves: what was on the disk.
#[derive(Default)]
struct Disk {
    waiting: BTreeMap<u64, Waiting>,
    settled: BTreeMap<u64, Settled>,
}

impl Disk {
    fn take(&mut self, writes: &[Write]) {
        for write in writes {
            match *write {
                Write::HandOver(sequence) => self.waiting.get_mut(&sequence).unwrap().handed_over = true,
                Write::TakeBack(sequence) => self.waiting.get_mut(&sequence).unwrap().handed_over = false,
                Write::Settle(sequence, settled) => {
                    assert!(self.waiting.remove(&sequence).is_some(), "{sequence} is settled twice");
                    self.settled.insert(sequence, settled);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Accept {
        recipient: u64,
        seconds: u64,
    },
    CallBack(u64),
    Up {
        timelocked: bool,
    },
    Down,
    Pass(u64),
    /// The client's and the server's words on the message that is out: keyed, acknowledged, refused.
    Keyed(bool),
    Acknowledge,
    /// The recipient's phone has it, though the client or the server may have said nothing yet.
    Arrive,
    Refuse(i64),
    Hinder(Obstacle),
    Crash,
}

/// What comes of what a step decides.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is written, then done.
    Done,
    /// A crash comes before it is written.
    Unwritten,
    /// A crash comes when it is written, before it is done.
    Undone,
}

fn steps() -> impl Strategy<Value = Vec<(Step, Fate)>> {
    let step = prop_oneof![
        4 => (0..3_u64, 1..500_u64).prop_map(|(recipient, seconds)| Step::Accept { recipient, seconds }),
        1 => (0..20_u64).prop_map(Step::CallBack),
        3 => any::<bool>().prop_map(|timelocked| Step::Up { timelocked }),
        1 => Just(Step::Down),
        3 => (0..100_u64).prop_map(Step::Pass),
        4 => prop::bool::weighted(0.8).prop_map(Step::Keyed),
        4 => Just(Step::Acknowledge),
        2 => Just(Step::Arrive),
        1 => prop_oneof![Just(463), Just(475), Just(479), Just(503)].prop_map(Step::Refuse),
        1 => prop_oneof![
            Just(Obstacle::NotOnWhatsApp), Just(Obstacle::NotMentioned), Just(Obstacle::Recipient),
            Just(Obstacle::Passing), Just(Obstacle::Connection),
        ].prop_map(Step::Hinder),
        1 => Just(Step::Crash),
    ];
    let fate = prop_oneof![20 => Just(Fate::Done), 1 => Just(Fate::Unwritten), 1 => Just(Fate::Undone)];
    prop::collection::vec((step, fate), 1..120)
}

proptest! {
    /// Whatever comes in whatever order, with crashes anywhere, also between what is decided and written or done: a message is settled once; what was sent was with the server
    /// and acknowledged; what expired or was called back never was with it; at most one is out at a time; order is kept among
    /// those of one recipient; and in the end nothing is lost.
    #[test]
    fn accepted_once_sent_once_and_the_state_is_true(steps in steps(), per_minute in 0..200_u32) {
        let spec = Sending { per_minute, burst: 2 };
        let (mut now, mut disk, mut client) = (start(), Disk::default(), 1);
        let mut outbox = Outbox::new([], spec, 3);
        let mut next_sequence = 1;
        // What the server has seen, by sequence, in order of the first time; and what it acknowledged.
        let (mut seen, mut acknowledged): (Vec<u64>, BTreeSet<u64>) = (Vec::new(), BTreeSet::new());
        let mut refused = BTreeSet::new();
        // Those with an attempt to which there was no answer.
        let mut unanswered = BTreeSet::new();
        let mut out: Option<(Generation, u64)> = None;
        let mut recipients = BTreeMap::new();
        for (step, fate) in steps.into_iter().chain([(Step::Up { timelocked: false }, Fate::Done)]) {
            let accepted = matches!(step, Step::Accept { .. }).then_some(next_sequence);
            let event = match step {
                Step::Accept { recipient, seconds } => {
                    let expires_at = later(now, Duration::from_secs(seconds));
                    let waiting =
                        Waiting { sequence: next_sequence, recipient, known: false, expires_at, handed_over: false };
                    disk.waiting.insert(next_sequence, waiting);
                    recipients.insert(next_sequence, recipient);
                    next_sequence += 1;
                    Event::Accepted(waiting)
                }
                Step::CallBack(sequence) => Event::CallBack(sequence),
                Step::Up { timelocked } => {
                    client += 1;
                    unanswered.extend(out.take().map(|(_, sequence)| sequence));
                    Event::Reach(Reach::Up { client, timelocked })
                }
                Step::Down => {
                    unanswered.extend(out.take().map(|(_, sequence)| sequence));
                    Event::Reach(Reach::Down(WaitsFor::Connection))
                }
                Step::Pass(seconds) => { now = later(now, Duration::from_secs(seconds)); Event::Tick }
                Step::Crash => {
                    outbox = Outbox::new(disk.waiting.values().copied(), spec, 5);
                    unanswered.extend(out.take().map(|(_, sequence)| sequence));
                    continue;
                }
                Step::Keyed(keyed) => {
                    let Some((_, sequence)) = out else { continue };
                    Event::HandedOver { sequence, keyed }
                }
                Step::Acknowledge => {
                    let Some((_, sequence)) = out else { continue };
                    acknowledged.insert(sequence);
                    Event::Acknowledged { sequence, at: None }
                }
                Step::Arrive => {
                    // Of the message that is out, or else of one that was out before and waits to go again.
                    let before = || unanswered.iter().copied().find(|sequence| disk.waiting.contains_key(sequence));
                    let Some(sequence) = out.map(|(_, sequence)| sequence).or_else(before) else { continue };
                    acknowledged.insert(sequence);
                    Event::Arrived { sequence, at: now }
                }
                Step::Refuse(code) => {
                    let Some((_, sequence)) = out else { continue };
                    if ![463, 475, 503].contains(&code) { refused.insert(sequence); }
                    Event::Refused { sequence, code }
                }
                Step::Hinder(why) => {
                    let Some((_, sequence)) = out else { continue };
                    if why == Obstacle::Connection { unanswered.insert(sequence); }
                    Event::NotHandedOver { sequence, why }
                }
            };
            let (writes, effects) = outbox.step(event, now);
            prop_assert_eq!(answers(&outbox, now), answers(&found_anew(&outbox), now));
            for write in &writes {
                if let Write::Settle(sequence, Settled { state: MessageState::Expired | MessageState::Cancelled, .. }) = write {
                    prop_assert!(!unanswered.contains(sequence), "{sequence} may have arrived");
                }
            }
            if fate == Fate::Unwritten {
                // Whoever asked for it to be sent was not answered either.
                if let Some(sequence) = accepted {
                    disk.waiting.remove(&sequence);
                    recipients.remove(&sequence);
                }
            } else {
                disk.take(&writes);
                out = out.filter(|(_, sequence)| outbox.flying.is_some_and(|flying| flying.message.sequence == *sequence));
            }
            if fate != Fate::Done {
                outbox = Outbox::new(disk.waiting.values().copied(), spec, 5);
                unanswered.extend(out.take().map(|(_, sequence)| sequence));
                continue;
            }
            for effect in effects {
                if let Effect::Send { client: by, sequence, .. } = effect {
                    prop_assert!(disk.waiting[&sequence].handed_over, "handed over before it was written");
                    prop_assert_eq!(by, client);
                    if !seen.contains(&sequence) { seen.push(sequence); }
                    out = Some((by, sequence));
                }
            }
            let memory: BTreeSet<u64> = outbox.waiting.iter().map(|waiting| waiting.sequence)
                .chain(outbox.flying.map(|flying| flying.message.sequence)).collect();
            prop_assert_eq!(memory, disk.waiting.keys().copied().collect::<BTreeSet<_>>(), "memory and disk differ");
            prop_assert_eq!(outbox.len(), disk.waiting.len());
        }
        for (sequence, settled) in &disk.settled {
            match settled.state {
                MessageState::Sent => prop_assert!(acknowledged.contains(sequence)),
                MessageState::Failed if settled.cause == Some(MessageCause::RefusedByServer) => {
                    prop_assert!(refused.contains(sequence));
                }
                _ => {}
            }
        }
        for recipient in 0..3 {
            let order: Vec<u64> = seen.iter().copied().filter(|sequence| recipients[sequence] == recipient).collect();
            prop_assert!(order.is_sorted(), "{:?}", order);
        }
        prop_assert_eq!(disk.waiting.len() + disk.settled.len(), recipients.len(), "one was lost");
    }
}
