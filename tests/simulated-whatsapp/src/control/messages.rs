//! The part of the control API about what people write and receive, and about the account's name.

use super::{Body, Shared, Touched, number};
use crate::inbox::InboxLine;
use crate::letters::{self, Writing, Written};
use crate::mail::Delivery;
use crate::receipts;
use crate::world::{Refusal, World};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `POST /v1/phones/{phone}/rename`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Name {
    /// The account's new name; may be empty.
    pub push_name: String,
}

pub(super) fn router() -> Router<Arc<World>> {
    Router::new()
        .route("/v1/phones/{phone}/messages", get(deliveries).post(write))
        .route("/v1/phones/{phone}/rename", post(rename))
        .route("/v1/phones/{phone}/read", post(read))
        .route("/v1/inbox", get(inbox))
}

/// Query of `GET /v1/inbox`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// The phone; left out, all of them.
    phone: Option<String>,
}

/// Answer of `POST /v1/phones/{phone}/read`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Read {
    /// How many messages were read that had not been before.
    pub messages: usize,
}

async fn inbox(State(world): Shared, Query(whose): Query<Whose>) -> Result<Json<Vec<InboxLine>>, Refusal> {
    let phone = whose.phone.as_deref().map(number).transpose()?;
    Ok(Json(world.inbox.lines(phone)))
}

async fn read(State(world): Shared, Path(phone): Path<String>) -> Result<Json<Read>, Refusal> {
    let account = world.registry.account(number(&phone)?);
    let account =
        account.ok_or_else(|| Refusal::Unknown("nobody ever wrote to or from this phone number".to_owned()))?;
    Ok(Json(Read { messages: receipts::read(&world, &account) }))
}

async fn write(
    State(world): Shared,
    Path(phone): Path<String>,
    Body(writing): Body<Writing>,
) -> Result<Json<Written>, Refusal> {
    Ok(Json(letters::write(&world, number(&phone)?, &writing).await?))
}

async fn deliveries(State(world): Shared, Path(phone): Path<String>) -> Result<Json<Vec<Delivery>>, Refusal> {
    Ok(Json(world.mail.deliveries(number(&phone)?)))
}

async fn rename(
    State(world): Shared,
    Path(phone): Path<String>,
    Body(name): Body<Name>,
) -> Result<Json<Touched>, Refusal> {
    let phone = number(&phone)?;
    letters::rename(&world, phone, &name.push_name)?;
    let devices = world.registry.devices(Some(phone));
    let connected = devices.iter().filter(|device| world.is_connected(device.key)).count();
    Ok(Json(Touched { devices: devices.len(), connected }))
}
