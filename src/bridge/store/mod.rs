//! What the bridge itself remembers, in SQLite: one row per session, one per message, one per idempotency key.
//!
//! All writes go through one thread, which puts everything that waits into one transaction: a burst of sessions costs a
//! few flushes to the disk, not one each. A write is acknowledged after the flush. What can be written is a [`Change`].

mod change;
mod claims;
mod error;
pub mod history;
mod layout;
mod message_change;
mod message_queries;
mod reader;
mod remnants;
mod row;
mod sessions;
mod settle_sql;
#[cfg(test)]
mod tests;
mod told;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::writer::Write;
pub use self::{
    change::Change, error::StoreError, message_change::MessageChange, reader::Reader, sessions::Stored, told::Told,
};

/// How long a write may take: a disk that needs longer is as good as none.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a try may take; a probe of whether the bridge is ready waits a second.
const TRY: Duration = Duration::from_millis(500);

/// A handle to the store.
#[derive(Clone)]
pub struct Store {
    queue: mpsc::Sender<Write>,
    /// The last transaction failed.
    failing: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    /// Looks things up beside the thread that writes.
    pub reader: Reader,
}

impl Store {
    /// Opens the database at `path` and reads every session. A row that cannot be read is named in the log and left alone.
    ///
    /// `listener` hears what came of every change to a message or a claim, in the order in which they were made.
    pub fn open(path: &Path, listener: impl Fn(&Told) + Send + 'static) -> Result<(Self, Vec<Stored>), StoreError> {
        let connection = connection(path)?;
        let sessions = sessions::all(&connection).map_err(|source| StoreError::of("read the sessions", source))?;
        let reader = Reader::open(path)?;
        Ok((Self::write_to(connection, reader, listener)?, sessions))
    }

    fn write_to(
        connection: Connection,
        reader: Reader,
        listener: impl Fn(&Told) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, receiver) = mpsc::channel(writer::QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        let commits = Arc::new(AtomicU64::new(0));
        let (noted, counted) = (Arc::clone(&failing), Arc::clone(&commits));
        let writer = move || writer::run(connection, receiver, &noted, &counted, &listener);
        thread::Builder::new().name("store".to_owned()).spawn(writer).map_err(|_| StoreError::Closed)?;
        Ok(Self { queue, failing, commits, reader })
    }

    /// Whether something can be stored. Costs nothing as long as it is; after a failure it tries, because those who would
    /// write may be waiting for the answer.
    pub async fn works(&self) -> bool {
        if !self.failing.load(Ordering::Relaxed) {
            return true;
        }
        matches!(timeout(TRY, self.queue(vec![Change::Nothing])).await, Ok(Ok(_)))
    }

    /// How many transactions were made; each is one flush to the disk.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Makes `changes`, all or none; they are on the disk when this returns. After [`StoreError::Slow`] they may still be
    /// made, but before whatever is asked for next.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Told>, StoreError> {
        self.apply_within(LIMIT, changes).await
    }

    /// The same without waiting for the disk: what is asked for after this is made later. What came of it is told by what is returned.
    pub async fn begin(
        &self,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Vec<Told>, StoreError>> + Send + use<> {
        let begun = timeout(LIMIT, self.ask(changes)).await;
        let store = self.clone();
        async move {
            match begun {
                Ok(Ok(written)) => timeout(LIMIT, answer(written)).await.unwrap_or_else(|_| store.is_slow(LIMIT)),
                Ok(Err(error)) => Err(error),
                Err(_) => store.is_slow(LIMIT),
            }
        }
    }

    async fn apply_within(&self, limit: Duration, changes: Vec<Change>) -> Result<Vec<Told>, StoreError> {
        timeout(limit, self.queue(changes)).await.unwrap_or_else(|_| self.is_slow(limit))
    }

    fn is_slow<T>(&self, limit: Duration) -> Result<T, StoreError> {
        self.failing.store(true, Ordering::Relaxed);
        Err(StoreError::Slow(limit))
    }

    async fn queue(&self, changes: Vec<Change>) -> Result<Vec<Told>, StoreError> {
        answer(self.ask(changes).await?).await
    }

    async fn ask(&self, changes: Vec<Change>) -> Result<Written, StoreError> {
        let (done, written) = oneshot::channel();
        self.queue.send(Write { changes, done }).await.map_err(|_| StoreError::Closed)?;
        Ok(written)
    }
}

/// What the thread that writes will say.
type Written = oneshot::Receiver<Result<Vec<Told>, StoreError>>;

async fn answer(written: Written) -> Result<Vec<Told>, StoreError> {
    written.await.map_err(|_| StoreError::Closed)?
}

/// The connection of the thread that writes.
fn connection(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path).map_err(|source| StoreError::of("open the file", source))?;
    layout::prepare(&mut connection)?;
    Ok(connection)
}
