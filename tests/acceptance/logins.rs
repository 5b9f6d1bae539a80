//! Logins with much to catch up on, and of accounts without a name.

use std::time::{Duration, Instant};

use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance, conditions::CONNECTED};

use crate::support::{
    history::Ask as _,
    world::{SOON, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_takes_one_login_and_is_not_called_silence() {
    const PHONE: &str = "+15550009201";
    const COUNT: usize = 90;
    let world = World::start("backlog").await;
    world.connected("one", PHONE).await;
    let logins = world.whatsapp.logins(PHONE).await.len();
    let letter =
        json!({"from": "+15550009202", "text": "meanwhile", "count": COUNT, "intervalMs": 500, "queued": true});
    world.whatsapp.write(PHONE, letter).await;
    world.whatsapp.happens(PHONE, "drop").await;
    world.whatsapp.until_logins(PHONE, logins + 1).await;
    let since = Instant::now();
    let delivered = async {
        while world.whatsapp.written(PHONE).await.iter().any(|one| !one.acknowledged) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), delivered).await.expect("every message is acknowledged");
    assert!(since.elapsed() > Duration::from_secs(40), "the backlog took only {:?}", since.elapsed());
    world.history.until_phase("one", Phase::Connected, SOON).await;
    assert_eq!(world.whatsapp.logins(PHONE).await.len(), logins + 1);
    let written = world.whatsapp.written(PHONE).await;
    assert!(written.len() == COUNT && written.iter().all(|one| one.sent == 1), "{written:?}");
    let reasons = world.history.of("one").into_iter().filter_map(|seen| Some(seen.instance?.reason(CONNECTED)));
    assert!(reasons.into_iter().all(|reason| reason != "ServerNotAnswering"), "{}", world.history.story("one"));
    world.nothing_leaked(&[PHONE, "+15550009202", "meanwhile"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_name_is_back_as_soon_as_one_with_a_name() {
    const PHONE: &str = "+15550009221";
    let mut world = World::start("nameless").await;
    world.apply("one", json!({})).await;
    let code = world.qr("one").await;
    world.whatsapp.scan(&code, PHONE, "").await.unwrap();
    let connected_at = |one: &WhatsAppInstance| one.status.as_ref().and_then(|status| status.connected_at.clone());
    let first = world.history.until_phase("one", Phase::Connected, SOON).await;
    world.bridge.kill();
    let since = Instant::now();
    world.restart_bridge().await;
    let again =
        |one: &WhatsAppInstance| one.phase() == Some(Phase::Connected) && connected_at(one) != connected_at(&first);
    world.history.until("one", "connected again", SOON, again).await;
    let took = since.elapsed();
    println!("an account without a name is connected {took:.1?} after its bridge was killed");
    // The library alone waits ten seconds for the account's settings, from the login on.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        world.whatsapp.presences(PHONE).await.is_empty(),
        "nothing is shown to others under a name that is not theirs"
    );
    world.nothing_leaked(&[PHONE]).await;
}
