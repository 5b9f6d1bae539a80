//! Apply, scan, connect, disconnect, and everything that WhatsApp does to a session, each with its way back.

use std::time::Duration;

use serde_json::json;
use whatsapp_operator::api::{
    Phase, WhatsAppInstance,
    conditions::{CONNECTED, PAIRED, READY, reason},
};

use crate::{
    support::{
        history::Ask,
        world::{SOON, World},
    },
    turns::calm,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_scanned_instance_is_connected_within_four_writes() {
    let world = World::start("scan").await;
    let phone = "+15550100001";
    let _calm = calm().await;
    // Not the operator's own start is measured.
    world.apply("first", json!({})).await;
    world.qr("first").await;
    let applied = jiff::Timestamp::now();
    world.apply("sales", json!({})).await;
    world.qr("sales").await;
    let shown =
        world.history.of("sales").into_iter().find(|seen| seen.instance.as_ref().is_some_and(|i| i.qr().is_some()));
    let waited = shown.unwrap().at.duration_since(applied);
    println!("the QR code took {waited:#}");
    // It takes well under a second, unless a watch or a stream is missing and the next look at the instance has to do.
    assert!(waited.as_secs_f64() < 10.0, "the QR code took {waited:#}");

    world.scan("sales", phone).await;
    let instance = world.history.until_phase("sales", Phase::Connected, SOON).await;
    let status = instance.status.clone().unwrap();
    assert_eq!(status.phone_number.unwrap().reveal(), phone);
    assert_eq!(status.push_name.unwrap().reveal(), "Alice");
    assert!(status.connected_at.is_some());
    assert!(status.qr.is_none(), "the code is removed in the write that says Connected");
    assert_eq!(status.observed_generation, instance.metadata.generation);
    assert_eq!(instance.condition(READY), "True");

    let writes = world.history.of("sales").len() - 1; // the first version is the user's own
    assert!(writes <= 4, "{writes} writes; {}", world.history.story("sales"));
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_keeps_the_link_and_connected_resumes_without_a_scan() {
    let world = World::start("stop-and-go").await;
    let phone = "+15550100002";
    world.connected("sales", phone).await;

    world.patch_spec("sales", json!({"desiredState": "Disconnected"})).await;
    let stopped = world.history.until_phase("sales", Phase::Disconnected, SOON).await;
    assert_eq!(stopped.condition(PAIRED), "True");
    assert_eq!(stopped.reason(CONNECTED), reason::STOPPED);
    world.whatsapp.until_connected(&[]).await;

    let before = world.history.of("sales").len();
    world.patch_spec("sales", json!({"desiredState": "Connected"})).await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    let codes = world.history.of("sales").split_off(before).into_iter().filter_map(|seen| seen.instance?.qr()).count();
    assert_eq!(codes, 0, "no scan was asked for");
    assert_eq!(world.whatsapp.devices().await.len(), 1);
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinked_on_the_phone_is_logged_out_and_refresh_pairs_anew() {
    let world = World::start("unlinked").await;
    let phone = "+15550100003";
    let instance = world.connected("sales", phone).await;
    assert!(!world.key_files(&instance).is_empty(), "a linked session has keys on disk");

    world.whatsapp.happens(phone, "unlink").await;
    let out = world.history.until_phase("sales", Phase::LoggedOut, SOON).await;
    assert_eq!(out.reason(PAIRED), reason::LOGGED_OUT);
    assert_eq!(out.reason(READY), reason::LOGGED_OUT);
    assert!(world.key_files(&out).is_empty(), "keys are deleted after logout");

    world.refresh("sales").await;
    world.scan("sales", phone).await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinked_by_wish_keeps_the_instance_and_connected_pairs_anew() {
    let mut world = World::start("unlinked-by-wish").await;
    let (phone, other) = ("+15550100013", "+15550100014");
    let instance = world.connected("sales", phone).await;
    assert_eq!(world.whatsapp.devices().await.len(), 1);

    world.patch_spec("sales", json!({"desiredState": "Unlinked"})).await;
    let unlinked = world.history.until_phase("sales", Phase::Unlinked, SOON).await;
    assert_eq!([unlinked.reason(PAIRED), unlinked.reason(READY)], [reason::UNLINKED; 2]);
    assert!(world.whatsapp.devices().await.is_empty(), "the phone lists no device");
    assert!(world.key_files(&instance).is_empty(), "the keys are deleted");
    let status = unlinked.status.clone().unwrap();
    assert!(status.phone_number.is_none() && status.bridge == instance.status.unwrap().bridge);

    // It stays so over a restart of the bridge, and asks for a code as soon as that is wished.
    world.bridge.kill();
    world.restart_bridge().await;
    world.patch_spec("sales", json!({"desiredState": "Connected"})).await;
    world.scan("sales", other).await;
    let again = world.history.until_phase("sales", Phase::Connected, SOON).await;
    assert_eq!(again.status.unwrap().phone_number.unwrap().reveal(), other);
    let story = world.history.story("sales");
    assert!(
        !world
            .history
            .of("sales")
            .iter()
            .any(|seen| seen.instance.as_ref().is_some_and(|i| i.phase() == Some(Phase::LoggedOut))),
        "{story}"
    );
    world.nothing_leaked(&[phone, other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_by_another_client_stays_down_until_asked_back() {
    let world = World::start("replaced").await;
    let phone = "+15550100004";
    world.connected("sales", phone).await;
    world.whatsapp.happens(phone, "replace").await;
    let replaced = world.history.until_phase("sales", Phase::Disconnected, SOON).await;
    assert_eq!(replaced.reason(CONNECTED), reason::STREAM_REPLACED);
    assert_eq!(replaced.condition(PAIRED), "True");

    world.refresh("sales").await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    assert_eq!(world.whatsapp.devices().await.len(), 1, "it came back without a new pairing");
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_ban_is_shown_and_ends_by_itself() {
    let world = World::start("banned").await;
    let phone = "+15550100005";
    world.connected("sales", phone).await;
    world.whatsapp.happens_for(phone, "ban", 6).await;
    let banned = world.history.until_phase("sales", Phase::Restricted, SOON).await;
    assert_eq!(banned.reason(READY), reason::TEMPORARY_BAN);
    assert_eq!(banned.condition(CONNECTED), "False");
    assert!(banned.status.unwrap().restriction.unwrap().expires_at.is_some());
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reachout_timelock_leaves_it_connected_but_not_ready() {
    let world = World::start("restricted").await;
    let phone = "+15550100006";
    world.connected("sales", phone).await;
    world.whatsapp.happens_for(phone, "restrict", 6).await;
    let restricted = world.history.until_phase("sales", Phase::Restricted, SOON).await;
    assert_eq!(restricted.reason(READY), reason::REACHOUT_TIMELOCK);
    assert_eq!(restricted.condition(CONNECTED), "True");
    let back = world.history.until_phase("sales", Phase::Connected, SOON).await;
    assert!(back.status.unwrap().restriction.is_none());
    world.nothing_leaked(&[phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_gone_refusing_and_stalled_have_reasons_and_pass() {
    let mut world = World::start_with(
        "weather",
        crate::support::world::Wishes { bridge: vec!["--connect-timeout".into(), "8s".into()], ..Default::default() },
    )
    .await;
    let phone = "+15550100007";
    world.connected("sales", phone).await;

    world.whatsapp_program.kill();
    let gone = until_reason(&world, reason::SERVER_UNREACHABLE).await;
    assert_eq!(gone.phase(), Some(Phase::Reconnecting));
    let _: crate::support::phone::Announcement = world.whatsapp_program.start().await;
    world.history.until_phase("sales", Phase::Connected, Duration::from_secs(60)).await;

    world.whatsapp.weather("stall").await;
    world.whatsapp.happens(phone, "drop").await;
    let stalled = until_reason(&world, reason::SERVER_NOT_ANSWERING).await;
    assert_eq!(stalled.phase(), Some(Phase::Reconnecting));
    world.whatsapp.weather("normal").await;
    world.history.until_phase("sales", Phase::Connected, Duration::from_secs(90)).await;

    world.whatsapp.happens(phone, "drop").await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    assert_eq!(world.whatsapp.devices().await.len(), 1);
    world.nothing_leaked(&[phone]).await;
}

async fn until_reason(world: &World, wanted: &str) -> WhatsAppInstance {
    world.history.until("sales", wanted, Duration::from_secs(60), |instance| instance.reason(CONNECTED) == wanted).await
}

async fn connected_devices(world: &World) -> usize {
    world.whatsapp.devices().await.iter().filter(|device| device.connected).count()
}
