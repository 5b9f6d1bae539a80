mod barred;
mod deletion;
mod logins;
mod pairing;
mod pairing_code;
mod rules;

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

/// This bridge, with that version configured, is too old.
fn outdated(version: Option<(u32, u32, u32)>) -> ClientEvent {
    ClientEvent::Outdated(Presented::by_this_bridge(version))
}

fn linked() -> Story {
    Story::of(Kept { paired: true, ..Kept::new(SessionSpec::default()) })
}

fn logs_in(story: &mut Story) -> &mut Story {
    story.hears(ClientEvent::Connected { phone_number: None, push_name: None })
}
