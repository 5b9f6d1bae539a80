//! Connections that died without a word: what is not heard within half a minute is listened for anew.

use std::time::{Duration, Instant};

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::support::{
    history::Ask,
    proxy::Proxy,
    world::{ALONE, Wishes, World, create_bridge, host},
};

/// Half a minute until the operator notices, and as much again for a machine at its worst. Without that it takes minutes.
const NOTICED: Duration = Duration::from_secs(60);

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
    world.history.until("after", "showing a QR code", NOTICED, |i| i.qr().is_some()).await;
    println!("the dead connection to the API server was noticed after {:.1?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_to_a_bridge_is_noticed_within_half_a_minute() {
    let phone = "+15550100040";
    let world = World::start_with("half-open-bridge", Wishes::of_operator(&[ALONE])).await;
    let proxy = Proxy::start(host(&world.bridge_address.http)).await;
    create_bridge(&world.client, &world.name, &[format!("http://{}", proxy.address)], &world.token).await;
    world.connected("sales", phone).await;

    // Something has just come, so nothing is due for a while.
    proxy.swallow();
    let since = Instant::now();
    // Only an event of the bridge tells of it: the operator has nothing to ask.
    world.whatsapp.happens(phone, "unlink").await;
    world.history.until_phase("sales", Phase::LoggedOut, NOTICED).await;
    println!("the dead connection to the bridge was noticed after {:.1?}", since.elapsed());
}
