//! How far a reader of message events has come at each shard, and what an event means to it there: pure.

use std::{collections::BTreeMap, fmt};

use crate::bridge_api::Cursor;

/// Between the positions of an event's id.
const BETWEEN: char = '~';

/// Where a reader is at each shard, by the shards' keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<String, Cursor>);

/// What lies between a reader and an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is the one after this.
    Next(Cursor),
    /// It has been heard before.
    Known,
    /// Events after this one, which the bridge may still know.
    Gap(Cursor),
    /// It is not known what: the bridge was restarted, or its events were not followed.
    Lost,
}

impl Positions {
    /// What an event that leads to `to` is to a reader at this position.
    pub fn step(&self, shard: &str, to: &Cursor) -> Step {
        let Some(from) = self.0.get(shard) else { return Step::Lost };
        if from.incarnation != to.incarnation {
            return Step::Lost;
        }
        match to.sequence.checked_sub(from.sequence) {
            None | Some(0) => Step::Known,
            Some(1) => Step::Next(from.clone()),
            Some(_) => Step::Gap(from.clone()),
        }
    }

    /// The reader is here now.
    pub fn set(&mut self, shard: &str, to: &Cursor) {
        match self.0.get_mut(shard) {
            Some(position) => position.clone_from(to),
            None => drop(self.0.insert(shard.to_owned(), to.clone())),
        }
    }

    /// Forgets shards that are not there any more.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|shard, _| is_there(shard));
    }

    /// The id of an event: the position in the stream of sessions and those in the streams of messages.
    pub fn id(&self, sessions: &str) -> String {
        format!("{sessions}{self}")
    }

    /// The positions in an id, and the position in the stream of sessions; no positions when it has none, nothing when it is no id.
    pub fn of_id(id: &str) -> Option<(&str, Option<Self>)> {
        let (sessions, positions) = match id.split_once(BETWEEN) {
            None => return Some((id, None)),
            Some((sessions, positions)) => (sessions, positions),
        };
        let read = |position: &str| {
            let (shard, cursor) = position.split_once(':')?;
            let cursor: Cursor = cursor.parse().ok()?;
            let plain =
                |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric());
            (plain(shard) && plain(&cursor.incarnation)).then(|| (shard.to_owned(), cursor))
        };
        let positions =
            positions.split(BETWEEN).filter(|position| !position.is_empty()).map(read).collect::<Option<_>>()?;
        Some((sessions, Some(Self(positions))))
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With no shard known as well: it was a stream with messages.
        if self.0.is_empty() {
            return write!(f, "{BETWEEN}");
        }
        self.0.iter().try_for_each(|(shard, cursor)| write!(f, "{BETWEEN}{shard}:{cursor}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(incarnation: &str, sequence: u64) -> Cursor {
        Cursor { incarnation: incarnation.to_owned(), sequence }
    }

    #[test]
    fn an_event_is_the_next_or_known_or_behind_a_gap() {
        let mut positions = Positions::default();
        assert_eq!(positions.step("a", &cursor("run", 1)), Step::Lost);
        positions.set("a", &cursor("run", 4));
        for (to, step) in [
            (cursor("run", 5), Step::Next(cursor("run", 4))),
            (cursor("run", 4), Step::Known),
            (cursor("run", 1), Step::Known),
            (cursor("run", 6), Step::Gap(cursor("run", 4))),
            (cursor("other", 5), Step::Lost),
        ] {
            assert_eq!(positions.step("a", &to), step, "{to}");
        }
    }

    #[test]
    fn an_id_carries_the_positions_of_both() {
        let mut positions = Positions::default();
        assert_eq!(Positions::of_id(&positions.id("7")), Some(("7", Some(positions.clone()))));
        positions.set("ab12", &cursor("18f0", 17));
        positions.set("cd34", &cursor("18f1", 0));
        assert_eq!(positions.id("7"), "7~ab12:18f0-17~cd34:18f1-0");
        assert_eq!(Positions::of_id(&positions.id("7")), Some(("7", Some(positions))));
        assert_eq!(Positions::of_id("7"), Some(("7", None)));
        for bad in ["7~x", "7~:a-1", "7~a:b", "7~a:-1", "7~a:b-x", "7~a/b:c-1"] {
            assert_eq!(Positions::of_id(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_id_panics(id in "\\PC{0,60}") {
            let _ = Positions::of_id(&id);
        }
    }
}
