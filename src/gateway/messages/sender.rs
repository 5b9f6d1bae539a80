//! The instance that sends a message: found in the index, and the caller may send through it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    route::{self, Busy, Routing},
    wanted::Wanted,
};
use crate::{
    api::BridgeBinding,
    bridge_api::{Load, LoadQuery},
    drivers,
    gateway::{access::Verb, caller::Caller, code::Code, failure::Failure, index::Known, state::Gateway},
    model::Sensitive,
};

/// The instance that sends, if the caller may send through it.
///
/// # Errors
/// When there is none.
pub async fn sender(gateway: &Gateway, caller: &Caller, wanted: &Wanted, owner: &str) -> Result<Arc<Known>, Failure> {
    match (&wanted.session, wanted.routing) {
        (Some(session), _) => {
            let found = gateway.index.known(drivers::instance_uid(session)).ok_or_else(Failure::not_found)?;
            // Idempotency keys belong to an owner, so the named session has to be that owner's.
            let fits = owner == caller.user || found.owner.as_deref() == Some(owner);
            if fits && may_send(gateway, caller, &found).await? { Ok(found) } else { Err(Failure::not_found()) }
        }
        (None, Routing::Primary) => primary(gateway, caller, owner).await,
        (None, Routing::Balanced) => {
            let ready = route::ready(allowed(gateway, caller, owner).await?)?;
            balanced(gateway, ready, wanted).await
        }
    }
}

/// Whether the caller may send through an instance.
///
/// # Errors
/// When the API server does not say.
pub async fn may_send(gateway: &Gateway, caller: &Caller, known: &Known) -> Result<bool, Failure> {
    gateway.access.may(&caller.identity, Verb::Create, known.owner.as_deref(), &known.place.namespace).await
}

/// Those of an owner's instances through which the caller may send.
async fn allowed(gateway: &Gateway, caller: &Caller, owner: &str) -> Result<Vec<Arc<Known>>, Failure> {
    let own = gateway.index.of_owner(owner);
    let mut allowed = Vec::with_capacity(own.len());
    for known in own {
        if may_send(gateway, caller, &known).await? {
            allowed.push(known);
        }
    }
    Ok(allowed)
}

/// How long to wait for a primary instance: while the primary moves, the status of one instance is written after the other's.
const MOVING: Duration = Duration::from_secs(3);

/// The owner's primary one. An owner with instances has one, though for a moment none of them may say so.
async fn primary(gateway: &Gateway, caller: &Caller, owner: &str) -> Result<Arc<Known>, Failure> {
    let mut changes = gateway.index.changes();
    let seen = async {
        loop {
            changes.borrow_and_update();
            let own = allowed(gateway, caller, owner).await?;
            let found = route::primary(&own);
            // An error would mean that the index is gone, which lives as long as the gateway.
            if found.is_ok() || own.iter().all(|known| known.going) || changes.changed().await.is_err() {
                return found;
            }
        }
    };
    match tokio::time::timeout(MOVING, seen).await {
        Ok(found) => found,
        Err(_) => route::primary(&[]),
    }
}

/// How long the bridges may take to say how busy their sessions are; those that do not are passed over where another session can send.
const ASKING: Duration = Duration::from_secs(2);

/// The one of several instances that sends.
async fn balanced(gateway: &Gateway, ready: Vec<Arc<Known>>, wanted: &Wanted) -> Result<Arc<Known>, Failure> {
    let mut shards: HashMap<&BridgeBinding, Vec<String>> = HashMap::new();
    if ready.len() > 1 {
        for known in &ready {
            if let Some(bridge) = &known.bridge {
                shards.entry(bridge).or_default().push(known.uid.clone());
            }
        }
    }
    let asking = shards.into_iter().map(async |(bridge, sessions)| {
        let query = &LoadQuery { to: Some(Sensitive::new(wanted.recipient.clone())), sessions };
        let asked = gateway.bridges.ask(bridge, |shard| async move { shard.load(query).await });
        let answer = tokio::time::timeout(ASKING, asked).await;
        answer.ok()?.inspect_err(|error| tracing::debug!(%error, "a shard does not say how busy it is")).ok()
    });
    let loads = futures::future::join_all(asking).await.into_iter().flatten().flatten();
    let busy: HashMap<String, Busy> =
        loads.map(|Load { session, waiting, knows_recipient }| (session, Busy { waiting, knows_recipient })).collect();
    let chosen = route::balanced(&ready, wanted.key, |known| busy.get(&known.uid).copied());
    chosen.ok_or_else(Failure::not_found)
}

/// The shard of an instance.
///
/// # Errors
/// When no bridge runs it yet.
pub fn bridge(known: &Known) -> Result<BridgeBinding, Failure> {
    known.bridge.clone().ok_or_else(|| {
        Failure::new(
            Code::NotPaired,
            "the session has no place on a bridge yet, so no device is linked; wait for its QR code and scan it",
        )
    })
}
