//! Files that are replaced whole, so that a reader or a crash never meets half of one.

use anyhow::Context as _;
use std::path::Path;

/// Writes `bytes` beside `path` and renames it into place.
///
/// # Errors
/// With the path and what failed.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// With the path and what failed.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
