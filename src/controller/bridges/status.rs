//! The status of a WhatsAppBridge. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::link::ShardSummary;
use crate::api::{
    BridgeSessions, WhatsAppBridge, WhatsAppBridgeStatus,
    conditions::{READY, reason},
};
use crate::controller::decide::{
    facts::{BridgeFault, LinkState},
    finding::Finding,
};

/// Condition: every session on the bridge belongs to an instance.
pub const SESSIONS_CLAIMED: &str = "SessionsClaimed";

/// The status to show, given a look at each shard that has a link. A shard still being connected to changes nothing.
pub fn of(bridge: &WhatsAppBridge, shards: &[(String, ShardSummary)], now: Timestamp) -> WhatsAppBridgeStatus {
    let old = bridge.status.clone().unwrap_or_default();
    let generation = bridge.metadata.generation;
    let condition = |kind, finding: Finding| finding.condition(kind, &old.conditions, generation, now);
    let down = shards.iter().filter_map(|(_, summary)| match &summary.state {
        LinkState::Down(fault) => Some(fault.clone()),
        _ => None,
    });
    let down: Vec<BridgeFault> = down.collect();
    let connecting = shards.is_empty() || shards.iter().any(|(_, summary)| summary.state == LinkState::Unknown);
    if connecting && down.is_empty() {
        return if old.conditions.is_empty() {
            let ready = condition(READY, Finding::new("Unknown", reason::UNKNOWN, "Not known yet."));
            WhatsAppBridgeStatus { observed_generation: generation, conditions: vec![ready], ..old }
        } else {
            old
        };
    }
    let ready = match down.first() {
        None => Finding::new("True", reason::ALL_SHARDS_READY, "Every shard answers."),
        Some(first) => {
            let text = if down.len() == 1 {
                first.message.clone()
            } else {
                format!("{} of {} shards cannot be used. {}", down.len(), shards.len(), first.message)
            };
            Finding::new("False", first.reason, text)
        }
    };
    let known = || shards.iter().filter_map(|(_, summary)| summary.info.as_ref());
    let versions: BTreeSet<&str> = known().map(|info| info.version.as_str()).collect();
    // Only what every shard can do is something the bridge can do.
    let capabilities = known().map(|info| info.capabilities.clone()).reduce(|all, one| all.both(&one));
    let capabilities = capabilities.map(|all| all.names());
    let total = shards.iter().map(|(_, summary)| summary.total).sum();
    let strays = || shards.iter().map(|(_, summary)| summary.strays);
    let unclaimed: Option<usize> = strays().map(|strays| strays.map(|strays| strays.unclaimed)).sum();
    let elsewhere: usize = strays().flatten().map(|strays| strays.elsewhere).sum();
    let mut conditions = vec![condition(READY, ready)];
    conditions.extend(match unclaimed {
        None => old.conditions.iter().find(|condition| condition.type_ == SESSIONS_CLAIMED).cloned(),
        Some(0) if elsewhere > 0 => {
            let text = "The bridge holds sessions of WhatsAppInstances that are bound to another bridge or shard. Do not delete \
                        them: two WhatsAppBridges or shards may be one process, and then they are the sessions in use. Have \
                        each process in one WhatsAppBridge only, under the name that its instances are bound to.";
            Some(condition(SESSIONS_CLAIMED, Finding::new("False", reason::BOUND_ELSEWHERE, text)))
        }
        Some(0) => {
            let text = "Every session belongs to an instance.";
            Some(condition(SESSIONS_CLAIMED, Finding::new("True", "AllSessionsClaimed", text)))
        }
        Some(_) => {
            let text = "The bridge holds sessions that no WhatsAppInstance claims (status.sessions.unclaimed). They are left \
                        alone. After a restore, instances that are created anew get them back from a bridge that is started with \
                        --adopt-data. Delete them on the bridge if their instances are gone for good and not of another cluster: their \
                        devices may still be linked.";
            Some(condition(SESSIONS_CLAIMED, Finding::new("False", reason::UNCLAIMED_SESSIONS, text)))
        }
    });
    WhatsAppBridgeStatus {
        observed_generation: generation,
        conditions,
        version: if versions.is_empty() {
            old.version
        } else {
            Some(versions.into_iter().collect::<Vec<_>>().join(", "))
        },
        capabilities: capabilities.unwrap_or(old.capabilities),
        sessions: Some(BridgeSessions {
            total: count(total),
            unclaimed: unclaimed.map_or_else(|| old.sessions.unwrap_or_default().unclaimed, count),
        }),
    }
}

