//! A cold start of the operator over many instances that need nothing. A scripted bridge stands in for the real one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance};

use crate::{
    Arguments,
    measure::{Report, Usage},
    scripted_bridge,
    support::{
        control_plane::ControlPlane,
        history::History,
        world::{self, OperatorAddress},
    },
};

const NAMESPACE: &str = "start";
const PATIENCE: Duration = Duration::from_secs(600);

pub async fn run(arguments: &Arguments, plane: &ControlPlane, client: &Client, dir: &Path, report: &mut Report) {
    let count = arguments.instances;
    world::create_namespace(client, NAMESPACE).await;
    let history = History::watch(client.clone(), NAMESPACE).await;
    let url = scripted_bridge::serve().await;
    world::create_bridge(client, NAMESPACE, &url, "scripted").await;
    let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), NAMESPACE);
    let names: Vec<String> = (0..count).map(|n| format!("line-{n}")).collect();
    eprintln!("bench: creating {count} instances for the cold start");
    stream::iter(&names)
        .for_each_concurrent(8, |name| {
            let api = api.clone();
            async move {
                let object = json!({
                    "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
                    "metadata": {"name": name}, "spec": {"name": name, "bridgeRef": {"name": NAMESPACE}},
                });
                api.patch(name, &PatchParams::apply("bench"), &Patch::Apply(object)).await.unwrap();
            }
        })
        .await;

    let mut operator =
        world::operator_program(dir, &plane.kubeconfig(), NAMESPACE).args(["--watch-namespaces", NAMESPACE]);
    operator.set("--log", "info");
    let up = Instant::now();
    let _: OperatorAddress = operator.start().await;
    for name in &names {
        history.until_phase(name, Phase::Connected, PATIENCE).await;
    }
    let what = format!("{count} instances from nothing to Connected (scripted bridge)");
    report.row(&what, "s", up.elapsed().as_secs_f64(), None);
    operator.stop();

    let before = history.count();
    let start = Instant::now();
    let address: OperatorAddress = operator.start().await;
    let metrics = format!("{}/metrics", address.admin);
    loop {
        let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        if observed(&text) >= count {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the operator does not observe every instance");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let what = format!("cold start with {count} instances -> all observed (scripted bridge)");
    report.row(&what, "s", start.elapsed().as_secs_f64(), None);
    report.row(&format!("operator RSS with {count} instances"), "MB", Usage::of(operator.pid()).rss_mb, None);
    report.row("writes during that start", "writes", (history.count() - before) as f64, Some(1.0));
}

/// How many instances the operator counts as Connected.
fn observed(metrics: &str) -> usize {
    let line = metrics.lines().find(|line| line.starts_with("whatsapp_instances{") && line.contains("\"Connected\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
