//! Every read a decision needs. All of them are from memory: nothing here waits.

use std::sync::Arc;

use kube::ResourceExt;

use super::{
    bridges::sessions::{Moment, Seen},
    context::Context,
    decide::{
        binding,
        facts::{Acceptance, BridgeFault, Candidate, Facts, LinkState, ShardLoad},
        has_finalizer, session_instance,
    },
    instances::BridgeCall,
};
use crate::{
    api::{BridgeBinding, WhatsAppBridge, WhatsAppInstance, conditions::reason},
    bridge_api::{BridgeError, Capability},
    drivers,
};

/// Gathers the facts about one instance.
pub fn observe<'a>(instance: &'a WhatsAppInstance, context: &Context) -> Facts<'a> {
    let uid = instance.uid().unwrap_or_default();
    let moment = Moment::now();
    let now = moment.wall;
    let binding = binding(instance, &uid, context);
    let bound = binding.as_ref();
    let (link, session) = match bound {
        Some(bound) => look(bound, instance, &uid, context),
        None => (LinkState::Unknown, None),
    };
    let link_itself = bound.and_then(|bound| context.links.get(bound));
    let unreadable = link_itself.as_ref().is_some_and(|link| link.is_unreadable(drivers::session_id(&uid)));
    let unbound = bound.is_none();
    let call = if instance.metadata.deletion_timestamp.is_some() { BridgeCall::Delete } else { BridgeCall::Put };
    let (acceptance, primary) = context.owners.acceptance(instance);
    let trouble = if acceptance == Acceptance::Undecided { context.owners.trouble(instance) } else { None };
    let (session_since, code_since) =
        session.as_ref().map_or((now, now), |seen| (moment.wall_of(seen.since), moment.wall_of(seen.code_since)));
    Facts {
        instance,
        of_another_operator: is_of_another_operator(instance, bound, context),
        acceptance,
        trouble,
        known_for: context.instances.known_for(&uid),
        primary,
        candidates: if unbound { candidates(instance, &uid, context) } else { Vec::new() },
        namespace_labels: if unbound {
            namespace_labels(instance, context)
        } else {
            std::collections::BTreeMap::default()
        },
        link,
        session: session.map(|seen| seen.session),
        session_since,
        code_since,
        capabilities: link_itself.map(|link| link.capabilities()).unwrap_or_default(),
        failure: context.instances.failure(&uid, call).or_else(|| unreadable.then_some(BridgeError::Unreadable)),
        now,
        binding,
    }
}

/// Where it is bound to. What the status says; where that says nothing, what we know of it, and which shard has its session.
fn binding(instance: &WhatsAppInstance, uid: &str, context: &Context) -> Option<BridgeBinding> {
    let shown = instance.status.as_ref().and_then(|status| status.bridge.clone());
    // Nothing was ever begun without our finalizer.
    let held = || binding::found(instance, context.links.holding(drivers::session_id(uid)));
    shown.or_else(|| context.instances.binding(uid)).or_else(|| if has_finalizer(instance) { held() } else { None })
}

fn is_of_another_operator(instance: &WhatsAppInstance, bound: Option<&BridgeBinding>, context: &Context) -> bool {
    let all = &context.all_bridges;
    // Where the namespaces are ours alone, so are those who ask for no bridge.
    let default = || binding::default_of(all.all().iter().map(Arc::as_ref)).map(ResourceExt::name_any);
    let default = || if context.namespaces_are_ours { None } else { default() };
    let exists = |name: &str| all.named(name).is_some();
    binding::is_of_another_operator(instance, bound, exists, |name| context.bridges.named(name).is_some(), default)
}

fn look(bound: &BridgeBinding, instance: &WhatsAppInstance, uid: &str, context: &Context) -> (LinkState, Option<Seen>) {
    let BridgeBinding { name, shard } = bound;
    let Some(bridge) = context.bridges.named(name) else {
        // Nothing of that is reported of an instance that is being deleted already.
        let todo = if instance.metadata.deletion_timestamp.is_some() { "" } else { ", or delete this instance" };
        let text = format!("WhatsAppBridge {name}, which this session is bound to, is gone; create it again{todo}.");
        return (LinkState::Down(BridgeFault::new(reason::BRIDGE_NOT_FOUND, text)), None);
    };
    if !drivers::shards(&bridge).any(|known| known == shard) {
        let text = format!(
            "Shard {shard}, which this session is bound to, is no longer in WhatsAppBridge {name}; add it again."
        );
        return (LinkState::Down(BridgeFault::new(reason::SHARD_NOT_FOUND, text)), None);
    }
    context.links.get(bound).map_or((LinkState::Unknown, None), |link| link.look(drivers::session_id(uid)))
}

fn candidates(instance: &WhatsAppInstance, uid: &str, context: &Context) -> Vec<Candidate> {
    let its = session_instance(instance);
    let shard = |binding: BridgeBinding| {
        let link = context.links.get(&binding);
        let capabilities = link.as_ref().map(|link| link.capabilities()).unwrap_or_default();
        let adopting = link.as_ref().filter(|_| capabilities.include(Capability::Adopt));
        ShardLoad {
            // Some sessions may have no instance here, and still take capacity of the bridge.
            bound: context.instances.bound(&binding).max(link.as_ref().map_or(0, |link| link.sessions())),
            former: adopting.zip(its.as_ref()).and_then(|(link, its)| link.former(its, drivers::session_id(uid))),
            link: link.map_or(LinkState::Unknown, |link| link.look("").0),
            capabilities,
            name: binding.shard,
        }
    };
    let shards =
        |bridge: &WhatsAppBridge| drivers::endpoints(bridge).into_iter().map(|(binding, _)| shard(binding)).collect();
    context.bridges.all().into_iter().map(|bridge| Candidate { shards: shards(&bridge), bridge }).collect()
}

fn namespace_labels(instance: &WhatsAppInstance, context: &Context) -> std::collections::BTreeMap<String, String> {
    let name = instance.namespace().unwrap_or_default();
    context.namespaces.named(&name).map(|namespace| namespace.labels().clone()).unwrap_or_default()
}
