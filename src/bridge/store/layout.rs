//! The tables, and how a file of an older layout gets them.

use rusqlite::{Connection, OptionalExtension as _};

use super::StoreError;

/// One step per layout: the first makes the tables of layout 1, the second brings a file from 1 to 2, and so on. A step that
/// was released is never changed.
const STEPS: &[Step] = &[
    Step {
        usable_since: 1,
        sql: "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, kept TEXT NOT NULL) STRICT;",
    },
    // Times are milliseconds since 1970. `recipient_key` stands for the recipient within the session, however it was written.
    Step {
        usable_since: 2,
        sql: "CREATE TABLE messages (
         session TEXT NOT NULL, sequence INTEGER NOT NULL, id TEXT NOT NULL,
         recipient TEXT NOT NULL, recipient_key INTEGER NOT NULL, content TEXT NOT NULL,
         state TEXT NOT NULL, handed_over INTEGER NOT NULL DEFAULT 0, cause TEXT, code INTEGER,
         accepted_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, sent_at INTEGER, delivered_at INTEGER,
         companion_delivered_at INTEGER, read_at INTEGER, ended_at INTEGER,
         PRIMARY KEY (session, sequence)
     ) STRICT, WITHOUT ROWID;
     CREATE UNIQUE INDEX messages_by_id ON messages (session, id);
     CREATE INDEX messages_waiting ON messages (session, sequence) WHERE state = 'Queued';
     CREATE INDEX messages_oldest ON messages (accepted_at) WHERE state = 'Queued';
     CREATE INDEX messages_sent_to ON messages (session, recipient_key) WHERE sent_at IS NOT NULL;
     CREATE INDEX messages_over ON messages (accepted_at) WHERE state <> 'Queued';
     CREATE TABLE claims (key TEXT PRIMARY KEY, claim TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
     CREATE INDEX claims_over ON claims (expires_at);",
    },
    // `digest` is there when the message itself is forgotten and an idempotency key may still name it (`remnants`). What is over
    // goes by when it was over, which receipts do not change: they leave the index alone. The index of what waits holds all that is asked
    // of it, without which SQLite goes through everything that a session has sent.
    Step {
        usable_since: 3,
        sql: "ALTER TABLE messages ADD COLUMN digest BLOB;
     DROP INDEX messages_over;
     CREATE INDEX messages_over ON messages (max(accepted_at, coalesce(ended_at, sent_at)))
         WHERE digest IS NULL AND max(accepted_at, coalesce(ended_at, sent_at)) IS NOT NULL;
     DROP INDEX messages_waiting;
     CREATE INDEX messages_waiting ON messages (session, sequence, recipient_key, expires_at, handed_over)
         WHERE state = 'Queued';
     CREATE INDEX messages_remnants ON messages (expires_at, digest) WHERE digest IS NOT NULL;",
    },
];

/// Makes a layout of the one before it.
struct Step {
    sql: &'static str,
    /// The oldest layout whose programs can use what it makes, and what those before it have made: the former one's where there is only
    /// more of what they leave alone, tables, indexes, and columns that may be empty. It is written into the file, where releases read it
    /// that do not know the step.
    usable_since: i64,
}

/// The newest layout. A file of a later one is refused instead of being misread, unless it says that it can be used all the same.
#[allow(clippy::cast_possible_wrap)] // there are a few
pub(super) const LAYOUT: i64 = STEPS.len() as i64;

/// Every layout, and the oldest one whose programs can use it.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (i64, i64)> {
    (1..).zip(STEPS.iter().map(|step| step.usable_since))
}

/// Brings the file to the newest layout, each step whole or not at all.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    prepare_up_to(STEPS.len(), connection)
}

/// The same as it was done when there were so many layouts.
pub(super) fn prepare_up_to(layouts: usize, connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |doing| move |source| StoreError::of(doing, source);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA busy_timeout = 5000;
             -- The log of changes is written back after 32 MB: nobody is answered for the 10 ms that it takes (seconds, on a disk
             -- with few operations a second), and the more changes there are, the fewer pages are written twice. Not by another
             -- thread: its flush holds up the flushes of the one that writes, and the p99 of accepting became ten times as long. Under
             -- load its file is used again and not made anew, which is what makes a flush slow.
             PRAGMA wal_autocheckpoint = 8192;
             PRAGMA journal_size_limit = 33554432;",
        )
        .map_err(failed("set up the file"))?;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed("read the layout"))?;
    if found > LAYOUT && usable_since(connection).map_err(failed("read the layout"))?.is_none_or(|since| since > LAYOUT)
    {
        return Err(StoreError::TooNew { found, known: LAYOUT });
    }
    for (layout, step) in (1..).zip(STEPS).take(layouts).filter(|(layout, _)| *layout > found) {
        let doing = "bring the tables to the layout of this version";
        let transaction = connection.transaction().map_err(failed(doing))?;
        let Step { sql, usable_since } = step;
        let noted = format!(
            "CREATE TABLE IF NOT EXISTS layout (usable_since INTEGER NOT NULL) STRICT;
             DELETE FROM layout; INSERT INTO layout VALUES ({usable_since}); PRAGMA user_version = {layout};"
        );
        transaction.execute_batch(&format!("{sql} {noted}")).map_err(failed(doing))?;
        transaction.commit().map_err(failed(doing))?;
    }
    Ok(())
}

/// The oldest layout whose programs can use the file; nothing where the file does not say.
fn usable_since(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let says = connection.table_exists(None, "layout")?;
    if says {
        connection.query_row("SELECT usable_since FROM layout", [], |row| row.get(0)).optional()
    } else {
        Ok(None)
    }
}
