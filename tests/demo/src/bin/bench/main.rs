//! The benchmarks (`make bench`): a table for people, `target/bench.json` for programs. No pass marks: machines differ, so
//! each figure stands beside a floor measured in the same run: what the API server needs for the same by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]
#![allow(dead_code)] // the acceptance tests use more of what is shared

#[path = "../../../../support/mod.rs"]
mod support;

mod crowd;
mod measure;
mod messages;
mod reviews;
mod scripted_bridge;
mod sessions;
mod whatsmeow;

use clap::{Parser, ValueEnum};
use kube::Client;
use serde_json::json;

use crowd::Crowd;
use measure::Report;
use support::{control_plane::ControlPlane, world};

/// Measures the operator and the bridge on this machine, with everything on it.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  bench --sessions 50 --instances 200 --many 1000   (a quick look)\n  bench --only many,reviews"
)]
struct Arguments {
    /// Only these parts, separated by commas; all when not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Sessions that wait, are scanned and then idle.
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Scans a second.
    #[arg(long, default_value_t = 5)]
    rate: u64,
    /// Sessions scanned all at once.
    #[arg(long, default_value_t = 50)]
    burst: usize,
    /// Seconds of idling that are measured.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Instances of nobody that exist when the operator starts cold (scripted bridge).
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// Instances of many owners, ten each, that are brought up and then exist when the operator starts cold (scripted
    /// bridge).
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Admission reviews of each kind, one at a time.
    #[arg(long, default_value_t = 2000)]
    reviews: usize,
    /// Sessions that send messages.
    #[arg(long, default_value_t = 100)]
    senders: usize,
    /// Messages that they send.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Real sessions on the real bridge.
    Sessions,
    /// Messages through the gateway.
    Messages,
    /// Admission reviews.
    Reviews,
    /// A cold start with instances of nobody.
    Start,
    /// Bring-up and cold start with instances of many owners.
    Many,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let dir = world::target_dir().join("bench");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let mut report = Report::default();
    if wanted(Part::Sessions) {
        let (plane, client, floor) = stage(&mut report).await;
        sessions::run(&arguments, &plane, &client, &dir.join("sessions"), floor, &mut report).await;
    }
    if wanted(Part::Messages) {
        let (plane, client, _) = stage(&mut report).await;
        messages::run(&arguments, &plane, &client, &dir.join("messages"), &mut report).await;
    }
    if wanted(Part::Reviews) {
        let (plane, client, _) = stage(&mut report).await;
        reviews::run(arguments.reviews, &plane, &client, &dir.join("reviews"), &mut report).await;
    }
    if wanted(Part::Start) {
        let (plane, client, _) = stage(&mut report).await;
        let crowd = Crowd { namespace: "start", count: arguments.instances, owners: 0 };
        crowd.run(arguments.idle, &plane, &client, &dir.join("start"), &mut report).await;
    }
    if wanted(Part::Many) {
        let (plane, client, _) = stage(&mut report).await;
        let crowd = Crowd { namespace: "many", count: arguments.many, owners: arguments.many.div_ceil(10) };
        crowd.run(arguments.idle, &plane, &client, &dir.join("many"), &mut report).await;
    }
    report.print();
    let file = world::target_dir().join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json!({ "rows": report.rows })).unwrap()).unwrap();
    eprintln!("bench: written to target/bench.json");
}

/// An API server for one part: what another part left in its memory would be measured with it. Says how fast it is.
async fn stage(report: &mut Report) -> (ControlPlane, Client, f64) {
    eprintln!("bench: starting etcd and kube-apiserver");
    let plane = ControlPlane::start(&Default::default()).await.unwrap();
    let client = world::client(&plane.kubeconfig()).await;
    world::install_crds(&client).await;
    let floor = measure::floor(&client).await;
    report.row("status write -> watcher (the floor)", "p50 ms", floor, None);
    (plane, client, floor)
}
