//! What each event does to the facts.

mod client;
mod login;
mod pairing;
mod refused;
mod steps;
mod tick;
mod wish;

use jiff::Timestamp;

use super::{
    Effect, Event,
    stage::{Client, Permit, Stage},
    state::State,
    timings::later,
};

pub(super) fn apply(state: &mut State, event: Event, now: Timestamp, effects: &mut Vec<Effect>) {
    match event {
        Event::Put(spec) => {
            let shown = state.kept.spec.shows_online();
            wish::put(state, spec, now);
            if let Client::Live(generation) = state.client
                && state.kept.spec.shows_online() != shown
            {
                effects.push(Effect::ShowOnline(generation, !shown));
            }
        }
        Event::Delete { unlink } => wish::delete(state, unlink, now),
        Event::Tick => tick::tick(state, now),
        Event::PermitGranted => {
            if state.permit == Permit::Requested {
                state.permit = Permit::Held;
            } else {
                effects.push(Effect::ReleasePermit);
            }
        }
        Event::Client(generation, event) => client::client(state, generation, event, now),
        Event::ClientEnded(generation, end) => client::ended(state, generation, end, now),
        Event::Erased => erased(state, effects),
        Event::EraseFailed => {
            state.erasing = false;
            state.erase_at = Some(later(now, state.timings.retry));
        }
    }
}

fn erased(state: &mut State, effects: &mut Vec<Effect>) {
    state.erasing = false;
    state.erase_at = None;
    state.kept.keys_doomed = false;
    if matches!(state.stage, Stage::Erasing { .. }) {
        state.stage = Stage::Gone;
        effects.push(Effect::Forget);
    }
}
