//! Keys that were rolled back: whether they were, and what is done about it.
//!
//! A file of keys is written without waiting for the disk: a message takes several writes, and a flush for each of them would cost more
//! than all the rest of sending. A process that is killed loses none of them, since the kernel has them. A machine that goes down does: the
//! file is then as it was some seconds ago, and one from a snapshot as it was hours ago. Each Signal session in it numbers its next
//! messages again with numbers that it has used up. The recipient takes such a message for a copy of an earlier one and drops it without a
//! word (`DuplicatedMessage` in libsignal, `ErrOldCounter` in whatsmeow): nobody would ever read it.
//!
//! So a lease notes beside the file under which start of the machine it is used, and at its end, when everything is on the disk, that it is
//! not. Who finds a note of another start makes new Signal sessions: the old ones are deleted, and the library asks
//! for the recipients' pre-keys when it writes to them next. What was encrypted for a deleted session cannot be read; the library asks
//! its sender for it again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use super::check::open;

/// The note's name, in the directory of a session's keys.
const NOTE: &str = "in-use";
/// All notes are this long, so that one is written over another also while the disk is full.
const LENGTH: usize = 40;
/// What is noted of keys that are not used.
const UNUSED: &str = "no";
/// What is noted of keys that were restored from a copy: no start of a machine.
pub(super) const RESTORED: &str = "restored";

/// The machine's current start: an id that Linux draws anew at every start (random(4), `/proc/sys/kernel/random/boot_id`). Where it cannot be
/// read, no two starts of the process are taken for the same.
pub(super) fn machine_start() -> String {
    let drawn = || format!("unknown-{:016x}", fastrand::u64(..));
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| drawn(), |id| id.trim().to_owned())
}

/// Whether the keys in `directory` may have been rolled back, now that the machine's start is `current`.
pub(super) fn suspected(directory: &Path, current: &str) -> io::Result<bool> {
    Ok(read(directory)?.is_some_and(|noted| noted != UNUSED && noted != current))
}

/// Notes on the disk that the keys in `directory` are used under this start of the machine.
pub(super) fn note(directory: &Path, start: &str) -> io::Result<()> {
    let is_new = read(directory)?.is_none();
    write(directory, start)?.sync_all()?;
    if is_new { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// The keys in `directory` are on the disk and not used any more. That this is not noted costs new Signal sessions at worst.
pub(super) fn unused(directory: &Path) {
    if let Err(error) = write(directory, UNUSED)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %directory.display(), "cannot note that keys are not in use any more");
    }
}

/// The note. Half of one, after the machine went down while it was written, says nothing that is known.
fn read(directory: &Path) -> io::Result<Option<String>> {
    match fs::read(directory.join(NOTE)) {
        Ok(note) => Ok(Some(String::from_utf8_lossy(&note).trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(directory: &Path, note: &str) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(NOTE))?;
    file.write_all(format!("{note:<LENGTH$}").as_bytes())?;
    Ok(file)
}

/// Deletes the Signal sessions in the file of keys at `path`, on the disk. Says how many there were.
pub(super) fn renew(path: &Path) -> rusqlite::Result<usize> {
    let mut connection = open(path)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    let transaction = connection.transaction()?;
    let deleted = transaction.execute("DELETE FROM sessions", [])?;
    // Those of groups, which number their messages in the same way.
    transaction.execute_batch("DELETE FROM sender_keys; DELETE FROM sender_key_devices")?;
    transaction.commit()?;
    Ok(deleted)
}
