//! Brings what was written from SQLite's log of changes into the file, once the log has grown.
//!
//! That takes thousands of pages and two flushes: done by the thread that writes, as SQLite does by itself, everybody who writes
//! waits for it meanwhile. So another thread copies, beside it; what was written during that is little, and copied by the thread
//! that writes. Then the log begins anew, which it does only between two writes.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use rusqlite::Connection;

/// Pages in the log (16 MB) from which on it is copied: the more changes, the fewer pages are written twice. Its file is used
/// again and not made anew, which is what makes a flush slow.
const COPIED_FROM: i32 = 4096;
/// Pages in the log (64 MB) from which on those who write wait for it.
const MOST: i32 = 4 * COPIED_FROM;

thread_local! {
    /// How many pages the log has, as SQLite told the thread that writes.
    static LOGGED: Cell<i32> = const { Cell::new(0) };
}

/// What the thread that writes does for it.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    nearly_done: Arc<AtomicBool>,
}

/// What the thread that copies does.
pub(super) struct Copier {
    wakes: Receiver<()>,
    nearly_done: Arc<AtomicBool>,
}

/// The two sides, for what is written by this connection.
pub(super) fn checkpoints(connection: &Connection) -> (Checkpoints, Copier) {
    // This takes the place of SQLite's own.
    connection.wal_hook(Some(|_, pages| {
        LOGGED.set(pages);
        Ok(())
    }));
    let ((wake, wakes), nearly_done) = (sync_channel(1), Arc::<AtomicBool>::default());
    (Checkpoints { wake, nearly_done: Arc::clone(&nearly_done) }, Copier { wakes, nearly_done })
}

impl Checkpoints {
    /// Between two transactions, in the thread that writes. A disk that refuses says so to those who write.
    pub(super) fn between_writes(&self, connection: &Connection) {
        let logged = LOGGED.get();
        if self.nearly_done.swap(false, Ordering::Relaxed) || logged >= MOST {
            let _ = copy(connection);
        } else if logged >= COPIED_FROM {
            // One that is awake is at it.
            let _ = self.wake.try_send(());
        }
    }
}

impl Copier {
    /// Copies each time it is woken, until nobody writes any more.
    pub(super) fn run(&self, connection: &Connection) {
        while self.wakes.recv().is_ok() {
            self.nearly_done.store(copy(connection).is_ok(), Ordering::Relaxed);
            // What it was woken for meanwhile is done.
            let _ = self.wakes.try_recv();
        }
    }
}

/// Copies what can be copied without keeping anybody from writing.
fn copy(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
