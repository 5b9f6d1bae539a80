//! Whether WhatsApp goes on notifying the owner's phone: it does as long as no linked device says that it is available.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::{
    phone::Said,
    world::{SOON, World},
};

const PHONE: &str = "+15550008201";

/// Waits until the device has said `available` last, three times in a row, after `before` other words; the bridge says it
/// again because the library may have said something else meanwhile. Returns how many words there are then.
async fn settles(world: &World, phone: &str, before: usize, available: bool) -> usize {
    let settled = async {
        loop {
            let said = world.whatsapp.presences(phone).await;
            let last: Vec<_> = said.iter().skip(before).rev().take(3).collect();
            if last.len() == 3 && last.iter().all(|word| word.available == available) {
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
    let said = settles(&world, PHONE, 0, false).await;

    // The library says "available" at every login; that must not stay the last word.
    world.bridge.kill();
    world.restart_bridge().await;
    let said = settles(&world, PHONE, said, false).await;
    let all = world.whatsapp.presences(PHONE).await;
    assert!(
        all.iter().any(|word| word.available),
        "the library has not said anything of itself any more; this test and the bridge's workaround may go"
    );

    world.patch_spec("one", json!({"presence": "Visible"})).await;
    let said = settles(&world, PHONE, said, true).await;
    world.patch_spec("one", json!({"presence": "Hidden"})).await;
    settles(&world, PHONE, said, false).await;
    world.history.until_phase("one", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}

/// Waits until the bridge has said three times, after `before` other words, whether the account is online; returns them.
async fn reacts(world: &World, phone: &str, before: usize, available: bool) -> Vec<Said> {
    let reacted = async {
        loop {
            let said: Vec<Said> = world.whatsapp.presences(phone).await.into_iter().skip(before).collect();
            let wanted = said.iter().filter(|word| word.available == available);
            if wanted.count() >= 3 && said.last().is_some_and(|word| word.available == available) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, reacted).await.unwrap_or_else(|_| panic!("nothing was said after a rename"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_does_not_silence_the_phone_for_longer_than_a_second() {
    const PHONE: &str = "+15550008202";
    let world = World::start("renamed").await;
    world.apply("one", json!({})).await;
    let code = world.qr("one").await;
    world.whatsapp.scan(&code, PHONE, "").await.unwrap();
    world.history.until_phase("one", Phase::Connected, SOON).await;

    // The library says "available" with the first name of an account; that must not stay the last word.
    for name in ["Alice", "Alicia"] {
        let before = world.whatsapp.presences(PHONE).await.len();
        world.whatsapp.rename(PHONE, name).await;
        let said = reacts(&world, PHONE, before, false).await;
        for (place, word) in said.iter().enumerate().filter(|(_, word)| word.available) {
            let silent = said.iter().skip(place).find(|later| !later.available).unwrap();
            assert!(silent.at - word.at <= 1000, "{said:?}");
        }
        assert!(
            name != "Alice" || said.iter().any(|word| word.available),
            "the library says nothing any more: {said:?}"
        );
    }

    let before = world.whatsapp.presences(PHONE).await.len();
    world.patch_spec("one", json!({"presence": "Visible"})).await;
    let said = settles(&world, PHONE, before, true).await;
    world.whatsapp.rename(PHONE, "Alice B.").await;
    reacts(&world, PHONE, said, true).await;
    world.nothing_leaked(&[PHONE]).await;
}
