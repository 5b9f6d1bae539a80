//! A real whatsapp-rust client against the simulation, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod baileys;
mod companion;
mod faults;
mod messages;
mod program;
mod sending;
mod stock;
mod whatsmeow;

use companion::Companion;
use serde_json::{Value, json};
use simulated_whatsapp::pairing::Pairing;
use simulated_whatsapp::server::Server;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wacore::store::InMemoryBackend;
use whatsapp_rust::store::traits::Backend;
use whatsapp_rust::types::events::{ConnectFailureReason, Event};
use whatsapp_rust::waproto::whatsapp as wa;
use whatsapp_rust::{Jid, SendOptions};
use whatsapp_rust_sqlite_storage::SqliteStore;

const ALICE: &str = "+15550001";

struct Scene {
    dir: TempDir,
    server: Server,
    store: Arc<dyn Backend>,
}

impl Scene {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(any, any, &dir.path().join("state"), false).await.unwrap();
        let store = open_store(dir.path()).await;
        Self { dir, server, store }
    }

    fn url(&self) -> &str {
        &self.server.announcement.url
    }

    async fn call(&self, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        simulated_whatsapp::client::call(&self.server.announcement.control, path, body.as_ref()).await
    }

    async fn phone(&self, verb: &str, body: Value) -> Value {
        self.call(&format!("/v1/phones/15550001/{verb}"), Some(body)).await.unwrap()
    }

    async fn scan(&self, qr: &str) -> anyhow::Result<Value> {
        self.call("/v1/scan", Some(json!({ "qr": qr, "phone": ALICE, "pushName": "Alice" }))).await
    }

    async fn stats(&self) -> Value {
        self.call("/v1/stats", None).await.unwrap()
    }

    /// A client linked to Alice's phone and connected.
    async fn linked(&self) -> Companion {
        let companion = Companion::start(self.url(), Arc::clone(&self.store)).await;
        let qr = companion.qr().await;
        self.scan(&qr).await.unwrap();
        companion.connected().await;
        companion
    }

    /// Stops the server and starts it again on the same ports, with what it kept.
    async fn restarted(self, forget: Option<&str>) -> Self {
        let Self { dir, server, store } = self;
        let at =
            |url: &str| -> SocketAddr { url.split("//").nth(1).unwrap().split('/').next().unwrap().parse().unwrap() };
        let (listen, control) = (at(&server.announcement.url), at(&server.announcement.control));
        server.stop().await;
        let state = dir.path().join("state");
        if let Some(file) = forget {
            std::fs::remove_file(state.join(file)).unwrap();
        }
        let server = Server::start(listen, control, &state, false).await.unwrap();
        Self { dir, server, store }
    }
}

async fn open_store(dir: &Path) -> Arc<dyn Backend> {
    Arc::new(SqliteStore::new(dir.join("session.db").to_str().unwrap()).await.unwrap())
}

