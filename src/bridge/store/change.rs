//! What can be written: one kind of change per table. A new table is a new variant here, and a step in `layout`.

use rusqlite::{Connection, params};

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{Claim, MessageCause};

use super::{
    StoreError,
    messages::{self, MessageChange, Told},
};
use crate::machine::Kept;

/// A change of one table.
#[derive(Clone)]
pub enum Change {
    /// Of the sessions.
    Session(SessionChange),
    /// Of the messages.
    Message(MessageChange),
    /// A key is claimed for a message, if it is free at `now`.
    Claim {
        /// The key.
        key: String,
        /// What it is claimed for.
        claim: Claim,
        /// The time.
        now: Timestamp,
    },
    /// Leaves nothing behind, but does everything a change does.
    Nothing,
}

/// A change of the table of sessions.
#[derive(Clone)]
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

    /// All messages that wait in session `id` fail now, for this cause.
    pub fn abandon(id: &str, cause: MessageCause) -> Self {
        Self::Message(MessageChange::Abandon { session: id.to_owned(), cause, at: Timestamp::now() })
    }

    /// Writes it, and adds to `told` what came of it.
    pub(super) fn write(&self, connection: &Connection, told: &mut Vec<Told>) -> rusqlite::Result<()> {
        match self {
            Self::Session(change) => change.write(connection),
            Self::Message(change) => change.write(connection, told),
            Self::Claim { key, claim, now } => messages::claim(connection, key, claim, *now, told),
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
