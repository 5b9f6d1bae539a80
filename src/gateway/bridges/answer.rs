//! What callers hear when a bridge refuses, or does not answer.

use thiserror::Error;

use crate::{
    bridge_api::{BridgeError, ErrorCode, Open},
    gateway::{code::Code, failure::Failure},
};

/// Why a question to a shard has no answer.
#[derive(Debug, Error)]
pub enum Unanswered {
    /// The shard could not be asked.
    #[error("{}", .0.message)]
    Unasked(Failure),
    /// It refused, or did not answer.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Unasked(failure)
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unasked(failure) => failure,
            Unanswered::Bridge(error) => of_bridge(&error),
        }
    }
}

/// A bridge that is not reached.
pub fn unreachable() -> Failure {
    Failure::new(
        Code::BridgeUnavailable,
        "the bridge of this session cannot be reached; try again in a moment, and have an administrator look at its WhatsAppBridge",
    )
}

/// What a bridge's refusal becomes.
pub fn of_bridge(error: &BridgeError) -> Failure {
    let BridgeError::Refused { code, retry_after } = error else {
        return match error {
            BridgeError::NotFound => Failure::new(
                Code::MessageNotFound,
                "there is no such message, or you may not see it; check the id, and that the session still exists",
            ),
            BridgeError::TimedOut => Failure::new(
                Code::Timeout,
                "the bridge did not answer in time; what it was asked for may have been done all the same: look at the message, then try again",
            ),
            _ => unreachable(),
        };
    };
    let failure = match code {
        Open::Known(ErrorCode::NotPaired) => {
            Failure::new(Code::NotPaired, "no device is linked to this session; scan its QR code first")
        }
        Open::Known(ErrorCode::Conflict) => {
            Failure::new(Code::KeyReused, "the idempotency key was used for another message; use a new one")
        }
        Open::Known(ErrorCode::TooLate) => Failure::new(
            Code::TooLate,
            "the message was handed to WhatsApp already, or is over, so it cannot be called back",
        ),
        Open::Known(ErrorCode::QueueFull) => {
            let later = retry_after.map_or_else(|| "later".to_owned(), |seconds| format!("in {} s", seconds.max(1)));
            Failure::new(
                Code::QueueFull,
                format!(
                    "as many messages wait as may, in this session or on its bridge, or this one would expire before its turn; send it again {later}"
                ),
            )
        }
        Open::Known(ErrorCode::StorageFull) => Failure::new(
            Code::StorageFull,
            "the bridge's disk takes no more messages; have an administrator give it more room, then try again",
        ),
        Open::Known(ErrorCode::Deleting) => {
            Failure::new(Code::Terminating, "the session is being deleted; send through another")
        }
        Open::Known(ErrorCode::Invalid) => {
            Failure::new(Code::Invalid, "the bridge calls the message invalid; check recipient and text")
        }
        _ => Failure::new(
            Code::BridgeUnavailable,
            "the bridge of this session has failed, because its disk cannot be written or read for example; try again in a moment, and have an administrator look at its disk and its log",
        ),
    };
    match retry_after {
        Some(seconds) => failure.after(*seconds),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_bridge_has_a_code() {
        let code = |code: ErrorCode| of_bridge(&BridgeError::Refused { code: code.into(), retry_after: Some(7) });
        assert_eq!(
            (code(ErrorCode::QueueFull).code, code(ErrorCode::QueueFull).retry_after),
            (Code::QueueFull, Some(7))
        );
        assert_eq!(code(ErrorCode::NotPaired).code, Code::NotPaired);
        assert!(code(ErrorCode::QueueFull).message.contains("in 7 s"));
        // It takes messages again by itself once there is room.
        let full = of_bridge(&BridgeError::Refused { code: ErrorCode::StorageFull.into(), retry_after: None });
        assert_eq!((full.code, full.retry_after), (Code::StorageFull, Some(60)));
        // It answers, so it is there.
        let failed = code(ErrorCode::Internal);
        assert!(failed.code == Code::BridgeUnavailable && failed.message.contains("disk"), "{}", failed.message);
        assert_eq!(of_bridge(&BridgeError::NotFound).code, Code::MessageNotFound);
        assert_eq!(of_bridge(&BridgeError::Closing).message, unreachable().message);
        assert_eq!(of_bridge(&BridgeError::StreamEnded).code, Code::BridgeUnavailable);
    }
}
