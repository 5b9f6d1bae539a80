//! What a session has sent, for devices that could not decrypt it and ask again: where it is looked up besides the file of keys, and how
//! often it may be.
//!
//! How often it is sent again is bounded here: the library believes a device that says each time that it asks for the first time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use whatsapp_operator::platform::lock;

use super::SentMessages;

/// How often a message is read for those who ask for it again: four times each, as WhatsApp's own clients do, by ten devices.
pub(super) const READINGS: u32 = 40;
/// Of how many messages it is known how often they were read.
const COUNTED: usize = 1024;

/// What one session has sent.
pub(super) struct Sent {
    session: String,
    /// The bridge's own tables.
    elsewhere: Arc<dyn SentMessages>,
    /// How often messages were read, by chat and id, since the process started.
    readings: Mutex<HashMap<(String, String), u32>>,
    /// What was found elsewhere. The library puts back what it has read; that would be a copy with an age of its own.
    found_elsewhere: Mutex<HashSet<(String, String)>>,
}

impl Sent {
    pub(super) fn new(session: &str, elsewhere: Arc<dyn SentMessages>) -> Self {
        Self { session: session.to_owned(), elsewhere, readings: Mutex::default(), found_elsewhere: Mutex::default() }
    }

    /// The message, where the file of keys does not have it.
    pub(super) async fn look_elsewhere(&self, chat: &str, message_id: &str) -> Option<Vec<u8>> {
        let found = self.elsewhere.message(&self.session, chat, message_id).await?;
        let mut all = lock(&self.found_elsewhere);
        if all.len() >= COUNTED {
            all.clear();
        }
        all.insert((chat.to_owned(), message_id.to_owned()));
        Some(found)
    }

    /// Whether a message that is put back is one that was found elsewhere.
    pub(super) fn is_elsewhere(&self, chat: &str, message_id: &str) -> bool {
        lock(&self.found_elsewhere).contains(&(chat.to_owned(), message_id.to_owned()))
    }

    /// Whether this message may be read once more.
    pub(super) fn count(&self, chat: &str, message_id: &str) -> bool {
        let mut counts = lock(&self.readings);
        let key = (chat.to_owned(), message_id.to_owned());
        if counts.len() >= COUNTED && !counts.contains_key(&key) {
            counts.clear();
        }
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= READINGS
    }
}
