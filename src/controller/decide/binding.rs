//! Which bridge and shard an instance goes to. Pure.

use std::collections::BTreeMap;

use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt},
};

use super::facts::{BridgeFault, Candidate, Facts, FormerSession, LinkState, ShardLoad};
use crate::{
    api::{
        BridgeBinding, NamespacesFrom, WhatsAppBridge, WhatsAppInstance, conditions::reason, labels::IS_DEFAULT_BRIDGE,
    },
    bridge_api::{Capabilities, Capability},
};

/// Where an instance is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The bridge and shard.
    pub binding: BridgeBinding,
    /// How many instances may be bound to the shard.
    pub capacity: usize,
    /// The state of the link to the shard.
    pub link: LinkState,
    /// What the bridge there can do.
    pub capabilities: Capabilities,
}

/// Why an instance has no shard yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// Something is wrong.
    Fault(BridgeFault),
    /// This shard is just being connected to.
    Awaits(BridgeBinding),
}

impl From<BridgeFault> for Unbound {
    fn from(fault: BridgeFault) -> Self {
        Self::Fault(fault)
    }
}

/// Where the session of an instance is that lost its binding, by the shards that have one of its id: of the bridge that it
/// asks for, if it asks for one.
pub fn found(instance: &WhatsAppInstance, held: Vec<BridgeBinding>) -> Option<BridgeBinding> {
    let wanted = instance.spec.bridge_ref.as_ref().map(|wanted| &wanted.name);
    let fits = |one: &BridgeBinding| wanted.is_none_or(|wanted| *wanted == one.name);
    held.into_iter().filter(fits).min_by(|a, b| (&a.name, &a.shard).cmp(&(&b.name, &b.shard)))
}

/// Whether an instance is for another operator: it is on a bridge, or asks for one, that exists and is not `ours`. One that
/// asks for none is for the operator of the `default`.
pub fn is_of_another_operator(
    instance: &WhatsAppInstance,
    binding: Option<&BridgeBinding>,
    exists: impl Fn(&str) -> bool,
    ours: impl Fn(&str) -> bool,
    default: impl FnOnce() -> Option<String>,
) -> bool {
    let asked = || instance.spec.bridge_ref.as_ref().map(|wanted| wanted.name.as_str());
    match binding.map(|bound| bound.name.as_str()).or_else(asked) {
        Some(name) => !ours(name) && exists(name),
        None => default().is_some_and(|name| !ours(&name)),
    }
}

/// The bridge of instances that ask for none: of several marked as the default, the oldest.
pub fn default_of<'a, K: Resource>(bridges: impl IntoIterator<Item = &'a K>) -> Option<&'a K> {
    let is_default = |bridge: &&K| bridge.annotations().get(IS_DEFAULT_BRIDGE).is_some_and(|value| value == "true");
    let age = |bridge: &&K| (bridge.creation_timestamp(), bridge.name_any());
    bridges.into_iter().filter(is_default).min_by_key(age)
}

/// Chooses for good: a binding never changes, because two shards with one session's keys would destroy the session. An instance that was
/// created anew goes where its session is, when the bridge takes over restored data.
///
/// # Errors
/// What keeps the instance unbound; it is tried again when bridges, namespaces or instances change.
pub fn choose(facts: &Facts<'_>) -> Result<Choice, Unbound> {
    let candidate = bridge_of(facts.instance, &facts.candidates)?;
    let name = candidate.bridge.metadata.name.as_deref().unwrap_or_default();
    admits(&candidate.bridge, &facts.namespace_labels)?;
    let choice = |shard: &ShardLoad, capacity| Choice {
        binding: BridgeBinding { name: name.to_owned(), shard: shard.name.clone() },
        capacity,
        link: shard.link.clone(),
        capabilities: shard.capabilities.clone(),
    };
    let capacity = candidate.bridge.spec.capacity.sessions_per_shard as usize;
    let former = |linked| only(candidate.shards.iter().filter(move |one| one.former == Some(FormerSession { linked })));
    // The session is there already and needs no room.
    if let Some(shard) = former(true) {
        return Ok(choice(shard, usize::MAX));
    }
    all_are_seen_that_may_have_it(name, &candidate.shards)?;
    if let Some(shard) = former(false).filter(|_| candidate.shards.iter().all(|one| one.former != LINKED)) {
        return Ok(choice(shard, usize::MAX));
    }
    // Where several have a session of the instance, nobody knows which it should have.
    let free = candidate.shards.iter().filter(|shard| shard.former.is_none() && shard.bound < capacity);
    // A shard that is down now serves a new session only when no other has room.
    let order = |shard: &&ShardLoad| (matches!(shard.link, LinkState::Down(_)), shard.bound);
    let shard = free.min_by_key(order).ok_or_else(|| {
        let text = if candidate.shards.iter().any(|shard| shard.former.is_some()) {
            format!(
                "Several shards of WhatsAppBridge {name} have a session of this instance, and no other has room; delete on the bridge those that are not needed, or add a shard."
            )
        } else {
            format!("Every shard of WhatsAppBridge {name} holds {capacity} sessions; add a shard, or delete instances.")
        };
        BridgeFault::new(reason::BRIDGE_FULL, text)
    })?;
    Ok(choice(shard, capacity))
}

