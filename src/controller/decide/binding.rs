//! Which bridge and shard an instance goes to. Pure.

use std::collections::BTreeMap;

use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt},
};

use super::facts::{BridgeFault, Candidate, Facts, LinkState};
use crate::api::{
    BridgeBinding, NamespacesFrom, WhatsAppBridge, WhatsAppInstance, conditions::reason, labels::IS_DEFAULT_BRIDGE,
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

/// Chooses for good: a binding never changes, because two shards with one session's keys would destroy the session.
///
/// # Errors
/// The fault that keeps the instance unbound; it is tried again when bridges, namespaces or instances change.
pub fn choose(facts: &Facts<'_>) -> Result<Choice, BridgeFault> {
    let candidate = bridge_of(facts.instance, &facts.candidates)?;
    let name = candidate.bridge.name_any();
    admits(&candidate.bridge, &facts.namespace_labels)?;
    let capacity = candidate.bridge.spec.capacity.sessions_per_shard as usize;
    let free = candidate.shards.iter().filter(|shard| shard.bound < capacity);
    // A shard that is down now serves a new session only when no other has room.
    let shard = free.min_by_key(|shard| (matches!(shard.link, LinkState::Down(_)), shard.bound)).ok_or_else(|| {
        BridgeFault::new(
            reason::BRIDGE_FULL,
            format!(
                "Every shard of WhatsAppBridge {name} holds {capacity} sessions; add a shard, or delete instances."
            ),
        )
    })?;
    let binding = BridgeBinding { name, shard: shard.name.clone() };
    Ok(Choice { binding, capacity, link: shard.link.clone() })
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
