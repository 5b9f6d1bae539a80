//! What a decision is made from: plain values, gathered by `observe`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{BridgeBinding, WhatsAppBridge, WhatsAppInstance},
    bridge_api::{BridgeError, Capabilities, Session},
    rules::Denial,
};

/// Why a shard cannot be used: a condition reason and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFault {
    /// A reason of condition `BridgeAvailable`.
    pub reason: &'static str,
    /// What is wrong and what to do, as a sentence.
    pub message: String,
}

impl BridgeFault {
    /// A fault.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A deletion, for as long as this process could have carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Since when, by the clock on the wall: for people to read.
    pub since: Timestamp,
    /// For how long, by a clock that cannot be set and that pauses while the machine sleeps: for decisions.
    pub lasted: SignedDuration,
}

/// What the owner's ledger says of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acceptance {
    /// It holds its slot and its name, or has no owner.
    Accepted,
    /// It waits for a slot or its name, and is not brought up.
    Waiting(Denial),
    /// The ledger is being written: what the instance's status says holds, and nothing new is begun.
    #[default]
    Undecided,
}

/// The state of the link to a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Being made, or broken so recently that it may come back before anybody needs to know.
    #[default]
    Unknown,
    /// Listed, and followed by events.
    Up,
    /// Not usable.
    Down(BridgeFault),
}

/// One shard of one bridge, as a candidate for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLoad {
    /// Name of the shard.
    pub name: String,
    /// Instances bound to it.
    pub bound: usize,
    /// The state of its link.
    pub link: LinkState,
    /// What it can do, as it said last.
    pub capabilities: Capabilities,
    /// The session that the instance had there before it was created anew, if the shard would give it that one.
    pub former: Option<FormerSession>,
}

/// A session of the instance under another id, which no instance claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerSession {
    /// Whether a device is linked to it.
    pub linked: bool,
}

/// One bridge, as a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The object.
    pub bridge: std::sync::Arc<WhatsAppBridge>,
    /// Its shards, in the order of its spec.
    pub shards: Vec<ShardLoad>,
}

/// Everything a decision about one instance rests on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The object as last seen or written.
    pub instance: &'a WhatsAppInstance,
    /// Where the session runs, once decided: what the status says, or else what this process or a shard knows. A status can
    /// be written by others, and one that lost its binding must not begin a second session.
    pub binding: Option<BridgeBinding>,
    /// Whether it is for another operator, which serves the bridge that it is on or asks for.
    pub of_another_operator: bool,
    /// Whether the rules let it run.
    pub acceptance: Acceptance,
    /// Why the owner's ledger could not be settled, while it is undecided for that.
    pub trouble: Option<String>,
    /// For how long this process has known the instance.
    pub known_for: SignedDuration,
    /// Whether it is its owner's primary.
    pub primary: bool,
    /// The bridges to choose from; empty and unused once bound.
    pub candidates: Vec<Candidate>,
    /// Labels of the instance's namespace; needed only for choosing.
    pub namespace_labels: BTreeMap<String, String>,
    /// The link to the bound shard; `Unknown` when not bound.
    pub link: LinkState,
    /// What the bridge on the bound shard can do; nothing while that is not known.
    pub capabilities: Capabilities,
    /// The session on the bound shard, when the link is up and lists it.
    pub session: Option<std::sync::Arc<Session>>,
    /// Since when, by our clock or the bridge's, whichever is earlier, the session has been in its phase.
    pub session_since: Timestamp,
    /// Since when, by our clock, it has shown the code that it shows.
    pub code_since: Timestamp,
    /// What the bridge answered to the last call of the kind that is due (put while it lives, delete once it goes), if that
    /// was an error.
    pub failure: Option<BridgeError>,
    /// The clock.
    pub now: Timestamp,
}

impl Facts<'_> {
    /// Where the session runs, once decided.
    pub fn binding(&self) -> Option<&BridgeBinding> {
        self.binding.as_ref()
    }

    /// Whether the status says so too.
    pub fn binding_is_shown(&self) -> bool {
        self.instance.status.as_ref().and_then(|status| status.bridge.as_ref()) == self.binding()
    }

    /// Whether a shard that is just being listed may have the session of an instance that is not bound.
    pub fn may_be_on_a_shard(&self) -> bool {
        self.awaited_shard().is_some()
    }

    /// The first of those shards.
    pub fn awaited_shard(&self) -> Option<BridgeBinding> {
        let asked = self.instance.spec.bridge_ref.as_ref().map(|asked| asked.name.as_str());
        let fits =
            |candidate: &&Candidate| asked.is_none_or(|asked| candidate.bridge.metadata.name.as_deref() == Some(asked));
        let each = |candidate: &Candidate| {
            let name = candidate.bridge.metadata.name.clone().unwrap_or_default();
            let unknown = candidate.shards.iter().find(|shard| shard.link == LinkState::Unknown)?;
            Some(BridgeBinding { name, shard: unknown.name.clone() })
        };
        self.candidates.iter().filter(fits).find_map(each).filter(|_| self.binding.is_none())
    }
}