const LINKED: Option<FormerSession> = Some(FormerSession { linked: true });

/// The only one.
fn only<'a>(mut shards: impl Iterator<Item = &'a ShardLoad>) -> Option<&'a ShardLoad> {
    shards.next().filter(|_| shards.next().is_none())
}

/// Whether no shard that cannot be used now may have the session that the instance had before it was created anew. That is known once one
/// answers that does not take over restored data; where one does, or none answers, each may have it.
fn all_are_seen_that_may_have_it(bridge: &str, shards: &[ShardLoad]) -> Result<(), Unbound> {
    let is_up = |shard: &&ShardLoad| shard.link == LinkState::Up;
    let (adopting, others): (Vec<_>, Vec<_>) =
        shards.iter().filter(is_up).partition(|shard| shard.capabilities.include(Capability::Adopt));
    if adopting.is_empty() && !others.is_empty() {
        return Ok(());
    }
    if let Some(other) = others.first() {
        let text = format!(
            "Shard {} of WhatsAppBridge {bridge} was not started with --adopt-data yet, as others were, and the session of this instance may be there; it is waited for.",
            other.name
        );
        return Err(BridgeFault::new(reason::BRIDGE_UNREACHABLE, text).into());
    }
    let none_is_up = adopting.is_empty();
    if let Some(shard) = shards.iter().find(|shard| shard.link == LinkState::Unknown) {
        return Err(Unbound::Awaits(BridgeBinding { name: bridge.to_owned(), shard: shard.name.clone() }));
    }
    let down = shards.iter().find_map(|shard| match &shard.link {
        LinkState::Down(fault) => Some(fault),
        _ => None,
    });
    match down {
        None => Ok(()),
        Some(fault) if none_is_up => Err(fault.clone().into()),
        Some(fault) => {
            let text = format!(
                "{} The session of this instance may be there: the bridge takes over restored data (--adopt-data), so no other shard begins one.",
                fault.message
            );
            Err(BridgeFault::new(fault.reason, text).into())
        }
    }
}

fn bridge_of<'a>(instance: &WhatsAppInstance, candidates: &'a [Candidate]) -> Result<&'a Candidate, BridgeFault> {
    if let Some(wanted) = &instance.spec.bridge_ref {
        return candidates.iter().find(|c| c.bridge.name_any() == wanted.name).ok_or_else(|| {
            let text = format!(
                "There is no WhatsAppBridge {}; create it, or recreate this instance for another.",
                wanted.name
            );
            BridgeFault::new(reason::BRIDGE_NOT_FOUND, text)
        });
    }
    let default = default_of(candidates.iter().map(|c| &*c.bridge)).map(ResourceExt::name_any);
    candidates
        .iter()
        .find(|c| default.as_ref() == Some(&c.bridge.name_any()))
        .ok_or_else(|| {
            let text = format!(
                "spec.bridgeRef is not set and no WhatsAppBridge is the default; annotate one with {IS_DEFAULT_BRIDGE}: \"true\"."
            );
            BridgeFault::new(reason::NO_DEFAULT_BRIDGE, text)
        })
}

fn admits(bridge: &WhatsAppBridge, labels: &BTreeMap<String, String>) -> Result<(), BridgeFault> {
    let allowed = &bridge.spec.allowed_namespaces;
    let admitted = match (allowed.from, &allowed.selector) {
        (NamespacesFrom::All, _) => true,
        (NamespacesFrom::Selector, Some(selector)) => {
            Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
        }
        (NamespacesFrom::Selector, None) => false,
    };
    if admitted {
        return Ok(());
    }
    let text = format!(
        "WhatsAppBridge {} does not serve this namespace; ask the platform team to label the namespace for it.",
        bridge.name_any()
    );
    Err(BridgeFault::new(reason::NAMESPACE_NOT_ALLOWED, text))
}
