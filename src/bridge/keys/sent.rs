//! What a session has sent, for devices that could not decrypt it and ask again.
//!
//! It is read from the bridge's own tables, which had it on the disk before it went out, and have it for as long as its history lasts. The
//! library would keep a copy of each message in its file of keys, take that out when somebody asks for it, and put it back later: a
//! second device that asks in between would get nothing.
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
    messages: Arc<dyn SentMessages>,
    /// How often messages were read since the process started, by chat and id.
    readings: Mutex<HashMap<(String, String), u32>>,
}

impl Sent {
    /// What `session` has sent, of all these.
    pub(super) fn new(session: &str, messages: Arc<dyn SentMessages>) -> Self {
        Self { session: session.to_owned(), messages, readings: Mutex::default() }
    }

    /// A message; nothing once it was read too often.
    pub(super) async fn read(&self, chat: &str, message_id: &str) -> Option<Vec<u8>> {
        let found = self.messages.message(&self.session, chat, message_id).await;
        found.filter(|_| self.count(chat, message_id))
    }

    /// Whether this message may be read once more.
    fn count(&self, chat: &str, message_id: &str) -> bool {
        let mut all = lock(&self.readings);
        let key = (chat.to_owned(), message_id.to_owned());
        if all.len() >= COUNTED && !all.contains_key(&key) {
            all.clear();
        }
        let readings = all.entry(key).or_default();
        *readings = readings.saturating_add(1);
        *readings <= READINGS
    }
}
