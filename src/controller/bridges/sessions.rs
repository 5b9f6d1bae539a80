//! The sessions of one shard as its events show them: the only source the reconcile reads.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    bridge_api::{Session, SessionInstance},
    drivers::Snapshot,
    platform::packed::{Packed, Packer},
};

/// One moment by both clocks: what a bridge says is by a wall clock, which may be set; how long something lasts is measured by one that
/// only goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By our wall clock.
    pub wall: Timestamp,
    /// By the clock that is never set.
    pub steady: Instant,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { wall: Timestamp::now(), steady: Instant::now() }
    }

    /// When that was, by the wall clock as it is now.
    pub fn wall_of(&self, since: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(self.steady.saturating_duration_since(since)).unwrap_or_default();
        self.wall.saturating_sub(ago).unwrap_or(self.wall)
    }

    /// A time of the wall clock, or now where it is still to come.
    fn steady_of(&self, at: Timestamp) -> Instant {
        let ago = Duration::try_from(self.wall.duration_since(at)).unwrap_or_default();
        self.steady.checked_sub(ago).unwrap_or(self.steady)
    }
}

/// A session as the bridge last described it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The session.
    pub session: Arc<Session>,
    /// Since when it has been in its phase: by the bridge's clock, or since we first saw it there, so that a bridge whose
    /// clock runs ahead cannot keep a state new for ever.
    pub since: Instant,
    /// Since when it has shown the code that it shows.
    pub code_since: Instant,
}

#[derive(Debug)]
struct Known {
    /// `None`: the bridge has it, and describes it in a form that cannot be read.
    session: Option<Packed<Session>>,
    /// Stands for the instance that it says it belongs to.
    instance: Option<u64>,
    since: Instant,
    code_since: Instant,
    revision: u64,
}

/// Stands for an instance, so that not every session has to be unpacked to find those of one.
fn mark(instance: &SessionInstance) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(instance)
}

/// Sessions by id. Every change gets a revision, so that an answer that an event has overtaken is recognised.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashMap<String, Known>,
    packer: Packer<Session>,
    /// The last sessions that went, with the revision of that: the answer to a call from before must not bring one back.
    gone: VecDeque<(String, u64)>,
    revision: u64,
}

/// Sessions that went and are remembered. A call takes 10 s at most, so this is enough for 25 deletions a second.
const REMEMBERED: usize = 256;

impl Sessions {
    /// The session.
    pub fn get(&self, id: &str) -> Option<Seen> {
        let Known { session, since, code_since, .. } = self.by_id.get(id)?;
        Some(Seen { session: Arc::new(session.as_ref()?.value()?), since: *since, code_since: *code_since })
    }

