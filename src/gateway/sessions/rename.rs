//! `PATCH {id}/`: another display name.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::gateway::{
    answer::{self, Success},
    caller::{Caller, Id},
    failure::Failure,
    input::{Fields, Parameters, body, display_name},
    instances,
    parameters::{InNamespace, OneSession},
    session::Session,
    state::Shared,
};

/// What can be changed of a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Support"}))]
#[allow(dead_code)] // documents what is read field by field, so that errors can name the field
pub struct Changes {
    /// Display name, unique per owner.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// Rename a session
///
/// Only the name that people see changes; id, device and place stay.
#[utoipa::path(
    patch, path = "/api/v1/sessions/{id}/", operation_id = "rename", tag = "sessions",
    params(OneSession, InNamespace),
    request_body(content = Changes, example = json!({"name": "Support"})),
    responses((status = 200, description = "The session with its new name.", body = Success<Session>)),
)]
pub async fn rename(
    State(gateway): State<Shared>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    let text = body(&headers, content).await?;
    let name = display_name(&Fields::of(text.as_deref(), &["name"])?)?;
    let found = instances::find(&gateway, &caller, &id, parameters.namespace()?).await?;
    let changed = instances::change(&caller, &found, json!({ "spec": { "name": name } })).await?;
    Ok(answer::with(StatusCode::OK, Session::whole(&changed)))
}
