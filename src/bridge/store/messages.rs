//! Messages and claims in the database.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use whatsapp_operator::{
    bridge_api::{Claim, Content, Message, MessageCause, MessageState, MessageStatus, Open},
    model::Sensitive,
};

use super::remnants::{self, Remembered};
use crate::{
    machine::Receipt,
    outbox::{RecipientKey, Settled, Waiting},
};

/// A change of the table of messages.
#[derive(Clone)]
pub enum MessageChange {
    /// A message is accepted, unless its session has one with that id.
    Accept {
        /// The message.
        message: Box<Message>,
        /// Stands for its recipient.
        recipient: RecipientKey,
    },
    /// It is handed over to the server from here on.
    HandOver {
        /// Its session.
        session: String,
        /// Its place there.
        sequence: u64,
    },
    /// Nothing came of handing it over.
    TakeBack {
        /// Its session.
        session: String,
        /// Its place there.
        sequence: u64,
    },
    /// It is settled. By the wall clock. One of which the recipient's phone has told was sent, whatever is said here.
    Settle {
        /// Its session.
        session: String,
        /// Its place there.
        sequence: u64,
        /// How.
        settled: Settled,
    },
    /// A device of the recipient tells of it. One that had failed was sent, where it is the phone that tells.
    Receipt {
        /// Its session.
        session: String,
        /// Its id.
        id: String,
        /// What it tells.
        receipt: Receipt,
        /// When.
        at: Timestamp,
    },
    /// All that wait in a session fail: it is gone, or the account that was to send them is.
    Abandon {
        /// The session.
        session: String,
        /// Which of the two.
        cause: MessageCause,
        /// When.
        at: Timestamp,
    },
    /// Messages that were over before then are forgotten, the oldest first, at most so many. Of those that an idempotency key may
    /// still name, a remnant stays.
    Forget {
        /// Over before then.
        before: Timestamp,
        /// The time.
        now: Timestamp,
        /// At most.
        most: u32,
    },
    /// Claims whose time has passed go, and the remnants that nobody can ask for any more; at most so many of each.
    ForgetKeys {
        /// The time.
        now: Timestamp,
        /// At most.
        most: u32,
    },
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A message as it is now.
    Message {
        /// The message.
        message: Box<Message>,
        /// Whether the change did something to it that is to be told.
        changed: bool,
        /// Whether it waits no longer because of the change.
        settled: bool,
    },
    /// The claim that counts.
    Claim {
        /// The claim.
        claim: Claim,
        /// Whether it was made now.
        new: bool,
    },
}

const COLUMNS: &str = "session, sequence, id, recipient, content, state, cause, code, accepted_at, expires_at, sent_at, \
                       delivered_at, companion_delivered_at, read_at, ended_at";

impl MessageChange {
    pub(super) fn write(&self, connection: &Connection, told: &mut Vec<Told>) -> rusqlite::Result<()> {
        match self {
            Self::Accept { message, recipient } => accept(connection, message, *recipient, told),
            Self::HandOver { session, sequence } => handed_over(connection, session, *sequence, true),
            Self::TakeBack { session, sequence } => handed_over(connection, session, *sequence, false),
            Self::Settle { session, sequence, settled } => {
                let at = settled.at.as_millisecond();
                let (sent_at, ended_at) =
                    if settled.state == MessageState::Sent { (Some(at), None) } else { (None, Some(at)) };
                // A receipt may have been faster than the acknowledgement: then it is further than sent already.
                let query = format!(
                    "UPDATE messages SET {} WHERE session = ?1 AND sequence = ?2 AND state = 'Queued' RETURNING {COLUMNS}",
                    ended_as("?3", "?4", "?5", "?6", "?7")
                );
                let cause = settled.cause.map(word);
                let values =
                    params![session, to_sql(*sequence), word(settled.state), cause, settled.code, sent_at, ended_at];
                settle(changed(connection, &query, values)?, told);
                Ok(())
            }
            Self::Receipt { session, id, receipt, at } => {
                // What was read was delivered. A message that waits for the acknowledgement stays queued until it comes.
                let set = match receipt {
                    Receipt::Delivered => format!("delivered_at = ?3, {}", arrived("'Sent'", "'Delivered'")),
                    Receipt::CompanionDelivered => "companion_delivered_at = ?3".to_owned(),
                    Receipt::Read => format!(
                        "read_at = ?3, delivered_at = coalesce(delivered_at, ?3), {}",
                        arrived("'Sent', 'Delivered'", "'Read'")
                    ),
                };
                let first = match receipt {
                    Receipt::Delivered => "delivered_at",
                    Receipt::CompanionDelivered => "companion_delivered_at",
                    Receipt::Read => "read_at",
                };
                let query = format!(
                    "UPDATE messages SET {set} WHERE session = ?1 AND id = ?2 AND {first} IS NULL RETURNING {COLUMNS}"
                );
                let moved = changed(connection, &query, params![session, id, at.as_millisecond()])?;
                // One that waits for the acknowledgement waits on, as far as anybody can tell; of a remnant nothing is told.
                let moved = moved.into_iter().filter(|message| message.status.state != MessageState::Queued);
                let moved = moved.filter(|message| !message.to.reveal().is_empty());
                told.extend(moved.map(|message| one(message, false)));
                Ok(())
            }
            Self::Abandon { session, cause, at } => {
                settle(changed(connection, &abandon(), params![session, at.as_millisecond(), word(*cause)])?, told);
                Ok(())
            }
            Self::Forget { before, now, most } => remnants::forget(connection, *before, *now, *most),
            Self::ForgetKeys { now, most } => remnants::forget_keys(connection, *now, *most),
        }
    }
}

