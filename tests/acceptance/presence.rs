//! Whether WhatsApp goes on notifying the owner's phone: it does as long as no linked device says that it is available.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::world::{SOON, World};

const PHONE: &str = "+15550008201";

/// Waits until the device has said `available` last, three times in a row, after `before` other words; the bridge says it
/// again because the library may have said something else meanwhile. Returns how many words there are then.
async fn settles(world: &World, before: usize, available: bool) -> usize {
    let settled = async {
        loop {
            let said = world.whatsapp.presences(PHONE).await;
            let last: Vec<_> = said.iter().skip(before).rev().take(3).collect();
            if last.len() == 3 && last.iter().all(|word| **word == available) {
                return said.len();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await.unwrap_or_else(|_| panic!("the last word is not {available}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_does_not_silence_the_phone_unless_it_is_told_to_be_seen() {
    let mut world = World::start("presence").await;
    world.connected("one", PHONE).await;
    let said = settles(&world, 0, false).await;

    // The library says "available" at every login; that must not stay the last word.
    world.bridge.kill();
    world.restart_bridge().await;
    let said = settles(&world, said, false).await;
    let all = world.whatsapp.presences(PHONE).await;
    assert!(
        all.contains(&true),
        "the library has not said anything of itself any more; this test and the bridge's workaround may go"
    );

    world.patch_spec("one", json!({"presence": "Visible"})).await;
    let said = settles(&world, said, true).await;
    world.patch_spec("one", json!({"presence": "Hidden"})).await;
    settles(&world, said, false).await;
    world.history.until_phase("one", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}
