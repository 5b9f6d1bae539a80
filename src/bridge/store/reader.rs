//! Looks things up, beside the thread that writes.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::{sync::Mutex, time::timeout};
use whatsapp_operator::bridge_api::{Claim, Load, Message, MessageSpec};

use super::{StoreError, Stored, claims, message_queries, remnants, sessions};
use crate::outbox::RecipientKey;

/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How far messages that wait are counted where only more or less matters.
const MOST_COUNTED: u32 = 1000;

/// A handle. What it reads is on the disk.
#[derive(Clone)]
pub struct Reader(Arc<Mutex<Connection>>);

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::of("open the file to read it", source);
        // The log of changes may have to be recovered, so it is opened to write too; nothing is written by it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.execute_batch("PRAGMA query_only = TRUE; PRAGMA busy_timeout = 5000;").map_err(failed)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.look_within(LIMIT, look).await
    }

    /// Looks up one thing after the other. The connection is waited for before a thread is taken, so a look whose caller has given up
    /// meanwhile never starts.
    async fn look_within<T: Send + 'static>(
        &self,
        limit: Duration,
        look: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let looking = async {
            let connection = Arc::clone(&self.0).lock_owned().await;
            let looked = tokio::task::spawn_blocking(move || look(&connection)).await;
            looked.map_err(|_| StoreError::Closed)?.map_err(|source| StoreError::of("read", source))
        };
        timeout(limit, looking).await.unwrap_or(Err(StoreError::Slow(limit)))
    }

    /// A session, with the messages that wait in it.
    pub async fn session(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        let id = id.to_owned();
        self.look(move |connection| sessions::one(connection, &id)).await
    }

    /// Whether anything is there under this id: a session, messages of one that was deleted, or one that has another id by now.
    pub async fn has_left(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.look(move |connection| sessions::has_left(connection, &id)).await
    }

    /// The session that had this id before it was given to an instance that was created anew.
    pub async fn successor(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = id.to_owned();
        self.look(move |connection| sessions::successor(connection, &id)).await
    }

    /// A message by its id.
    pub async fn message(&self, session: &str, id: &str) -> Result<Option<Message>, StoreError> {
        let (session, id) = (session.to_owned(), id.to_owned());
        self.look(move |connection| message_queries::by_id(connection, &session, &id)).await
    }

    /// A message that the server was given, by its id.
    pub async fn handed_over(&self, session: &str, id: &str) -> Result<Option<Message>, StoreError> {
        let (session, id) = (session.to_owned(), id.to_owned());
        self.look(move |connection| message_queries::handed_over(connection, &session, &id)).await
    }

    /// The message that was accepted under this id, for a caller who asks to have `spec` sent under it; remembered as long as an
    /// idempotency key may name it, and longer than it can be looked up. Another message than `spec` may have no recipient.
    pub async fn accepted(
        &self,
        session: &str,
        id: &str,
        recipient: RecipientKey,
        spec: &MessageSpec,
    ) -> Result<Option<Message>, StoreError> {
        let (session, id) = (session.to_owned(), id.to_owned());
        let found = self.look(move |connection| message_queries::remembered(connection, &session, &id)).await?;
        Ok(found.map(|found| found.asked_for(recipient, &spec.to, &spec.content)))
    }

    /// The claim of a key that counts at `now`.
    pub async fn claim(&self, key: &str, now: Timestamp) -> Result<Option<Claim>, StoreError> {
        let key = key.to_owned();
        self.look(move |connection| claims::claimed(connection, &key, now)).await
    }

    /// A message by its sequence.
    pub async fn message_at(&self, session: &str, sequence: u64) -> Result<Option<Message>, StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::by_sequence(connection, &session, sequence)).await
    }

    /// Messages of a session before a sequence, newest first, at most so many; and whether there are more.
    pub async fn page(
        &self,
        session: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Message>, bool), StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::page(connection, &session, before, limit)).await
    }

    /// What waits in a session, in order, and the last sequence that was given out.
    #[cfg(test)]
    pub async fn waiting(&self, session: &str) -> Result<(Vec<crate::outbox::Waiting>, u64), StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::waiting(connection, &session)).await
    }

    /// The messages that wait and were handed over: id, sequence, and when the recipient's phone told that it has it.
    pub async fn unanswered(&self, session: &str) -> Result<Vec<(String, u64, Option<Timestamp>)>, StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::unanswered(connection, &session)).await
    }

    /// To whom of those that wait a message of the session has been sent before.
    pub async fn known(&self, session: &str) -> Result<Vec<RecipientKey>, StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::known(connection, &session)).await
    }

    /// Whether a message of the session has been sent to the person with these keys before.
    pub async fn knows(&self, session: &str, person: Vec<RecipientKey>) -> Result<bool, StoreError> {
        let session = session.to_owned();
        self.look(move |connection| message_queries::knows(connection, &session, &person)).await
    }

    /// How busy sessions are, and which of them the person with these keys knows; none for nobody.
    pub async fn load(&self, sessions: Vec<String>, person: Vec<RecipientKey>) -> Result<Vec<Load>, StoreError> {
        self.look(move |connection| {
            let load = |session: String| {
                let (waiting, knows_recipient) = message_queries::load(connection, &session, &person, MOST_COUNTED)?;
                Ok(Load { session, waiting, knows_recipient })
            };
            sessions.into_iter().map(load).collect()
        })
        .await
    }

    /// How many messages are over and not forgotten.
    pub async fn history(&self) -> Result<u64, StoreError> {
        self.look(remnants::history).await
    }

    /// How many messages were over before then, counted up to `most`.
    pub async fn over(&self, before: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.look(move |connection| remnants::over(connection, before, most)).await
    }

    /// How many claims and remnants cannot be asked for any more, of each counted up to `most`.
    pub async fn unnamed(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.look(move |connection| remnants::unnamed(connection, now, most)).await
    }

    /// Since when the oldest message that waits has waited.
    pub async fn oldest_waiting(&self) -> Result<Option<Timestamp>, StoreError> {
        self.look(message_queries::oldest_waiting).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_look_whose_caller_has_given_up_never_starts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bridge.db");
        drop(super::super::connection(&path).unwrap());
        let reader = Reader::open(&path).unwrap();
        // A look that hangs in the disk has the connection.
        let held = Arc::clone(&reader.0).lock_owned().await;
        let started = Arc::new(AtomicU32::new(0));
        let looks = (0..100).map(|_| {
            let started = Arc::clone(&started);
            reader.look_within(Duration::from_millis(20), move |_| {
                started.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        });
        for answer in futures::future::join_all(looks).await {
            assert!(matches!(answer, Err(StoreError::Slow(_))), "{answer:?}");
        }
        drop(held);
        reader.look(|_| Ok(())).await.unwrap();
        assert_eq!(started.load(Ordering::Relaxed), 0);
    }
}
