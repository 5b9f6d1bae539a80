//! The data directory: who may use it, and where things are in it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
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

    /// The bridge's own tables.
    pub fn tables(&self) -> PathBuf {
        self.root.join("bridge.db")
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

/// Whoever reads the keys can take over the accounts.
fn restrict(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = std::fs::metadata(root)?.permissions();
    // A mounted volume may belong to somebody else, and its mode may be set by the platform: only ever take rights away.
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
    fn a_file_in_the_way_is_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        let refusal = DataDir::lock(&path).err().unwrap().to_string();
        assert!(refusal.starts_with("cannot use the data directory"), "{refusal}");
    }
}
