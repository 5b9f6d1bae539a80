//! The threads on which the bridge works.
//!
//! Clients (the WhatsApp library: encryption, key files, connections) have a runtime of their own that stands back when the CPU is
//! short. Otherwise a burst of messages would be accepted no faster than it is encrypted, though what is accepted may wait.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// SQLite runs on these, for moments at a time. The default of 512 costs a burst of pairings hundreds of threads, and
/// their memory afterwards.
const BLOCKING: usize = 8;
/// How far the threads of clients stand back (`nice`): against one that accepts, one of theirs gets about a third of the CPU, so that
/// neither side can starve the other.
#[cfg(target_os = "linux")]
const STAND_BACK: i32 = 5;

/// Where requests are answered and sessions are decided on.
///
/// # Errors
/// When there are no threads to be had.
pub fn api() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("api").max_blocking_threads(BLOCKING).build()
}

/// Where clients run.
///
/// # Errors
/// When there are no threads to be had.
pub fn clients() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().thread_name("clients").max_blocking_threads(BLOCKING);
    // Linux keeps this for each thread; elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    builder.on_thread_start(|| {
        // Without it they only compete.
        let _ = rustix::process::nice(STAND_BACK);
    });
    builder.build()
}
