//! Brings what is in line with what should be.

use jiff::Timestamp;

use super::{
    Effect, Start,
    kept::Parked,
    stage::{Client, Permit, Stage},
    state::State,
    timings::later,
};
use crate::keys::Linked;
use whatsapp_operator::bridge_api::{PairingMethod, PairingSpec};

/// Asks for whatever is missing. Called after every event.
pub(super) fn converge(state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    permits(state, now, effects);
    match state.client {
        Client::Live(generation) if !state.wants_client() => {
            state.client = Client::Stopping(generation);
            effects.push(Effect::Stop(generation));
        }
        Client::Live(generation) => unlink(state, generation, effects),
        Client::Stopping(_) => {}
        Client::None => {
            state.renew = false;
            if state.kept.keys_doomed {
                erase(state, effects);
            } else if state.wants_client() {
                start(state, now, effects);
            }
        }
    }
}

fn permits(state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    // However a window came to be opened: asking too early makes the pause longer.
    if let (Stage::Permit, Some(at)) = (state.stage, state.refused_until.filter(|at| *at > now)) {
        state.stage = Stage::OpeningLater { at };
        state.reason = state.refused_for;
    }
    if state.permit == Permit::Held && state.stage == Stage::Permit {
        state.stage = Stage::Opening { by: later(now, state.timings.connect) };
    }
    match (state.permit, state.wants_permit()) {
        (Permit::None, true) => {
            state.permit = Permit::Requested;
            effects.push(Effect::RequestPermit);
        }
        (Permit::Requested | Permit::Held, false) => {
            state.permit = Permit::None;
            effects.push(Effect::ReleasePermit);
        }
        _ => {}
    }
}

fn unlink(state: &mut State, generation: u64, effects: &mut Vec<Effect>) {
    if let Stage::Unlinking { ready: true, asked: asked @ false, .. } = &mut state.stage {
        *asked = true;
        effects.push(Effect::Unlink(generation));
    }
}

fn erase(state: &mut State, effects: &mut Vec<Effect>) {
    if !state.erasing && state.erase_at.is_none() {
        state.erasing = true;
        effects.push(Effect::Erase);
    }
}

fn start(state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    // The time a former client took to stop is not this one's.
    let by = later(now, state.timings.connect);
    match &mut state.stage {
        Stage::Opening { by: due } | Stage::Connecting { by: due } | Stage::Unlinking { by: due, .. } => *due = by,
        // Any other stage has lost its client and is left by the transition that said so.
        _ => return,
    }
    state.generation += 1;
    state.client = Client::Live(state.generation);
    let pairing = &state.kept.spec.pairing;
    let by_code = pairing.method == PairingMethod::Code && !state.kept.paired;
    effects.push(Effect::Start(Start {
        generation: state.generation,
        linked: state.kept.paired.then(|| Linked { phone_number: state.kept.phone_number.clone() }),
        pair_with_code: pairing.phone_number.clone().filter(|_| by_code),
        push_name: state.kept.push_name.clone(),
        shows_online: state.kept.spec.shows_online(),
    }));
}

impl State {
    /// The stage that leads to what is wanted, from a standstill.
    pub(super) fn aim(&mut self, now: Timestamp) -> Stage {
        let by = later(now, self.timings.connect);
        match self.kept.parked {
            Parked::Erasing => {
                self.kept.keys_doomed = true;
                return Stage::Erasing { unlink: false };
            }
            Parked::Unlinking => return self.unlinking(false, now),
            Parked::LoggedOut if !self.kept.paired && !self.kept.spec.wants_unlinked() => return Stage::LoggedOut,
            _ => {}
        }
        if self.kept.spec.wants_unlinked() && self.kept.paired {
            return self.unlinking(false, now);
        }
        if !self.kept.spec.wants_online() {
            return Stage::Stopped;
        }
        if matches!(self.kept.parked, Parked::Banned(until) if until <= now) {
            self.kept.parked = Parked::None;
            self.kept.restriction = None;
        }
        let again = self.tried_again_at(now);
        if again.is_some_and(|at| at <= now) {
            self.kept.parked = Parked::None;
        }
        match self.kept.parked {
            Parked::Replaced | Parked::Outdated | Parked::Barred { .. } => Stage::Ended { again },
            Parked::Banned(until) => Stage::Banned { until },
            Parked::Expired if !self.kept.paired => self.expired(now),
            _ if self.kept.paired => Stage::Connecting { by },
            _ => Stage::Permit,
        }
    }

    /// The device is to be removed from the account, which takes a login; `ready` when there is one.
    pub(super) fn unlinking(&self, ready: bool, now: Timestamp) -> Stage {
        match self.kept.banned_until(now) {
            Some(at) => Stage::UnlinkLater { at },
            None => Stage::Unlinking { by: later(now, self.timings.connect), ready, asked: false },
        }
    }

    /// A window that passed, with the time it reopens by itself.
    pub(super) fn expired(&mut self, now: Timestamp) -> Stage {
        let PairingSpec { auto_refresh, refresh_until, .. } = self.kept.spec.pairing;
        let reopen = if refresh_until.is_some_and(|until| self.wall(now) < until) {
            Some(later(now, self.timings.reopen_expected))
        } else if auto_refresh {
            let (base, max) = (self.timings.reopen, self.timings.reopen_max);
            Some(later(now, self.back_off(base, max, self.kept.windows_passed.saturating_sub(1))))
        } else {
            None
        };
        Stage::Expired { reopen: reopen.map(|at| self.refused_until.map_or(at, |refused| at.max(refused))) }
    }
}
