//! One session's file of keys: the library's SQLite file, open only while it is used, and only by the holder of the lease.
//!
//! A quiet session looks at its keys once in five minutes. Kept open, the file costs it 0.2 MB, as much as the rest of its
//! client (pages, the parsed schema, a mapped index of the log).

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use diesel::connection::SimpleConnection as _;
use thiserror::Error;
use tokio::{
    sync::{MappedMutexGuard, Mutex, MutexGuard},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wacore::store::error::{Result, StoreError};
use whatsapp_rust_sqlite_storage::{SqliteStore, SqliteStoreConfig};

use super::{KeysError, Lease, rollback, sent::Sent, tokens::Tokens};

/// How long a former client's last operation may take. A disk that needs longer is asked again later.
const LET_GO: Duration = Duration::from_secs(10);

/// The file, which knows who may use it.
pub(super) struct KeyFile {
    path: PathBuf,
    /// It is closed when it was not used for this long.
    rest: Duration,
    /// One operation at a time, as the library's store has it, too.
    pub(super) access: Mutex<Access>,
    sent: Sent,
}

/// What the file is in use for.
pub(super) struct Access {
    pub(super) store: Option<SqliteStore>,
    /// Cancelled once nothing is left of the store opened last, operations included whose caller has given up.
    gone: CancellationToken,
    /// Cancelled once the file is made ready for its holder, and no thread works on that whose lease nobody waits for any more.
    ready: CancellationToken,
    used_at: Instant,
    holder: Fence,
}

/// Held by whatever makes a file ready, also by a thread whose caller has given up.
pub(super) type Preparing = Arc<DropGuard>;

/// Stands between the file and the holder of a lease on it. Once lowered it stays so.
#[derive(Clone)]
struct Fence(CancellationToken);

/// The keys are used by a client whose lease is over.
#[derive(Debug, Error)]
#[error("the lease on the keys is over")]
struct Over;

impl KeyFile {
    /// The file at `path`, which is closed when it was not used for `rest`.
    pub(super) fn new(path: PathBuf, rest: Duration, sent: Sent) -> Self {
        let gone = CancellationToken::new();
        gone.cancel();
        let holder = Fence(gone.clone());
        let ready = gone.clone();
        let access = Mutex::new(Access { store: None, gone, ready, used_at: Instant::now(), holder });
        Self { path, rest, access, sent }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// SQLite's log of changes.
    fn log(&self) -> PathBuf {
        self.path.with_extension("db-wal")
    }

    /// Takes the file from its holder, and waits until none of the holder's operations is under way.
    pub(super) async fn take_over(&self) -> std::result::Result<MutexGuard<'_, Access>, KeysError> {
        let mut access = timeout(LET_GO, self.access.lock()).await.map_err(|_| KeysError::InUse)?;
        access.holder.0.cancel();
        let is_free = access.close().await && timeout(LET_GO, access.ready.cancelled()).await.is_ok();
        if is_free { Ok(access) } else { Err(KeysError::InUse) }
    }

    /// A lease on the file that `access` was taken over of.
    pub(super) fn lease(self: &Arc<Self>, access: &mut Access) -> FileLease {
        let fence = Fence(CancellationToken::new());
        access.holder = fence.clone();
        FileLease(FileKeys { file: Arc::clone(self), fence, tokens: Arc::default() })
    }
}

impl Access {
    /// The file is made ready for its next holder, for as long as a clone of this lives.
    pub(super) fn prepare(&mut self) -> Preparing {
        self.ready = CancellationToken::new();
        Arc::new(self.ready.clone().drop_guard())
    }

    /// Closing writes the log of changes back into the file, which takes a moment of a thread. Says whether that is done.
    async fn close(&mut self) -> bool {
        if let Some(store) = self.store.take() {
            let _ = tokio::task::spawn_blocking(move || drop(store)).await;
        }
        timeout(LET_GO, self.gone.cancelled()).await.is_ok()
    }
}

/// The holder's way to the file: the library's store.
#[derive(Clone)]
pub(super) struct FileKeys {
    file: Arc<KeyFile>,
    fence: Fence,
    tokens: Arc<Tokens>,
}

impl FileKeys {
    /// What the session has sent; also by those who had the file before.
    pub(super) fn sent(&self) -> &Sent {
        &self.file.sent
    }

    /// The tokens that this holder has looked up.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// An error once the lease is over.
    pub(super) fn held(&self) -> Result<()> {
        if self.fence.0.is_cancelled() { Err(StoreError::Connection(Box::new(Over))) } else { Ok(()) }
    }

    /// Waits until everything that was written is on the disk, which the library's own writes do not wait for.
    pub(super) async fn flush(&self) -> Result<()> {
        let log = self.file.log();
        let flushing = move || match std::fs::File::open(log) {
            Ok(log) => log.sync_data(),
            // It is gone when the file was closed, which flushed everything.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        let flushed = tokio::task::spawn_blocking(flushing).await.map_err(std::io::Error::other).flatten();
        flushed.map_err(|error| StoreError::Database(Box::new(error)))
    }

    pub(super) async fn open(&self) -> Result<MappedMutexGuard<'_, SqliteStore>> {
        let mut access = self.file.access.lock().await;
        self.held()?;
        access.used_at = Instant::now();
        let store = match access.store.take() {
            Some(store) => store,
            None => {
                access.gone = CancellationToken::new();
                let path = self.file.path.to_string_lossy();
                let store = SqliteStore::with_config(&path, config(&access.gone)).await?;
                tokio::spawn(close_unused(self.clone()));
                store
            }
        };
        Ok(MutexGuard::map(access, |access| access.store.insert(store)))
    }
}

async fn close_unused(FileKeys { file, fence, .. }: FileKeys) {
    let mut until = Instant::now() + file.rest;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = fence.0.cancelled() => {}
        }
        let mut access = file.access.lock().await;
        until = access.used_at + file.rest;
        if until <= Instant::now() || fence.0.is_cancelled() {
            access.close().await;
            return;
        }
    }
}

