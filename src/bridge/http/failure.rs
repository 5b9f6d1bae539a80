//! Requests that fail, in the form of the API.

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use whatsapp_operator::bridge_api::{ErrorBody, ErrorCode, ErrorDetail};

use crate::{sessions::Refusal, store::StoreError};

/// Seconds after which some of the messages that wait will have gone.
const QUEUE_FULL: u64 = 30;

/// Seconds after which a session that is restarted takes requests again.
const RESTARTING: u64 = 10;

/// A request that failed.
pub(super) enum Failure {
    Unauthorized,
    NotFound(String),
    Invalid(String),
    WrongMethod,
    Refused(Refusal),
}

impl Failure {
    /// A body that does not have the fields `of` something. Says where it is wrong without quoting it: it may hold a phone number.
    pub(super) fn misfit(error: &serde_json::Error, of: &str) -> Self {
        use serde_json::error::Category;
        let kind = match error.classify() {
            Category::Eof => "ends too early".to_owned(),
            Category::Syntax | Category::Io => "is not JSON".to_owned(),
            Category::Data => format!("does not have the fields of {of}"),
        };
        Self::Invalid(format!("the body {kind}, at line {} column {}", error.line(), error.column()))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Failure {
    /// The status, and what the body says.
    pub(super) fn answer(self) -> (StatusCode, ErrorDetail) {
        use ErrorCode as E;
        let (mut retry_after, mut closing) = (None, false);
        let (status, code, message) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                E::Unauthorized,
                "the request must carry the bridge's token, as Authorization: Bearer TOKEN".to_owned(),
            ),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, E::NotFound, message),
            Self::WrongMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, E::Invalid, "this path does not know this method".to_owned())
            }
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, E::Invalid, message),
            Self::Refused(refusal) => {
                let (status, code) = match &refusal {
                    Refusal::BadId
                    | Refusal::NoPhoneNumber
                    | Refusal::BadMessageId
                    | Refusal::BadRecipient(_)
                    | Refusal::BadText(_)
                    | Refusal::BadExpiry => (StatusCode::BAD_REQUEST, E::Invalid),
                    Refusal::NotPaired => (StatusCode::CONFLICT, E::NotPaired),
                    Refusal::OtherMessage => (StatusCode::CONFLICT, E::Conflict),
                    Refusal::TooLate => (StatusCode::CONFLICT, E::TooLate),
                    Refusal::SessionQueueFull { .. } | Refusal::BridgeQueueFull { .. } => {
                        retry_after = Some(QUEUE_FULL);
                        (StatusCode::TOO_MANY_REQUESTS, E::QueueFull)
                    }
                    Refusal::TooMuchWaits { retry_after: wait } => {
                        retry_after = Some(wait.as_secs() + 1);
                        (StatusCode::TOO_MANY_REQUESTS, E::QueueFull)
                    }
                    Refusal::Store(StoreError::Full) => (StatusCode::INSUFFICIENT_STORAGE, E::StorageFull),
                    Refusal::TakenOver => (StatusCode::CONFLICT, E::TakenOver),
                    Refusal::Deleting => (StatusCode::CONFLICT, E::Deleting),
                    Refusal::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, E::Full),
                    Refusal::Closing => {
                        closing = true;
                        (StatusCode::SERVICE_UNAVAILABLE, E::Internal)
                    }
                    Refusal::Restarting => {
                        retry_after = Some(RESTARTING);
                        (StatusCode::SERVICE_UNAVAILABLE, E::Internal)
                    }
                    Refusal::Unreadable => (StatusCode::INTERNAL_SERVER_ERROR, E::SessionUnreadable),
                    Refusal::Store(_) | Refusal::Keys(_) => (StatusCode::INTERNAL_SERVER_ERROR, E::Internal),
                };
                (status, code, refusal.to_string())
            }
        };
        (status, ErrorDetail { code: code.into(), message, retry_after, closing })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = self.answer();
        let retry_after = error.retry_after;
        let mut answer = (status, Json(ErrorBody { error })).into_response();
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

pub(super) fn answer(status: StatusCode, code: ErrorCode, message: String) -> Response {
    (status, Json(ErrorBody { error: ErrorDetail { code: code.into(), message, retry_after: None, closing: false } }))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_restarted_is_a_failure_that_passes_and_one_that_cannot_be_read_has_its_own_code() {
        let (status, said) = Failure::from(Refusal::Restarting).answer();
        assert_eq!((status, said.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(RESTARTING)));
        // Callers take this code for an unknown outcome, which it is.
        assert!(said.code == ErrorCode::Internal && said.message.contains("try again"), "{said:?}");
        let (status, said) = Failure::from(Refusal::Unreadable).answer();
        assert!(status == StatusCode::INTERNAL_SERVER_ERROR && said.code == ErrorCode::SessionUnreadable, "{said:?}");
    }
}
