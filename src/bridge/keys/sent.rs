//! What a session has sent, for devices that could not decrypt it and ask again: where it is looked up besides the file of keys, and how
//! often it may be.
//!
//! How often it is sent again is bounded here: the library believes a device that says each time that it asks for the first time.

use std::{
    collections::HashMap,
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
    /// What is known of messages that were read since the process started, by chat and id.
    asked_for: Mutex<HashMap<(String, String), AskedFor>>,
}

/// A message that was read.
#[derive(Default)]
struct AskedFor {
    /// How often.
    readings: u32,
    /// Found elsewhere. The library puts back what it has read; that would be a copy with an age of its own.
    elsewhere: bool,
}

impl Sent {
    pub(super) fn new(session: &str, elsewhere: Arc<dyn SentMessages>) -> Self {
        Self { session: session.to_owned(), elsewhere, asked_for: Mutex::default() }
    }

    /// The message, where the file of keys does not have it.
    pub(super) async fn look_elsewhere(&self, chat: &str, message_id: &str) -> Option<Vec<u8>> {
        let found = self.elsewhere.message(&self.session, chat, message_id).await?;
        self.note(chat, message_id, |asked_for| asked_for.elsewhere = true);
        Some(found)
    }

    /// Whether a message that is put back is one that was found elsewhere.
    pub(super) fn is_elsewhere(&self, chat: &str, message_id: &str) -> bool {
        let key = (chat.to_owned(), message_id.to_owned());
        lock(&self.asked_for).get(&key).is_some_and(|asked_for| asked_for.elsewhere)
    }

    /// Whether this message may be read once more.
    pub(super) fn count(&self, chat: &str, message_id: &str) -> bool {
        self.note(chat, message_id, |asked_for| {
            asked_for.readings = asked_for.readings.saturating_add(1);
            asked_for.readings <= READINGS
        })
    }

    fn note<T>(&self, chat: &str, message_id: &str, note: impl FnOnce(&mut AskedFor) -> T) -> T {
        let mut all = lock(&self.asked_for);
        let key = (chat.to_owned(), message_id.to_owned());
        if all.len() >= COUNTED && !all.contains_key(&key) {
            all.clear();
        }
        note(all.entry(key).or_default())
    }
}
