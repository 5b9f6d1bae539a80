//! What a request has to be like, and why one is refused.

use std::time::Duration;

use thiserror::Error;
use whatsapp_operator::{
    bridge_api::{BadText, PairingMethod, SessionSpec},
    model::{Sensitive, is_international},
};

use crate::{keys::KeysError, outbox::BadRecipient, store::StoreError};

/// A request was refused.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The id cannot be one.
    #[error("a session id must be 1 to 64 characters out of A-Z a-z 0-9 . _ - and must not start with a dot")]
    BadId,
    /// A pairing code needs a number.
    #[error(
        "pairing.phoneNumber must be given in international form, such as +15551234567, for the pairing method Code"
    )]
    NoPhoneNumber,
    /// No more sessions fit.
    #[error("this bridge holds {max} sessions, as many as --max-sessions allows: raise it, or use another bridge")]
    Full {
        /// How many fit.
        max: usize,
    },
    /// There is a row of the session that cannot be read.
    #[error(
        "the bridge's database holds this session, but this version cannot read it and does not overwrite it: use the version of the \
         bridge that wrote it; or delete the session, which deletes its keys, remove the device on the phone, and create the session again"
    )]
    Unreadable,
    /// Its session is another's.
    #[error(
        "the session of this id was taken over by its instance, which was created anew and has another id (--adopt-data): if there are two of \
         this instance, in two clusters, delete one"
    )]
    TakenOver,
    /// The session is being deleted.
    #[error("the session is being deleted: wait until it is gone, then create it again")]
    Deleting,
    /// The id of a message cannot be one.
    #[error("a message id must be 8 to 64 characters out of A-Z and 0-9")]
    BadMessageId,
    /// The recipient cannot be one.
    #[error(transparent)]
    BadRecipient(#[from] BadRecipient),
    /// The text cannot be sent.
    #[error("the text {0}")]
    BadText(#[from] BadText),
    /// The message would expire in the past, or too late.
    #[error("expiresAt must lie in the future, by 30 days at most")]
    BadExpiry,
    /// No device is linked.
    #[error("no device is linked to this session; link one, then send the message again")]
    NotPaired,
    /// The id is that of another message.
    #[error("another message with this id was accepted before: a new message needs a new id")]
    OtherMessage,
    /// The message is with the server, or over.
    #[error("the message was handed to WhatsApp already, or is over: it can no longer be called back")]
    TooLate,
    /// Too many wait in the session.
    #[error("this session's queue is full with {max} messages: send more when some have gone")]
    SessionQueueFull {
        /// How many may.
        max: usize,
    },
    /// Too many wait in all.
    #[error("the queues of this bridge are full with {max} messages: send more when some have gone")]
    BridgeQueueFull {
        /// How many may.
        max: usize,
    },
    /// At the pace of the session, what waits before it would outlast the message's expiry.
    #[error(
        "at this session's pace the message would expire before its turn comes: give it more time, or send it later"
    )]
    TooMuchWaits {
        /// How much too late it would be.
        retry_after: Duration,
    },
    /// The session's task has panicked. What was asked for may have been done.
    #[error(
        "the session failed by a bug of the bridge, whose log says more, and is being restarted: try again in a moment"
    )]
    Restarting,
    /// The process is about to end.
    #[error("the bridge is shutting down: try again when it is back")]
    Closing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys could not be deleted.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// The longest id of a session, in bytes.
pub const LONGEST_ID: usize = 64;

/// Whether `id` may name a session: it becomes a directory and part of a path.
pub fn check_id(id: &str) -> Result<(), Refusal> {
    let good = !id.is_empty()
        && id.len() <= LONGEST_ID
        && !id.starts_with('.')
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if good { Ok(()) } else { Err(Refusal::BadId) }
}

/// Whether `spec` is whole.
pub(super) fn check_spec(spec: &SessionSpec) -> Result<(), Refusal> {
    let pairing = &spec.pairing;
    let number = pairing.phone_number.as_ref().map(Sensitive::reveal);
    let good = pairing.method != PairingMethod::Code || number.is_some_and(is_international);
    if good { Ok(()) } else { Err(Refusal::NoPhoneNumber) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_climb() {
        for good in ["a", "6f1c2a3e-0000", "A.b_c-9", &"x".repeat(64)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ä", "a\0", "%2e", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pairing_code_takes_a_number_in_international_form() {
        let check = |number: Option<&str>| {
            let mut spec = SessionSpec::default();
            spec.pairing.method = PairingMethod::Code.into();
            spec.pairing.phone_number = number.map(Sensitive::new);
            check_spec(&spec).is_ok()
        };
        assert!(check(Some("+15551234567")));
        for bad in [None, Some("15551234567"), Some("+0555123456"), Some("+1")] {
            assert!(!check(bad), "{bad:?}");
        }
    }
}
