//! The keys of the sessions: who may use them, what is there of them, and how they end.
//!
//! Two clients with one session's keys destroy it. So keys are only ever used under a [`Lease`], and a session has one at
//! a time: giving out the next one fences off the holder of the former, however much of a dropped client is still alive.
//! Within a process that is a lock and a token ([`files`]); between processes it is the lock on the data directory. A
//! store that several processes share has to keep both promises by itself, with a token in every write.

mod check;
mod file;
pub mod files;
mod methods;
mod own;
mod rollback;
#[cfg(test)]
pub mod script;
mod sent;
#[cfg(test)]
mod tests;
mod tokens;

use std::{io, sync::Arc};

use async_trait::async_trait;
use thiserror::Error;
pub use wacore::store::traits::Backend as Keys;
use whatsapp_operator::model::Sensitive;

/// Where the keys of all sessions are.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Gives the keys of `session` to one client. Their former holder finds the store closed from here on, and nothing of
    /// theirs is under way any more. With `linked` they must be those of that device; without it they are made when there
    /// are none, and replaced when what is there is of no use.
    async fn lease(&self, session: &str, linked: Option<&Linked>) -> Result<Box<dyn Lease>, KeysError>;

    /// Deletes the keys of `session`, which takes them from their holder; with the session itself (`all`) also those that were set
    /// aside. Keys that are not there are deleted.
    async fn erase(&self, session: &str, all: bool) -> Result<(), KeysError>;

    /// The keys of session `from`, and those that were set aside, are those of session `to` from here on. Neither has a client. May be
    /// repeated, whatever came of it before: keys that are there already are not touched.
    async fn move_to(&self, to: &str, from: &str) -> Result<(), KeysError>;

    /// How many bytes all keys take.
    async fn bytes(&self) -> io::Result<u64>;
}

/// The bridge's own record of what its sessions have sent. It is on the disk before a message goes out, which a file of keys is not.
#[async_trait]
pub trait SentMessages: Send + Sync + 'static {
    /// The message that `session` has sent in `chat` under this id, encoded for its recipient.
    async fn message(&self, session: &str, chat: &str, id: &str) -> Option<Vec<u8>>;
}

/// The right to use the keys of one session. It ends when the next one is given out, when it is closed, and when it is
/// dropped.
#[async_trait]
pub trait Lease: Send + Sync {
    /// The keys, for the library. They answer with an error once the lease is over.
    fn keys(&self) -> Arc<dyn Keys>;

    /// Ends the lease: everything is on the disk and nothing is under way when this returns.
    async fn close(self: Box<Self>);
}

/// The device a session's record says it has keys of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The account's number in international form, when it is known.
    pub phone_number: Option<Sensitive>,
}

/// What became of the keys of a linked device. Only a new pairing heals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LostKeys {
    /// There is nothing, or nothing that belongs to a linked device.
    #[error("missing")]
    Missing,
    /// There is something that cannot be read: garbage, a part of a file, a file that may not be opened.
    #[error("unreadable")]
    Unreadable,
    /// They belong to another account than the session.
    #[error("those of another account")]
    Foreign,
}

/// Keys cannot be used or deleted.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The session counts as linked, and its keys are lost.
    #[error("the session's keys are {0}")]
    Lost(LostKeys),
    /// What is left of a former client still has them. It has to let go sooner or later.
    #[error("a former client of the session has not let go of its keys yet")]
    InUse,
    /// The disk said so. Another try may do.
    #[error("{doing} the session's keys: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite said so. Another try may do.
    #[error("{doing} the session's keys: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
}
