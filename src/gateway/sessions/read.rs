//! `GET list/` and `GET status/{id}/`.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::{
    answer::{self, Success},
    caller::{Caller, Id},
    failure::Failure,
    input::Parameters,
    instances::{self, Which},
    parameters::{InNamespace, OneSession, WhichSessions},
    session::{Session, Status},
    state::{Gateway, Shared},
};

/// The sessions there are.
#[derive(Serialize, ToSchema)]
pub struct Sessions {
    /// By name, then by id.
    pub sessions: Vec<Session>,
    /// How many.
    #[schema(example = 1)]
    pub total_count: usize,
    /// How many are connected.
    #[schema(example = 1)]
    pub connected_count: usize,
}

/// Which instances a list or a stream is about: the caller's own in the default namespace, unless the query says otherwise.
pub fn which(gateway: &Gateway, caller: &Caller, parameters: &Parameters) -> Result<Which, Failure> {
    let namespace = match parameters.get("namespace") {
        Some("*") => None,
        _ => Some(parameters.namespace()?.unwrap_or(&gateway.settings.namespace).to_owned()),
    };
    let owner = match parameters.owner()? {
        Some("*") => None,
        owner => Some(owner.unwrap_or(&caller.user).to_owned()),
    };
    Ok(Which { namespace, owner })
}

/// List sessions
///
/// The caller's own in the gateway's default namespace; `owner` and `namespace` ask for others. What is shown is what the
/// caller may list in Kubernetes: take the right to list in a namespace for the right to see every session in it.
#[utoipa::path(
    get, path = "/api/v1/sessions/list/", operation_id = "list", tag = "sessions",
    params(WhichSessions),
    responses((status = 200, description = "The sessions.", body = Success<Sessions>)),
)]
pub async fn list(State(gateway): State<Shared>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["owner", "namespace"])?;
    let found = instances::list(&caller, &which(&gateway, &caller, &parameters)?).await?;
    gateway.catch_up(&found).await;
    let mut sessions: Vec<Session> = found.iter().map(Session::brief).collect();
    sessions.sort_by(|one, other| (&one.instance_name, &one.id).cmp(&(&other.instance_name, &other.id)));
    let connected_count = sessions.iter().filter(|session| session.status == Status::Connected).count();
    Ok(answer::with(StatusCode::OK, Sessions { total_count: sessions.len(), connected_count, sessions }))
}

/// One session
///
/// With the code to scan, while there is one.
#[utoipa::path(
    get, path = "/api/v1/sessions/status/{id}/", operation_id = "status", tag = "sessions",
    params(OneSession, InNamespace),
    responses((status = 200, description = "The session.", body = Success<Session>)),
)]
pub async fn status(State(gateway): State<Shared>, caller: Caller, Id(id): Id, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    let found = instances::find(&gateway, &caller, &id, parameters.namespace()?).await?;
    gateway.catch_up([&found]).await;
    Ok(answer::with(StatusCode::OK, Session::whole(&found)))
}
