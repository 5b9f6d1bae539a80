//! Messages change.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use whatsapp_operator::bridge_api::{Message, MessageCause, MessageState};

use super::{
    message_queries::remembered,
    remnants,
    row::{COLUMNS, to_sql, word},
    settle_sql::{Ending, abandon, arrived, changed, ended_as, one, tell_settled},
    told::Told,
};
use crate::{
    machine::Receipt,
    outbox::{RecipientKey, Settled},
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
        /// Its sequence there.
        sequence: u64,
    },
    /// Nothing came of handing it over.
    TakeBack {
        /// Its session.
        session: String,
        /// Its sequence there.
        sequence: u64,
    },
    /// It is settled. By the wall clock. One of which the recipient's phone has told was sent, whatever is said here.
    Settle {
        /// Its session.
        session: String,
        /// Its sequence there.
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
    /// Claims whose time has passed go, and the remnants that cannot be asked for any more; at most so many of each.
    ForgetKeys {
        /// The time.
        now: Timestamp,
        /// At most.
        most: u32,
    },
}

impl MessageChange {
    pub(super) fn write(&self, connection: &Connection, told: &mut Vec<Told>) -> rusqlite::Result<()> {
        match self {
            Self::Accept { message, recipient } => accept(connection, message, *recipient, told),
            Self::HandOver { session, sequence } => set_handed_over(connection, session, *sequence, true),
            Self::TakeBack { session, sequence } => set_handed_over(connection, session, *sequence, false),
            Self::Settle { session, sequence, settled } => settle(connection, session, *sequence, settled, told),
            Self::Receipt { session, id, receipt, at } => arrive(connection, (session, id), *receipt, *at, told),
            Self::Abandon { session, cause, at } => {
                let values = params![session, at.as_millisecond(), word(*cause)];
                tell_settled(changed(connection, &abandon(), values)?, told);
                Ok(())
            }
            Self::Forget { before, now, most } => remnants::forget(connection, *before, *now, *most),
            Self::ForgetKeys { now, most } => remnants::forget_keys(connection, *now, *most),
        }
    }
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

fn set_handed_over(connection: &Connection, session: &str, sequence: u64, it_is: bool) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE messages SET handed_over = ?3 WHERE session = ?1 AND sequence = ?2")?
        .execute(params![session, to_sql(sequence), it_is])?;
    Ok(())
}

fn settle(
    connection: &Connection,
    session: &str,
    sequence: u64,
    settled: &Settled,
    told: &mut Vec<Told>,
) -> rusqlite::Result<()> {
    let at = settled.at.as_millisecond();
    let (sent_at, ended_at) = if settled.state == MessageState::Sent { (Some(at), None) } else { (None, Some(at)) };
    // A receipt may have been faster than the acknowledgement: then it is further than sent already.
    let set = ended_as(&Ending { state: "?3", cause: "?4", code: "?5", sent_at: "?6", ended_at: "?7" });
    let query = format!(
        "UPDATE messages SET {set} WHERE session = ?1 AND sequence = ?2 AND state = 'Queued' RETURNING {COLUMNS}"
    );
    let cause = settled.cause.map(word);
    let values = params![session, to_sql(sequence), word(settled.state), cause, settled.code, sent_at, ended_at];
    tell_settled(changed(connection, &query, values)?, told);
    Ok(())
}

fn arrive(
    connection: &Connection,
    (session, id): (&str, &str),
    receipt: Receipt,
    at: Timestamp,
    told: &mut Vec<Told>,
) -> rusqlite::Result<()> {
    // What was read was delivered. A message that waits for the acknowledgement stays queued until it comes. `earlier` is what is set where
    // the same was told before, with a later time.
    let (first, set, earlier) = match receipt {
        Receipt::Delivered => {
            ("delivered_at", format!("delivered_at = ?3, {}", arrived("'Sent'", "'Delivered'")), "delivered_at = ?3")
        }
        Receipt::CompanionDelivered => {
            ("companion_delivered_at", "companion_delivered_at = ?3".to_owned(), "companion_delivered_at = ?3")
        }
        Receipt::Read => (
            "read_at",
            format!(
                "read_at = ?3, delivered_at = min(coalesce(delivered_at, ?3), ?3), {}",
                arrived("'Sent', 'Delivered'", "'Read'")
            ),
            "delivered_at = min(delivered_at, ?3), read_at = ?3",
        ),
    };
    let query =
        format!("UPDATE messages SET {set} WHERE session = ?1 AND id = ?2 AND {first} IS NULL RETURNING {COLUMNS}");
    let moved = changed(connection, &query, params![session, id, at.as_millisecond()])?;
    if moved.is_empty() {
        // Receipts of several devices come in any order. That the time was an earlier one is no news to tell.
        connection
            .prepare_cached(&format!("UPDATE messages SET {earlier} WHERE session = ?1 AND id = ?2 AND {first} > ?3"))?
            .execute(params![session, id, at.as_millisecond()])?;
    }
    // One that waits for the acknowledgement is shown as waiting until then; of a remnant nothing is told.
    let moved = moved.into_iter().filter(|message| message.status.state != MessageState::Queued);
    let moved = moved.filter(|message| !message.to.reveal().is_empty());
    told.extend(moved.map(|message| one(message, false)));
    Ok(())
}
