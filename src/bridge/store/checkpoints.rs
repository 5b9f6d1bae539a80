//! The thread that copies the log of changes into the tables, beside the one that writes.
//!
//! SQLite does so by itself once the log is long (`layout`), within the commit that made it so: on a disk with few operations a second that
//! would take seconds, in which nobody is answered. Of what was copied before it copies nothing again.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::StoreError;

/// After so many writes it is time: they make about 16 MB of log.
const EVERY: usize = 1024;
/// Whatever is needed for longer by somebody else is left for the next time.
const BUSY: Duration = Duration::from_millis(100);

/// What the thread that writes tells this one.
pub(super) struct Checkpoints {
    due: SyncSender<()>,
    writes: usize,
}

impl Checkpoints {
    /// The thread for the database at `path`; it ends when this is dropped.
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(|source| StoreError::of("open the file", source))?;
        connection.busy_timeout(BUSY).map_err(|source| StoreError::of("set up the file", source))?;
        let (due, told) = sync_channel(1);
        let run = move || run(&connection, &told);
        thread::Builder::new().name("checkpoints".to_owned()).spawn(run).map_err(|_| StoreError::Closed)?;
        Ok(Self { due, writes: 0 })
    }

    /// There were so many more writes.
    pub(super) fn count(&mut self, writes: usize) {
        self.writes += writes;
        if self.writes >= EVERY {
            self.writes = 0;
            // One that is at it does not have to be told.
            let _ = self.due.try_send(());
        }
    }
}

fn run(connection: &Connection, told: &Receiver<()>) {
    while told.recv().is_ok() {
        // Passive: it waits for nobody, and nobody for it.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the log of changes is not copied now");
        }
    }
}