/// What to tell about sessions that are not: the reason and a sentence.
pub fn unclaimed(status: &WhatsAppBridgeStatus) -> Option<(String, String)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == SESSIONS_CLAIMED)?;
    (condition.status == "False").then(|| (condition.reason.clone(), condition.message.clone()))
}

fn count(sessions: usize) -> u32 {
    sessions.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bridge_api::{Capability, Info},
        controller::{fixtures, instances::Strays},
    };

    fn up(total: usize, unclaimed: Option<usize>) -> ShardSummary {
        let strays = unclaimed.map(|unclaimed| Strays { unclaimed, elsewhere: 0 });
        let info = Info {
            version: "0.1.0".into(),
            capabilities: [Capability::Qr, Capability::Events].into_iter().collect(),
            sessions: 0,
        };
        ShardSummary { state: LinkState::Up, info: Some(info), total, strays }
    }

    fn down() -> ShardSummary {
        ShardSummary { state: LinkState::Down(BridgeFault::new(reason::BRIDGE_UNREACHABLE, "Gone.")), ..up(0, Some(0)) }
    }

    fn shown(shards: &[ShardSummary]) -> WhatsAppBridgeStatus {
        let named: Vec<_> = shards.iter().enumerate().map(|(n, summary)| (format!("s{n}"), summary.clone())).collect();
        of(&fixtures::bridge("main", &["s0", "s1"]), &named, fixtures::now())
    }

    #[test]
    fn one_shard_down_is_not_ready_and_says_which_trouble() {
        let status = shown(&[up(3, Some(0)), down()]);
        assert_eq!(
            (status.conditions[0].status.as_str(), status.conditions[0].reason.as_str()),
            ("False", "BridgeUnreachable")
        );
        assert_eq!(shown(&[up(3, Some(0)), up(2, Some(0))]).conditions[0].reason, "AllShardsReady");
    }

    #[test]
    fn unclaimed_sessions_are_counted_and_do_not_make_it_unready() {
        let status = shown(&[up(3, Some(1)), up(2, Some(1))]);
        assert_eq!(status.sessions, Some(BridgeSessions { total: 5, unclaimed: 2 }));
        assert_eq!(status.conditions[0].status, "True");
        assert_eq!(unclaimed(&status).unwrap().0, reason::UNCLAIMED_SESSIONS);
    }

    #[test]
    fn sessions_of_instances_bound_elsewhere_are_not_called_nobodys_and_not_to_be_deleted() {
        let elsewhere = ShardSummary { strays: Some(Strays { unclaimed: 0, elsewhere: 2 }), ..up(3, Some(0)) };
        let status = shown(&[up(3, Some(0)), elsewhere]);
        assert_eq!(status.sessions, Some(BridgeSessions { total: 6, unclaimed: 0 }));
        let (why, message) = unclaimed(&status).unwrap();
        assert!(why == reason::BOUND_ELSEWHERE && message.contains("Do not delete"), "{message}");
    }

    #[test]
    fn nothing_is_called_unclaimed_before_every_instance_is_known() {
        assert_eq!(unclaimed(&shown(&[up(3, None), up(2, Some(2))])), None);
    }

    #[test]
    fn a_shard_being_connected_to_changes_nothing() {
        let mut bridge = fixtures::bridge("main", &["s0"]);
        let settled = of(&bridge, &[("s0".into(), up(1, Some(0)))], fixtures::now());
        bridge.status = Some(settled.clone());
        let unknown = ShardSummary { state: LinkState::Unknown, ..up(1, Some(0)) };
        assert_eq!(of(&bridge, &[("s0".into(), unknown)], fixtures::now()), settled);
    }
}
