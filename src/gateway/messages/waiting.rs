//! `GET messages/waiting/`: how many messages wait in each session, counted by the bridges.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::BridgeBinding,
    bridge_api::{Load, LoadQuery, MOST_LOADS},
    gateway::{
        access::Verb,
        answer::{self, Success},
        caller::Caller,
        failure::Failure,
        index::Known,
        input::Parameters,
        instances::Which,
        parameters::WhichSessions,
        sessions::read::which,
        state::{Gateway, Shared},
    },
};

/// How long a bridge may take to count; the sessions of one that does not answer are left out.
const COUNTING: Duration = Duration::from_secs(5);
/// Bridges asked at a time.
const AT_ONCE: usize = 16;

/// What waits.
#[derive(Serialize, ToSchema)]
pub struct Waiting {
    /// The sessions whose messages the caller may read and whose bridge answered, in no particular order.
    pub sessions: Vec<WaitingMessages>,
}

/// What waits in a session.
#[derive(Serialize, ToSchema)]
pub struct WaitingMessages {
    /// The session.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub session_id: String,
    /// How many messages wait in it; counted up to 1000.
    #[schema(example = 3)]
    pub waiting: u64,
}

/// How many messages wait
///
/// In each of the caller's own sessions in the gateway's default namespace; `owner` and `namespace` ask for others. A session whose messages the
/// caller may not read, or whose bridge does not answer now, is left out.
#[utoipa::path(
    get, path = "/api/v1/messages/waiting/", operation_id = "waiting", tag = "messages",
    params(WhichSessions),
    responses((status = 200, description = "What waits.", body = Success<Waiting>)),
)]
pub async fn waiting(State(gateway): State<Shared>, caller: Caller, uri: Uri) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["owner", "namespace"])?;
    let which = which(&gateway, &caller, &parameters)?;
    let mut shards: HashMap<BridgeBinding, Vec<String>> = HashMap::new();
    for known in readable(&gateway, &caller, &which).await? {
        if let Some(bridge) = &known.bridge {
            shards.entry(bridge.clone()).or_default().push(known.uid.clone());
        }
    }
    let mut questions = Vec::new();
    for (bridge, sessions) in shards {
        questions.extend(sessions.chunks(MOST_LOADS).map(|some| counted(&gateway, bridge.clone(), some.to_vec())));
    }
    let answers: Vec<Vec<Load>> = stream::iter(questions).buffer_unordered(AT_ONCE).collect().await;
    let sessions = answers.into_iter().flatten();
    let sessions = sessions.map(|load| WaitingMessages { session_id: load.session, waiting: load.waiting }).collect();
    Ok(answer::with(StatusCode::OK, Waiting { sessions }))
}

/// The instances whose messages the caller may read.
async fn readable(gateway: &Gateway, caller: &Caller, which: &Which) -> Result<Vec<Arc<Known>>, Failure> {
    let mut found = Vec::new();
    for known in gateway.index.those(|known| which.has(&known.place.namespace, known.owner.as_deref())) {
        if gateway.access.may(&caller.identity, Verb::Get, known.owner.as_deref(), &known.place.namespace).await? {
            found.push(known);
        }
    }
    Ok(found)
}

/// What a shard says of some of its sessions; nothing when it does not answer.
async fn counted(gateway: &Gateway, bridge: BridgeBinding, sessions: Vec<String>) -> Vec<Load> {
    let query = &LoadQuery { to: None, sessions };
    match tokio::time::timeout(COUNTING, gateway.bridges.ask(&bridge, |shard| async move { shard.load(query).await }))
        .await
    {
        Ok(Ok(loads)) => loads,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a shard does not say how many messages wait");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
