//! The links to all shards.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use kube::Client;

use super::link::{AllCalls, Link, Listeners};
use crate::{api::BridgeBinding, drivers::Endpoint, platform::lock};

/// All links.
#[derive(Debug, Default)]
pub struct Links {
    by_shard: Mutex<HashMap<BridgeBinding, Arc<Link>>>,
    calls: AllCalls,
}

impl Links {
    /// The link to a shard.
    pub fn get(&self, shard: &BridgeBinding) -> Option<Arc<Link>> {
        lock(&self.by_shard).get(shard).cloned()
    }

    /// The shards that last listed a session of this id.
    pub fn holding(&self, id: &str) -> Vec<BridgeBinding> {
        let links: Vec<_> = lock(&self.by_shard).values().cloned().collect();
        links.iter().filter(|link| link.holds(id)).map(|link| link.shard().clone()).collect()
    }

    /// Makes the links of `bridge` exactly `wanted`; one whose endpoint changed is replaced.
    pub fn set(&self, bridge: &str, wanted: &[(BridgeBinding, Endpoint)], client: &Client, listeners: &Listeners) {
        let mut links = lock(&self.by_shard);
        links.retain(|shard, link| {
            let keep =
                shard.name != bridge || wanted.iter().any(|(key, endpoint)| key == shard && link.is_to(endpoint));
            if !keep {
                link.stop();
            }
            keep
        });
        for (shard, endpoint) in wanted {
            let (client, calls) = (client.clone(), self.calls.clone());
            let start = || Link::start(shard.clone(), endpoint.clone(), client, listeners.clone(), calls);
            links.entry(shard.clone()).or_insert_with(start);
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in lock(&self.by_shard).values() {
            link.stop();
        }
    }
}