/// Sets what becomes of a message that waits. Where the recipient's phone has told of it, it was sent: that is not unsaid, not by the
/// end of the session and not by what the server says of a later attempt. What only another device could read was not.
fn ended_as(state: &str, cause: &str, code: &str, sent_at: &str, ended_at: &str) -> String {
    let told = "coalesce(delivered_at, read_at)";
    format!(
        "state = CASE WHEN read_at IS NOT NULL THEN 'Read' WHEN delivered_at IS NOT NULL THEN 'Delivered'
                      ELSE {state} END,
         cause = iif({told} IS NULL, {cause}, NULL), code = iif({told} IS NULL, {code}, NULL),
         sent_at = coalesce({sent_at}, {told}), ended_at = iif({told} IS NULL, {ended_at}, NULL)"
    )
}

/// Sets how far a message is that the recipient's phone tells of at ?3. One that had failed was sent all the same, by an attempt to which
/// there was no answer, or as an answer to the phone, which asked for it again.
fn arrived(from: &str, to: &str) -> String {
    let unless_failed = |column| format!("{column} = iif(state = 'Failed', NULL, {column})");
    format!(
        "state = iif(state IN ({from}, 'Failed'), {to}, state), {}, {}, {},
         sent_at = iif(state = 'Failed', coalesce(sent_at, ?3), sent_at)",
        unless_failed("cause"),
        unless_failed("code"),
        unless_failed("ended_at")
    )
}

/// All that wait in a session fail.
pub(super) fn abandon() -> String {
    format!(
        "UPDATE messages INDEXED BY messages_waiting SET {} WHERE session = ?1 AND state = 'Queued' RETURNING {COLUMNS}",
        ended_as("'Failed'", "?3", "NULL", "NULL", "?2")
    )
}

fn handed_over(connection: &Connection, session: &str, sequence: u64, it_is: bool) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE messages SET handed_over = ?3 WHERE session = ?1 AND sequence = ?2")?
        .execute(params![session, to_sql(sequence), it_is])?;
    Ok(())
}

fn accept(
    connection: &Connection,
    message: &Message,
    recipient: RecipientKey,
    told: &mut Vec<Told>,
) -> rusqlite::Result<()> {
    let status = &message.status;
    let content = serde_json::to_string(&message.content)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let made = connection
        .prepare_cached(
            "INSERT INTO messages (session, sequence, id, recipient, recipient_key, content, state, accepted_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'Queued', ?7, ?8) ON CONFLICT (session, id) DO NOTHING",
        )?
        .execute(params![
            status.session,
            to_sql(status.sequence),
            status.id,
            message.to.reveal(),
            recipient.cast_signed(),
            content,
            status.accepted_at.as_millisecond(),
            status.expires_at.as_millisecond(),
        ])?;
    if made == 1 {
        told.push(one(message.clone(), false));
    } else if let Some(before) = remembered(connection, &status.session, &status.id)? {
        let before = before.asked_for(recipient, &message.to, &message.content);
        told.push(Told::Message { message: Box::new(before), changed: false, settled: false });
    }
    Ok(())
}

