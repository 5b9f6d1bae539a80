use std::time::Duration;

use wacore::store::traits::{DeviceStore, SignalStore};

use super::Keys;

const KEY: [u8; 32] = [7; 32];
const NEVER: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the file is closed.
async fn closed(keys: &Keys) {
    let closing = async {
        while keys.0.slot.lock().await.store.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closing).await.unwrap();
}

#[tokio::test]
async fn an_unused_file_is_closed_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let keys = Keys::new(&path, Duration::ZERO);
    keys.put_identity("alice", KEY).await.unwrap();
    closed(&keys).await;
    assert!(!path.with_extension("db-wal").exists(), "a closed file needs no log of changes");
    assert_eq!(keys.load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn a_used_file_stays_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let keys = Keys::new(&path, NEVER);
    keys.put_identity("alice", KEY).await.unwrap();
    assert!(keys.0.slot.lock().await.store.is_some());
    assert!(path.with_extension("db-wal").exists());
}

#[tokio::test]
async fn what_is_left_of_a_client_that_is_over_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let keys = Keys::new(&path, NEVER);
    let left = keys.clone();
    left.put_identity("alice", KEY).await.unwrap();
    keys.close().await;
    assert!(keys.0.slot.lock().await.store.is_none());
    assert!(left.put_identity("alice", [8; 32]).await.is_err());
    assert!(left.exists().await.is_err());
    assert_eq!(Keys::new(&path, NEVER).load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn a_client_that_is_dropped_lets_go_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::new(&directory.path().join("keys.db"), NEVER);
    let lease = keys.lease();
    keys.put_identity("alice", KEY).await.unwrap();
    drop(lease);
    closed(&keys).await;
    assert!(keys.load_identity("alice").await.is_err());
}

#[tokio::test]
async fn what_a_killed_process_left_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let keys = Keys::new(&path, NEVER);
    keys.put_identity("alice", KEY).await.unwrap();
    let left = directory.path().join("left.db");
    for file in ["db", "db-wal"] {
        std::fs::copy(path.with_extension(file), left.with_extension(file)).unwrap();
    }
    assert_eq!(Keys::new(&left, NEVER).load_identity("alice").await.unwrap(), Some(KEY));
}
