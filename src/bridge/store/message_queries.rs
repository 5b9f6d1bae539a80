//! What is asked about messages.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use whatsapp_operator::bridge_api::Message;

use super::{
    remnants::Remembered,
    row::{COLUMNS, from_sql, nothing, read, read_with, time, to_sql},
};
use crate::outbox::{RecipientKey, Waiting};

/// A message by its id.
pub(super) fn by_id(connection: &Connection, session: &str, id: &str) -> rusqlite::Result<Option<Message>> {
    let query = format!("SELECT {COLUMNS} FROM messages WHERE session = ?1 AND id = ?2 AND digest IS NULL");
    connection.prepare_cached(&query)?.query_row(params![session, id], read).optional()
}

/// A message that the server was given, by its id.
pub(super) fn handed_over(connection: &Connection, session: &str, id: &str) -> rusqlite::Result<Option<Message>> {
    let query =
        format!("SELECT {COLUMNS} FROM messages WHERE session = ?1 AND id = ?2 AND digest IS NULL AND handed_over");
    connection.prepare_cached(&query)?.query_row(params![session, id], read).optional()
}

/// What is known of the message that was accepted under an id.
pub(super) fn remembered(connection: &Connection, session: &str, id: &str) -> rusqlite::Result<Option<Remembered>> {
    let query = format!("SELECT {COLUMNS}, digest FROM messages WHERE session = ?1 AND id = ?2");
    let remembered = |row: &Row<'_>| match row.get(15)? {
        Some(digest) => {
            let message = read_with(row, |_| Ok(nothing()))?;
            // Where the text was stands the id that the session had before, if it had another one.
            let before: String = row.get("content")?;
            let session = if before.is_empty() { message.status.session.clone() } else { before };
            Ok(Remembered::Remnant(message, digest, session))
        }
        None => Ok(Remembered::Whole(read(row)?)),
    };
    connection.prepare_cached(&query)?.query_row(params![session, id], remembered).optional()
}

/// A message by its sequence.
pub(super) fn by_sequence(connection: &Connection, session: &str, sequence: u64) -> rusqlite::Result<Option<Message>> {
    let query = format!("SELECT {COLUMNS} FROM messages WHERE session = ?1 AND sequence = ?2");
    connection.prepare_cached(&query)?.query_row(params![session, to_sql(sequence)], read).optional()
}

/// Bytes of texts after which a page ends, whatever its limit: a page is several times in the memory of bridge and gateway, for each
/// caller who asks for one, and 50 texts may have 20 MB.
const LONGEST_PAGE: usize = 128 << 10;

/// Messages of a session before a sequence, newest first, at most so many; and whether there are more. Remnants say nothing, so they are
/// none.
pub(super) fn page(
    connection: &Connection,
    session: &str,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<(Vec<Message>, bool)> {
    let query = format!(
        "SELECT {COLUMNS} FROM messages WHERE session = ?1 AND sequence < ?2 AND digest IS NULL
         ORDER BY sequence DESC"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params![session, before.map_or(i64::MAX, to_sql)])?;
    let (mut page, mut texts) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if page.len() == limit || texts >= LONGEST_PAGE {
            return Ok((page, true));
        }
        texts += row.get_ref("content")?.as_str()?.len();
        page.push(read(row)?);
    }
    Ok((page, false))
}

// None of these goes through what a session has sent: there may be a million of it.
pub(super) const WAITING: &str = "SELECT sequence, recipient_key, expires_at, handed_over FROM messages
    WHERE session = ?1 AND state = 'Queued' ORDER BY sequence";

pub(super) const KNOWN: &str = "SELECT DISTINCT recipient_key FROM messages
    WHERE session = ?1 AND sent_at IS NOT NULL AND recipient_key IN
        (SELECT recipient_key FROM messages WHERE session = ?1 AND state = 'Queued')";

pub(super) const LOAD: &str = "SELECT count(*), coalesce(max(recipient_key IS ?2), 0) FROM
    (SELECT recipient_key FROM messages WHERE session = ?1 AND state = 'Queued' LIMIT ?3)";

/// What waits in a session, in order, and the last sequence that was given out there.
pub(super) fn waiting(connection: &Connection, session: &str) -> rusqlite::Result<(Vec<Waiting>, u64)> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(sequence) FROM messages WHERE session = ?1")?
        .query_row(params![session], |row| row.get(0))?;
    let waiting = connection
        .prepare_cached(WAITING)?
        .query_map(params![session], |row| {
            Ok(Waiting {
                sequence: from_sql(row.get(0)?),
                recipient: row.get::<_, i64>(1)?.cast_unsigned(),
                known: false,
                expires_at: time(row.get(2)?),
                handed_over: row.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok((waiting, last.map_or(0, from_sql)))
}

/// The messages that wait and were handed over: id, sequence, and when the recipient's phone told that it has it.
pub(super) fn unanswered(
    connection: &Connection,
    session: &str,
) -> rusqlite::Result<Vec<(String, u64, Option<Timestamp>)>> {
    connection
        .prepare_cached(
            "SELECT id, sequence, coalesce(delivered_at, read_at) FROM messages
             WHERE session = ?1 AND state = 'Queued' AND handed_over ORDER BY sequence",
        )?
        .query_map(params![session], |row| {
            Ok((row.get(0)?, from_sql(row.get(1)?), row.get::<_, Option<i64>>(2)?.map(time)))
        })?
        .collect()
}

/// To whom of those that wait a message of the session has been sent before.
pub(super) fn known(connection: &Connection, session: &str) -> rusqlite::Result<Vec<RecipientKey>> {
    connection
        .prepare_cached(KNOWN)?
        .query_map(params![session], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?
        .collect()
}

/// Whether a message of the session has been sent to the person with these keys before.
pub(super) fn knows(connection: &Connection, session: &str, person: &[RecipientKey]) -> rusqlite::Result<bool> {
    let mut sent = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE session = ?1 AND recipient_key = ?2 AND sent_at IS NOT NULL)",
    )?;
    let mut knows = false;
    for key in person {
        knows = knows || sent.query_row(params![session, key.cast_signed()], |row| row.get(0))?;
    }
    Ok(knows)
}

/// How many messages wait in a session, counted up to `most`, and whether one of those, or one that was sent, is for the person with
/// these keys.
pub(super) fn load(
    connection: &Connection,
    session: &str,
    person: &[RecipientKey],
    most: u32,
) -> rusqlite::Result<(u64, bool)> {
    let mut load = connection.prepare_cached(LOAD)?;
    let mut loaded = |key: Option<RecipientKey>| -> rusqlite::Result<(i64, bool)> {
        load.query_row(params![session, key.map(u64::cast_signed), most], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    let (waiting, mut knows) = match person.first() {
        Some(first) => loaded(Some(*first))?,
        None => (loaded(None)?.0, false),
    };
    for key in person.iter().skip(1) {
        knows = knows || loaded(Some(*key))?.1;
    }
    Ok((from_sql(waiting), knows || self::knows(connection, session, person)?))
}

/// Since when the oldest message that waits has waited.
pub(super) fn oldest_waiting(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let oldest: Option<i64> =
        connection.query_row("SELECT min(accepted_at) FROM messages WHERE state = 'Queued'", [], |row| row.get(0))?;
    Ok(oldest.map(time))
}
