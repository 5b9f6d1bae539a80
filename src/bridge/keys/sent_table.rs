//! Messages that were sent, kept for devices that could not decrypt them and ask again.
//!
//! The library reads such a message by taking it out of its store, and puts it back a moment later (retry.rs of whatsapp-rust,
//! when it keeps none in memory). A second device that asks in between would find nothing and never get the message, and a
//! kill in between would lose it for all of them. So here it is only read, and stays until it is old, counted from when it was
//! sent: putting it back must not make it younger, or a device that asks again and again would keep it for ever.
//!
//! What is not there, because the file is older than what it was last used for, or because it is older than the library keeps it, is
//! looked up in the bridge's own tables.

use diesel::prelude::*;
use wacore::store::error::{Result, StoreError};

use super::file::FileKeys;

diesel::table! {
    /// The library's, which makes it.
    sent_messages (chat_jid, message_id, device_id) {
        chat_jid -> Text,
        message_id -> Text,
        payload -> Binary,
        device_id -> Integer,
    }
}

/// Keeps a message. One that is there already gets the new content and keeps its age; one that was found elsewhere is there.
pub(super) async fn keep(keys: &FileKeys, chat: &str, message_id: &str, payload: &[u8]) -> Result<()> {
    let store = keys.open().await?;
    if keys.sent().is_elsewhere(chat, message_id) {
        return Ok(());
    }
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
pub(super) async fn read(keys: &FileKeys, chat: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
    let sent = keys.sent();
    let found = match in_the_file(keys, chat, message_id).await? {
        Some(found) => Some(found),
        None => sent.look_elsewhere(chat, message_id).await,
    };
    Ok(found.filter(|_| sent.count(chat, message_id)))
}

async fn in_the_file(keys: &FileKeys, chat: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
    let store = keys.open().await?;
    let key = (chat.to_owned(), message_id.to_owned(), store.device_id());
    let reading = move |connection: &mut SqliteConnection| {
        sent_messages::table.find(key).select(sent_messages::payload).first(connection).optional().map_err(failed)
    };
    store.shared().read(reading).await
}

fn failed(error: diesel::result::Error) -> StoreError {
    StoreError::Database(Box::new(error))
}
