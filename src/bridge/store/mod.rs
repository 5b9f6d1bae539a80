//! What the bridge itself remembers: one row per session, in SQLite.
//!
//! All writes go through one thread, which puts everything that waits into one transaction: a burst of sessions costs a
//! few flushes to the disk, not one each. A write is acknowledged after the flush.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::{Connection, params};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::machine::Kept;

/// The layout of the table. A file of a later one is refused instead of being misread.
const LAYOUT: i64 = 1;
/// Writes that may wait; beyond it the writers do.
const QUEUE: usize = 256;
/// How long a try may take; whoever asks whether the bridge is ready waits a second.
const TRY: Duration = Duration::from_millis(500);

/// The store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite said so.
    #[error("{doing} in the bridge's database: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A transaction with this write in it failed.
    #[error("write a session in the bridge's database: {0}")]
    Write(String),
    /// The file was written by a later version.
    #[error(
        "the bridge's database has layout {found}, this version knows {LAYOUT}: use the version that wrote it, or a later one"
    )]
    TooNew {
        /// Its layout.
        found: i64,
    },
    /// The thread that writes is gone.
    #[error("the bridge's database is closed")]
    Closed,
}

fn failed(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { doing, source }
}

/// A session as it was stored.
pub struct Stored {
    /// Its id.
    pub id: String,
    /// What was kept.
    pub kept: Kept,
}

enum Write {
    Save {
        id: String,
        kept: String,
    },
    Remove {
        id: String,
    },
    /// Leaves nothing behind, but does everything a write does.
    Try,
}

type Done = oneshot::Sender<Result<(), StoreError>>;

/// A handle to the store.
#[derive(Clone)]
pub struct Store {
    queue: mpsc::Sender<(Write, Done)>,
    /// The last transaction failed.
    failing: Arc<AtomicBool>,
}

impl Store {
    /// Opens the database at `path` and reads every session. A row that cannot be read is named in the log and left alone.
    pub fn open(path: &Path) -> Result<(Self, Vec<Stored>), StoreError> {
        let connection = Connection::open(path).map_err(failed("open the file"))?;
        prepare(&connection)?;
        let sessions = read(&connection)?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        let writer = {
            let failing = Arc::clone(&failing);
            move || write(connection, receiver, &failing)
        };
        thread::Builder::new().name("store".to_owned()).spawn(writer).map_err(|_| StoreError::Closed)?;
        Ok((Self { queue, failing }, sessions))
    }

    /// Whether sessions can be stored. Costs nothing as long as they are; after a failure it tries, because those who
    /// would write may be waiting for the answer.
    pub async fn works(&self) -> bool {
        if !self.failing.load(Ordering::Relaxed) {
            return true;
        }
        matches!(tokio::time::timeout(TRY, self.write(Write::Try)).await, Ok(Ok(())))
    }

    /// Stores a session; it is on the disk when this returns.
    pub async fn save(&self, id: &str, kept: &Kept) -> Result<(), StoreError> {
        let kept = serde_json::to_string(kept).map_err(|error| StoreError::Write(error.to_string()))?;
        self.write(Write::Save { id: id.to_owned(), kept }).await
    }

    /// Forgets a session.
    pub async fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.write(Write::Remove { id: id.to_owned() }).await
    }

    async fn write(&self, write: Write) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        self.queue.send((write, done)).await.map_err(|_| StoreError::Closed)?;
        written.await.map_err(|_| StoreError::Closed)?
    }
}

fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;")
        .map_err(failed("set up the file"))?;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed("read the layout"))?;
    if found > LAYOUT {
        return Err(StoreError::TooNew { found });
    }
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, kept TEXT NOT NULL) STRICT; PRAGMA user_version = {LAYOUT};"
        ))
        .map_err(failed("make the table"))
}

fn read(connection: &Connection) -> Result<Vec<Stored>, StoreError> {
    let doing = "read the sessions";
    let mut query = connection.prepare("SELECT id, kept FROM sessions ORDER BY id").map_err(failed(doing))?;
    let rows =
        query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).map_err(failed(doing))?;
    let mut sessions = Vec::new();
    for row in rows {
        let (id, kept) = row.map_err(failed(doing))?;
        match serde_json::from_str(&kept) {
            Ok(kept) => sessions.push(Stored { id, kept }),
            // The parse error may quote the row, and the row holds a phone number.
            Err(_) => tracing::error!(session = id, "the stored session cannot be read and is left alone"),
        }
    }
    Ok(sessions)
}

fn write(mut connection: Connection, mut queue: mpsc::Receiver<(Write, Done)>, failing: &AtomicBool) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < QUEUE
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let (writes, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let result = commit(&mut connection, &writes);
        failing.store(result.is_err(), Ordering::Relaxed);
        for done in waiting {
            let answer = match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(StoreError::Write(error.to_string())),
            };
            // Whoever asked may be gone; what was asked is written all the same.
            let _ = done.send(answer);
        }
    }
}

fn commit(connection: &mut Connection, writes: &[Write]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for write in writes {
        match write {
            Write::Save { id, kept } => transaction
                .prepare_cached(
                    "INSERT INTO sessions (id, kept) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET kept = ?2",
                )?
                .execute(params![id, kept])?,
            Write::Remove { id } => {
                transaction.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute(params![id])?
            }
            // No session has this id.
            Write::Try => {
                transaction.execute("INSERT INTO sessions (id, kept) VALUES ('', '')", [])?;
                transaction.execute("DELETE FROM sessions WHERE id = ''", [])?
            }
        };
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use whatsapp_operator::{bridge_api::SessionSpec, model::Sensitive};

    fn kept(phone: &str) -> Kept {
        Kept { phone_number: Some(Sensitive::new(phone)), paired: true, ..Kept::new(SessionSpec::default()) }
    }

    #[tokio::test]
    async fn what_was_saved_is_there_after_reopening_and_what_was_removed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let (store, found) = Store::open(&path).unwrap();
        assert!(found.is_empty());
        store.save("a", &kept("+15550001")).await.unwrap();
        store.save("a", &kept("+15550002")).await.unwrap();
        store.save("b", &kept("+15550003")).await.unwrap();
        store.remove("b").await.unwrap();
        let (_store, found) = Store::open(&path).unwrap();
        let found: Vec<_> = found.into_iter().map(|stored| (stored.id, stored.kept)).collect();
        assert_eq!(found, [("a".to_owned(), kept("+15550002"))]);
    }

    #[tokio::test]
    async fn a_store_that_fails_does_not_work_until_a_write_would_succeed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let (store, _) = Store::open(&path).unwrap();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("ALTER TABLE sessions RENAME TO elsewhere").unwrap();
        assert!(store.works().await, "nobody has needed it");
        assert!(store.save("a", &kept("+15550001")).await.is_err());
        assert!(!store.works().await);
        raw.execute_batch("ALTER TABLE elsewhere RENAME TO sessions").unwrap();
        assert!(store.works().await);
        assert!(!store.failing.load(Ordering::Relaxed));
        let (_store, found) = Store::open(&path).unwrap();
        assert!(found.is_empty());
    }

    #[test]
    fn a_later_layout_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::TooNew { found: 9 })));
    }

    #[tokio::test]
    async fn an_unreadable_row_is_skipped_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        let (store, _) = Store::open(&path).unwrap();
        store.save("good", &kept("+15550001")).await.unwrap();
        let raw = Connection::open(&path).unwrap();
        raw.execute("INSERT INTO sessions VALUES ('bad', '{')", []).unwrap();
        let (_store, found) = Store::open(&path).unwrap();
        assert_eq!(found.len(), 1);
        let rows: i64 = raw.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
    }
}
