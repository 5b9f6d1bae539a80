//! Why something could not be stored.

use std::{sync::Arc, time::Duration};

use rusqlite::ErrorCode;
use thiserror::Error;

/// The store failed. Cloned for everybody whose change was in the same transaction.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// No room is left.
    #[error("the disk of the bridge's data directory is full: free some space, or give it a larger volume")]
    Full,
    /// SQLite said so.
    #[error("{doing} in the bridge's database: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Arc<rusqlite::Error>,
    },
    /// The value has no stored form.
    #[error("write a session in the bridge's database: {0}")]
    Encode(Arc<serde_json::Error>),
    /// The disk does not answer. What was to be written may still be.
    #[error("the disk of the bridge's data directory has not answered for {} s", .0.as_secs())]
    Slow(Duration),
    /// The file was written by a later version.
    #[error(
        "the bridge's database has layout {found}, this version knows {known}: use the version that wrote it, or a later one"
    )]
    TooNew {
        /// Its layout.
        found: i64,
        /// The newest layout of this version.
        known: i64,
    },
    /// The thread that writes is gone.
    #[error("the bridge's database is closed")]
    Closed,
}

impl StoreError {
    /// `source` happened while `doing` something.
    pub(super) fn of(doing: &'static str, source: rusqlite::Error) -> Self {
        if source.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return Self::Full;
        }
        Self::Database { doing, source: Arc::new(source) }
    }

    /// Whether a row holds what no version could have written: reading it again does not help.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Database { source, .. } if matches!(**source, rusqlite::Error::FromSqlConversionFailure(..)))
    }

    /// Whether it is the change's own fault, and others in the same transaction are not to suffer for it.
    pub(super) fn is_about_the_change(&self) -> bool {
        matches!(self, Self::Database { source, .. } if matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        ))
    }
}
