//! The data directory: who may use it, and where things are in it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// A data directory that this process has for itself as long as a clone of this lives.
#[derive(Clone)]
pub struct DataDir {
    root: PathBuf,
    // Two processes with one session's keys destroy it. The lock ends with the process, however that ends.
    _lock: Arc<File>,
}

/// The data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// It cannot be made or written.
    #[error("cannot use the data directory {path}: {source}; give a directory this user may write with --data-dir")]
    Unusable {
        /// Which directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by another whatsapp-bridge: stop that one, or give another directory with \
         --data-dir"
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// It is another shard's.
    #[error(
        "the data directory {path} belongs to {theirs}, and this is {ours}: two processes with the same keys would destroy \
         the sessions. If {theirs} is stopped for good, start with --adopt-data; otherwise give this shard a volume of its own"
    )]
    Elsewhere {
        /// Which directory.
        path: PathBuf,
        /// The shard that it belongs to.
        theirs: String,
        /// The shard that this process is.
        ours: String,
    },
}

impl DataDir {
    /// Makes the directory if need be and locks it, before anything in it is read.
    pub fn lock(root: &Path) -> Result<Self, DataError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| DataError::Unusable { path, source }
        };
        let sessions = root.join("sessions");
        std::fs::create_dir_all(&sessions).map_err(unusable(&sessions))?;
        restrict(root).map_err(unusable(root))?;
        let path = root.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(unusable(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => Err(DataError::InUse { path: root.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(&path)(source)),
        }
    }

    /// Notes that it belongs to the shard `place`, or refuses when it belongs to another one, as a restored copy does that
    /// runs beside its original. `adopt` takes it over.
    pub fn belongs_to(&self, place: &str, adopt: bool) -> Result<(), DataError> {
        let path = self.root.join("place");
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| DataError::Unusable { path, source }
        };
        match std::fs::read_to_string(&path) {
            Ok(theirs) if theirs.trim() == place => return Ok(()),
            Ok(theirs) if !adopt && !theirs.trim().is_empty() => {
                let (theirs, ours) = (theirs.trim().to_owned(), place.to_owned());
                return Err(DataError::Elsewhere { path: self.root.clone(), theirs, ours });
            }
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(unusable(&path)(source)),
        }
        // Whole or not at all: half a name would be another shard's.
        let new = self.root.join("place.new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(place.as_bytes())?;
            file.sync_all()
        });
        written.map_err(unusable(&new))?;
        std::fs::rename(&new, &path).map_err(unusable(&path))?;
        File::open(&self.root).and_then(|root| root.sync_all()).map_err(unusable(&self.root))
    }

    /// The bridge's own tables.
    pub fn tables(&self) -> PathBuf {
        self.root.join("bridge.db")
    }

    /// The page that tells the version of the web client, as it was last.
    pub fn page(&self) -> PathBuf {
        self.root.join("sw.js")
    }

    /// How many bytes it takes, and how many of them are the bridge's own tables with their log of changes.
    pub async fn bytes(&self) -> io::Result<(u64, u64)> {
        let (root, tables) = (self.root.clone(), self.tables());
        let measure = move || {
            let size = |path: PathBuf| path.metadata().map_or(0, |found| found.len());
            let database = size(tables.clone()) + size(tables.with_extension("db-wal"));
            Ok((bytes(&root)?, database))
        };
        tokio::task::spawn_blocking(measure).await.map_err(io::Error::other)?
    }

    /// The directories of all sessions.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// The directory of everything that belongs to session `id` alone. Ids are checked at the door and cannot climb.
    pub fn session(&self, id: &str) -> PathBuf {
        self.sessions().join(id)
    }

    /// Where keys of session `id` go that are of no use to it. They may be another session's, or may be repaired by hand.
    pub fn lost(&self, id: &str) -> PathBuf {
        self.root.join("lost").join(id)
    }

    /// The keys of session `id`.
    pub fn keys(&self, id: &str) -> PathBuf {
        self.session(id).join("keys.db")
    }
}

/// The bytes of everything in `directory`. What goes away meanwhile does not count.
pub fn bytes(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        sum += match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()).unwrap_or_default(),
            Ok(found) => found.len(),
            Err(_) => 0,
        };
    }
    Ok(sum)
}

/// The keys are enough to take over the accounts.
fn restrict(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = std::fs::metadata(root)?.permissions();
    // A mounted volume may belong to another user, and its mode may be set by the platform: only ever take rights away.
    if permissions.mode() & 0o007 != 0 {
        permissions.set_mode(permissions.mode() & !0o007);
        if let Err(error) = std::fs::set_permissions(root, permissions)
            && error.kind() != io::ErrorKind::PermissionDenied
        {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::lock(directory.path()).unwrap();
        let refusal = DataDir::lock(directory.path()).err().unwrap();
        assert!(matches!(refusal, DataError::InUse { .. }), "{refusal}");
        drop(first);
        DataDir::lock(directory.path()).unwrap();
    }

    #[test]
    fn a_copy_that_is_started_elsewhere_is_refused_until_it_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::lock(directory.path()).unwrap();
        data.belongs_to("a/bridge-0", false).unwrap();
        data.belongs_to("a/bridge-0", false).unwrap();
        let refusal = data.belongs_to("b/bridge-0", false).unwrap_err().to_string();
        assert!(refusal.contains("belongs to a/bridge-0, and this is b/bridge-0"), "{refusal}");
        data.belongs_to("b/bridge-0", true).unwrap();
        data.belongs_to("b/bridge-0", false).unwrap();
        assert!(data.belongs_to("a/bridge-0", false).is_err());
    }

    #[test]
    fn a_file_in_the_way_is_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        let refusal = DataDir::lock(&path).err().unwrap().to_string();
        assert!(refusal.starts_with("cannot use the data directory"), "{refusal}");
    }
}
