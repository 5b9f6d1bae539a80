//! Many instances on a scripted bridge, which stands in for the real one: all brought up from nothing, then a cold start of
//! the operator over instances that need nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use whatsapp_operator::api::{WhatsAppInstance, labels::FINALIZER};

use crate::{
    measure::{Report, Usage, Writes, as_in_its_image},
    scripted_bridge,
    support::{
        control_plane::ControlPlane,
        world::{self, OperatorAddress},
    },
};

const PATIENCE: Duration = Duration::from_secs(600);
/// Sessions a shard takes.
const SHARD: usize = 1000;
/// Instances created at once.
const CREATORS: usize = 8;

/// Who is brought up.
pub struct Crowd {
    /// Where.
    pub namespace: &'static str,
    /// How many instances.
    pub count: usize,
    /// How many owners they have; nobody owns them when 0.
    pub owners: usize,
}

impl Crowd {
    /// Measures the two starts and `idle` seconds after the second.
    pub async fn run(&self, idle: u64, plane: &ControlPlane, client: &Client, dir: &Path, report: &mut Report) {
        let who = match self.owners {
            0 => format!("{} instances", self.count),
            owners => format!("{} instances of {owners} owners", self.count),
        };
        world::create_namespace(client, self.namespace).await;
        let shards = self.count.div_ceil(SHARD);
        let urls: Vec<String> = join_all((0..shards).map(|_| scripted_bridge::serve())).await;
        world::create_bridge(client, self.namespace, &urls, "scripted").await;
        eprintln!("bench: creating {who}");
        let (since, created) = (Instant::now(), Writes::so_far(client).await);
        self.create(client).await;
        let floor = since.elapsed().as_secs_f64() / Writes::so_far(client).await.since(created).instances;

        // Nobody asks the webhooks: what is measured is what a replica that serves admission too holds in memory.
        let webhooks = (self.owners > 0).then_some("");
        let operator = world::operator_program(dir, &plane.kubeconfig(), self.namespace, webhooks)
            .args(["--watch-namespaces", self.namespace]);
        let mut operator = as_in_its_image(operator);
        operator.set("--log", "info");
        let (before, up) = (Writes::so_far(client).await, Instant::now());
        let address: OperatorAddress = operator.start().await;
        self.until_connected(&address, Duration::from_millis(250)).await;
        let (took, writes) = (up.elapsed().as_secs_f64(), Writes::so_far(client).await.since(before));
        let per_instance = writes.instances / self.count as f64;
        let goals = (self.owners > 0).then_some((50.0 * self.count as f64 / 10_000.0, 3.0));
        report.row(&format!("{who}: nothing -> Connected"), "s", took, goals.map(|goals| goals.0));
        report.row("  against as many bare creates", "times", took / (floor * writes.total()), None);
        report.row("  writes per instance", "writes", per_instance, goals.map(|goals| goals.1));
        if self.owners > 0 {
            report.row("  writes per owner", "writes", writes.owners / self.owners as f64, None);
        }
        report.row("  Events per instance", "writes", writes.events / self.count as f64, None);
        report.row("  operator CPU for it", "s", Usage::of(operator.pid()).cpu(), None);
        report.row("  operator RSS after it", "MB", Usage::of(operator.pid()).rss_mb, None);
        Usage::once_quiet(operator.pid()).await; // what it had postponed is written
        operator.stop();

        let goals = (self.owners > 0).then_some((2.0, 42.0));
        let (before, start) = (Writes::so_far(client).await, Instant::now());
        let address: OperatorAddress = operator.start().await;
        self.until_connected(&address, Duration::from_millis(20)).await;
        report.row(
            &format!("{who}: cold start -> all observed"),
            "s",
            start.elapsed().as_secs_f64(),
            goals.map(|goals| goals.0),
        );
        let settled = Usage::once_quiet(operator.pid()).await;
        report.row("  operator CPU for it, until all is quiet", "s", settled.cpu(), None);
        report.row("  operator RSS", "MB", settled.rss_mb, goals.map(|goals| goals.1));
        eprintln!("bench: idling for {idle} s");
        tokio::time::sleep(Duration::from_secs(idle)).await; // the idling itself
        let idled = Usage::of(operator.pid());
        report.row("  operator CPU, idle", "% core", idled.cpu_since(&settled), None);
        report.row("  operator RSS, idle", "MB", idled.rss_mb, goals.map(|goals| goals.1));
        let writes = Writes::so_far(client).await.since(before);
        report.row("  writes since the cold start", "writes", writes.total(), None);
    }

    async fn create(&self, client: &Client) {
        let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), self.namespace);
        let create = |n: usize| {
            let (api, object) = (api.clone(), self.object(n));
            async move { api.create(&PostParams::default(), &object).await.map(drop).unwrap() }
        };
        stream::iter(0..self.count).for_each_concurrent(CREATORS, create).await;
    }

    fn object(&self, n: usize) -> WhatsAppInstance {
        let name = format!("line-{n}");
        let mut spec = json!({"name": name, "bridgeRef": {"name": self.namespace}});
        let mut metadata = json!({"name": name});
        // As admission leaves it.
        if let Some(owner) = n.checked_rem(self.owners) {
            spec["owner"] = json!(owner_name(owner));
            metadata["finalizers"] = json!([FINALIZER]);
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    /// Looks at the operator's own count, and not more often than it can be told from the work.
    async fn until_connected(&self, address: &OperatorAddress, look: Duration) {
        let (metrics, since) = (format!("{}/metrics", address.admin), Instant::now());
        loop {
            let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
            if connected(&text) >= self.count {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "the operator does not see every instance connected");
            tokio::time::sleep(look).await;
        }
    }
}

/// The n-th owner.
pub fn owner_name(n: usize) -> String {
    format!("owner-{n}@example.com")
}

/// How many instances the operator counts as Connected.
fn connected(metrics: &str) -> usize {
    let line = metrics.lines().find(|line| line.starts_with("whatsapp_instances{") && line.contains("\"Connected\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
