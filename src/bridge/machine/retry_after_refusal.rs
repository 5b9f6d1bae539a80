//! When another try is worth it after a refusal that stays. What WhatsApp refused as too old has to differ from what is tried then; an
//! account that is locked or banned is tried once a day, because the owner of the account may have had that lifted.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::bridge_api::SessionReason;

use super::{
    kept::{Kept, Parked},
    presented::{Outdated, Presented},
    state::State,
    timings::later,
};

/// How long the library goes on with a version of the web client that it has asked for. A try within this time would present
/// the one that was refused.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Sessions that were refused in one moment do not come back in one moment: each waits up to this much longer.
const SPREAD: Duration = Duration::from_secs(24 * 360);

impl Kept {
    /// A bridge has started whose clients present this. What was refused of others says nothing about them, nor does a refusal
    /// of which an earlier release has not kept what it was of.
    pub fn taken_up_by(&mut self, presented: &Presented) {
        if self.parked != Parked::Outdated || self.outdated.as_ref().is_some_and(|it| it.refused == *presented) {
            return;
        }
        self.parked = Parked::None;
        // Store an (empty) refusal, so that clearing it after the next login is a change and gets written.
        self.outdated.get_or_insert_default();
    }
}

impl State {
    /// Notes that WhatsApp refused `presented` as too old.
    pub(super) fn note_outdated(&mut self, refused: Presented, now: Timestamp) {
        let again = refused.version.is_none().then(|| later(now, DAY + self.up_to(SPREAD)));
        self.kept.outdated = Some(Outdated { refused, again });
    }

    /// How a session is parked whose account is locked or banned.
    pub(super) fn barred(&mut self, why: SessionReason, now: Timestamp) -> Parked {
        Parked::Barred { why, again: later(now, DAY + self.up_to(SPREAD)) }
    }

    /// When a session that rests is tried again by itself. Never further away than a fresh refusal would have it: the time was
    /// stored, and the wall clock may have been set since.
    pub(super) fn tried_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        let again = match self.kept.parked {
            Parked::Outdated => self.kept.outdated.as_ref()?.again?,
            Parked::Barred { again, .. } => again,
            _ => return None,
        };
        Some(again.min(later(now, DAY + SPREAD)))
    }
}