/// Makes a change, and gives the messages that it changed.
fn changed(connection: &Connection, query: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<Vec<Message>> {
    let mut statement = connection.prepare_cached(query)?;
    // A text that cannot be read must not keep its message, and whatever is written with it, from going on.
    let changed = statement.query_map(values, |row| read_with(row, |_| Ok(nothing())))?;
    changed.collect()
}

fn one(message: Message, settled: bool) -> Told {
    Told::Message { message: Box::new(message), changed: true, settled }
}

/// Tells of messages that are settled. One whose receipts were faster than the acknowledgement has been sent first, for those who
/// follow.
fn settle(messages: Vec<Message>, told: &mut Vec<Told>) {
    for message in messages {
        let further = matches!(message.status.state.known(), Some(MessageState::Delivered | MessageState::Read));
        if further {
            let mut sent = message.clone();
            sent.status.state = MessageState::Sent.into();
            (sent.status.delivered_at, sent.status.read_at) = (None, None);
            told.push(one(sent, true));
        }
        told.push(one(message, !further));
    }
}

/// Makes a claim, unless there is one whose time has not come.
pub(super) fn claim(
    connection: &Connection,
    key: &str,
    claim: &Claim,
    now: Timestamp,
    told: &mut Vec<Told>,
) -> rusqlite::Result<()> {
    let text =
        serde_json::to_string(claim).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let made = connection
        .prepare_cached(
            "INSERT INTO claims (key, claim, expires_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (key) DO UPDATE SET claim = ?2, expires_at = ?3 WHERE expires_at < ?4",
        )?
        .execute(params![key, text, claim.expires_at.as_millisecond(), now.as_millisecond()])?;
    let counts = if made == 1 {
        claim.clone()
    } else {
        claimed(connection, key, Timestamp::MIN)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
    };
    told.push(Told::Claim { claim: counts, new: made == 1 });
    Ok(())
}

/// The claim of a key that counts at `now`.
pub(super) fn claimed(connection: &Connection, key: &str, now: Timestamp) -> rusqlite::Result<Option<Claim>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT claim FROM claims WHERE key = ?1 AND expires_at >= ?2")?
        .query_row(params![key, now.as_millisecond()], |row| row.get(0))
        .optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(0, error))).transpose()
}

/// A message by its id.
pub(super) fn by_id(connection: &Connection, session: &str, id: &str) -> rusqlite::Result<Option<Message>> {
    let query = format!("SELECT {COLUMNS} FROM messages WHERE session = ?1 AND id = ?2 AND digest IS NULL");
    connection.prepare_cached(&query)?.query_row(params![session, id], read).optional()
}

/// What is known of the message that was accepted under an id.
pub(super) fn remembered(connection: &Connection, session: &str, id: &str) -> rusqlite::Result<Option<Remembered>> {
    let query = format!("SELECT {COLUMNS}, digest FROM messages WHERE session = ?1 AND id = ?2");
    let remembered = |row: &Row<'_>| match row.get(15)? {
        Some(digest) => Ok(Remembered::Remnant(read_with(row, |_| Ok(nothing()))?, digest)),
        None => Ok(Remembered::Whole(read(row)?)),
    };
    connection.prepare_cached(&query)?.query_row(params![session, id], remembered).optional()
}

/// A message by its place.
pub(super) fn by_sequence(connection: &Connection, session: &str, sequence: u64) -> rusqlite::Result<Option<Message>> {
    let query = format!("SELECT {COLUMNS} FROM messages WHERE session = ?1 AND sequence = ?2");
    connection.prepare_cached(&query)?.query_row(params![session, to_sql(sequence)], read).optional()
}

/// Messages of a session before a place, newest first; remnants say nothing, so they are none.
pub(super) fn page(
    connection: &Connection,
    session: &str,
    before: Option<u64>,
    limit: u32,
) -> rusqlite::Result<Vec<Message>> {
    let query = format!(
        "SELECT {COLUMNS} FROM messages WHERE session = ?1 AND sequence < ?2 AND digest IS NULL
         ORDER BY sequence DESC LIMIT ?3"
    );
    let before = before.map_or(i64::MAX, to_sql);
    connection.prepare_cached(&query)?.query_map(params![session, before, limit], read)?.collect()
}

