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
