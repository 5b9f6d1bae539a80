//! All sessions at once, and what changes after that.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::Session;

/// All sessions of a bridge process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionList {
    /// The sessions, by id.
    pub items: Vec<Session>,
    /// Events after this list start here.
    pub cursor: Cursor,
    /// The ids of sessions that this release cannot read. They exist; nothing more is known of them here.
    #[serde(skip)]
    pub unreadable: Vec<String>,
}

impl SessionList {
    /// Reads a list. A session that cannot be read leaves its id, and the others are read all the same.
    ///
    /// # Errors
    /// What is no list at all.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        // Nearly always everything can be read, and then nothing needs to be held twice.
        serde_json::from_slice(text).or_else(|_| Self::read_one_by_one(text))
    }

    fn read_one_by_one(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Loose {
            items: Vec<Value>,
            cursor: Cursor,
        }
        let Loose { items, cursor } = serde_json::from_slice(text)?;
        let mut list = Self { items: Vec::with_capacity(items.len()), cursor, unreadable: Vec::new() };
        for item in items {
            match Session::deserialize(&item) {
                Ok(session) => list.items.push(session),
                Err(_) => list.unreadable.extend(id(&item)),
            }
        }
        Ok(list)
    }
}

fn id(session: &Value) -> Option<String> {
    session.get("id").and_then(Value::as_str).map(str::to_owned)
}

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// The session is now like this.
    Session {
        /// The whole session.
        session: Box<Session>,
    },
    /// The session is gone, keys and all.
    Deleted {
        /// The session's id.
        id: String,
    },
    /// Events were missed (the cursor is too old or of another process): list again.
    Reset,
    /// The session changed into something that this release cannot read. Never sent: what a reader makes of it.
    #[serde(skip)]
    Unreadable {
        /// The session's id.
        id: String,
    },
}

impl Event {
    /// Reads an event of this SSE name; `None` for a name that this release does not know. What cannot be read is told
    /// of the one session it is about; if it does not even say which, listing again tells.
    pub fn read(name: &str, data: &[u8]) -> Option<Self> {
        if !["session", "deleted", "reset"].contains(&name) {
            return None;
        }
        let event = serde_json::from_slice(data).unwrap_or_else(|_| {
            let data: Value = serde_json::from_slice(data).unwrap_or_default();
            data.get("session").and_then(id).map_or(Self::Reset, |id| Self::Unreadable { id })
        });
        Some(event)
    }

    /// The SSE event name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Session { .. } | Self::Unreadable { .. } => "session",
            Self::Deleted { .. } => "deleted",
            Self::Reset => "reset",
        }
    }
}

/// A resume point in a bridge's event stream: `INCARNATION-SEQUENCE`. The incarnation changes with every start of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// Which run of the bridge process.
    pub incarnation: String,
    /// How many events it had sent.
    pub sequence: u64,
}

/// A text that is not a cursor.
#[derive(Debug, Error)]
#[error("a cursor must look like INCARNATION-SEQUENCE")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (incarnation, sequence) = text.rsplit_once('-').ok_or(NotACursor)?;
        let sequence = sequence.parse().map_err(|_| NotACursor)?;
        Ok(Self { incarnation: incarnation.to_owned(), sequence })
    }
}

impl TryFrom<String> for Cursor {
    type Error = NotACursor;

    fn try_from(text: String) -> Result<Self, NotACursor> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.incarnation, self.sequence)
    }
}
