//! Nothing is written when nothing changes.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::world::{SOON, World};

const INSTANCES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_idle_instances_cause_no_write_in_a_minute() {
    let world = World::start("quiet").await;
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("line-{n}")).collect();
    for name in &names {
        // Half of them stopped, half of them connected.
        world.apply(name, json!({})).await;
    }
    let mut phones = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let phone = format!("+15550102{n:03}");
        if n % 2 == 0 {
            world.scan(name, &phone).await;
        } else {
            world.patch_spec(name, json!({"desiredState": "Disconnected"})).await;
        }
        phones.push(phone);
    }
    for (n, name) in names.iter().enumerate() {
        let phase = if n % 2 == 0 { Phase::Connected } else { Phase::Disconnected };
        world.history.until_phase(name, phase, SOON * 3).await;
    }
    let before = world.history.count();
    tokio::time::sleep(Duration::from_secs(60)).await; // the minute of idling itself
    assert_eq!(world.history.count(), before, "writes while idle");
    let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
    world.nothing_leaked(&phones).await;
}
