//! Messages are forgotten, and what is left of them.
//!
//! A message that is over goes after a while, and who got it and what it said with it. An idempotency key may name it for longer;
//! until it cannot, a remnant stays: how the message ended, and a digest that tells a repetition from another message. So whoever
//! repeats a request hears the truth, and nothing is sent twice.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};
use whatsapp_operator::{
    bridge_api::{CLAIM_OUTLASTS, Content, Message},
    model::Sensitive,
};

use crate::outbox::RecipientKey;

/// How far the clock of a claim's own shard may be behind ours.
const CLOCKS: SignedDuration = SignedDuration::from_hours(1);

/// When a message was over: an index is made of these very words. A server whose clock is slow does not make it older than it is.
pub(super) const OVER: &str = "max(accepted_at, coalesce(ended_at, sent_at))";

/// What is known of a message that was accepted.
pub(super) enum Remembered {
    /// All of it.
    Whole(Message),
    /// How far it came, its digest, and the id that its session had when that was made; it says nothing.
    Remnant(Message, Vec<u8>, String),
}

impl Remembered {
    /// The message for a caller who asks to have this sent under its id. A remnant of the same message says what they say; that of
    /// another one has no recipient, and so is no message that anybody could ask for.
    pub(super) fn asked_for(self, recipient: RecipientKey, to: &Sensitive, content: &Content) -> Message {
        match self {
            Self::Whole(message) => message,
            Self::Remnant(message, known, session) => {
                let said = serde_json::to_string(content).unwrap_or_default();
                let same = digest(&session, &message.status.id, recipient, &said) == *known;
                if same { Message { to: to.clone(), content: content.clone(), ..message } } else { message }
            }
        }
    }
}

/// Stands for who is to get a message and what it says, as it is stored. With its id in it, so that equal messages do not show.
fn digest(session: &str, id: &str, recipient: RecipientKey, content: &str) -> [u8; 32] {
    Sha256::digest(format!("{session}\n{id}\n{recipient}\n{content}")).into()
}

/// Messages that expired before then are named by no claim any more.
fn unnamed_since(now: Timestamp) -> i64 {
    now.saturating_sub(CLAIM_OUTLASTS + CLOCKS).unwrap_or(Timestamp::MIN).as_millisecond()
}

/// Forgets messages that were over before then, the oldest first, at most so many.
pub(super) fn forget(connection: &Connection, before: Timestamp, now: Timestamp, most: u32) -> rusqlite::Result<()> {
    let (before, unnamed) = (before.as_millisecond(), unnamed_since(now));
    let oldest = format!("FROM messages WHERE digest IS NULL AND {OVER} < ?1 ORDER BY {OVER} LIMIT ?2");
    let gone = connection
        .prepare_cached(&format!(
            "DELETE FROM messages WHERE (session, sequence) IN
                 (SELECT session, sequence FROM (SELECT session, sequence, expires_at {oldest}) WHERE expires_at < ?3)"
        ))?
        .execute(params![before, most, unnamed])?;
    let left = most.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
    // Read before any of them is changed; what they say may be long, and is not kept.
    let digests: Vec<(String, i64, [u8; 32])> = connection
        .prepare_cached(&format!("SELECT session, sequence, id, recipient_key, content {oldest}"))?
        .query_map(params![before, left], |row| {
            let (session, sequence): (String, i64) = (row.get(0)?, row.get(1)?);
            let (id, content) = (row.get_ref(2)?.as_str()?, row.get_ref(4)?.as_str()?);
            let digest = digest(&session, id, row.get::<_, i64>(3)?.cast_unsigned(), content);
            Ok((session, sequence, digest))
        })?
        .collect::<rusqlite::Result<_>>()?;
    // No recipient has the key 0: the recipient counts as one who was never written to, as if the message were gone.
    let mut leave = connection.prepare_cached(
        "UPDATE messages SET recipient = '', recipient_key = 0, content = '', digest = ?3
         WHERE session = ?1 AND sequence = ?2",
    )?;
    digests
        .iter()
        .try_for_each(|(session, sequence, digest)| leave.execute(params![session, sequence, digest]).map(drop))
}

/// Before a session gets another id: its remnants keep the one that their digests were made with, where the text was.
pub(super) fn keep_session(connection: &Connection, session: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE messages SET content = session WHERE session = ?1 AND digest IS NOT NULL AND content = ''",
        )?
        .execute([session])
        .map(drop)
}

/// Forgets claims whose time has passed, and remnants that no claim names any more, at most so many of each.
pub(super) fn forget_keys(connection: &Connection, now: Timestamp, most: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![now.as_millisecond(), most])?;
    connection
        .prepare_cached(
            "DELETE FROM messages WHERE (session, sequence) IN (SELECT session, sequence FROM messages
                 WHERE digest IS NOT NULL AND expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![unnamed_since(now), most])?;
    Ok(())
}

/// How many messages are over and not forgotten. Counted by what is not: for that, indexes are enough.
pub(super) fn history(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT (SELECT count(*) FROM messages) - (SELECT count(*) FROM messages WHERE state = 'Queued')
              - (SELECT count(*) FROM messages WHERE digest IS NOT NULL)",
        [],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many messages were over before then, counted up to `most`.
pub(super) fn over(connection: &Connection, before: Timestamp, most: u32) -> rusqlite::Result<u32> {
    connection
        .prepare_cached(&format!(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE digest IS NULL AND {OVER} < ?1 LIMIT ?2)"
        ))?
        .query_row(params![before.as_millisecond(), most], |row| row.get(0))
}

/// How many claims and remnants cannot be asked for any more, of each counted up to `most`.
pub(super) fn unnamed(connection: &Connection, now: Timestamp, most: u32) -> rusqlite::Result<u32> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM claims WHERE expires_at < ?1 LIMIT ?3))
                  + (SELECT count(*) FROM (SELECT 1 FROM messages WHERE digest IS NOT NULL AND expires_at < ?2 LIMIT ?3))",
        )?
        .query_row(params![now.as_millisecond(), unnamed_since(now), most], |row| row.get(0))
}
