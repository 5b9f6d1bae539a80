//! What callers hear when a bridge did not accept a message: pure.

use super::destination::Destination;
use crate::{
    bridge_api::{BridgeError, ErrorCode, Open},
    gateway::{bridges::of_bridge, code::Code, failure::Failure},
};

/// A repetition of a message that was not accepted while it could be sent.
pub fn never_accepted() -> Failure {
    Failure::new(
        Code::KeyReused,
        "this idempotency key was used for a message whose time is over, and its bridge never accepted it; send it with a new key",
    )
}

/// A message whose time was over when its bridge was back.
pub fn expired() -> Failure {
    Failure::new(
        Code::BridgeUnavailable,
        "the bridge of this session could not be reached before the message's time (expires_in) was over, so it was not accepted; send it again, with a new idempotency key if it had one",
    )
}

/// What a bridge's refusal to accept a message becomes. The caller hears that the message was not accepted only if the bridge has
/// looked for it and its session will not come back; if the outcome is unknown, the caller hears that.
pub fn refused(error: &BridgeError, to: &Destination, stays: bool) -> Failure {
    match error {
        // A slow disk may still store it; and a bridge of a later release may say something that this one does not know.
        BridgeError::Refused { code: Open::Known(ErrorCode::Internal) | Open::Unknown(_), .. } => Failure::new(
            Code::BridgeUnavailable,
            format!(
                "the bridge could not confirm that it stored the message (its disk may be slow or full), so it may or may not be sent: {}; have an administrator look at that disk",
                to.how_to_find_out()
            ),
        ),
        error if error.leaves_open() => Failure::new(
            Code::Timeout,
            format!(
                "the bridge did not answer, and may have accepted the message all the same: {}",
                to.how_to_find_out()
            ),
        ),
        BridgeError::NotFound | BridgeError::Refused { code: Open::Known(ErrorCode::Deleting), .. }
            if to.replayed && !stays =>
        {
            Failure::new(
                Code::SessionGone,
                "the session that this idempotency key was used with is gone or being deleted, and its bridge never accepted the message; send it with a new key",
            )
        }
        BridgeError::NotFound if stays => Failure::new(
            Code::NotPaired,
            "the session is not on its bridge yet, so no device is linked; wait for its QR code and scan it",
        ),
        error => of_bridge(error),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::BridgeBinding;

    fn to(replayed: bool) -> Destination {
        let bridge = BridgeBinding { name: "builtin".to_owned(), shard: "shard-0".to_owned() };
        let (uid, id) = ("s".to_owned(), "3EB0000000000001".to_owned());
        Destination { uid, bridge, id, expires_at: Timestamp::MAX, replayed }
    }

    fn broken() -> BridgeError {
        BridgeError::Broken { cause: "connection reset".into() }
    }

    #[test]
    fn a_message_is_said_not_to_be_accepted_only_where_it_never_will_be() {
        let deleting = BridgeError::Refused { code: ErrorCode::Deleting.into(), retry_after: None };
        let code = |error: &BridgeError, replayed, stays| refused(error, &to(replayed), stays).code;
        assert_eq!(code(&BridgeError::NotFound, true, false), Code::SessionGone);
        assert_eq!(code(&deleting, true, false), Code::SessionGone);
        assert_eq!(code(&deleting, false, false), Code::Terminating);
        // Made a moment ago, or made anew.
        assert_eq!(code(&BridgeError::NotFound, true, true), Code::NotPaired);
        assert_eq!(
            code(&BridgeError::Unreachable { cause: "connection refused".into() }, true, false),
            Code::BridgeUnavailable
        );
        let failed = BridgeError::Refused { code: ErrorCode::Internal.into(), retry_after: None };
        let failed = refused(&failed, &to(false), true);
        assert_eq!(failed.code, Code::BridgeUnavailable);
        assert!(failed.message.contains("disk") && failed.message.contains("s.3EB0000000000001"), "{}", failed.message);
        for error in [broken(), BridgeError::TimedOut, BridgeError::StreamEnded, BridgeError::Malformed { status: 500 }]
        {
            let failure = refused(&error, &to(false), true);
            assert_eq!(failure.code, Code::Timeout, "{error}");
            // A caller without an idempotency key can look the message up.
            assert!(failure.message.contains("/api/v1/messages/s.3EB0000000000001/"), "{}", failure.message);
        }
    }
}
