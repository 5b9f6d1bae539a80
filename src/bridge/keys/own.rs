//! What is done here instead of by the library's store (`methods`).

use tokio::sync::MappedMutexGuard;
use wacore::store::{
    error::Result,
    traits::{ProtocolStore as _, TcTokenEntry},
};
use whatsapp_rust_sqlite_storage::SqliteStore;

use super::file::FileKeys;

/// The token of a contact.
pub(super) async fn token(keys: &FileKeys, jid: &str) -> Result<Option<TcTokenEntry>> {
    keys.held()?;
    if let Some(known) = keys.tokens().known(jid) {
        return Ok(known);
    }
    // Held until it is kept: nobody changes it in between.
    let store = keys.open().await?;
    let found = store.get_tc_token(jid).await?;
    keys.tokens().keep(jid, found.as_ref());
    Ok(found)
}

/// The file, for a change of tokens, which forgets what was looked up.
pub(super) async fn to_change_tokens(keys: &FileKeys) -> Result<MappedMutexGuard<'_, SqliteStore>> {
    let store = keys.open().await?;
    keys.tokens().change();
    Ok(store)
}

/// Keeps no message that was sent: it is in the bridge's own tables.
#[allow(clippy::unused_async)] // as all methods are
pub(super) async fn keep_sent(keys: &FileKeys, _chat: &str, _message_id: &str, _payload: &[u8]) -> Result<()> {
    keys.held()
}

/// Reads a message that was sent; nothing once it was read too often.
pub(super) async fn read_sent(keys: &FileKeys, chat: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
    keys.held()?;
    Ok(keys.sent().read(chat, message_id).await)
}
