//! Keys in files: a directory per session in the data directory, which this process has for itself.

use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use whatsapp_operator::platform::lock;

use super::{
    KeyStore, KeysError, Lease, Linked, LostKeys, SentMessages,
    check::{Found, look},
    file::{KeyFile, Preparing},
    rollback,
    sent::Sent,
};
use crate::data::{DataDir, bytes};

/// A file of keys that was not used for this long is closed. Opening it again takes half a millisecond.
const REST: Duration = Duration::from_millis(500);

/// The files of keys of all sessions.
pub struct KeyFiles {
    data: DataDir,
    /// Which start of the machine this is.
    machine_start: Arc<str>,
    /// What the sessions have sent.
    sent: Arc<dyn SentMessages>,
    /// One for each session that was used since the start: a former lease that still exists is on the same one.
    files: Mutex<HashMap<String, Arc<KeyFile>>>,
}

impl KeyFiles {
    /// The keys in `data`; what its sessions have `sent` is asked for where their files do not have it.
    pub fn new(data: DataDir, sent: Arc<dyn SentMessages>) -> Self {
        Self::under(data, sent, &rollback::machine_start())
    }

    /// The same, under this start of the machine.
    pub(super) fn under(data: DataDir, sent: Arc<dyn SentMessages>, machine_start: &str) -> Self {
        Self { data, machine_start: machine_start.into(), sent, files: Mutex::default() }
    }

    /// All keys are from a copy, which may be older than what they were last used for.
    pub fn restored(&self) -> io::Result<()> {
        for session in fs::read_dir(self.data.sessions())? {
            rollback::note(&session?.path(), rollback::RESTORED)?;
        }
        Ok(())
    }

    /// Makes the keys ready for use, and notes that they are used.
    async fn begin(
        &self,
        session: &str,
        file: &Arc<KeyFile>,
        found: Found,
        preparing: Preparing,
    ) -> Result<(), KeysError> {
        let (directory, start, file) = (self.data.session(session), Arc::clone(&self.machine_start), Arc::clone(file));
        let renewing = move || {
            let _preparing = preparing;
            Ok(make_ready(file.path(), &found, &directory, &start))
        };
        if let Some(sessions) = on_a_thread(NOTING, renewing).await?? {
            tracing::warn!(
                session,
                sessions,
                "its keys were in use under another start of a machine, or are from a copy, and may be older than what they \
                 were last used for: it makes new Signal sessions with its recipients"
            );
        }
        Ok(())
    }

    fn file(&self, session: &str) -> Arc<KeyFile> {
        let sent = || Sent::new(session, Arc::clone(&self.sent));
        let new = || Arc::new(KeyFile::new(self.data.keys(session), REST, sent()));
        Arc::clone(self.files().entry(session.to_owned()).or_insert_with(new))
    }

    /// Moves keys away that are of no use to the session, and makes room for new ones.
    async fn set_aside(&self, session: &str, preparing: Preparing) -> Result<(), KeysError> {
        let (directory, lost) = (self.data.session(session), self.data.lost(session));
        let aside = lost.join(Timestamp::now().as_millisecond().to_string());
        tracing::warn!(session, aside = %aside.display(), "its keys are kept, until the session is deleted");
        let moved = move || {
            let _preparing = preparing;
            fs::create_dir_all(&lost)?;
            fs::rename(&directory, aside)?;
            fs::create_dir_all(directory)
        };
        on_a_thread("set aside", moved).await
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, Arc<KeyFile>>> {
        lock(&self.files)
    }
}

#[async_trait]
impl KeyStore for KeyFiles {
    async fn lease(&self, session: &str, linked: Option<&Linked>) -> Result<Box<dyn Lease>, KeysError> {
        let file = self.file(session);
        let mut access = file.take_over().await?;
        if !self.files().get(session).is_some_and(|known| Arc::ptr_eq(known, &file)) {
            // The keys were deleted while we waited for them. The caller retries, and then gets a new file.
            return Err(KeysError::InUse);
        }
        let preparing = access.prepare();
        let (looked_at, directory, looking) = (Arc::clone(&file), self.data.session(session), Arc::clone(&preparing));
        let found = on_a_thread("look at", move || {
            let _looking = looking;
            fs::create_dir_all(directory)?;
            Ok(look(looked_at.path()))
        })
        .await??;
        match found.serves(linked) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    session,
                    ?found,
                    "the session is not linked and its keys are of no use: it gets new ones"
                );
                self.set_aside(session, Arc::clone(&preparing)).await?;
            }
            Err(lost) => {
                // Or the next client, which has none to look for, would take another account's.
                if lost != LostKeys::Missing {
                    self.set_aside(session, Arc::clone(&preparing)).await?;
                }
                return Err(KeysError::Lost(lost));
            }
        }
        self.begin(session, &file, found, preparing).await?;
        Ok(Box::new(file.lease(&mut access)))
    }

    async fn erase(&self, session: &str, all: bool) -> Result<(), KeysError> {
        let file = self.file(session);
        let mut access = file.take_over().await?;
        let (directory, lost, preparing) = (self.data.session(session), self.data.lost(session), access.prepare());
        // The thread goes on when nobody waits for it any more, and nobody else gets the keys before it is through.
        let deleted = move || {
            let _preparing = preparing;
            remove(&directory).and_then(|()| if all { remove(&lost) } else { Ok(()) })
        };
        on_a_thread("delete", deleted).await?;
        // It cannot be used any more: a session of the same name gets another one.
        self.files().remove(session);
        drop(access);
        Ok(())
    }

    async fn move_to(&self, to: &str, from: &str) -> Result<(), KeysError> {
        let former = self.file(from);
        let mut access = former.take_over().await?;
        let preparing = access.prepare();
        let moves = [
            (self.data.session(from), self.data.session(to), self.data.keys(to)),
            (self.data.lost(from), self.data.lost(to), self.data.lost(to)),
        ];
        // Nothing waits for the disk: after a power failure they are where they were, and are moved again.
        let moved = move || {
            let _preparing = preparing;
            moves.into_iter().try_for_each(|(from, to, there)| rename(&from, &to, &there))
        };
        on_a_thread("move", moved).await?;
        self.files().remove(from);
        drop(access);
        Ok(())
    }

    async fn bytes(&self) -> io::Result<u64> {
        let sessions = self.data.sessions();
        tokio::task::spawn_blocking(move || bytes(&sessions)).await.map_err(io::Error::other)?
    }
}

const NOTING: &str = "note the use of";

/// Says how many Signal sessions were deleted, where they had to be.
fn make_ready(path: &Path, found: &Found, directory: &Path, start: &str) -> Result<Option<usize>, KeysError> {
    let unnoted = |source| KeysError::Disk { doing: NOTING, source };
    let undeleted = |source| KeysError::Database { doing: "delete the Signal sessions of", source };
    let mut renewed = None;
    if matches!(found, Found::Linked(_)) && rollback::suspected(directory, start).map_err(unnoted)? {
        renewed = Some(rollback::renew(path).map_err(undeleted)?);
    }
    rollback::note(directory, start).map_err(unnoted)?;
    Ok(renewed)
}

async fn on_a_thread<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, KeysError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|source| KeysError::Disk { doing, source })
}

/// Renames a directory, unless `there` says that this was done before.
fn rename(from: &Path, to: &Path, there: &Path) -> io::Result<()> {
    if there.exists() {
        return Ok(());
    }
    unless_absent(fs::rename(from, to))
}

fn remove(directory: &Path) -> io::Result<()> {
    unless_absent(fs::remove_dir_all(directory))
}

/// What is not there needs nothing done.
fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
