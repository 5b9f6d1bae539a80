//! A bridge as a release has it checks that the server is WhatsApp, and says so when it is not.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::conditions::{CONNECTED, READY, reason};

use crate::support::{
    history::Ask,
    world::{Wishes, World, target_dir},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_release_configured_bridge_refuses_the_simulated_server_and_says_so() {
    let strict = target_dir().join("strict/whatsapp-bridge");
    assert!(strict.exists(), "the strict bridge is not built: run the tests with `make test`, which builds it first");
    let world = World::start_with("strict", Wishes { bridge_executable: Some(strict), ..Default::default() }).await;
    world.apply("sales", json!({})).await;
    let distrusted = |instance: &_| Ask::reason(instance, CONNECTED) == reason::SERVER_NOT_TRUSTED;
    let instance = world.history.until("sales", "distrusting the server", Duration::from_secs(60), distrusted).await;
    assert_eq!(instance.reason(READY), reason::SERVER_NOT_TRUSTED);
    assert!(world.history.of("sales").iter().all(|seen| seen.instance.as_ref().is_none_or(|i| i.qr().is_none())));
    let before = world.whatsapp.stats().await["connectionsAccepted"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await; // ten seconds of watching it not hammer the server
    let after = world.whatsapp.stats().await["connectionsAccepted"].as_u64().unwrap();
    assert!(after - before <= 5, "{} connections in ten seconds", after - before);
}
