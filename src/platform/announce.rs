//! Tells the starter of a process where the process listens, when the system chose the ports.

use std::{io, net::SocketAddr, path::Path};

use serde_json::{Map, Value};
use thiserror::Error;

/// The announcement could not be written.
#[derive(Debug, Error)]
#[error("write the addresses to {path} (--announce): {source}; choose a file that this user may write")]
pub struct AnnounceError {
    path: String,
    source: io::Error,
}

/// Writes the addresses to `path` as one JSON object, such as `{"admin": "http://127.0.0.1:8080"}`, in one step, so that
/// a program that waits for the file reads all of it.
///
/// # Errors
/// When the file cannot be written.
pub async fn announce(path: &Path, addresses: &[(&str, String)]) -> Result<(), AnnounceError> {
    let object: Map<String, Value> =
        addresses.iter().map(|(name, url)| ((*name).to_owned(), Value::from(url.as_str()))).collect();
    let text = format!("{}\n", Value::Object(object));
    let draft = path.with_extension(format!("{}.part", std::process::id()));
    let write = async {
        tokio::fs::write(&draft, text).await?;
        tokio::fs::rename(&draft, path).await
    };
    write.await.map_err(|source| AnnounceError { path: path.display().to_string(), source })
}

/// The URL of an address that is listened on, as seen from this machine.
pub fn url(scheme: &str, mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_announcement_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("operator.json");
        let admin = url("http", "0.0.0.0:8080".parse().unwrap());
        announce(&file, &[("admin", admin)]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"admin\":\"http://127.0.0.1:8080\"}\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = announce(Path::new("/nonexistent/file"), &[]).await.unwrap_err().to_string();
        assert!(nowhere.contains("--announce"), "{nowhere}");
    }
}
