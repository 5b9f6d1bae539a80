//! Certificates, keys and authorities given as files, taken in again whenever they change: they are renewed long before
//! a process restarts.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{fs, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Tls, TlsError};

/// How often files are read. The kubelet itself needs up to a minute to bring a change into a mount.
pub const LOOK: Duration = Duration::from_secs(5);

/// Why files cannot be taken in.
#[derive(Debug, Error)]
pub enum FilesError {
    /// There is no such file, or it may not be read.
    #[error("read {path} ({flag}): {source}")]
    Read {
        /// Which.
        path: String,
        /// What gave it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// They hold something else.
    #[error("use {paths} ({flag}): {source}")]
    Use {
        /// Which.
        paths: String,
        /// What gave them.
        flag: &'static str,
        /// What is wrong.
        source: TlsError,
    },
}

/// Files that a [`Tls`] is made from.
pub struct Files {
    tls: Arc<Tls>,
    what: What,
    flag: &'static str,
    paths: Vec<PathBuf>,
    taken: Option<Vec<String>>,
}

/// What the files hold.
#[derive(Clone, Copy)]
enum What {
    /// A certificate chain, then its private key.
    Certificate,
    /// Authorities, in each file.
    Authorities,
}

impl Files {
    /// A certificate chain and its private key, given by `flag`.
    pub fn certificate(tls: &Arc<Tls>, chain: &Path, key: &Path, flag: &'static str) -> Self {
        let paths = vec![chain.to_owned(), key.to_owned()];
        Self { tls: Arc::clone(tls), what: What::Certificate, flag, paths, taken: None }
    }

    /// The authorities that callers' certificates must be signed by, given by `flag`.
    pub fn authorities(tls: &Arc<Tls>, path: &Path, flag: &'static str) -> Self {
        Self { tls: Arc::clone(tls), what: What::Authorities, flag, paths: vec![path.to_owned()], taken: None }
    }

    /// Reads the files, and takes them in if they are not what they were. Says whether they were.
    ///
    /// # Errors
    /// When they cannot be read or used, for example because one of two is not written yet; what was taken in stays.
    pub async fn take(&mut self) -> Result<bool, FilesError> {
        let mut texts = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let failed = |source| FilesError::Read { path: path.display().to_string(), flag: self.flag, source };
            texts.push(fs::read_to_string(path).await.map_err(failed)?);
        }
        if self.taken.as_ref() == Some(&texts) {
            return Ok(false);
        }
        let failed = |source| FilesError::Use { paths: self.to_string(), flag: self.flag, source };
        let used = match (self.what, texts.as_slice()) {
            (What::Certificate, [chain, key]) => self.tls.show(chain, key),
            (What::Certificate, _) => Ok(()),
            (What::Authorities, texts) => texts.iter().try_for_each(|text| self.tls.answer_only(text)),
        };
        used.map_err(failed)?;
        self.taken = Some(texts);
        Ok(true)
    }

    /// Keeps up with the files until `stop`, reading them every `look`. What is wrong with them is said once.
    pub async fn keep(mut self, look: Duration, stop: CancellationToken) {
        let mut complained = None;
        loop {
            match self.take().await {
                Ok(fresh) => {
                    if fresh {
                        tracing::info!(files = %self, "loaded");
                    }
                    complained = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if complained.as_ref() != Some(&error) {
                        tracing::error!(error, "what was loaded before stays in use");
                    }
                    complained = Some(error);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(look) => {}
            }
        }
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        f.write_str(&paths.join(" and "))
    }
}
