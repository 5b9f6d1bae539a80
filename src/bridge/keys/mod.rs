//! The keys of one session: the library's SQLite file, open only while it is used.
//!
//! A quiet session looks at its keys once in five minutes. Kept open, the file costs it 0.2 MB, as much as the rest of its
//! client (pages, the parsed schema, a mapped index of the log).

mod methods;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{MappedMutexGuard, Mutex, MutexGuard},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wacore::store::error::{Result, StoreError};
use whatsapp_rust_sqlite_storage::{SqliteStore, SqliteStoreConfig};

/// What a client gets as its store. Clones are the same store.
#[derive(Clone)]
pub struct Keys(Arc<File>);

struct File {
    path: String,
    rest: Duration,
    /// One operation at a time, as the library's store has it, too.
    slot: Mutex<Slot>,
    /// The client is over; whatever is left of it finds the store closed and cannot open it again.
    over: CancellationToken,
}

/// Somebody still uses the store of a client that is over.
#[derive(Debug, Error)]
#[error("the client is over")]
struct Over;

struct Slot {
    store: Option<SqliteStore>,
    used_at: Instant,
}

impl Slot {
    /// Closing writes the log of changes back into the file, which takes a moment of a thread.
    async fn close(&mut self) {
        if let Some(store) = self.store.take() {
            let _ = tokio::task::spawn_blocking(move || drop(store)).await;
        }
    }
}

impl Keys {
    /// The keys in the file at `path`, which is closed when it was not used for `rest`.
    pub fn new(path: &Path, rest: Duration) -> Self {
        Self(Arc::new(File {
            path: path.to_string_lossy().into_owned(),
            rest,
            slot: Mutex::new(Slot { store: None, used_at: Instant::now() }),
            over: CancellationToken::new(),
        }))
    }

    /// As long as this lives the store can be used.
    pub fn lease(&self) -> DropGuard {
        self.0.over.clone().drop_guard()
    }

    /// Closes the file for good.
    pub async fn close(&self) {
        self.0.over.cancel();
        self.0.slot.lock().await.close().await;
    }

    async fn open(&self) -> Result<MappedMutexGuard<'_, SqliteStore>> {
        let mut slot = self.0.slot.lock().await;
        if self.0.over.is_cancelled() {
            return Err(StoreError::Connection(Box::new(Over)));
        }
        slot.used_at = Instant::now();
        let store = match slot.store.take() {
            Some(store) => store,
            None => {
                let store = SqliteStore::with_config(&self.0.path, config()).await?;
                tokio::spawn(close_unused(Arc::clone(&self.0)));
                store
            }
        };
        Ok(MutexGuard::map(slot, |slot| slot.store.insert(store)))
    }
}

async fn close_unused(file: Arc<File>) {
    let mut until = Instant::now() + file.rest;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = file.over.cancelled() => {}
        }
        let mut slot = file.slot.lock().await;
        until = slot.used_at + file.rest;
        if until <= Instant::now() || file.over.is_cancelled() {
            return slot.close().await;
        }
    }
}

fn config() -> SqliteStoreConfig {
    // Far more than the few pages that a session in use touches.
    SqliteStoreConfig { cache_size_kib: 64, ..SqliteStoreConfig::default() }
}
