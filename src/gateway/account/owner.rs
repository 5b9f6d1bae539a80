//! `GET /api/v1/owner`: how many instances an owner has, and may have.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use kube::Api;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::WhatsAppOwner,
    gateway::{
        answer::{self, Success},
        caller::Caller,
        code::Code,
        failure::{Asked, Failure, of_call},
        input::Parameters,
        state::Shared,
    },
    platform::kubernetes::{CALL_TIMEOUT, call},
    rules::owner::object_name,
};

/// An owner's limit, and what counts against it.
#[derive(Serialize, ToSchema)]
pub struct Owner {
    /// Who.
    #[schema(example = "alice@example.com")]
    pub owner: String,
    /// How many instances count, in all namespaces.
    #[schema(example = 3)]
    pub used: i64,
    /// How many there may be.
    #[schema(example = 10)]
    pub max: i64,
    /// How many are connected.
    #[schema(example = 2)]
    pub connected: i64,
}

/// How many instances an owner may have
///
/// Of the caller, unless `owner` says otherwise: for others the caller needs the verb get on whatsappowners.
#[utoipa::path(
    get, path = "/api/v1/owner", operation_id = "owner", tag = "account",
    params(("owner" = Option<String>, Query, min_length = 1, max_length = 253, description = "Who; the caller when not given.")),
    responses((status = 200, description = "The owner.", body = Success<Owner>)),
)]
pub async fn owner(State(gateway): State<Shared>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["owner"])?;
    let name = parameters.owner()?.unwrap_or(&caller.user);
    // Callers may always see their own limit, so the gateway reads it for them. Whether they may see another owner's, Kubernetes says.
    let client = if name == caller.user { gateway.client.clone() } else { caller.client.clone() };
    let api: Api<WhatsAppOwner> = Api::all(client);
    let found = call("read an owner for a caller", CALL_TIMEOUT, api.get_opt(&object_name(name))).await;
    let found = found.map_err(|error| match of_call(&error, Asked { verb: "get", hidden: false }) {
        failure if failure.code == Code::NotAllowed => Failure::new(
            Code::NotAllowed,
            "you may not get whatsappowners.whatsapp-operator.dev, which takes it to see the limits of others; have an administrator grant the verb get",
        ),
        failure => failure,
    })?;
    // An object that was made by hand may have this name and another owner in its spec.
    let found = found.filter(|found| found.spec.owner == name);
    let status = found.as_ref().and_then(|found| found.status.clone()).unwrap_or_default();
    let limit = found.and_then(|found| found.spec.max_instances);
    // Before the owner's first instance the controller has counted nothing yet.
    let max = limit.or(Some(status.max).filter(|max| *max > 0)).unwrap_or(gateway.settings.limit);
    let shown = Owner { owner: name.to_owned(), used: status.used, max, connected: status.connected };
    Ok(answer::with(StatusCode::OK, shown))
}
