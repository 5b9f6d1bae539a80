//! What can be written: one kind of change per table. A new table is a new variant here, and a step in `layout`.

use rusqlite::{Connection, params};

use super::StoreError;
use crate::machine::Kept;

/// A change of one table.
pub enum Change {
    /// Of the sessions.
    Session(SessionChange),
    /// Leaves nothing behind, but does everything a change does.
    Nothing,
}

/// A change of the table of sessions.
pub enum SessionChange {
    /// The session is as it was encoded now, whether there was one or not.
    Save {
        /// Which one.
        id: String,
        /// What is kept of it.
        kept: String,
    },
    /// The session is forgotten.
    Remove {
        /// Which one.
        id: String,
    },
}

impl Change {
    /// Session `id` with what is `kept` of it.
    pub fn save(id: &str, kept: &Kept) -> Result<Self, StoreError> {
        let kept = serde_json::to_string(kept).map_err(|error| StoreError::Encode(error.into()))?;
        Ok(Self::Session(SessionChange::Save { id: id.to_owned(), kept }))
    }

    /// Session `id` is forgotten.
    pub fn remove(id: &str) -> Self {
        Self::Session(SessionChange::Remove { id: id.to_owned() })
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Session(change) => change.write(connection),
            Self::Nothing => {
                // No session has this id.
                connection.execute("INSERT INTO sessions (id, kept) VALUES ('', '')", [])?;
                connection.execute("DELETE FROM sessions WHERE id = ''", [])?;
                Ok(())
            }
        }
    }
}

impl SessionChange {
    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Save { id, kept } => connection
                .prepare_cached(
                    "INSERT INTO sessions (id, kept) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET kept = ?2",
                )?
                .execute(params![id, kept])?,
            Self::Remove { id } => connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([id])?,
        };
        Ok(())
    }
}
