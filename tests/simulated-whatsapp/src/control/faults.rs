//! The part of the control API that makes things go wrong.

use super::{Body, Shared, Touched, number};
use crate::faults::{Live, NewcomerRules, Rules};
use crate::world::{Refusal, World};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Answer of `POST /v1/pairings/refresh`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refreshed {
    /// How many waiting clients were told.
    pub clients: usize,
}

pub(super) fn router() -> Router<Arc<World>> {
    Router::new()
        .route("/v1/newcomers", get(read_newcomers).post(set_newcomers))
        .route("/v1/pairings/refresh", post(refresh))
        .route("/v1/phones/{phone}/rules", get(read_rules).post(set_rules))
        .route("/v1/phones/{phone}/act", post(act))
}

async fn read_newcomers(State(world): Shared) -> Json<NewcomerRules> {
    Json(world.faults.newcomers())
}

async fn set_newcomers(State(world): Shared, Body(rules): Body<NewcomerRules>) -> Json<NewcomerRules> {
    world.faults.set_newcomers(rules);
    read_newcomers(State(world)).await
}

async fn read_rules(State(world): Shared, Path(phone): Path<String>) -> Result<Json<Rules>, Refusal> {
    Ok(Json(world.faults.rules(number(&phone)?)))
}

/// The phone need not be known yet, so that the first login can be under the rules.
async fn set_rules(
    State(world): Shared,
    Path(phone): Path<String>,
    Body(rules): Body<Rules>,
) -> Result<Json<Rules>, Refusal> {
    world.faults.set_rules(number(&phone)?, rules);
    read_rules(State(world), Path(phone)).await
}

async fn act(
    State(world): Shared,
    Path(phone): Path<String>,
    Body(live): Body<Live>,
) -> Result<Json<Touched>, Refusal> {
    let devices = world.registry.devices(Some(number(&phone)?));
    let connected = devices.iter().filter(|device| world.act(device.key, live.clone())).count();
    Ok(Json(Touched { devices: devices.len(), connected }))
}

async fn refresh(State(world): Shared) -> Json<Refreshed> {
    Json(Refreshed { clients: world.refresh_pairings() })
}
