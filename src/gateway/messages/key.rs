//! Idempotency keys: the header, and the claim at the key's home shard.

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    bridge_api::{CLAIM_OUTLASTS, Claim, is_idempotency_key},
    gateway::{bridges::Unanswered, caller::Caller, code::Code, failure::Failure, state::Gateway},
    platform::hex::sha256,
};

/// The header that names a message, so that a repetition is the same one.
const HEADER: &str = "idempotency-key";

/// A key that a request was sent with.
pub struct Key {
    /// What it is at its home shard: each owner has keys of their own.
    name: String,
    /// What was asked for.
    fingerprint: String,
}

/// The header's key, without the quotes that a structured field has.
///
/// # Errors
/// When it cannot be one.
pub fn of(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let bad = || {
        Failure::new(
            Code::BadRequest,
            "the header Idempotency-Key must be there once and hold 1 to 255 visible ASCII characters",
        )
    };
    let text = value.to_str().map_err(|_| bad())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if given.next().is_some() || !is_idempotency_key(text) {
        return Err(bad());
    }
    Ok(Some(text.to_owned()))
}

impl Key {
    /// A key of this owner, for what is `asked`.
    pub fn new(owner: &str, key: &str, asked: &Value) -> Self {
        Self { name: sha256(&json!([owner, key]).to_string()), fingerprint: sha256(&asked.to_string()) }
    }

    /// Claims the key for a message; the claim that counts, and whether it is this one.
    ///
    /// # Errors
    /// When the key stands for another message, or that cannot be checked.
    pub async fn claim(
        &self,
        gateway: &Gateway,
        caller: &Caller,
        (session, place, message): (String, String, String),
        expires_at: Timestamp,
    ) -> Result<(Claim, bool), Failure> {
        let expires_at = expires_at.checked_add(CLAIM_OUTLASTS).unwrap_or(Timestamp::MAX);
        let ours = &Claim { fingerprint: self.fingerprint.clone(), session, place, message, expires_at };
        let claimed = gateway
            .bridges
            .ask_home(&caller.story, &self.name, |home| async move { home.claim(&self.name, ours).await })
            .await;
        let counts = claimed.map_err(|why| unchecked(caller, why))?;
        if counts.fingerprint != self.fingerprint {
            return Err(Failure::new(
                Code::KeyReused,
                "this idempotency key was used for another message, or with the recipient written otherwise; repeat the request as it was, and give a new message a new key",
            ));
        }
        // Told by the message, because the shard may have been asked more than once.
        let new = counts.message == ours.message;
        Ok((counts, new))
    }

    /// The claim of the same message, if there is one.
    ///
    /// # Errors
    /// When that cannot be checked.
    pub async fn claimed(&self, gateway: &Gateway, caller: &Caller) -> Result<Option<Claim>, Failure> {
        if gateway.bridges.shards().await.map_err(|_| closed())?.is_empty() {
            return Ok(None);
        }
        let claimed = gateway
            .bridges
            .ask_home(&caller.story, &self.name, |home| async move { home.claimed(&self.name).await })
            .await;
        let claimed = claimed.map_err(|why| unchecked(caller, why))?;
        Ok(claimed.filter(|claim| claim.fingerprint == self.fingerprint))
    }
}

fn unchecked(caller: &Caller, why: Unanswered) -> Failure {
    match why {
        Unanswered::Unasked(failure) if failure.code == Code::NotSupported => failure,
        why => {
            tracing::warn!(request = caller.story.id(), error = %why, "an idempotency key cannot be checked");
            closed()
        }
    }
}

/// If the key cannot be checked, nothing is sent: to send all the same could send the message twice.
fn closed() -> Failure {
    Failure::new(
        Code::KeysUnavailable,
        "whether this idempotency key was used before cannot be checked now, so nothing was sent; try again with the same key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&str]) -> Result<Option<String>, Failure> {
        of(&values.iter().map(|value| (HEADER.parse().unwrap(), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_key_is_the_same_with_quotes_and_without() {
        assert_eq!(given(&[]).unwrap(), None);
        assert_eq!(given(&["order-17"]).unwrap(), given(&["\"order-17\""]).unwrap());
        for bad in [&[""][..], &["\"\""], &["a b"], &["a", "a"], &[&"x".repeat(256)]] {
            assert_eq!(given(bad).err().unwrap().code, Code::BadRequest, "{bad:?}");
        }
    }
}
