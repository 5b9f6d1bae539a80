//! Claims of idempotency keys in the database.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use whatsapp_operator::bridge_api::Claim;

use super::{row::unreadable, told::Told};

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
