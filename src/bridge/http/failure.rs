//! Requests that fail, in the form of the API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use whatsapp_operator::bridge_api::{ErrorBody, ErrorCode, ErrorDetail};

use crate::sessions::Refusal;

/// A request that failed.
pub(super) enum Failure {
    Unauthorized,
    NotFound(String),
    Invalid(String),
    WrongMethod,
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        use ErrorCode as E;
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
                    Refusal::BadId | Refusal::NoPhoneNumber => (StatusCode::BAD_REQUEST, E::Invalid),
                    Refusal::Deleting => (StatusCode::CONFLICT, E::Deleting),
                    Refusal::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, E::Full),
                    Refusal::Closing => (StatusCode::SERVICE_UNAVAILABLE, E::Internal),
                    Refusal::Store(_) | Refusal::Keys(_) => (StatusCode::INTERNAL_SERVER_ERROR, E::Internal),
                };
                (status, code, refusal.to_string())
            }
        };
        answer(status, code, message)
    }
}

pub(super) fn answer(status: StatusCode, code: ErrorCode, message: String) -> Response {
    (status, Json(ErrorBody { error: ErrorDetail { code: code.into(), message } })).into_response()
}
