//! What can be written: one kind of change per table. A new table is a new variant here, and a step in `layout`.

use rusqlite::Connection;

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{Claim, MessageCause};

use super::{StoreError, claims, message_change::MessageChange, sessions::SessionChange, told::Told};
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

impl Change {
    /// A session `id` with what is `kept` of it, unless there is one.
    pub fn create(id: &str, kept: &Kept) -> Result<Self, StoreError> {
        Ok(Self::Session(SessionChange::Create { id: id.to_owned(), kept: encoded(kept)? }))
    }

    /// Session `id` with what is `kept` of it.
    pub fn save(id: &str, kept: &Kept) -> Result<Self, StoreError> {
        Ok(Self::Session(SessionChange::Save { id: id.to_owned(), kept: encoded(kept)? }))
    }

    /// Session `from`, with what is `kept` of it, is session `to` from here on.
    pub fn rename(from: &str, to: &str, kept: &Kept) -> Result<Self, StoreError> {
        let (from, to, kept) = (from.to_owned(), to.to_owned(), encoded(kept)?);
        Ok(Self::Session(SessionChange::Rename { from, to, kept }))
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
            Self::Claim { key, claim, now } => claims::claim(connection, key, claim, *now, told),
            Self::Nothing => {
                // No session has this id.
                connection.execute("INSERT INTO sessions (id, kept) VALUES ('', '')", [])?;
                connection.execute("DELETE FROM sessions WHERE id = ''", [])?;
                Ok(())
            }
        }
    }
}

fn encoded(kept: &Kept) -> Result<String, StoreError> {
    serde_json::to_string(kept).map_err(|error| StoreError::Encode(error.into()))
}
