//! The tokens of trusted contacts (tctoken), which the library looks up for each message that it sends. What was looked up is kept in
//! memory: a look into the file costs a change of threads, as much as encrypting the message.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::MappedMutexGuard;
use wacore::store::{
    error::Result,
    traits::{ProtocolStore as _, TcTokenEntry},
};
use whatsapp_operator::platform::lock;
use whatsapp_rust_sqlite_storage::SqliteStore;

use super::file::FileKeys;

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
    /// A change is over.
    pub(super) fn changed(&self) {
        self.changing.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The token of a contact.
pub(super) async fn get(keys: &FileKeys, jid: &str) -> Result<Option<TcTokenEntry>> {
    keys.held()?;
    let tokens = keys.tokens();
    if let Some(known) = lock(&tokens.kept).get(jid) {
        return Ok(known.clone());
    }
    // Held until it is kept: nobody changes it in between.
    let store = keys.open().await?;
    let found = store.get_tc_token(jid).await?;
    if tokens.changing.load(Ordering::Relaxed) == 0 {
        let mut kept = lock(&tokens.kept);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(jid.to_owned(), found.clone());
    }
    Ok(found)
}

/// The file, for a change of tokens, which forgets what was looked up.
pub(super) async fn to_change(keys: &FileKeys) -> Result<MappedMutexGuard<'_, SqliteStore>> {
    let store = keys.open().await?;
    keys.tokens().changing.fetch_add(1, Ordering::Relaxed);
    lock(&keys.tokens().kept).clear();
    Ok(store)
}