// None of these goes through what a session has sent: there may be a million of it.
pub(super) const WAITING: &str = "SELECT sequence, recipient_key, expires_at, handed_over FROM messages
    WHERE session = ?1 AND state = 'Queued' ORDER BY sequence";
pub(super) const KNOWN: &str = "SELECT DISTINCT recipient_key FROM messages
    WHERE session = ?1 AND sent_at IS NOT NULL AND recipient_key IN
        (SELECT recipient_key FROM messages WHERE session = ?1 AND state = 'Queued')";
pub(super) const LOAD: &str = "SELECT count(*), coalesce(max(recipient_key IS ?2), 0) FROM
    (SELECT recipient_key FROM messages WHERE session = ?1 AND state = 'Queued' LIMIT ?3)";

/// What waits in a session, in order, and the last place that was given out there.
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

/// To whom of those that wait a message of the session has been sent before.
pub(super) fn known(connection: &Connection, session: &str) -> rusqlite::Result<Vec<RecipientKey>> {
    connection
        .prepare_cached(KNOWN)?
        .query_map(params![session], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?
        .collect()
}

/// Whether a message of the session has been sent to this person before.
pub(super) fn knows(connection: &Connection, session: &str, recipient: RecipientKey) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM messages WHERE session = ?1 AND recipient_key = ?2 AND sent_at IS NOT NULL)",
        )?
        .query_row(params![session, recipient.cast_signed()], |row| row.get(0))
}

/// How many messages wait in a session, counted up to `most`, and whether one of those, or one that was sent, is for this
/// person.
pub(super) fn load(
    connection: &Connection,
    session: &str,
    recipient: Option<RecipientKey>,
    most: u32,
) -> rusqlite::Result<(u64, bool)> {
    let (waiting, one): (i64, bool) = connection
        .prepare_cached(LOAD)?
        .query_row(params![session, recipient.map(u64::cast_signed), most], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let known = match recipient {
        Some(recipient) => one || knows(connection, session, recipient)?,
        None => false,
    };
    Ok((from_sql(waiting), known))
}

/// Since when the oldest message that waits has waited.
pub(super) fn oldest_waiting(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let oldest: Option<i64> =
        connection.query_row("SELECT min(accepted_at) FROM messages WHERE state = 'Queued'", [], |row| row.get(0))?;
    Ok(oldest.map(time))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Message> {
    read_with(row, |error| Err(unreadable(4, error)))
}

/// What stands for a text that cannot be read, where only the status is told.
fn nothing() -> Content {
    Content::Text { text: Sensitive::new(String::new()) }
}

fn read_with(
    row: &Row<'_>,
    otherwise: impl FnOnce(serde_json::Error) -> rusqlite::Result<Content>,
) -> rusqlite::Result<Message> {
    let moment = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(time));
    let content: String = row.get(4)?;
    let content = serde_json::from_str(&content).or_else(otherwise)?;
    Ok(Message {
        status: MessageStatus {
            session: row.get(0)?,
            sequence: from_sql(row.get(1)?),
            id: row.get(2)?,
            state: open(row.get::<_, String>(5)?),
            waits_for: None,
            cause: row.get::<_, Option<String>>(6)?.map(open),
            code: row.get(7)?,
            accepted_at: time(row.get(8)?),
            expires_at: time(row.get(9)?),
            estimated_send_at: None,
            sent_at: moment(10)?,
            delivered_at: moment(11)?,
            companion_delivered_at: moment(12)?,
            read_at: moment(13)?,
            ended_at: moment(14)?,
        },
        to: Sensitive::new(row.get::<_, String>(3)?),
        content,
    })
}

/// The error holds neither text nor number: serde says where, and quotes nothing of a value it could not read as JSON.
pub(super) fn unreadable(column: usize, _: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        column,
        rusqlite::types::Type::Text,
        "the stored value cannot be read by this version".into(),
    )
}

fn open<T: serde::de::DeserializeOwned>(word: String) -> Open<T> {
    serde_json::from_value(serde_json::Value::String(word.clone()))
        .map_or_else(|_| Open::Unknown(word.into()), Open::Known)
}

/// A word as it travels.
fn word<T: serde::Serialize>(value: T) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn to_sql(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn from_sql(sequence: i64) -> u64 {
    u64::try_from(sequence).unwrap_or(0)
}
