//! The tables, and how a file of an older layout gets them.

use rusqlite::Connection;

use super::StoreError;

/// One step per layout: the first makes the tables of layout 1, the second brings a file from 1 to 2, and so on. A step that
/// was released is never changed.
const STEPS: &[&str] = &["CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, kept TEXT NOT NULL) STRICT;"];

/// The newest layout. A file of a later one is refused instead of being misread.
#[allow(clippy::cast_possible_wrap)] // there are a few
pub(super) const LAYOUT: i64 = STEPS.len() as i64;

/// Brings the file to the newest layout, each step whole or not at all.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |doing| move |source| StoreError::of(doing, source);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA busy_timeout = 5000;
             -- The log of changes is written back after a megabyte, and what a burst left of it is given back.
             PRAGMA wal_autocheckpoint = 256;
             PRAGMA journal_size_limit = 1048576;",
        )
        .map_err(failed("set up the file"))?;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed("read the layout"))?;
    if found > LAYOUT {
        return Err(StoreError::TooNew { found, known: LAYOUT });
    }
    for (layout, step) in (1..).zip(STEPS).filter(|(layout, _)| *layout > found) {
        let doing = "bring the tables to the layout of this version";
        let transaction = connection.transaction().map_err(failed(doing))?;
        transaction.execute_batch(&format!("{step} PRAGMA user_version = {layout};")).map_err(failed(doing))?;
        transaction.commit().map_err(failed(doing))?;
    }
    Ok(())
}