    /// Whether the bridge has a session with this id that cannot be read.
    pub fn is_unreadable(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|known| known.session.is_none())
    }

    /// Those that say that they belong to this instance, whatever their ids are.
    pub fn of(&self, instance: &SessionInstance) -> impl Iterator<Item = Session> {
        let mark = Some(mark(instance));
        let marked = self.by_id.values().filter(move |known| known.instance == mark);
        let sessions = marked.filter_map(|known| known.session.as_ref()?.value());
        sessions.filter(move |session| session.spec.instance.as_deref() == Some(instance))
    }

    /// Whether there is one of this id, readable or not.
    pub fn holds(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Whether the bridge has shown that it has a session with this id, or had: it is here, or the bridge reported its end.
    /// One that a new list no longer names is as good as never seen: it may be the list of another volume.
    pub fn had(&self, id: &str) -> bool {
        self.holds(id) || self.gone.iter().any(|(gone, _)| gone == id)
    }

    /// The ids.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.by_id.keys()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The latest change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A session as an event shows it. Returns whether it is new here.
    pub fn insert(&mut self, session: Session, now: Moment) -> bool {
        self.revision += 1;
        let fresh = !self.by_id.contains_key(&session.id);
        let before = self.get(&session.id);
        let same_phase = before.as_ref().filter(|before| {
            (&before.session.phase, before.session.phase_since) == (&session.phase, session.phase_since)
        });
        let since = same_phase.map_or_else(|| now.steady_of(session.phase_since), |before| before.since);
        let same_code = before.as_ref().filter(|before| {
            (&before.session.qr, &before.session.pairing_code) == (&session.qr, &session.pairing_code)
        });
        let code_since = same_code.map_or(now.steady, |before| before.code_since);
        if let Some(packed) = self.packer.pack(&session) {
            let instance = session.spec.instance.as_deref().map(mark);
            let known = Known { session: Some(packed), instance, since, code_since, revision: self.revision };
            self.by_id.insert(session.id, known);
        }
        fresh
    }

    /// A session as an event shows it that cannot be read. Returns whether it is new here.
    pub fn insert_unreadable(&mut self, id: String, now: Moment) -> bool {
        self.revision += 1;
        let unreadable =
            Known { session: None, instance: None, since: now.steady, code_since: now.steady, revision: self.revision };
        self.by_id.insert(id, unreadable).is_none()
    }

    /// A session as the answer to a call made at `revision` shows it: dropped when an event has shown it since.
    pub fn insert_answer(&mut self, session: Session, revision: u64, now: Moment) -> bool {
        let overtaken = match self.by_id.get(&session.id) {
            Some(known) => known.revision > revision,
            None => self.gone.iter().any(|(id, at)| *id == session.id && *at > revision),
        };
        if overtaken { false } else { self.insert(session, now) }
    }

    /// A session is gone. Returns whether it was here.
    pub fn remove(&mut self, id: &str) -> bool {
        self.revision += 1;
        let was_here = self.by_id.remove(id).is_some();
        if was_here {
            self.gone.truncate(REMEMBERED - 1);
            self.gone.push_front((id.to_owned(), self.revision));
        }
        was_here
    }

    /// Everything anew. Returns the ids of what changed, came or went.
    pub fn replace(&mut self, snapshot: Snapshot, now: Moment) -> Vec<String> {
        let mut before = std::mem::take(&mut self.by_id);
        let mut changed = Vec::new();
        for session in snapshot.sessions {
            let id = session.id.clone();
            match before.remove(&id) {
                Some(known) => {
                    if known.session.as_ref().and_then(Packed::value).as_ref() != Some(&session) {
                        changed.push(id.clone());
                    }
                    self.by_id.insert(id, known);
                }
                None => changed.push(id),
            }
            self.insert(session, now);
        }
        for id in snapshot.unreadable {
            if before.remove(&id).is_none_or(|known| known.session.is_some()) {
                changed.push(id.clone());
            }
            self.insert_unreadable(id, now);
        }
        changed.extend(before.into_keys());
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bridge_api::SessionPhase, controller::fixtures};

    /// So many seconds after the first of them.
    fn at(seconds: u64) -> Moment {
        static FIRST: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds.cast_signed());
        Moment { wall, steady: *FIRST + Duration::from_secs(seconds) }
    }

    #[test]
    fn an_answer_that_an_event_overtook_is_dropped() {
        let now = at(0);
        let mut sessions = Sessions::default();
        let before = sessions.revision();
        sessions.insert(fixtures::session(SessionPhase::AwaitingPairing), now);
        assert!(!sessions.insert_answer(fixtures::session(SessionPhase::Opening), before, now));
        assert_eq!(sessions.get(fixtures::UID).unwrap().session.phase, SessionPhase::AwaitingPairing);
        sessions.insert_answer(fixtures::session(SessionPhase::Stopped), sessions.revision(), now);
        assert_eq!(sessions.get(fixtures::UID).unwrap().session.phase, SessionPhase::Stopped);
    }

    #[test]
    fn an_answer_does_not_bring_back_a_session_that_went_meanwhile() {
        let now = at(0);
        let mut sessions = Sessions::default();
        sessions.insert(fixtures::session(SessionPhase::Connected), now);
        let before = sessions.revision();
        assert!(sessions.remove(fixtures::UID));
        assert!(!sessions.insert_answer(fixtures::session(SessionPhase::Connected), before, now));
        assert_eq!(sessions.len(), 0);
        // One that is asked for afterwards is another.
        assert!(sessions.insert_answer(fixtures::session(SessionPhase::Opening), sessions.revision(), now));
    }

    #[test]
    fn listing_again_tells_what_came_changed_and_went() {
        let now = at(0);
        let named = |id: &str, phase| Session { id: id.into(), ..fixtures::session(phase) };
        let list = |sessions| Snapshot { sessions, unreadable: Vec::new() };
        let mut sessions = Sessions::default();
        sessions.replace(
            list(vec![
                named("same", SessionPhase::Connected),
                named("moved", SessionPhase::Opening),
                named("gone", SessionPhase::Stopped),
            ]),
            now,
        );
        let mut changed = sessions.replace(
            list(vec![
                named("same", SessionPhase::Connected),
                named("moved", SessionPhase::Connected),
                named("new", SessionPhase::Opening),
            ]),
            now,
        );
        changed.sort();
        assert_eq!(changed, ["gone", "moved", "new"]);
        assert_eq!(sessions.len(), 3);
    }

    #[test]
    fn a_session_that_cannot_be_read_is_there_all_the_same_until_it_can_or_is_gone() {
        let now = at(0);
        let list = |sessions, unreadable: &[&str]| Snapshot {
            sessions,
            unreadable: unreadable.iter().map(|&id| id.to_owned()).collect(),
        };
        let mut sessions = Sessions::default();
        let known = fixtures::session(SessionPhase::Connected);
        sessions.insert(known.clone(), now);
        assert!(!sessions.insert_unreadable(fixtures::UID.into(), now), "it was here");
        assert!(sessions.is_unreadable(fixtures::UID) && sessions.get(fixtures::UID).is_none());
        assert_eq!((sessions.len(), sessions.ids().count()), (1, 1));
        assert_eq!(sessions.replace(list(vec![], &[fixtures::UID, "new"]), now), ["new"]);
        assert_eq!(sessions.replace(list(vec![known], &["new"]), now), [fixtures::UID]);
        assert!(!sessions.is_unreadable(fixtures::UID) && sessions.get(fixtures::UID).is_some());
        assert!(sessions.remove("new") && !sessions.is_unreadable("new"));
        // The bridge reported this end. What is only missing in a list, it did not.
        assert!(sessions.had("new") && sessions.had(fixtures::UID));
        sessions.replace(list(vec![], &[]), now);
        assert!(!sessions.had(fixtures::UID));
    }

    #[test]
    fn a_bridge_whose_clock_runs_ahead_does_not_keep_a_state_new() {
        let now = at(0);
        let mut sessions = Sessions::default();
        let ahead = Session {
            phase_since: now.wall + SignedDuration::from_hours(1),
            ..fixtures::session(SessionPhase::Opening)
        };
        sessions.insert(ahead.clone(), now);
        sessions.insert(ahead, at(60));
        assert_eq!(sessions.get(fixtures::UID).unwrap().since, now.steady);
    }

    #[test]
    fn each_code_has_a_time_at_which_it_was_first_seen() {
        let showing =
            |attempt| Session { qr: Some(fixtures::qr(attempt)), ..fixtures::session(SessionPhase::AwaitingPairing) };
        let mut sessions = Sessions::default();
        for (attempt, now, seen) in [(1, 1, 1), (1, 7, 1), (2, 20, 20)] {
            sessions.insert(showing(attempt), at(now));
            assert_eq!(sessions.get(fixtures::UID).unwrap().code_since, at(seen).steady);
        }
        sessions.replace(Snapshot { sessions: vec![showing(2)], unreadable: Vec::new() }, at(30));
        assert_eq!(sessions.get(fixtures::UID).unwrap().code_since, at(20).steady);
    }

    /// Set back, the wall clock would else keep for hours what is to last for seconds, and set forward end it at once.
    #[test]
    fn what_has_lasted_so_long_has_whatever_the_wall_clock_is_set_to() {
        let mut sessions = Sessions::default();
        let began = at(100).wall - SignedDuration::from_secs(5);
        let opening =
            Session { phase_since: began, qr: Some(fixtures::qr(1)), ..fixtures::session(SessionPhase::Opening) };
        sessions.insert(opening.clone(), at(100));
        for hours in [-48, -1, 0, 1, 48] {
            let now = Moment { wall: at(130).wall + SignedDuration::from_hours(hours), ..at(130) };
            sessions.insert(opening.clone(), now);
            let seen = sessions.get(fixtures::UID).unwrap();
            let lasted = |since| now.wall.duration_since(now.wall_of(since)).as_secs();
            assert_eq!((lasted(seen.since), lasted(seen.code_since)), (35, 30), "{hours}");
        }
    }
}
