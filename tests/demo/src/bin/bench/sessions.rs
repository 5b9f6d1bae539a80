//! Real sessions: waiting, scanned at a rate, idle, scanned at once.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance};

use crate::{
    Arguments,
    measure::{Report, Usage, percentile},
    support::{
        control_plane::ControlPlane,
        history::{Ask, History},
        phone::WhatsApp,
        world::{self, BridgeAddress, OperatorAddress},
    },
};

const NAMESPACE: &str = "sessions";
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run(
    arguments: &Arguments,
    plane: &ControlPlane,
    client: &Client,
    dir: &Path,
    floor: f64,
    report: &mut Report,
) {
    world::create_namespace(client, NAMESPACE).await;
    let history = History::watch(client.clone(), NAMESPACE).await;
    let (_whatsapp_program, whatsapp) = world::start_whatsapp(dir).await;
    let token = world::token();
    let pairings = (arguments.sessions + arguments.burst).to_string();
    let mut bridge = world::bridge_program(dir, &token).args([
        "--whatsapp-url",
        &whatsapp.url,
        "--whatsapp-version",
        world::VERSION,
        "--max-pairings",
        &pairings,
    ]);
    bridge.set("--log", "info");
    let address: BridgeAddress = bridge.start().await;
    world::create_bridge(client, NAMESPACE, &[&address.http], &token).await;
    let mut operator =
        world::operator_program(dir, &plane.kubeconfig(), NAMESPACE, None).args(["--watch-namespaces", NAMESPACE]);
    operator.set("--log", "info");
    let _: OperatorAddress = operator.start().await;

    let names: Vec<String> = (0..arguments.sessions).map(|n| format!("line-{n}")).collect();
    let waited = Instant::now();
    wait_for_codes(client, &history, &names).await;
    report.row(
        &format!("{} instances: apply -> all show a QR code", names.len()),
        "s",
        waited.elapsed().as_secs_f64(),
        None,
    );

    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / arguments.rate));
    let mut scans = Vec::new();
    for (n, name) in names.iter().enumerate() {
        ticks.tick().await;
        scans.push(tokio::spawn(scan(history.clone(), whatsapp.clone(), name.clone(), phone(n))));
    }
    let samples: Vec<Duration> = join_all(scans).await.into_iter().map(Result::unwrap).collect();
    let rate = arguments.rate;
    let p50 = percentile(&samples, 50);
    report.row(&format!("scan -> .status Connected, {rate} scans a second"), "p50 ms", p50, Some(150.0));
    report.row(
        &format!("scan -> .status Connected, {rate} scans a second"),
        "p99 ms",
        percentile(&samples, 99),
        Some(300.0),
    );
    report.row("scan -> .status Connected, p50 against the floor", "times", p50 / floor, None);
    let versions: usize = names.iter().map(|name| history.of(name).len() - 1).sum();
    report.row("writes per instance, create to Connected", "writes", versions as f64 / names.len() as f64, Some(4.0));

    eprintln!("bench: idling for {} s", arguments.idle);
    let (bridge_before, operator_before) = (Usage::of(bridge.pid()), Usage::of(operator.pid()));
    tokio::time::sleep(Duration::from_secs(arguments.idle)).await; // the idling itself
    let (bridge_after, operator_after) = (Usage::of(bridge.pid()), Usage::of(operator.pid()));
    let sessions = names.len() as f64;
    report.row(&format!("bridge RSS, {sessions} idle sessions"), "MB", bridge_after.rss_mb, None);
    report.row("bridge RSS per idle session", "MB", bridge_after.rss_mb / sessions, Some(0.4));
    report.row("bridge CPU, idle", "% core", bridge_after.cpu_since(&bridge_before), Some(2.0));
    report.row("operator RSS, idle", "MB", operator_after.rss_mb, Some(20.0));
    report.row("operator CPU, idle", "% core", operator_after.cpu_since(&operator_before), Some(2.0));

    let names: Vec<String> = (0..arguments.burst).map(|n| format!("burst-{n}")).collect();
    wait_for_codes(client, &history, &names).await;
    let scans = names.iter().enumerate().map(|(n, name)| {
        tokio::spawn(scan(history.clone(), whatsapp.clone(), name.clone(), phone(arguments.sessions + n)))
    });
    let samples: Vec<Duration> = join_all(scans.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    let what = format!("{} scanned at once -> the last one Connected", names.len());
    report.row(&what, "s", percentile(&samples, 100) / 1000.0, Some(3.0));
}

fn phone(n: usize) -> String {
    format!("+1555{n:07}")
}

async fn wait_for_codes(client: &Client, history: &History, names: &[String]) {
    let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), NAMESPACE);
    for name in names {
        let object = json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": name}, "spec": {"name": name, "bridgeRef": {"name": NAMESPACE}},
        });
        api.patch(name, &PatchParams::apply("bench"), &Patch::Apply(object)).await.unwrap();
    }
    for name in names {
        history.until(name, "showing a QR code", PATIENCE, |i| i.qr().is_some()).await;
    }
}

async fn scan(history: History, whatsapp: WhatsApp, name: String, phone: String) -> Duration {
    let code = history.until(&name, "showing a QR code", PATIENCE, |i| i.qr().is_some()).await.qr().unwrap();
    let start = Instant::now();
    whatsapp.scan(&code, &phone, "Alice").await.unwrap();
    history.until_phase(&name, Phase::Connected, PATIENCE).await;
    start.elapsed()
}
