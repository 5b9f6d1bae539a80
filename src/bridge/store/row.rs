//! How a message stands in a row.

use jiff::Timestamp;
use rusqlite::Row;
use whatsapp_operator::{
    bridge_api::{Content, Message, MessageStatus, Open},
    model::Sensitive,
};

/// The columns that make a message, in the order in which [`read`] takes them.
pub(super) const COLUMNS: &str = "session, sequence, id, recipient, content, state, cause, code, accepted_at, \
                                  expires_at, sent_at, delivered_at, companion_delivered_at, read_at, ended_at";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Message> {
    read_with(row, |error| Err(unreadable(4, error)))
}

/// What stands for a text that cannot be read, where only the status is told.
pub(super) fn nothing() -> Content {
    Content::Text { text: Sensitive::new(String::new()) }
}

pub(super) fn read_with(
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
pub(super) fn word<T: serde::Serialize>(value: T) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn to_sql(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(sequence: i64) -> u64 {
    u64::try_from(sequence).unwrap_or(0)
}
