//! Codes that do not last as long as they should. The whole window is in `a_long_wait`.

use std::time::{Duration, Instant};

use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance};

use crate::support::{
    history::Ask,
    world::{SOON, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_whatsapp_makes_stale_is_replaced_at_once() {
    const PHONE: &str = "+15550100020";
    let world = World::start("stale").await;
    world.apply("sales", json!({})).await;
    let stale = world.qr("sales").await;
    assert_eq!(world.whatsapp.refresh_codes().await, 1);
    let since = Instant::now();
    let another = |one: &WhatsAppInstance| one.qr().is_some_and(|shown| shown != stale);
    world.history.until("sales", "shown another code", SOON, another).await;
    let took = since.elapsed();
    println!("a stale code was replaced after {took:.1?}");
    // It would have been shown for a minute; it takes a fraction of a second, and more on a busy machine.
    assert!(took < Duration::from_secs(10), "{took:?}");
    world.scan("sales", PHONE).await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    world.nothing_leaked(&[PHONE]).await;
}
