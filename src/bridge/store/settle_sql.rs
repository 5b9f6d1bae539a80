//! How messages are settled, in SQL, and what is told of it.

use rusqlite::Connection;
use whatsapp_operator::bridge_api::{Message, MessageState};

use super::{
    row::{COLUMNS, nothing, read_with},
    told::Told,
};

/// What becomes of a message that waits: an SQL expression for each column.
pub(super) struct Ending<'a> {
    pub(super) state: &'a str,
    pub(super) cause: &'a str,
    pub(super) code: &'a str,
    pub(super) sent_at: &'a str,
    pub(super) ended_at: &'a str,
}

/// Sets what becomes of a message that waits. A receipt from the recipient's phone proves that the message was sent. Nothing later
/// overrides that: neither the end of the session nor a refusal of a repeated attempt. A receipt from a companion device proves nothing.
pub(super) fn ended_as(Ending { state, cause, code, sent_at, ended_at }: &Ending<'_>) -> String {
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
pub(super) fn arrived(from: &str, to: &str) -> String {
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
        ended_as(&Ending { state: "'Failed'", cause: "?3", code: "NULL", sent_at: "NULL", ended_at: "?2" })
    )
}

/// Makes a change, and gives the messages that it changed.
pub(super) fn changed(
    connection: &Connection,
    query: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Message>> {
    let mut statement = connection.prepare_cached(query)?;
    // A text that cannot be read must not keep its message, and whatever is written with it, from going on.
    let changed = statement.query_map(values, |row| read_with(row, |_| Ok(nothing())))?;
    changed.collect()
}

pub(super) fn one(message: Message, settled: bool) -> Told {
    Told::Message { message: Box::new(message), changed: true, settled }
}

/// Tells of messages that are settled. One whose receipts were faster than the acknowledgement has been sent first, for those who
/// follow.
pub(super) fn tell_settled(messages: Vec<Message>, told: &mut Vec<Told>) {
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
