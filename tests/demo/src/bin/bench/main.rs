//! The benchmarks (`make bench`): a table for people, `target/bench.json` for programs. No pass marks: machines differ, so
//! each latency stands beside the floor measured in the same run, the time from a bare status write to a watcher.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]
#![allow(dead_code)] // the acceptance tests use more of what is shared

#[path = "../../../../support/mod.rs"]
mod support;

mod measure;
mod scripted_bridge;
mod sessions;
mod start;

use clap::Parser;
use serde_json::json;

use measure::Report;
use support::{control_plane::ControlPlane, world};

/// Measures the operator and the bridge on this machine, with everything on it.
#[derive(Parser)]
#[command(name = "bench", after_help = "Example: bench --sessions 50 --instances 200   (a quick look)")]
struct Arguments {
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
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Instances that exist when the operator starts cold (scripted bridge).
    #[arg(long, default_value_t = 1000)]
    instances: usize,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let dir = world::target_dir().join("bench");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    eprintln!("bench: starting etcd and kube-apiserver");
    let plane = ControlPlane::start(&Default::default()).await.unwrap();
    let client = world::client(&plane.kubeconfig()).await;
    world::install_crds(&client).await;

    let mut report = Report::default();
    let floor = measure::floor(&client).await;
    report.row("status write -> watcher (the floor)", "p50 ms", floor, None);
    sessions::run(&arguments, &plane, &client, &dir.join("sessions"), floor, &mut report).await;
    start::run(&arguments, &plane, &client, &dir.join("start"), &mut report).await;
    report.print();
    let file = world::target_dir().join("bench.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json!({ "rows": report.rows })).unwrap()).unwrap();
    eprintln!("bench: written to target/bench.json");
}
