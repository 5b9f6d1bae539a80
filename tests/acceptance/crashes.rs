//! kill -9 at random points: everything converges, nothing is paired twice, lost or left behind.

use std::time::{Duration, Instant};

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::{
    history::Ask,
    program::tail,
    world::{OperatorAddress, SOON, World, operator_program},
};

const PATIENCE: Duration = Duration::from_secs(90);

/// From the death of a leader to what the next one does: at most 17 s, since the standby counts the 15 s of the lease from when it saw the last
/// renewal, up to 2 s late. The rest is for a machine on which everything runs at once.
const TAKEOVER: Duration = Duration::from_secs(35);

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_die_at_any_point() {
    let mut world = World::start("crash-operator").await;
    let names: Vec<String> = (0..6).map(|n| format!("line-{n}")).collect();
    let phones: Vec<String> = (0..6).map(|n| format!("+1555010010{n}")).collect();
    for name in &names {
        world.apply(name, json!({})).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await; // a random point, not a synchronisation
        world.operator.kill();
        world.operator.spawn();
    }
    for (name, phone) in names.iter().zip(&phones) {
        // The lease of an operator that was killed has to run out first.
        world.history.until(name, "showing a QR code", PATIENCE, |i| i.qr().is_some()).await;
        world.scan(name, phone).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        world.operator.kill();
        world.operator.spawn();
    }
    for name in &names {
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
    }
    assert_eq!(world.whatsapp.devices().await.len(), names.len(), "nobody is paired twice");
    assert_eq!(world.sessions().await.len(), names.len());

    for name in &names {
        world.delete(name).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..200))).await;
        world.operator.kill();
        world.operator.spawn();
    }
    for name in &names {
        world.history.until_gone(name, PATIENCE).await;
    }
    assert!(world.whatsapp.devices().await.is_empty(), "no device is left behind");
    assert!(world.sessions().await.is_empty(), "no session is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_may_die_at_any_point() {
    let mut world = World::start("crash-bridge").await;
    let names: Vec<String> = (0..4).map(|n| format!("line-{n}")).collect();
    let phones: Vec<String> = (0..4).map(|n| format!("+1555010020{n}")).collect();
    for (name, phone) in names.iter().zip(&phones) {
        world.apply(name, json!({})).await;
        // The code that is shown may belong to a bridge that just died: a person scans again, and so do we.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while world.whatsapp.scan(&world.qr(name).await, phone, "Alice").await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "{name} shows no code that can be scanned");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        world.bridge.kill();
        world.restart_bridge().await;
    }
    for name in &names {
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
    }
    assert_eq!(world.whatsapp.devices().await.len(), names.len(), "the links survive");
    let all_connected = async {
        while world.whatsapp.devices().await.iter().any(|device| !device.connected) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_connected).await.expect("every device is connected again");

    for name in &names {
        world.delete(name).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        world.bridge.kill();
        world.restart_bridge().await;
    }
    for name in &names {
        world.history.until_gone(name, PATIENCE).await;
    }
    assert!(world.whatsapp.devices().await.is_empty());
    assert!(world.sessions().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bridge_on_the_same_data_is_refused() {
    let world = World::start("two-bridges").await;
    world.connected("sales", "+15550100300").await;
    let output = std::process::Command::new(crate::support::program::executable("whatsapp-bridge"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--token-file"])
        .arg(world.dir.join("bridge-token"))
        .arg("--data-dir")
        .arg(world.dir.join("bridge"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("in use by another"), "{error}");
    let still = world.instances().get_status("sales").await.unwrap();
    assert_eq!(still.phase(), Some(Phase::Connected));
}

/// A leader that goes without a word gives nothing back: its lease has to run out.
#[tokio::test(flavor = "multi_thread")]
async fn another_operator_goes_on_soon_after_the_leader_was_killed() {
    let mut world = World::start("crash-leader").await;
    world.apply("before", json!({})).await;
    world.qr("before").await;
    let mut standby = operator_program(&world.dir.join("standby"), &world.kubeconfig, &world.name, None).args([
        "--watch-namespaces",
        &world.name,
        "--bridge-selector",
        &format!("world={}", world.name),
    ]);
    let _: OperatorAddress = standby.start().await;
    let waits = async {
        while !standby.log().contains("waiting for the lease") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waits = tokio::time::timeout(SOON, waits).await;
    waits.unwrap_or_else(|_| panic!("it does not wait for the lease:\n{}", tail(&standby.log())));

    world.operator.kill();
    let since = Instant::now();
    world.apply("after", json!({})).await;
    world.history.until("after", "showing a QR code", PATIENCE, |instance| instance.qr().is_some()).await;
    let took = since.elapsed();
    println!("another operator goes on {took:.1?} after the leader was killed");
    assert!(took <= TAKEOVER, "{took:?}\n{}", tail(&standby.log()));
    assert!(standby.log().contains("holding the lease"), "{}", tail(&standby.log()));
}
