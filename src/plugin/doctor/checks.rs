//! What is wrong, from what was seen: a list of small pure functions, each about one thing.

mod cluster;
mod sessions;

use super::seen::Seen;

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It does not work, or will not.
    Wrong,
    /// Somebody may want to know.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What it is.
    pub what: String,
    /// What to do; empty for a note that asks for nothing.
    pub advice: String,
}

impl Finding {
    fn wrong(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { weight: Weight::Wrong, what: what.into(), advice: advice.into() }
    }

    fn note(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { weight: Weight::Note, what: what.into(), advice: advice.into() }
    }
}

type Check = fn(&Seen) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    cluster::definitions,
    cluster::stored_versions,
    cluster::workloads,
    cluster::operators,
    cluster::pods,
    cluster::webhooks,
    cluster::trial,
    cluster::secrets,
    cluster::access,
    sessions::bridges,
    sessions::default_bridge,
    sessions::instances,
    sessions::ownerless,
    sessions::owners,
    unseen,
];

/// Everything that is to be said, what is wrong first.
pub fn findings(seen: &Seen) -> Vec<Finding> {
    let mut found: Vec<Finding> = CHECKS.iter().flat_map(|check| check(seen)).collect();
    found.sort_by_key(|finding| finding.weight);
    found
}

/// What could not be looked at.
fn unseen(seen: &Seen) -> Vec<Finding> {
    let parts = [
        ("the definitions", seen.definitions.as_ref().err()),
        ("the webhook configurations", seen.webhooks.as_ref().err()),
        ("the webhooks' answer", seen.trial.as_ref().err()),
        ("Deployments and StatefulSets", seen.workloads.as_ref().err()),
        ("pods", seen.pods.as_ref().err()),
        ("WhatsAppBridges", seen.bridges.as_ref().err()),
        ("WhatsAppOwners", seen.owners.as_ref().err()),
        ("WhatsAppInstances", seen.instances.as_ref().err()),
        ("Events", seen.events.as_ref().err()),
    ];
    let secrets = seen.secrets.iter().filter_map(|(name, there)| Some((name, there.as_ref().err()?)));
    let secrets = secrets.map(|(name, why)| Finding::note(format!("not looked at: Secret {name} ({why})"), ""));
    let parts = parts.into_iter().filter_map(|(what, why)| Some((what, why?)));
    parts.map(|(what, why)| Finding::note(format!("not looked at: {what} ({why})"), "")).chain(secrets).collect()
}

#[cfg(test)]
mod tests;