fn disconnected(event: &Event) -> Option<()> {
    matches!(event, Event::Disconnected(_)).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_links_and_connects_without_a_wait() {
    let scene = Scene::new().await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    let qr = companion.qr().await;
    assert_eq!(scene.stats().await["pairingsOpen"], 1);
    let scanned = Instant::now();
    let linked = scene.scan(&format!("https://wa.me/settings/linked_devices#{qr}")).await.unwrap();
    assert_eq!(linked["jid"], "15550001:1@s.whatsapp.net");
    companion.connected().await;
    // A missing piece of the login shows as a silent wait of ten seconds or a minute.
    assert!(scanned.elapsed() < Duration::from_secs(8), "it took {:?}", scanned.elapsed());
    assert_eq!(companion.client.push_name(), "Alice");
    let devices = scene.call("/v1/devices", None).await.unwrap();
    assert_eq!(devices[0]["phone"], ALICE);
    assert_eq!(devices[0]["pushName"], "Alice");
    assert_eq!(devices[0]["connected"], true);
    let stats = scene.stats().await;
    assert_eq!((&stats["registered"], &stats["connected"], &stats["pairingsOpen"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(stats["registrationsTotal"], 1);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_open_code_is_refused_in_one_sentence() {
    let scene = Scene::new().await;
    let companion = Companion::start(scene.url(), Arc::clone(&scene.store)).await;
    let qr = companion.qr().await;
    let (_, keys) = qr.split_once(',').unwrap();
    let unknown = scene.scan(&format!("2@none,{keys}")).await.unwrap_err().to_string();
    assert!(unknown.contains("no open pairing has this QR code"), "{unknown}");
    let garbage = scene.scan("hello").await.unwrap_err().to_string();
    assert!(garbage.contains("five comma-separated fields"), "{garbage}");
    let number = scene.call("/v1/scan", Some(json!({ "qr": qr, "phone": "alice" }))).await.unwrap_err().to_string();
    assert!(number.contains("5 to 15 digits"), "{number}");
    let phone = scene.call("/v1/phones/15550001/unlink", Some(json!({}))).await.unwrap_err().to_string();
    assert!(phone.contains("no device was ever linked"), "{phone}");
    companion.stop().await;
    let gone = scene.scan(&qr).await.unwrap_err().to_string();
    assert!(gone.contains("no open pairing") || gone.contains("has gone"), "{gone}");
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_comes_back() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    assert_eq!(scene.phone("drop", json!({})).await["connected"], 1);
    companion.wait("Disconnected", disconnected).await;
    companion.connected().await;
    assert_eq!(scene.stats().await["registered"], 1);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_resumes_its_devices() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let scene = scene.restarted(None).await;
    companion.connected().await;
    let counters = &scene.server.world.counters;
    assert_eq!((counters.ik.load(Relaxed), counters.xx.load(Relaxed)), (1, 0), "the kept static key allows IK");
    companion.stop().await;
    let again = Companion::start(scene.url(), open_store(scene.dir.path()).await).await;
    again.connected().await;
    assert_eq!(scene.stats().await["registrationsTotal"], 0);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_new_keys_falls_back_from_ik() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let scene = scene.restarted(Some("server.json")).await;
    companion.connected().await;
    assert_eq!(scene.server.world.counters.fallback.load(Relaxed), 1);
    assert_eq!(scene.stats().await["registered"], 1);
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinking_on_the_phone_logs_out_online_and_offline() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    assert_eq!(scene.phone("unlink", json!({})).await["devices"], 1);
    let on_connect = |event: &Event| match event {
        Event::LoggedOut(out) => Some(out.on_connect),
        _ => None,
    };
    assert!(!companion.wait("LoggedOut", on_connect).await);
    assert_eq!(scene.stats().await["registered"], 0);
    companion.stop().await;
    // The store still holds the keys of the removed device: its next login is refused.
    let again = Companion::start(scene.url(), open_store(scene.dir.path()).await).await;
    assert!(again.wait("LoggedOut", on_connect).await);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_by_the_server_is_a_failure_401() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.phone("logout", json!({})).await;
    let reason = companion
        .wait("LoggedOut", |event| match event {
            Event::LoggedOut(out) => Some(out.reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, ConnectFailureReason::LoggedOut);
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_by_the_client_removes_the_device() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    companion.client.logout().await;
    assert_eq!(scene.stats().await["registered"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_connection_keeps_its_link() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.phone("replace", json!({})).await;
    companion.wait("StreamReplaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await;
    assert_eq!(scene.stats().await["registered"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_is_announced_with_its_length_and_ends() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.phone("ban", json!({ "seconds": 600 })).await;
    let ban = |event: &Event| match event {
        Event::TemporaryBan(ban) => Some(ban.expire.num_seconds()),
        _ => None,
    };
    let left = companion.wait("TemporaryBan", ban).await;
    assert!((590..=600).contains(&left), "{left}");
    companion.stop().await;
    let again = Companion::start(scene.url(), open_store(scene.dir.path()).await).await;
    again.wait("TemporaryBan", ban).await;
    again.stop().await;
    scene.phone("ban", json!({ "seconds": 0 })).await;
    let pardoned = Companion::start(scene.url(), open_store(scene.dir.path()).await).await;
    pardoned.connected().await;
    pardoned.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_account_is_told_and_its_messages_to_strangers_are_nacked() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    assert_eq!(companion.client.mex().fetch_reachout_timelock().await.unwrap().is_active, Some(false));
    assert_eq!(send(&companion, "15550003").await, None);
    scene.inbox("15550003", 1).await;
    scene.phone("restrict", json!({ "seconds": 600 })).await;
    let pushed = |event: &Event| match event {
        Event::MexNotification(push) => {
            Some(push.payload["data"]["xwa2_notify_account_reachout_timelock"]["is_active"].clone())
        }
        _ => None,
    };
    assert_eq!(companion.wait("time-lock push", pushed).await, json!(true));
    let lock = companion.client.mex().fetch_reachout_timelock().await.unwrap();
    assert_eq!((lock.is_active, lock.enforcement_type.as_deref()), (Some(true), Some("RESTRICT_ALL_COMPANIONS")));
    assert_eq!(send(&companion, "15550002").await.as_deref(), Some("463"));
    assert_eq!(send(&companion, "15550003").await, None, "who has had a message is nobody new");
    scene.phone("unrestrict", json!({})).await;
    assert_eq!(companion.wait("time-lock push", pushed).await, json!(false));
    assert_eq!(send(&companion, "15550002").await, None);
    companion.stop().await;
}

/// Sends a text and returns the error of the server's ack.
async fn send(companion: &Companion, to: &str) -> Option<String> {
    let message = wa::Message { conversation: Some("hello".into()), ..Default::default() };
    let sent = companion.client.send_message_with_options(Jid::pn(to), message, SendOptions::default()).await.unwrap();
    companion
        .wait("ServerAck", |event| match event {
            Event::ServerAck(ack) if ack.id == sent.message_id => Some(ack.error.clone()),
            _ => None,
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_can_be_held_back() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    let mode = scene.call("/v1/mode", Some(json!({ "ackDelayMs": 700 }))).await.unwrap();
    assert_eq!(mode, json!({ "mode": "normal", "ackDelayMs": 700 }));
    let before = Instant::now();
    assert_eq!(send(&companion, "15550002").await, None);
    assert!(before.elapsed() >= Duration::from_millis(700));
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_gone_servers_are_left_and_found_again() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    for mode in ["refuse", "gone"] {
        scene.call("/v1/mode", Some(json!({ "mode": mode }))).await.unwrap();
        companion.wait("Disconnected", disconnected).await;
        let refused = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = refused.get(scene.url().replace("ws://", "http://")).send().await;
        match mode {
            "refuse" => assert_eq!(answer.unwrap().status(), 400, "a plain GET is no WebSocket, but something listens"),
            _ => assert!(answer.unwrap_err().is_connect()),
        }
        scene.call("/v1/mode", Some(json!({ "mode": "normal" }))).await.unwrap();
        companion.connected().await;
    }
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_server_answers_nobody_until_it_recovers() {
    let scene = Scene::new().await;
    let companion = scene.linked().await;
    scene.call("/v1/mode", Some(json!({ "mode": "stall" }))).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(2), companion.client.mex().fetch_reachout_timelock()).await;
    assert!(answer.is_err(), "a stalled server must not answer");
    let newcomer_store: Arc<dyn Backend> =
        Arc::new(SqliteStore::new(scene.dir.path().join("new.db").to_str().unwrap()).await.unwrap());
    let before = scene.stats().await["connectionsAccepted"].as_u64().unwrap();
    let newcomer = Companion::start(scene.url(), newcomer_store).await;
    let accepted = async {
        while scene.stats().await["connectionsAccepted"].as_u64().unwrap() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), accepted).await.expect("a stalled server must accept connections");
    assert_eq!(scene.stats().await["pairingsOpen"], 0, "a stalled server accepts but does not shake hands");
    scene.call("/v1/mode", Some(json!({ "mode": "normal" }))).await.unwrap();
    companion.connected().await;
    newcomer.qr().await;
    newcomer.stop().await;
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_typed_into_the_phone_links_and_a_wrong_one_does_not() {
    let scene = Scene::new().await;
    let enter = |code: String| {
        let body = json!({ "code": code, "phone": ALICE, "pushName": "Alice" });
        let scene = &scene;
        async move { scene.call("/v1/pair-code", Some(body)).await }
    };
    let nobody = enter("ABCD-EFGH".into()).await.unwrap_err().to_string();
    assert!(nobody.contains("no client waits for a code"), "{nobody}");
    let companion = Companion::start_with(scene.url(), Arc::clone(&scene.store), Some("15550001")).await;
    let code = companion
        .wait("pairing code", |event| match event {
            Event::PairingCode(code) => Some(code.code.clone()),
            _ => None,
        })
        .await;
    let other = if code.starts_with('A') { "BBBBBBBB" } else { "AAAAAAAA" };
    let wrong = enter(other.to_owned()).await.unwrap_err().to_string();
    assert!(wrong.contains("this code is wrong"), "{wrong}");
    assert_eq!(enter(code).await.unwrap()["jid"], "15550001:1@s.whatsapp.net");
    companion.connected().await;
    companion.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_scans_at_once_all_connect_to_their_own_account() {
    let scene = Scene::new().await;
    let linked = (0..40).map(|number| {
        let scene = &scene;
        async move {
            let companion = Companion::start(scene.url(), Arc::new(InMemoryBackend::new())).await;
            let body = json!({ "qr": companion.qr().await, "phone": format!("+1555{number:04}"), "pushName": "A" });
            let jid = scene.call("/v1/scan", Some(body)).await.unwrap();
            assert_eq!(jid["jid"], format!("1555{number:04}:1@s.whatsapp.net"));
            companion.connected().await;
            companion
        }
    });
    let companions = futures::future::join_all(linked).await;
    let stats = scene.stats().await;
    assert_eq!(
        (&stats["registered"], &stats["connected"], &stats["pairingsOpen"]),
        (&json!(40), &json!(40), &json!(0))
    );
    futures::future::join_all(companions.into_iter().map(Companion::stop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_own_status() {
    let scene = Scene::new().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let scan = |qr: String| {
        let body = json!({ "qr": qr, "phone": ALICE }).to_string();
        let request = http.post(format!("{}/v1/scan", scene.server.announcement.control)).body(body);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let key = "A".repeat(43) + "=";
    let code = |reference: &str| format!("{reference},{key},{key},{key},1");
    let (outbox, _inbox) = tokio::sync::mpsc::unbounded_channel();
    let opened = Instant::now().checked_sub(Duration::from_secs(75)).unwrap();
    let pairing = Arc::new(Pairing::new(opened, [0; 32], outbox, None));
    scene.server.world.open_pairing(&pairing);
    assert_eq!(scan("nonsense".into()).await, 400);
    assert_eq!(scan(code("2@unknown")).await, 404);
    assert_eq!(scan(code(&pairing.references()[0])).await, 409, "the first code has expired after 75 s");
    // The second code lives until 80 s: this scan gets as far as a companion that never answers.
    let second = tokio::time::timeout(Duration::from_secs(1), scan(code(&pairing.references()[1]))).await;
    assert!(second.is_err(), "{second:?}");
    for path in ["/v1/phones/15550001/dance", "/v2"] {
        let url = format!("{}{path}", scene.server.announcement.control);
        assert_eq!(http.post(url).send().await.unwrap().status().as_u16(), 404);
    }
}
