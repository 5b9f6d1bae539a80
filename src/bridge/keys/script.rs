//! Keys for tests of what is above them: clients there never make any, so none are expected.

use std::{
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::{KeyStore, KeysError, Lease, Linked, SentMessages, files::KeyFiles};
use crate::data::DataDir;

/// No session has sent anything.
pub struct NothingSent;

#[async_trait]
impl SentMessages for NothingSent {
    async fn message(&self, _: &str, _: &str, _: &str) -> Option<Vec<u8>> {
        None
    }
}

/// Files of keys in a directory of their own, with a note of every deletion.
pub struct NotedKeys {
    /// Where they are.
    pub data: DataDir,
    /// The sessions whose keys were deleted, in order.
    pub erased: Arc<Mutex<Vec<String>>>,
    files: KeyFiles,
    _directory: tempfile::TempDir,
}

impl NotedKeys {
    /// No keys.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::lock(directory.path()).unwrap();
        let files = KeyFiles::new(data.clone(), Arc::new(NothingSent));
        Self { data, erased: Arc::default(), files, _directory: directory }
    }
}

#[async_trait]
impl KeyStore for NotedKeys {
    async fn lease(&self, session: &str, _: Option<&Linked>) -> Result<Box<dyn Lease>, KeysError> {
        self.files.lease(session, None).await
    }

    async fn erase(&self, session: &str, all: bool) -> Result<(), KeysError> {
        self.erased.lock().unwrap().push(session.to_owned());
        self.files.erase(session, all).await
    }

    async fn move_to(&self, to: &str, from: &str) -> Result<(), KeysError> {
        self.files.move_to(to, from).await
    }

    async fn bytes(&self) -> io::Result<u64> {
        self.files.bytes().await
    }
}
