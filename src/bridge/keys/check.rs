//! Looks at a file of keys before the library opens it: the library takes whatever is there, and makes new keys where
//! there are none.

use std::{fs, io, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::{KeysError, Linked, LostKeys};

/// Longer than the moment in which a former client's file is closed.
const BUSY: Duration = Duration::from_secs(5);
/// Up to this size a file is read whole: a damaged page in the middle of it shows only when the library needs it. Keys of a
/// quiet session have a third of a megabyte, and reading them takes two milliseconds.
const READ_WHOLE: u64 = 4 * 1024 * 1024;

/// The size of the smallest page.
const SMALLEST: u64 = 512;

/// What is in a file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or no device.
    Nothing,
    /// A device that is not linked yet.
    Unlinked,
    /// A linked device, and the digits of the account's number where it is known.
    Linked(Option<String>),
    /// Something that cannot be read.
    Unreadable,
}

impl Found {
    /// Whether the keys can be used by a session whose record says `linked`. `false`: not these, but new ones.
    pub(super) fn serves(&self, linked: Option<&Linked>) -> Result<bool, LostKeys> {
        match (self, linked) {
            (Self::Unreadable, None) => Ok(false),
            (_, None) => Ok(true),
            (Self::Nothing | Self::Unlinked, Some(_)) => Err(LostKeys::Missing),
            (Self::Unreadable, Some(_)) => Err(LostKeys::Unreadable),
            (Self::Linked(found), Some(Linked { phone_number: Some(number) })) => {
                let number = number.reveal().trim_start_matches('+');
                if found.as_deref().is_none_or(|found| found == number) { Ok(true) } else { Err(LostKeys::Foreign) }
            }
            (Self::Linked(_), Some(Linked { phone_number: None })) => Ok(true),
        }
    }
}

/// Reads the file at `path`. An error says nothing about the keys: the disk is full, a file too many is open, or the file is
/// another user's, as after a restore.
pub(super) fn look(path: &Path) -> Result<Found, KeysError> {
    let size = match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if !found.is_file() => return Ok(Found::Unreadable),
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(source) => return Err(KeysError::Disk { doing: "look at", source }),
    };
    match size {
        0 => return Ok(Found::Nothing),
        // SQLite would take it for an empty file.
        1..SMALLEST => return Ok(Found::Unreadable),
        _ => {}
    }
    let whole = size <= READ_WHOLE;
    if whole {
        // SQLite's check says of a page that the disk did not give, once, what it says of one that is damaged for good.
        is_readable(path).and_then(|()| is_readable(&path.with_extension("db-wal")))?;
    }
    match read(path, whole) {
        Ok(found) => Ok(found),
        Err(error) if damaged(&error) => Ok(Found::Unreadable),
        Err(source) => Err(KeysError::Database { doing: "look at", source }),
    }
}

/// Whether the disk gives all of a file, if it is there.
fn is_readable(path: &Path) -> Result<(), KeysError> {
    match fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink())) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeysError::Disk { doing: "look at", source }),
        _ => Ok(()),
    }
}

fn damaged(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            // The last one is "no such column": a database, but not of keys.
            ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown
        ),
        // A value of another type than it must have.
        None => true,
    }
}

/// Opens a file of keys that is there, past the library.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn read(path: &Path, whole: bool) -> rusqlite::Result<Found> {
    let connection = open(path)?;
    if whole {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Ok(Found::Unreadable);
        }
    }
    let tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'device'";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Found::Nothing);
    }
    let device = connection
        .query_row("SELECT pn, lid, noise_key, identity_key FROM device LIMIT 1", [], |row| {
            let keys = [row.get::<_, Vec<u8>>(2)?, row.get::<_, Vec<u8>>(3)?];
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, keys))
        })
        .optional()?;
    Ok(match device {
        None => Found::Nothing,
        // The library keeps a pair as 32 bytes each.
        Some((_, _, keys)) if keys.iter().any(|pair| pair.len() != 64) => Found::Unreadable,
        Some((number, other, _)) if number.is_empty() && other.is_empty() => Found::Unlinked,
        Some((number, _, _)) => {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            Found::Linked((!digits.is_empty()).then_some(digits))
        }
    })
}
