//! `DELETE delete/{id}/`: the device is unlinked, the keys are deleted, the slot is free again.

use axum::{extract::State, http::StatusCode, response::Response};
use kube::ResourceExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::act::About;
use crate::{
    gateway::{
        answer::{self, Success},
        failure::Failure,
        instances,
        parameters::{InNamespace, OneSession},
        state::Shared,
        wait::{self, Goal},
    },
    rules::progress::Gate,
};

/// What became of a session.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    /// The session's id.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub id: String,
    /// Whether it is gone; else it is on its way.
    #[schema(example = true)]
    pub deleted: bool,
}

/// Delete a session
///
/// For good: the device is unlinked from the account and its keys are deleted. While the bridge cannot be reached the answer
/// is 202, and the operator goes on trying.
#[utoipa::path(
    delete, path = "/api/v1/sessions/delete/{id}/", operation_id = "delete", tag = "sessions",
    params(
        OneSession,
        InNamespace,
        ("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait until it is gone; 10 when not given."),
    ),
    responses(
        (status = 200, description = "It is gone.", body = Success<Deleted>),
        (status = 202, description = "It is on its way.", body = Success<Deleted>),
    ),
)]
pub async fn delete(State(gateway): State<Shared>, about: About) -> Result<Response, Failure> {
    let About { caller, instance, limit } = about;
    instances::delete(&caller, &instance).await?;
    let id = instance.uid().unwrap_or_default();
    let (left, _) = wait::until(&gateway, &caller, instance, Gate::open(), Goal::Gone, limit).await;
    let deleted = left.is_none();
    let status = if deleted { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer::with(status, Deleted { id, deleted }))
}
