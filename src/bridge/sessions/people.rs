//! Which ways of writing a recipient lead to one person, as far as WhatsApp's server has said: in Brazil, Mexico and Argentina one
//! phone has two numbers, and everybody has a linked id beside the number. Known as long as the process lives, and learned again with the next
//! message that is sent, or when somebody asks for one again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use whatsapp_operator::platform::lock;

use crate::{backend::Identity, outbox::RecipientKey};

/// Of how many ways of writing somebody is remembered who it is, at about 100 bytes each. Beyond it all are learned anew, each with the next
/// message.
const REMEMBERED: usize = 50_000;

/// The people that are known under more than one key. Clones share them.
#[derive(Clone, Default)]
pub struct People(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Who somebody is, by the key of how they are written.
    persons: HashMap<RecipientKey, RecipientKey>,
    /// The other way round.
    ways: HashMap<RecipientKey, Vec<RecipientKey>>,
}

impl People {
    /// The server says that whoever is `written` so is this `person`; who that is by all that is known.
    pub fn learn(&self, written: RecipientKey, person: RecipientKey) -> RecipientKey {
        let mut known = lock(&self.0);
        let person = known.persons.get(&person).copied().unwrap_or(person);
        if written == person || known.persons.get(&written) == Some(&person) {
            return person;
        }
        if known.persons.len() >= REMEMBERED {
            *known = Known::default();
        }
        if let Some(before) = known.persons.insert(written, person)
            && let Some(ways) = known.ways.get_mut(&before)
        {
            ways.retain(|way| *way != written);
        }
        known.ways.entry(person).or_default().push(written);
        person
    }

    /// The server says who it is that is `written` so; who that is by all that is known.
    pub fn recognize(&self, written: RecipientKey, Identity { person, lid }: Identity) -> RecipientKey {
        if let Some(lid) = lid {
            self.learn(lid, person);
        }
        self.learn(written, person)
    }

    /// Who somebody is: the key of the address that the server has for them, or, while that is not known, the one they are written with.
    pub fn person(&self, written: RecipientKey) -> RecipientKey {
        lock(&self.0).persons.get(&written).copied().unwrap_or(written)
    }

    /// All keys under which messages to the same person may be stored.
    pub fn all_keys(&self, written: RecipientKey) -> Vec<RecipientKey> {
        let known = lock(&self.0);
        let person = known.persons.get(&written).copied().unwrap_or(written);
        let ways = known.ways.get(&person).into_iter().flatten().copied();
        std::iter::once(person).chain(ways).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_all_the_keys_that_lead_to_them() {
        let people = People::default();
        assert_eq!((people.person(1), people.all_keys(1)), (1, vec![1]), "nothing is known");
        assert_eq!(people.learn(1, 1), 1);
        for (written, person) in [(1, 2), (1, 2), (3, 1), (2, 2), (2, 1)] {
            assert_eq!(people.learn(written, person), 2, "{written} is {person}");
        }
        for key in 1..=3 {
            assert_eq!((people.person(key), people.all_keys(key)), (2, vec![2, 1, 3]));
        }
        // The account has another address now.
        people.learn(1, 9);
        assert_eq!((people.all_keys(1), people.all_keys(3)), (vec![9, 1], vec![2, 3]));
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let people = People::default();
        let most = u64::try_from(REMEMBERED).unwrap();
        for key in 1..=most + 1 {
            people.learn(key, 0);
        }
        assert_eq!((people.person(1), people.person(most + 1)), (1, 0));
        assert_eq!(people.all_keys(0), [0, most + 1]);
    }
}
