//! Connections that died without a word: what is not heard within half a minute is listened for anew.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    history::Ask,
    proxy::Proxy,
    world::{ALONE, SOON, Wishes, World},
};

/// How long the operator may take to notice.
const NOTICED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_to_the_api_server_is_noticed_within_half_a_minute() {
    // Without a lease, whose renewal would fail, nothing but the watches themselves can tell.
    let mut world = World::start_with("half-open", Wishes::of_operator(&[ALONE])).await;
    world.operator.stop();
    let (proxy, kubeconfig) = Proxy::of_api_server(&world.kubeconfig, &world.dir).await;
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    world.apply("before", json!({})).await;
    world.qr("before").await;

    proxy.swallow();
    let since = Instant::now();
    world.apply("after", json!({})).await;
    world.history.until("after", "showing a QR code", NOTICED + SOON, |i| i.qr().is_some()).await;
    assert!(since.elapsed() < NOTICED + Duration::from_secs(10), "noticed only after {:?}", since.elapsed());
}
