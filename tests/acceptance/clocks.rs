//! A wall clock that is set while the bridge runs: nobody waits for it, no ban ends by it, and nothing is forgotten by it.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    bridge::Bench,
    messages::id,
    support::{wall_clock::WallClock, world::target_dir},
};

const HOUR: i64 = 3600;

async fn bench(name: &str) -> (Bench, WallClock) {
    let clock = WallClock::new(&target_dir().join("acceptance").join(format!("{name}-clock")));
    (Bench::start_by(name, &[], Some(&clock)).await, clock)
}

/// How far a time that the bridge tells lies ahead, by the right clock.
fn ahead(time: &Value) -> SignedDuration {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().duration_since(Timestamp::now())
}

fn is_about_an_hour(ahead: SignedDuration) -> bool {
    (ahead.abs() - SignedDuration::from_hours(1)).abs() < SignedDuration::from_mins(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_keeps_no_session_waiting() {
    const PHONE: &str = "+15550002101";
    let (bench, clock) = bench("clock-set").await;
    bench.put("a", json!({})).await;
    bench.link("a", PHONE).await;
    for seconds in [-HOUR, 0, HOUR] {
        bench.whatsapp.weather("refuse").await;
        bench.until("a", "Reconnecting", Some("ServerRefused")).await;
        clock.set(seconds);
        bench.whatsapp.weather("normal").await;
        bench.until("a", "Connected", None).await;
    }

    // A window that is opened now is shown with the time that people have, and goes on when that is set.
    let window = bench.put("b", json!({})).await;
    assert_eq!(window["id"], "b");
    let shown = bench.until("b", "AwaitingPairing", None).await;
    assert!(is_about_an_hour(ahead(&shown["qr"]["expiresAt"])), "{}", shown["qr"]["expiresAt"]);
    clock.set(-HOUR);
    let moved = |session: &Value| {
        session["qr"]["expiresAt"].is_string() && ahead(&session["qr"]["expiresAt"]) < SignedDuration::ZERO
    };
    let shown = bench.until_it("b", moved).await;
    assert!(is_about_an_hour(ahead(&shown["qr"]["expiresAt"])), "{}", shown["qr"]["expiresAt"]);
    bench.until_it("b", |session| session["qr"]["attempt"] == 2).await;
    bench.link("b", "+15550002102").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_lasts_as_long_as_it_does_whatever_the_clock_says() {
    const PHONE: &str = "+15550002111";
    const BAN: u64 = 40;
    let (mut bench, clock) = bench("clock-ban").await;
    bench.put("a", json!({})).await;
    bench.link("a", PHONE).await;
    // Ahead of the right time, and back again.
    for seconds in [HOUR, 0] {
        let before = bench.whatsapp.logins(PHONE).await.len();
        let banned_at = Timestamp::now().as_millisecond();
        bench.whatsapp.happens_for(PHONE, "ban", BAN).await;
        let banned = bench.until("a", "Banned", Some("TemporaryBan")).await;
        let shown_at = ahead(&banned["restriction"]["expiresAt"]);
        clock.set(seconds);
        // What is shown follows, and with it what is stored for the next process.
        let moved = |session: &Value| {
            let end = &session["restriction"]["expiresAt"];
            end.is_string() && (ahead(end) - shown_at).abs() > SignedDuration::from_mins(50)
        };
        bench.until_it("a", moved).await;
        bench.bridge.kill();
        bench.address = bench.bridge.start().await;
        bench.until("a", "Connected", None).await;
        let logins = bench.whatsapp.logins(PHONE).await.split_off(before);
        assert!(logins.iter().all(|login| login.admitted), "a login during the ban: {logins:?}");
        let first = i64::try_from(logins[0].at).unwrap() - banned_at;
        // The server counts in whole seconds.
        assert!(first > (i64::try_from(BAN).unwrap() - 1) * 1000, "back after {first} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_that_ended_while_the_machine_was_suspended_is_over() {
    const PHONE: &str = "+15550002121";
    let (bench, clock) = bench("clock-suspend").await;
    bench.put("a", json!({})).await;
    bench.link("a", PHONE).await;
    bench.whatsapp.happens_for(PHONE, "ban", 3600).await;
    bench.until("a", "Banned", Some("TemporaryBan")).await;
    // The server's clock went on as well.
    bench.whatsapp.happens_for(PHONE, "ban", 0).await;
    clock.suspend(2 * HOUR);
    bench.until("a", "Connected", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_days_ahead_frees_no_idempotency_key() {
    let (bench, clock) = bench("clock-claims").await;
    let claims = async |message: &str| {
        let expires_at = Timestamp::now() + SignedDuration::from_hours(25);
        let claim =
            json!({"fingerprint": "f", "session": "a", "message": message, "expiresAt": expires_at.to_string()});
        let (_, counts) = bench.ask(Method::PUT, "/v1/claims/key", Some(claim)).await;
        counts["message"].clone()
    };
    assert_eq!(claims("ONE").await, "ONE");
    for days in [2, 3650, -2, 0] {
        clock.set(days * 24 * HOUR);
        assert_eq!(claims("TWO").await, "ONE", "{days}");
        let (_, found) = bench.ask(Method::GET, "/v1/claims/key", None).await;
        assert_eq!(found["message"], "ONE", "{days}");
    }
}

/// CPU time of a process, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = [11, 12].iter().map(|field| fields[*field].parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_keeps_no_core_busy() {
    let (mut bench, clock) = bench("clock-stopped").await;
    bench.sender("a", "+15550002131").await;
    bench.put("a", json!({"desiredState": "Disconnected"})).await;
    bench.until("a", "Stopped", None).await;
    // Nothing is due in the session but the end of the message.
    bench.accepted("a", &id(1), "+15550002139", "Hello").await;
    bench.bridge.kill();
    bench.address = bench.bridge.start().await;
    bench.until("a", "Stopped", None).await;
    clock.set(HOUR);
    let before = cpu(bench.bridge.pid());
    // Those who wait look at the clock every 15 s. What is measured here is the time itself.
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    let used = cpu(bench.bridge.pid()) - before;
    assert!(used < 4.0, "{used} s of CPU in 25 s");
    bench.put("a", json!({})).await;
    bench.until_message("a", &id(1), &["Delivered"]).await;
}