/// How many pages the log of changes has when it is copied into the file. SQLite's own 1000 would have a hundred sessions that
/// send equally much do that at the same moment, and keep the bridge's own writes from the disk for as long.
const LOGGED: RangeInclusive<u32> = 500..=1500;

/// `gone` is cancelled with the store's last connection: the library runs its operations on threads of their own, where
/// they go on when their caller has given up.
fn config(gone: &CancellationToken) -> SqliteStoreConfig {
    let guard = gone.clone().drop_guard();
    // Far more than the few pages that a session in use touches.
    SqliteStoreConfig { cache_size_kib: 64, ..SqliteStoreConfig::default() }.with_connection_init(move |connection| {
        let _ = &guard;
        // The store has one connection, and nothing else opens the file meanwhile: without locks and shared memory each of the many small
        // transactions of a message asks the kernel for less.
        let logged = fastrand::u32(LOGGED);
        Ok(connection
            .batch_execute(&format!("PRAGMA locking_mode = EXCLUSIVE; PRAGMA wal_autocheckpoint = {logged}"))?)
    })
}

/// The right to use the file.
pub(super) struct FileLease(pub(super) FileKeys);

#[async_trait]
impl Lease for FileLease {
    fn keys(&self) -> Arc<dyn super::Keys> {
        Arc::new(self.0.clone())
    }

    async fn close(self: Box<Self>) {
        let file = &self.0.file;
        self.0.fence.0.cancel();
        let mut access = file.access.lock().await;
        let closed = access.close().await;
        // SQLite copies its log of changes when it closes a file, flushes that, and deletes the log; where it could not, the log stays.
        let on_the_disk = closed && !file.log().exists();
        // Nobody has a lease by now, unless another one was given out meanwhile.
        if on_the_disk
            && access.holder.0.is_cancelled()
            && let Some(directory) = file.path.parent()
        {
            rollback::unused(directory);
        }
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        self.0.fence.0.cancel();
    }
}
