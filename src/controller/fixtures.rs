//! States the tests start from.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::decide::facts::{Acceptance, Candidate, Facts, LinkState, ShardLoad};
use crate::{
    api::{BridgeBinding, InstanceRef, WhatsAppBridge, WhatsAppInstance, WhatsAppInstanceStatus, labels},
    bridge_api::{Capabilities, Capability, Qr, Session, SessionPhase},
    model::Sensitive,
    platform::watch::Key,
};

/// The uid of [`instance`], and so the id of [`session`].
pub const UID: &str = "11111111-2222-3333-4444-555555555555";

/// The moment most tests happen at.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// An instance as a user just created it.
pub fn instance() -> WhatsAppInstance {
    serde_json::from_value(json!({
        "metadata": { "name": "one", "namespace": "team", "uid": UID, "generation": 1, "resourceVersion": "1" },
        "spec": { "name": "One", "owner": "alice" },
    }))
    .unwrap()
}

/// The instance with our finalizer, bound, with this status otherwise.
pub fn bound(status: WhatsAppInstanceStatus) -> WhatsAppInstance {
    let mut instance = instance();
    instance.finalizers_mut().push(labels::FINALIZER.into());
    instance.status = Some(WhatsAppInstanceStatus { bridge: Some(binding()), session_id: Some(UID.into()), ..status });
    instance
}

/// The key of an instance.
pub fn key(instance: &WhatsAppInstance) -> Key {
    Key::new(InstanceRef::of(instance))
}

/// The key of whatever has this name.
pub fn named(namespace: &str, name: &str) -> Key {
    Key::new(InstanceRef { namespace: namespace.into(), name: name.into() })
}

/// Where [`bound`] instances run.
pub fn binding() -> BridgeBinding {
    BridgeBinding { name: "main".into(), shard: "s0".into() }
}

/// A bridge with these shards.
pub fn bridge(name: &str, shards: &[&str]) -> WhatsAppBridge {
    let shards: Vec<_> = shards.iter().map(|name| json!({ "name": name, "url": "http://127.0.0.1:1" })).collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "builtin": { "shards": shards }, "credentialsSecretRef": { "namespace": "ns", "name": "token" } },
    }))
    .unwrap()
}

/// The same bridge, as the default.
pub fn default_bridge(name: &str, shards: &[&str]) -> WhatsAppBridge {
    let mut bridge = bridge(name, shards);
    bridge.annotations_mut().insert(labels::IS_DEFAULT_BRIDGE.into(), "true".into());
    bridge
}

/// A bridge as a candidate, with this many instances on each of its shards, all up.
pub fn candidate(bridge: WhatsAppBridge, loads: &[(&str, usize)]) -> Candidate {
    let shards = loads.iter().map(|(name, bound)| ShardLoad {
        name: (*name).into(),
        bound: *bound,
        link: LinkState::Up,
        capabilities: capabilities(),
        former: None,
    });
    Candidate { bridge: bridge.into(), shards: shards.collect() }
}

/// Facts about an instance on a bridge that answers, with this session.
pub fn facts(instance: &WhatsAppInstance, session: Option<Session>) -> Facts<'_> {
    Facts {
        instance,
        binding: instance.status.as_ref().and_then(|status| status.bridge.clone()),
        of_another_operator: false,
        acceptance: Acceptance::Accepted,
        trouble: None,
        known_for: jiff::SignedDuration::ZERO,
        primary: false,
        candidates: vec![candidate(default_bridge("main", &["s0"]), &[("s0", 0)])],
        namespace_labels: [].into(),
        link: LinkState::Up,
        capabilities: capabilities(),
        session_since: session.as_ref().map_or(now(), |session| session.phase_since),
        code_since: now(),
        session: session.map(Into::into),
        failure: None,
        now: now(),
    }
}

/// What the bridges here can do.
pub fn capabilities() -> Capabilities {
    [Capability::Presence].into_iter().collect()
}

/// A session in this phase since long ago, with what such a session has.
pub fn session(phase: SessionPhase) -> Session {
    use SessionPhase as P;
    let paired = matches!(phase, P::Connected | P::Connecting | P::Reconnecting | P::Banned | P::Ended | P::Stopped);
    let long_ago = Timestamp::from_second(1_799_990_000).unwrap();
    Session {
        id: UID.into(),
        spec: Default::default(),
        phase: phase.into(),
        reason: None,
        phase_since: long_ago,
        paired,
        phone_number: paired.then(|| Sensitive::new("+15550001")),
        push_name: paired.then(|| Sensitive::new("Alice")),
        connected_at: (phase == P::Connected).then_some(long_ago),
        last_active_at: None,
        qr: matches!(phase, P::AwaitingPairing | P::Linking).then(|| qr(1)),
        pairing_code: None,
        restriction: None,
        last_disconnect: None,
    }
}

/// The code of this attempt, still good for 20 s.
pub fn qr(attempt: u32) -> Qr {
    Qr {
        code: Sensitive::new(format!("2@SECRET{attempt}")),
        expires_at: now() + jiff::SignedDuration::from_secs(20),
        attempt,
        attempts: 6,
    }
}
