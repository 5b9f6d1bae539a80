//! The envelope of everything that went well.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// `{"success":true,"data":{...}}`.
#[derive(Serialize, ToSchema)]
pub struct Success<T: ToSchema> {
    /// Always true; a refusal has false here, and `error` in place of `data`.
    #[schema(example = true)]
    pub success: bool,
    /// What was asked for.
    pub data: T,
}

/// The answer with such data.
pub fn with<T: Serialize + ToSchema>(status: StatusCode, data: T) -> Response {
    (status, Json(Success { success: true, data })).into_response()
}

/// A moment that is known to fractions of a second, in an answer: always to the millisecond. So the answer that accepts a message and
/// the later ones, which have it from the bridge's disk, write it alike, and such texts sort as the moments do.
pub fn moment(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_one_way() {
        for (given, written) in [
            ("2026-11-30T21:37:14.523999614Z", "2026-11-30T21:37:14.523Z"),
            ("2026-11-30T21:37:14.523Z", "2026-11-30T21:37:14.523Z"),
            ("2026-11-30T21:37:14.64Z", "2026-11-30T21:37:14.640Z"),
            ("2026-11-30T21:37:14Z", "2026-11-30T21:37:14.000Z"),
            ("2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(moment(given.parse().unwrap()), written);
        }
    }
}
