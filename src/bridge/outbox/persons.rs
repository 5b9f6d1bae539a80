//! Who the recipients of one outbox are, as far as it has heard: in which ways one person was written.

use std::collections::HashMap;

use super::RecipientKey;

/// Of how many keys it is remembered whose they are. Beyond it all are heard anew, each with the next message.
const REMEMBERED: usize = 4096;

/// Whose a key is. Of most people there is only one, which is not in here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Persons(HashMap<RecipientKey, RecipientKey>);

impl Persons {
    /// The person with this key.
    pub(super) fn of(&self, key: RecipientKey) -> RecipientKey {
        self.0.get(&key).copied().unwrap_or(key)
    }

    /// `key` is another one of this person's. Says whether that is new.
    pub(super) fn learn(&mut self, key: RecipientKey, person: RecipientKey) -> bool {
        self.0.remove(&person);
        if self.0.get(&key) == Some(&person) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key, person);
        true
    }
}
