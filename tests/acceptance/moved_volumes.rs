//! A bridge's volume that was restored from a snapshot: beside the running original it is kept apart, and once the original has
//! ended it is taken over without a scan.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use whatsapp_operator::api::Phase;

use crate::support::{
    program::{Program, executable},
    world::{BridgeAddress, SOON, VERSION, Wishes, World, bridge_program, create_bridge, host},
};

/// As a snapshot of the volume holds it, taken while the bridge runs.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A bridge of another place on the copy.
fn elsewhere(world: &World, dir: &Path, more: &[&str]) -> Program {
    bridge_program(dir, &world.token)
        .args(["--whatsapp-url", &world.whatsapp.url, "--whatsapp-version", VERSION, "--resume-interval", "50ms"])
        .args(["--place", "restored/bridge-0"])
        .args(more.iter().copied())
}

/// Until the one session of the bridge there is connected.
async fn until_connected(world: &World, address: &BridgeAddress) {
    let connected = async {
        loop {
            let asked = reqwest::Client::new().get(format!("{}/v1/sessions", address.http)).bearer_auth(&world.token);
            let list: Value = asked.send().await.unwrap().json().await.unwrap();
            if list["items"][0]["phase"] == "Connected" {
                assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON * 2, connected).await.expect("it is connected without a scan");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_does_not_run_beside_its_original() {
    let phone = "+15550490001";
    let wishes = Wishes { bridge: ["--place", "original/bridge-0"].map(str::to_owned).to_vec(), ..Wishes::default() };
    let mut world = World::start_with("moved-volume", wishes).await;
    world.connected("shop", phone).await;
    let restored = world.dir.join("restored");
    copy(&world.dir.join("bridge"), &restored.join("bridge"));
    let before = world.history.of("shop").len();

    // Beside the original it ends at once, and says why and what to do.
    let token_file = restored.join("bridge-token");
    std::fs::write(&token_file, &world.token).unwrap();
    let output = Command::new(executable("whatsapp-bridge"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--place", "restored/bridge-0"])
        .args(["--whatsapp-url", &world.whatsapp.url, "--whatsapp-version", VERSION])
        .args([
            "--token-file".as_ref(),
            token_file.as_os_str(),
            "--data-dir".as_ref(),
            restored.join("bridge").as_os_str(),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it runs beside its original");
    for says in ["belongs to original/bridge-0, and this is restored/bridge-0", "--adopt-data", "destroy"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let shop = world.instances().get("shop").await.unwrap();
    assert_eq!(shop.status.unwrap().phase, Some(Phase::Connected));
    assert_eq!(world.history.of("shop").len(), before, "the original noticed something");

    // The original has ended for good; the copy is taken over, at another address, and needs no scan.
    world.bridge.stop();
    let mut second = elsewhere(&world, &restored, &["--adopt-data"]);
    let address: BridgeAddress = second.start().await;
    create_bridge(&world.client, &world.name, &[&address.http], &world.token).await;
    until_connected(&world, &address).await;
    assert_eq!(std::fs::read_to_string(restored.join("bridge/place")).unwrap(), "restored/bridge-0");
    // From now on it is at home there.
    second.stop();
    let mut third = elsewhere(&world, &restored, &[]);
    third.set("--listen", host(&address.http));
    let address: BridgeAddress = third.start().await;
    until_connected(&world, &address).await;
    world.history.until_phase("shop", Phase::Connected, SOON).await;
    for log in [&second.log(), &third.log()] {
        assert!(!log.contains(phone.trim_start_matches('+')) && !log.contains(&world.token));
    }
}
