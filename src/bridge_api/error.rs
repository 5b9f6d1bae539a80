//! Why a bridge could not be used.

use thiserror::Error;

use super::{ErrorCode, ErrorDetail, Open};
use crate::{api::conditions::reason, platform::causes::innermost};

/// Why a bridge could not be used. Policy matches on the variant; texts never carry tokens, codes or numbers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BridgeError {
    /// The configured address is not one.
    #[error("the address is not a valid http or https URL without user and password")]
    Address,
    /// The configured CA bundle is not PEM certificates.
    #[error("caBundle holds no valid PEM certificates")]
    CaBundle,
    /// The bridge did not take the token (401, 403).
    #[error("the bridge refused the token")]
    Unauthorized,
    /// The bridge does not know the session or the path.
    #[error("the bridge answered: not found")]
    NotFound,
    /// No connection, so nothing was asked.
    #[error("no connection: {cause}")]
    Unreachable {
        /// The innermost cause, for example "connection refused".
        cause: String,
    },
    /// The connection broke before the answer was there: what was asked may have been done all the same.
    #[error("the connection broke: {cause}")]
    Broken {
        /// The innermost cause, for example "connection reset".
        cause: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is not this API's.
    #[error("the answer is not this API's (HTTP status {status})")]
    Malformed {
        /// The HTTP status it came with.
        status: u16,
    },
    /// The bridge's process is about to end, and answers nothing more.
    #[error("the bridge is shutting down")]
    Closing,
    /// The bridge understood and refused.
    #[error("{}", refused(code))]
    Refused {
        /// Why.
        code: Open<ErrorCode>,
        /// After how many seconds another try may succeed, when the bridge said so.
        retry_after: Option<u64>,
    },
    /// The bridge tells of the session in a way that cannot be read.
    #[error("what the bridge tells of this session cannot be read by this version")]
    Unreadable,
    /// The event stream ended.
    #[error("the event stream ended")]
    StreamEnded,
}

/// What a refusal means. In our words: those of the bridge may hold anything.
fn refused(code: &Open<ErrorCode>) -> String {
    match code {
        Open::Known(ErrorCode::SessionUnreadable) => "its database holds this session, but its version cannot read it and does not overwrite \
             it; run the version of the bridge that wrote it, or delete the instance, which deletes the session's keys, remove the device on \
             the phone, and create the instance again"
            .to_owned(),
        Open::Known(ErrorCode::TakenOver) => "it gave the session to an instance of the same name that was created anew, since it was \
             started with --adopt-data; if there is another one, in another cluster, delete one of the two"
            .to_owned(),
        Open::Known(ErrorCode::Internal) => "the bridge refused: Internal; its log says why, and it is asked again".to_owned(),
        code => format!("the bridge refused: {code:?}"),
    }
}

impl BridgeError {
    /// The reason of condition `BridgeAvailable` that tells this error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => reason::BRIDGE_UNAUTHORIZED,
            Self::Address
            | Self::CaBundle
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::TimedOut
            | Self::Closing
            | Self::StreamEnded => reason::BRIDGE_UNREACHABLE,
            Self::NotFound | Self::Malformed { .. } | Self::Unreadable => reason::BRIDGE_MALFORMED_ANSWER,
            Self::Refused { code, .. } if *code == ErrorCode::Full => reason::BRIDGE_FULL,
            Self::Refused { .. } => reason::BRIDGE_REFUSED,
        }
    }

    /// Whether trying again at once may help: the connection broke or is about to, nothing more is known.
    pub fn may_be_brief(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut | Self::Closing | Self::StreamEnded
        )
    }

    /// Whether what was asked may have been done all the same: the request went out, and no answer of the bridge's came back, or one that
    /// leaves it open.
    pub fn leaves_open(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::TimedOut | Self::Closing | Self::StreamEnded | Self::Malformed { .. } => true,
            // A bridge of a later release says something that this one does not know.
            Self::Refused { code: Open::Unknown(_), .. } => true,
            _ => false,
        }
    }

    /// What the bridge answered, in the form of its API.
    pub(super) fn of_answer(ErrorDetail { code, retry_after, closing, .. }: ErrorDetail) -> Self {
        match code {
            _ if closing => Self::Closing,
            Open::Known(ErrorCode::Unauthorized) => Self::Unauthorized,
            Open::Known(ErrorCode::NotFound) => Self::NotFound,
            code => Self::Refused { code, retry_after },
        }
    }

    pub(super) fn of_transport(error: &reqwest::Error) -> Self {
        let cause = innermost(error);
        // A connection that was not made in time has carried nothing either.
        if error.is_connect() {
            Self::Unreachable { cause }
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Broken { cause }
        }
    }
}
