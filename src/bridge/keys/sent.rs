//! Messages that were sent, kept for devices that could not decrypt them and ask again.
//!
//! The library reads such a message by taking it out of its store, and puts it back a moment later (retry.rs of whatsapp-rust,
//! when it keeps none in memory). A second device that asks in between would find nothing and never get the message, and a
//! kill in between would lose it for all of them. So here it is only read, and stays until it is old, counted from when it was
//! sent: putting it back must not make it younger, or a device that asks again and again would keep it for ever.
//!
//! How often it is sent again is bounded here: the library believes a device that says each time that it asks for the first time.

use std::{collections::HashMap, sync::Mutex};

use diesel::prelude::*;
use wacore::store::error::{Result, StoreError};
use whatsapp_operator::platform::lock;
use whatsapp_rust_sqlite_storage::SqliteStore;

/// How often a message is read for those who ask for it again: four times each, as WhatsApp's own clients do, by ten devices.
pub(super) const READINGS: u32 = 40;
/// Of how many messages it is known how often they were read.
const COUNTED: usize = 1024;

/// How often messages of one session were read, by chat and id, since the process started.
#[derive(Default)]
pub(super) struct Readings(Mutex<HashMap<(String, String), u32>>);

impl Readings {
    /// Whether this message may be read once more.
    fn count(&self, chat: &str, message_id: &str) -> bool {
        let mut counts = lock(&self.0);
        let key = (chat.to_owned(), message_id.to_owned());
        if counts.len() >= COUNTED && !counts.contains_key(&key) {
            counts.clear();
        }
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= READINGS
    }
}

diesel::table! {
    /// The library's, which makes it.
    sent_messages (chat_jid, message_id, device_id) {
        chat_jid -> Text,
        message_id -> Text,
        payload -> Binary,
        device_id -> Integer,
    }
}

/// Keeps a message. One that is there already gets the new content and keeps its age.
pub(super) async fn keep(
    _: &Readings,
    store: &SqliteStore,
    chat: &str,
    message_id: &str,
    payload: &[u8],
) -> Result<()> {
    let row = (
        sent_messages::chat_jid.eq(chat.to_owned()),
        sent_messages::message_id.eq(message_id.to_owned()),
        sent_messages::payload.eq(payload.to_vec()),
        sent_messages::device_id.eq(store.device_id()),
    );
    let keeping = move |connection: &mut SqliteConnection| {
        diesel::insert_into(sent_messages::table)
            .values(&row)
            .on_conflict((sent_messages::chat_jid, sent_messages::message_id, sent_messages::device_id))
            .do_update()
            .set(sent_messages::payload.eq(diesel::upsert::excluded(sent_messages::payload)))
            .execute(connection)
            .map_err(failed)
    };
    store.shared().run(keeping).await.map(|_| ())
}

/// Reads a message, which stays; nothing once it was read too often.
pub(super) async fn read(
    readings: &Readings,
    store: &SqliteStore,
    chat: &str,
    message_id: &str,
) -> Result<Option<Vec<u8>>> {
    let key = (chat.to_owned(), message_id.to_owned(), store.device_id());
    let reading = move |connection: &mut SqliteConnection| {
        sent_messages::table.find(key).select(sent_messages::payload).first(connection).optional().map_err(failed)
    };
    let found = store.shared().read(reading).await?;
    Ok(found.filter(|_| readings.count(chat, message_id)))
}

fn failed(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}
