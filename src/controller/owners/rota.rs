//! Whose turn it is: each owner at most once at a time, and never later than the earliest time asked for.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

/// Owners waiting for their turn, and those who have it.
#[derive(Debug, Default)]
pub struct Rota {
    due: BTreeSet<(Instant, String)>,
    at: HashMap<String, Instant>,
    /// Those whose turn it is, and when they want another one.
    running: HashMap<String, Option<Instant>>,
}

impl Rota {
    /// Asks for a turn at `when`, or earlier if that was asked for before.
    pub fn wake(&mut self, owner: String, when: Instant) {
        if let Some(again) = self.running.get_mut(&owner) {
            *again = Some(again.map_or(when, |again| again.min(when)));
            return;
        }
        match self.at.get(&owner) {
            Some(at) if *at <= when => return,
            Some(at) => drop(self.due.remove(&(*at, owner.clone()))),
            None => {}
        }
        self.at.insert(owner.clone(), when);
        self.due.insert((when, owner));
    }

    /// Begins the turn of the first owner who is due.
    pub fn begin(&mut self, now: Instant) -> Option<String> {
        if self.due.first()?.0 > now {
            return None;
        }
        let (_, owner) = self.due.pop_first()?;
        self.at.remove(&owner);
        self.running.insert(owner.clone(), None);
        Some(owner)
    }

    /// Ends a turn; `later`, if the owner is to have another one by itself.
    pub fn end(&mut self, owner: String, later: Option<Instant>) {
        let again = self.running.remove(&owner).flatten();
        if let Some(when) = again.into_iter().chain(later).min() {
            self.wake(owner, when);
        }
    }

    /// When the next owner is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Rota;

    #[test]
    fn an_owner_has_one_turn_at_a_time_and_none_is_lost() {
        let now = Instant::now();
        let mut rota = Rota::default();
        rota.wake("alice".into(), now);
        rota.wake("alice".into(), now);
        assert_eq!(rota.begin(now).as_deref(), Some("alice"));
        assert_eq!(rota.begin(now), None);
        rota.wake("alice".into(), now);
        assert_eq!(rota.begin(now), None, "her turn has not ended");
        rota.end("alice".into(), None);
        assert_eq!(rota.begin(now).as_deref(), Some("alice"));
        rota.end("alice".into(), None);
        assert_eq!(rota.next(), None);
    }

    #[test]
    fn the_earliest_time_asked_for_counts() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut rota = Rota::default();
        rota.wake("alice".into(), later);
        rota.wake("bob".into(), later);
        assert_eq!(rota.begin(now), None);
        rota.wake("bob".into(), now);
        rota.wake("bob".into(), later);
        assert_eq!(rota.begin(now).as_deref(), Some("bob"));
        rota.end("bob".into(), Some(later));
        assert_eq!(rota.begin(now), None);
        assert_eq!((rota.begin(later).as_deref(), rota.begin(later).as_deref()), (Some("alice"), Some("bob")));
    }
}
