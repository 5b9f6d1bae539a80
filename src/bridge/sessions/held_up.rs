//! What the messages that wait in all sessions wait for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use whatsapp_operator::{bridge_api::WaitsFor, platform::lock};

/// What may hold up a session, so that what holds up none reads 0 and not nothing.
const CAUSES: [WaitsFor; 5] =
    [WaitsFor::Connection, WaitsFor::Pairing, WaitsFor::Pacing, WaitsFor::Restriction, WaitsFor::Acknowledgement];

/// How many messages wait, by what holds up their session. Clones share the counts.
#[derive(Clone, Debug)]
pub struct HeldUp(Arc<Mutex<BTreeMap<WaitsFor, usize>>>);

/// One session's part of it, which goes with the session.
pub struct Share {
    all: HeldUp,
    part: Option<(WaitsFor, usize)>,
}

impl Default for HeldUp {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(CAUSES.into_iter().map(|cause| (cause, 0)).collect())))
    }
}

impl HeldUp {
    /// How many wait for each.
    pub fn counts(&self) -> BTreeMap<WaitsFor, usize> {
        lock(&self.0).clone()
    }

    /// The part of a session in which nothing waits yet.
    pub fn share(&self) -> Share {
        Share { all: self.clone(), part: None }
    }
}

impl Share {
    /// So many wait in the session, for this.
    pub fn set(&mut self, part: Option<(WaitsFor, usize)>) {
        if part == self.part {
            return;
        }
        let mut counts = lock(&self.all.0);
        if let Some((cause, count)) = self.part {
            let all = counts.entry(cause).or_default();
            *all = all.saturating_sub(count);
        }
        if let Some((cause, count)) = part {
            *counts.entry(cause).or_default() += count;
        }
        drop(counts);
        self.part = part;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_by_what_holds_up_its_session() {
        let held_up = HeldUp::default();
        let counts = || held_up.counts().into_values().collect::<Vec<_>>();
        assert_eq!(counts(), [0; 5]);
        let (mut one, mut other) = (held_up.share(), held_up.share());
        one.set(Some((WaitsFor::Connection, 3)));
        other.set(Some((WaitsFor::Connection, 4)));
        assert_eq!(held_up.counts()[&WaitsFor::Connection], 7);
        one.set(Some((WaitsFor::Pacing, 2)));
        assert_eq!((held_up.counts()[&WaitsFor::Connection], held_up.counts()[&WaitsFor::Pacing]), (4, 2));
        drop(other);
        one.set(None);
        assert_eq!(counts(), [0; 5]);
    }
}
