//! Logins of an account whose phone keeps something back.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::world::{SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_keeps_its_app_state_key_does_not_keep_the_session_from_being_connected() {
    const PHONE: &str = "+15550009211";
    let world = World::start("keyless").await;
    // The library hangs up on an ordinary account after each login, since its name never comes; on a business after the link only.
    world.whatsapp.rules(PHONE, json!({"keepAppStateKey": true, "ordinary": true})).await;
    world.connected("one", PHONE).await;
    // Logins used to be given up after 45 s, 30 s and 180 s: the last of these has to pass, by the bridge's and the library's own clocks.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let logins = world.whatsapp.logins(PHONE).await;
    assert!(logins.len() <= 2, "{logins:?}");
    world.history.until_phase("one", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}
