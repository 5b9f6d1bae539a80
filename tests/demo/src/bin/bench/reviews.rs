//! Admission reviews, one at a time, straight to the webhook: what each costs and how long it takes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use kube::{Api, Client, api::PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use whatsapp_operator::{
    admission::{MUTATE_INSTANCES, VALIDATE_INSTANCES},
    api::{InstanceRef, LedgerEntry, WhatsAppOwner, WhatsAppOwnerSpec, WhatsAppOwnerStatus},
    rules::owner::object_name,
};

use crate::{
    crowd::owner_name,
    measure::{Report, Usage, Writes, as_in_its_image, percentile},
    support::{control_plane::ControlPlane, program::Program, world},
};

const NAMESPACE: &str = "reviews";
/// Instances each owner has already: one place is left of the ten that are the default.
const INSTANCES: i64 = 9;
/// The first ones make the connection and fill the caches.
const WARM_UP: usize = 50;

#[derive(Deserialize)]
struct Addresses {
    webhook: String,
}

/// Measures `count` reviews of each kind.
pub async fn run(count: usize, plane: &ControlPlane, client: &Client, dir: &Path, report: &mut Report) {
    world::create_namespace(client, NAMESPACE).await;
    let bare = write_owners(count + WARM_UP, client).await;
    let webhook = Program::new("whatsapp-operator", dir)
        .args(["webhook", "--webhook-listen", "127.0.0.1:0", "--webhook-hosts", "127.0.0.1"])
        .args(["--admin-listen", "127.0.0.1:0", "--lease-namespace", NAMESPACE, "--webhook-configuration", ""])
        .args(["--kubeconfig".into(), plane.kubeconfig()]);
    let mut webhook = as_in_its_image(webhook);
    let Addresses { webhook: url } = webhook.start().await;
    // Whose certificate it is makes no difference to what a review costs.
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let pid = webhook.pid();

    let floor = nothing_said(&http, &url, pid, count).await;
    report.row("an answer over HTTPS that says nothing (the floor)", "us CPU", floor, None);
    let change = |n: usize| review("UPDATE", &owner_name(n), "line-0", "Line 0");
    for (what, path) in [("mutating", MUTATE_INSTANCES), ("validating", VALIDATE_INSTANCES)] {
        let (latencies, usage) = ask(&http, &format!("{url}{path}"), pid, count, change).await;
        let what = format!("{what} review that reserves nothing");
        report.row(&what, "us CPU", usage, Some(75.0));
        report.row("  against that floor", "times", usage / floor, None);
        report.row(&what, "p50 ms", percentile(&latencies, 50), None);
        report.row(&what, "p99 ms", percentile(&latencies, 99), Some(1.0));
    }

    let create = |n: usize| review("CREATE", &owner_name(n), "new", "New");
    let before = Writes::so_far(client).await;
    let (latencies, usage) = ask(&http, &format!("{url}{VALIDATE_INSTANCES}"), pid, count, create).await;
    let writes = Writes::so_far(client).await.since(before);
    let what = "validating review that reserves";
    report.row(what, "us CPU", usage, None);
    report.row(what, "p50 ms", percentile(&latencies, 50), None);
    report.row(what, "p99 ms", percentile(&latencies, 99), Some(15.0));
    report.row("  API writes for it", "writes", writes.owners / (count + WARM_UP) as f64, Some(1.0));
    for p in [50, 99] {
        let ratio = percentile(&latencies, p) / percentile(&bare, p);
        report.row(&format!("  p{p} against a bare ledger write"), "times", ratio, None);
    }
}

/// Asks for one review after the other; their latencies, and the microseconds of CPU time each cost the webhook.
async fn ask(
    http: &reqwest::Client,
    url: &str,
    pid: u32,
    count: usize,
    review: impl Fn(usize) -> Value,
) -> (Vec<Duration>, f64) {
    let mut latencies = Vec::with_capacity(count);
    for n in 0..WARM_UP {
        answered(http, url, &review(n)).await;
    }
    let before = Usage::of(pid);
    for n in WARM_UP..WARM_UP + count {
        let review = review(n);
        let start = Instant::now();
        answered(http, url, &review).await;
        latencies.push(start.elapsed());
    }
    let cpu = Usage::of(pid).cpu() - before.cpu();
    (latencies, cpu * 1e6 / count as f64)
}

/// The microseconds of CPU time of a request for a page that the webhook does not have: HTTPS alone.
async fn nothing_said(http: &reqwest::Client, url: &str, pid: u32, count: usize) -> f64 {
    let ask = async |count: usize| {
        for _ in 0..count {
            let answer = http.get(format!("{url}/nothing")).send().await.unwrap();
            assert_eq!(answer.status(), 404);
            answer.bytes().await.unwrap();
        }
    };
    ask(WARM_UP).await;
    let before = Usage::of(pid);
    ask(count).await;
    (Usage::of(pid).cpu() - before.cpu()) * 1e6 / count as f64
}

async fn answered(http: &reqwest::Client, url: &str, review: &Value) {
    let answer: Value = http.post(url).json(review).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

fn review(operation: &str, owner: &str, name: &str, display: &str) -> Value {
    let object = |state: &str| {
        json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"namespace": NAMESPACE, "name": name, "uid": "8c5b4e52-1d2f-4a1c-8f3e-0b7d6f0a9c11"},
            "spec": {"name": display, "owner": owner, "desiredState": state, "pairing": {"method": "QR"}},
        })
    };
    let old = if operation == "UPDATE" { object("Connected") } else { Value::Null };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": operation,
            "kind": {"group": "whatsapp-operator.dev", "version": "v1alpha1", "kind": "WhatsAppInstance"},
            "resource": {"group": "whatsapp-operator.dev", "version": "v1alpha1", "resource": "whatsappinstances"},
            "namespace": NAMESPACE, "name": name, "userInfo": {"username": owner}, "dryRun": false,
            "object": object("Disconnected"), "oldObject": old,
        },
    })
}

/// Owners with their ledgers; returns how long a bare write of each took.
async fn write_owners(count: usize, client: &Client) -> Vec<Duration> {
    let api: Api<WhatsAppOwner> = Api::all(client.clone());
    let mut samples = Vec::new();
    for n in 0..count {
        let owner = owner_name(n);
        let spec = WhatsAppOwnerSpec { owner: owner.clone(), max_instances: None };
        let name = object_name(&owner);
        let mut object = match api.get_opt(&name).await.unwrap() {
            Some(object) => object,
            None => api.create(&PostParams::default(), &WhatsAppOwner::new(&name, spec)).await.unwrap(),
        };
        object.status = Some(ledger());
        let start = Instant::now();
        api.replace_status(&name, &PostParams::default(), &object).await.unwrap();
        samples.push(start.elapsed());
    }
    samples
}

fn ledger() -> WhatsAppOwnerStatus {
    let entry = |n: i64| LedgerEntry {
        namespace: NAMESPACE.into(),
        name: format!("line-{n}"),
        display_name: format!("line {n}"),
        ..LedgerEntry::default()
    };
    WhatsAppOwnerStatus {
        instances: (0..INSTANCES).map(entry).collect(),
        used: INSTANCES,
        max: 10,
        connected: 0,
        primary: Some(InstanceRef { namespace: NAMESPACE.into(), name: "line-0".into() }),
    }
}
