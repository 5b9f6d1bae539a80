//! The tokens of trusted contacts (tctoken), which the library looks up for each message that it sends. What was looked up is kept in
//! memory: a look into the file costs a change of threads, as much as encrypting the message.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use wacore::store::traits::TcTokenEntry;
use whatsapp_operator::platform::lock;

/// Of how many contacts it is kept what the file has, at about 200 bytes each. Beyond it all are looked up anew.
const KEPT: usize = 128;

/// What the file has of contacts, as its holder has looked it up; of most there is nothing.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<String, Option<TcTokenEntry>>>,
    /// Changes that were begun and are not over. One whose caller has given up is made all the same, nobody knows when: it counts for
    /// ever, and nothing is kept any more.
    changing: AtomicUsize,
}

impl Tokens {
    /// What the file has of a contact, where that was looked up.
    #[allow(clippy::option_option)] // of most it is known that there is none
    pub(super) fn known(&self, jid: &str) -> Option<Option<TcTokenEntry>> {
        lock(&self.kept).get(jid).cloned()
    }

    /// This was looked up, and the file is still held.
    pub(super) fn keep(&self, jid: &str, found: Option<&TcTokenEntry>) {
        if self.changing.load(Ordering::Relaxed) > 0 {
            return;
        }
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(jid.to_owned(), found.cloned());
    }

    /// Whoever holds the file changes it.
    pub(super) fn change(&self) {
        self.changing.fetch_add(1, Ordering::Relaxed);
        lock(&self.kept).clear();
    }

    /// The change is over.
    pub(super) fn changed(&self) {
        self.changing.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_once_a_change_was_given_up() {
        let tokens = Tokens::default();
        tokens.keep("1", None);
        assert!(tokens.known("1").is_some_and(|entry| entry.is_none()) && tokens.known("2").is_none());
        tokens.change();
        assert!(tokens.known("1").is_none());
        tokens.changed();
        tokens.keep("1", None);
        assert!(tokens.known("1").is_some());
        tokens.change();
        tokens.change();
        tokens.changed();
        tokens.keep("1", None);
        assert!(tokens.known("1").is_none(), "what is read now may be from before the first change");
    }
}
