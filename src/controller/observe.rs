//! Every read a decision needs. All of them are from memory: nothing here waits.

use kube::ResourceExt;

use super::{
    context::Context,
    decide::facts::{BridgeFault, Candidate, Facts, LinkState, ShardLoad},
    instances::BridgeCall,
};
use crate::{
    api::{BridgeBinding, WhatsAppBridge, WhatsAppInstance, conditions::reason},
    bridge_api::BridgeError,
    drivers,
};

/// Gathers the facts about one instance.
pub fn observe<'a>(instance: &'a WhatsAppInstance, context: &Context) -> Facts<'a> {
    let uid = instance.uid().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let bound = instance.status.as_ref().and_then(|status| status.bridge.as_ref());
    let (link, session) = match bound {
        Some(bound) => look(bound, &uid, context),
        None => (LinkState::Unknown, None),
    };
    let link_itself = bound.and_then(|bound| context.links.get(bound));
    let unreadable = link_itself.as_ref().is_some_and(|link| link.is_unreadable(drivers::session_id(&uid)));
    let unbound = bound.is_none();
    let call = if instance.metadata.deletion_timestamp.is_some() { BridgeCall::Delete } else { BridgeCall::Put };
    let (acceptance, primary) = context.owners.acceptance(instance);
    let (session, session_since) = session.map_or((None, now), |(session, since)| (Some(session), since));
    Facts {
        instance,
        acceptance,
        primary,
        candidates: if unbound { candidates(context) } else { Vec::new() },
        namespace_labels: if unbound {
            namespace_labels(instance, context)
        } else {
            std::collections::BTreeMap::default()
        },
        link,
        session,
        session_since,
        capabilities: link_itself.map(|link| link.capabilities()).unwrap_or_default(),
        failure: context.instances.failure(&uid, call).or_else(|| unreadable.then_some(BridgeError::Unreadable)),
        now,
    }
}

type Seen = (std::sync::Arc<crate::bridge_api::Session>, jiff::Timestamp);

fn look(bound: &BridgeBinding, uid: &str, context: &Context) -> (LinkState, Option<Seen>) {
    let BridgeBinding { name, shard } = bound;
    let Some(bridge) = context.bridges.named(name) else {
        let text = format!(
            "WhatsAppBridge {name}, which this session is bound to, is gone; create it again, or delete this instance."
        );
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

fn candidates(context: &Context) -> Vec<Candidate> {
    let load = |bridge: &WhatsAppBridge| {
        let each = drivers::endpoints(bridge).into_iter().map(|(binding, _)| ShardLoad {
            bound: context.instances.bound(&binding),
            link: context.links.get(&binding).map_or(LinkState::Unknown, |link| link.look("").0),
            name: binding.shard,
        });
        each.collect()
    };
    context.bridges.all().into_iter().map(|bridge| Candidate { shards: load(&bridge), bridge }).collect()
}

fn namespace_labels(instance: &WhatsAppInstance, context: &Context) -> std::collections::BTreeMap<String, String> {
    let name = instance.namespace().unwrap_or_default();
    context.namespaces.named(&name).map(|namespace| namespace.labels().clone()).unwrap_or_default()
}
