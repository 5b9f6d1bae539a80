//! Where a message goes: to which instance and shard, under which id, and until when.

use jiff::{SignedDuration, Timestamp};

use super::{
    key::Key,
    message::public_id,
    sender::{bridge, may_send, sender},
    wanted::{LONGEST_EXPIRY, Wanted},
};
use crate::{
    api::BridgeBinding,
    bridge_api::{CLAIM_OUTLASTS, Claim},
    drivers,
    gateway::{caller::Caller, code::Code, failure::Failure, state::Gateway},
};

/// How far a bridge's clock may be behind ours. A bridge refuses a time that is more than [`LONGEST_EXPIRY`] after its own, so a
/// message that may wait the longest expires this much earlier.
const CLOCKS_APART: u64 = 5 * 60;

/// Where a message goes.
pub struct Destination {
    /// The instance that sends.
    pub uid: String,
    /// Its shard.
    pub bridge: BridgeBinding,
    /// The message's id at WhatsApp.
    pub id: String,
    /// Until when it may be sent.
    pub expires_at: Timestamp,
    /// Its idempotency key was used for it before.
    pub replayed: bool,
}

impl Destination {
    /// Where a message with a key goes, as the claim says. The gateway that made the claim may have died before it asked the bridge,
    /// so the time comes from the claim too: with a later one, the key would be free again while the message could still be sent.
    fn of(claim: Claim, replayed: bool, bridge: Option<BridgeBinding>) -> Option<Self> {
        let named = claim.place.split_once('/');
        let named = named.map(|(name, shard)| BridgeBinding { name: name.to_owned(), shard: shard.to_owned() });
        let expires_at = claim.expires_at.checked_sub(CLAIM_OUTLASTS).unwrap_or(Timestamp::MIN);
        Some(Self { uid: claim.session, bridge: named.or(bridge)?, id: claim.message, expires_at, replayed })
    }

    /// What to do where it is not known whether the message was accepted, without sending it twice.
    pub fn how_to_find_out(&self) -> String {
        let id = public_id(&self.uid, &self.id);
        format!(
            "repeat the request with its Idempotency-Key, or, if it had none, look first whether there is a message /api/v1/messages/{id}/"
        )
    }
}

/// Where a message goes: through the instance that sends now, or where it went when its key was used before.
///
/// # Errors
/// When no instance sends, or the key stands for another message, or that cannot be checked.
pub async fn destination(
    gateway: &Gateway,
    caller: &Caller,
    wanted: &Wanted,
    owner: &str,
    key: Option<&Key>,
) -> Result<Destination, Failure> {
    let expires_at = expiry(Timestamp::now(), wanted.expires_in);
    let sender = sender(gateway, caller, wanted, owner).await;
    match (sender.and_then(|sender| Ok((bridge(&sender)?, sender))), key) {
        (Ok((bridge, sender)), None) => {
            Ok(Destination { uid: sender.uid.clone(), bridge, id: new_id(), expires_at, replayed: false })
        }
        (Ok((bridge, sender)), Some(key)) => {
            let ours = (sender.uid.clone(), format!("{}/{}", bridge.name, bridge.shard), new_id());
            let (claim, new) = key.claim(gateway, caller, ours, expires_at).await?;
            Destination::of(claim, !new, Some(bridge)).ok_or_else(Failure::not_found)
        }
        // With a known key, answer for the session that took the message, even if no session can send now. Only for the owner,
        // because keys are scoped to the owner.
        (Err(nobody), Some(key)) if says_that_nobody_sends(&nobody) && owner == caller.user => {
            let claim = key.claimed(gateway, caller).await?;
            let before = claim.and_then(|claim| Destination::of(claim, true, None));
            let Some(before) = before else { return Err(nobody) };
            match gateway.index.known(drivers::instance_uid(&before.uid)) {
                Some(known) if !may_send(gateway, caller, &known).await? => Err(nobody),
                _ => Ok(before),
            }
        }
        (Err(failure), _) => Err(failure),
    }
}

/// When a message expires that may wait for so many seconds.
fn expiry(now: Timestamp, expires_in: u64) -> Timestamp {
    let seconds = expires_in.min(LONGEST_EXPIRY - CLOCKS_APART);
    now.checked_add(SignedDuration::from_secs(seconds.cast_signed())).unwrap_or(Timestamp::MAX)
}

fn says_that_nobody_sends(failure: &Failure) -> bool {
    matches!(failure.code, Code::NotFound | Code::NoPrimary | Code::NoneReady | Code::NotPaired)
}

/// 3EB0 and 18 hexadecimal digits, as WhatsApp's web client makes them.
fn new_id() -> String {
    format!("3EB0{:016X}{:02X}", fastrand::u64(..), fastrand::u8(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_expiry_fits_a_bridge_whose_clock_is_behind() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let bridges_clock = now - SignedDuration::from_secs(299);
        let longest = expiry(now, LONGEST_EXPIRY).duration_since(bridges_clock);
        assert!(longest < SignedDuration::from_hours(30 * 24), "{longest}");
        assert_eq!(expiry(now, 86_400), now + SignedDuration::from_hours(24));
    }

    #[test]
    fn a_message_with_a_key_expires_when_the_key_says() {
        let first: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let claim = Claim {
            fingerprint: "f".to_owned(),
            session: "s".to_owned(),
            place: "builtin/shard-0".to_owned(),
            message: "3EB0000000000001".to_owned(),
            expires_at: first + CLAIM_OUTLASTS,
        };
        let to = Destination::of(claim, true, None).unwrap();
        assert_eq!((to.expires_at, to.bridge.shard.as_str()), (first, "shard-0"));
    }

    #[test]
    fn an_id_looks_like_those_of_whatsapps_web_client() {
        let id = new_id();
        assert!(id.len() == 22 && id.starts_with("3EB0") && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}
