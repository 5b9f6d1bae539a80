//! A bridge is told to stop something, or itself: it does, whatever the server, the disk or a client makes of it.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::bridge::Bench;

/// Stopping and deleting wait for no server: they take milliseconds. The limit is for a busy machine, and below any time limit of the bridge's.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Kubernetes kills after 30 s.
const END: Duration = Duration::from_secs(25);
/// The server's moods in which no login succeeds.
const WEATHERS: [&str; 3] = ["stall", "refuse", "gone"];

impl Bench {
    /// Asks once and again until session `id` is gone, and says how long that took.
    async fn deleting(&self, id: &str, unlink: bool) -> Duration {
        let begun = Instant::now();
        let path = format!("/v1/sessions/{id}?unlink={unlink}");
        while self.ask(Method::DELETE, &path, None).await.0 != StatusCode::NO_CONTENT {
            assert!(begun.elapsed() < END, "{id} is not deleted");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// Sends the signal and says how long the process went on; one that goes on too long is killed.
    fn ending(&mut self) -> Duration {
        let (begun, pid) = (Instant::now(), self.bridge.pid());
        assert!(terminate(pid));
        while Path::new(&format!("/proc/{pid}")).exists() {
            if begun.elapsed() > END {
                self.bridge.kill();
                return begun.elapsed();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let took = begun.elapsed();
        self.bridge.wait();
        took
    }

    /// Makes every write of the bridge's database fail, or lets them through again.
    fn store_fails(&self, fails: bool) {
        let database = rusqlite::Connection::open(self.dir.join("bridge/bridge.db")).unwrap();
        let (from, to) = if fails { ("sessions", "elsewhere") } else { ("elsewhere", "sessions") };
        database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    }
}

fn terminate(pid: u32) -> bool {
    Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_and_delete_wait_for_no_server() {
    let mut bench = Bench::start("bridge-flips", &[]).await;
    for (id, phone) in
        [("linked", "+15550002101"), ("stalled", "+15550002102"), ("refused", "+15550002103"), ("lost", "+15550002104")]
    {
        bench.put(id, json!({})).await;
        bench.link(id, phone).await;
    }
    for (weather, doomed) in WEATHERS.into_iter().zip(["stalled", "refused", "lost"]) {
        for id in ["linked", doomed] {
            bench.put(id, json!({"desiredState": "Disconnected", "pairing": {"window": weather}})).await;
        }
        bench.whatsapp.weather(weather).await;
        bench.put(doomed, json!({"pairing": {"window": weather}})).await;
        for flip in 0..20 {
            let begun = Instant::now();
            let on = bench.put("linked", json!({"pairing": {"window": weather}})).await;
            assert!(on["phase"] == "Connecting", "{weather}: {}", on["phase"]);
            // At another moment of the dial, the handshake and the back-off each time.
            tokio::time::sleep(Duration::from_millis(flip * 17)).await;
            let off = json!({"desiredState": "Disconnected", "pairing": {"window": weather}});
            assert_eq!(bench.put("linked", off).await["phase"], "Stopped", "{weather}");
            assert!(begun.elapsed() < AT_ONCE, "{weather}: {:?}", begun.elapsed());
        }
        let took = bench.deleting(doomed, false).await;
        assert!(took < AT_ONCE, "{weather}: {doomed} took {took:?}");
        bench.put("fresh", json!({})).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let took = bench.deleting("fresh", true).await;
        assert!(took < AT_ONCE, "{weather}: a session without a device took {took:?}");
        bench.whatsapp.weather("normal").await;
        bench.put("linked", json!({"pairing": {"window": weather}})).await;
        bench.until("linked", "Connected", None).await;
    }
    bench.whatsapp.weather("stall").await;
    let took = bench.ending();
    assert!(took < END, "{took:?}");
    bench.whatsapp.weather("normal").await;
    bench.address = bench.bridge.start().await;
    bench.until("linked", "Connected", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlink_in_the_back_off_begins_at_once() {
    let bench = Bench::start("bridge-unlinks", &[]).await;
    bench.put("a", json!({})).await;
    bench.link("a", "+15550002111").await;
    bench.whatsapp.weather("refuse").await;
    bench.until("a", "Reconnecting", Some("ServerRefused")).await;
    // Five tries, and the next is more than ten seconds away.
    tokio::time::sleep(Duration::from_secs(20)).await;
    bench.whatsapp.weather("normal").await;
    let took = bench.deleting("a", true).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert!(bench.whatsapp.devices().await.is_empty());
}

/// A bridge in which every thread that answers requests waits for a file that nobody writes.
async fn hanging(name: &str) -> Bench {
    let bench = Bench::start(name, &[]).await;
    let token = bench.dir.join("bridge-token");
    std::fs::remove_file(&token).unwrap();
    assert!(Command::new("mkfifo").arg(&token).status().unwrap().success());
    // The file is read again every two seconds, by the first who asks then; all that ask after it wait for that one.
    let begun = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = futures::future::join_all((0..64).map(|_| bench.ask(Method::GET, "/v1/info", None)));
        if tokio::time::timeout(Duration::from_secs(1), asked).await.is_err() {
            return bench;
        }
        assert!(begun.elapsed() < END, "nothing hangs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_in_which_everything_hangs_ends_when_told_to() {
    let mut bench = hanging("bridge-hangs").await;
    let took = bench.ending();
    assert!(took < END, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_bridge_at_once() {
    let mut bench = hanging("bridge-hangs-twice").await;
    assert!(terminate(bench.bridge.pid()));
    // The signals would be one if the first was not taken up yet.
    while !bench.bridge.log().contains("shutting down") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = bench.ending();
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_store_fails_ends_when_told_to() {
    let mut bench = Bench::start("bridge-store-fails", &[]).await;
    bench.put("a", json!({})).await;
    bench.link("a", "+15550002121").await;
    bench.store_fails(true);
    // It has something to store from here on.
    bench.whatsapp.happens("+15550002121", "unlink").await;
    let waiting = Instant::now();
    while !bench.bridge.log().contains("cannot be stored") {
        assert!(waiting.elapsed() < END, "nothing was to be stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, _) = bench.ask(Method::PUT, "/v1/sessions/a", Some(json!({}))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let took = bench.ending();
    assert!(took < END, "{took:?}");
    bench.store_fails(false);
    bench.address = bench.bridge.start().await;
    bench.until("a", "LoggedOut", None).await;
}
