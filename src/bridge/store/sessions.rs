//! Sessions in the database.

use rusqlite::{Connection, OptionalExtension, params};

use super::{message_queries::waiting, remnants, row::unreadable};
use crate::{machine::Kept, outbox::Waiting};

/// A session as it was stored.
pub struct Stored {
    /// Its id.
    pub id: String,
    /// What was kept.
    pub kept: Kept,
    /// The messages that wait, in order.
    pub waiting: Vec<Waiting>,
    /// The last sequence that was given to a message.
    pub last_sequence: u64,
}

/// A change of the table of sessions.
#[derive(Clone)]
pub enum SessionChange {
    /// There is a session, as it was encoded now, unless there is a row of this id already, which is left as it is, or a session that
    /// had this id.
    Create {
        /// Which one.
        id: String,
        /// What is kept of it.
        kept: String,
    },
    /// The session is as it was encoded now, whether there was one or not.
    Save {
        /// Which one.
        id: String,
        /// What is kept of it.
        kept: String,
    },
    /// The session, as it was encoded now, has another id from here on, and so have its messages.
    Rename {
        /// Which one.
        from: String,
        /// Its new id, which no other session has.
        to: String,
        /// What is kept of it.
        kept: String,
    },
    /// The session is forgotten.
    Remove {
        /// Which one.
        id: String,
    },
}

impl SessionChange {
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            // Not one that was given another id: what came of it is the other's.
            Self::Create { id, kept } => connection
                .prepare_cached(&format!(
                    "INSERT INTO sessions (id, kept) SELECT ?1, ?2 WHERE NOT EXISTS ({SUCCESSOR}) ON CONFLICT (id) DO NOTHING"
                ))?
                .execute(params![id, kept])?,
            Self::Save { id, kept } => connection
                .prepare_cached(
                    "INSERT INTO sessions (id, kept) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET kept = ?2",
                )?
                .execute(params![id, kept])?,
            Self::Rename { from, to, kept } => {
                remnants::keep_session(connection, from)?;
                connection
                    .prepare_cached("UPDATE messages SET session = ?2 WHERE session = ?1")?
                    .execute([from, to])?;
                connection
                    .prepare_cached("UPDATE sessions SET id = ?2, kept = ?3 WHERE id = ?1")?
                    .execute([from, to, kept])?
            }
            Self::Remove { id } => connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?,
        };
        Ok(())
    }
}

/// Every session. A row that cannot be read is named in the log and left alone.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let mut query = connection.prepare("SELECT id, kept FROM sessions ORDER BY id")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut sessions = Vec::new();
    for row in rows {
        let (id, kept) = row?;
        match serde_json::from_str(&kept) {
            Ok(kept) => sessions.push(stored(connection, id, kept)?),
            // The parse error may quote the row, and the row holds a phone number.
            Err(_) => tracing::error!(session = id, "the stored session cannot be read and is left alone"),
        }
    }
    Ok(sessions)
}

/// Session `id`; `None` when there is no row of it. The error of a row that cannot be read
/// [says so](super::StoreError::is_unreadable).
pub(super) fn one(connection: &Connection, id: &str) -> rusqlite::Result<Option<Stored>> {
    let kept: Option<String> = connection
        .prepare_cached("SELECT kept FROM sessions WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(kept) = kept else { return Ok(None) };
    let kept = serde_json::from_str(&kept).map_err(|error| unreadable(0, error))?;
    stored(connection, id.to_owned(), kept).map(Some)
}

/// The session that had the id ?1 before it was given to an instance that was created anew. There are at most a few thousand sessions, and
/// this is asked of ids that none has.
const SUCCESSOR: &str = "SELECT sessions.id
    FROM sessions, json_each(CASE WHEN json_valid(kept) THEN json_extract(kept, '$.formerly') END) WHERE value = ?1";

/// Whether anything is there under this id: a session, messages of one that was deleted, or one that has another id by now.
pub(super) fn has_left(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ?1) OR EXISTS (SELECT 1 FROM messages WHERE session = ?1)
                 OR EXISTS ({SUCCESSOR})"
        ))?
        .query_row([id], |row| row.get(0))
}

/// The session that had this id before it was given to an instance that was created anew.
pub(super) fn successor(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached(SUCCESSOR)?.query_row([id], |row| row.get(0)).optional()
}

fn stored(connection: &Connection, id: String, kept: Kept) -> rusqlite::Result<Stored> {
    let (waiting, last_sequence) = waiting(connection, &id)?;
    Ok(Stored { id, kept, waiting, last_sequence })
}
