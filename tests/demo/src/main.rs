//! The demo: everything on one machine, shown live. `make demo`, `make demo-check`, `make run`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a demo that fails should fail loudly
#![allow(dead_code)] // the acceptance tests use more of what is shared

#[path = "../../support/mod.rs"]
mod support;

mod door;
mod stage;

use std::time::{Duration, Instant};

use clap::Parser;
use whatsapp_operator::api::Phase;

use stage::Stage;
use support::history::Ask;

/// The example that the demo applies and watches.
const INSTANCE: &str = "business-account";
const PHONE: &str = "+15550001111";
const OTHER_PHONE: &str = "+15550002222";

/// Who gets the demo's message.
pub const FRIEND: &str = "+15550009999";

/// Runs a Kubernetes API server, a simulated WhatsApp, a bridge and the operator on this machine.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Without a person: a simulated phone scans, everything is checked, the exit status tells.
    #[arg(long)]
    check: bool,
    /// With the real WhatsApp: scan the code with your own phone.
    #[arg(long, conflicts_with = "check")]
    real: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let stage = Stage::set(arguments.real).await;
    println!("==> everything runs after {:.1} s; applying examples/instance.yaml", started.elapsed().as_secs_f64());
    stage.apply_example().await;
    if arguments.check { check(&stage).await } else { show(&stage).await }
}

async fn check(stage: &Stage) {
    let patience = Duration::from_secs(30);
    let step = Instant::now();
    let qr = stage.history.until(INSTANCE, "showing a QR code", patience, |i| i.qr().is_some()).await.qr().unwrap();
    println!("ok  QR code in status after {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    stage.whatsapp().scan(&qr, PHONE, "Alice").await.expect("the phone scans the code");
    stage.history.until_phase(INSTANCE, Phase::Connected, patience).await;
    println!("ok  Connected {} ms after the scan", step.elapsed().as_millis());

    let step = Instant::now();
    let body = serde_json::json!({"name": "From an application"});
    let made = stage.rest.call(&stage.token, "POST", "/api/v1/sessions/init/?wait=30", body).await.data(201).clone();
    assert!(made["qr_code"].is_string(), "{}", made["phase"]);
    let path = format!("/api/v1/sessions/delete/{}/?wait=30", made["id"].as_str().expect("an id"));
    stage.rest.call(&stage.token, "DELETE", &path, serde_json::Value::Null).await.data(200);
    println!("ok  begun and deleted through the REST API in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    opens_the_dashboard(stage).await;
    println!("ok  the dashboard's address signs in, in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    let body = serde_json::json!({"recipient": FRIEND, "message": "Hello from the demo"});
    let path = format!("/api/v1/messages/send/?owner={}&wait=30", stage::OWNER);
    let sent = stage.rest.call(&stage.token, "POST", &path, body).await.data(200).clone();
    let path = format!("/api/v1/messages/{}/", sent["id"].as_str().expect("an id"));
    let delivered = async {
        while stage.rest.get(&stage.token, &path).await.data(200)["delivered_at"].is_null() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patience, delivered).await.expect("the message is delivered");
    let inbox = stage.whatsapp().inbox(FRIEND).await;
    let inbox: Vec<_> = inbox.iter().map(|line| (line.text.as_str(), line.count)).collect();
    assert_eq!(inbox, [("Hello from the demo", 1)]);
    let line = stage.send_line();
    let output = tokio::task::spawn_blocking(move || stage::shell(&line)).await.expect("run curl");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(answer["data"]["sent_at"].is_string(), "the line that is printed sends: {answer}");
    println!("ok  message sent through the gateway and delivered in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    let refused = |created: Result<(), String>, words: &str| match created {
        Ok(()) => panic!("let in, although it should be refused: {words}"),
        Err(said) => assert!(said.contains(words), "refused in other words than {words:?}: {said}"),
    };
    refused(stage.create("copy", " BUSINESS account ").await, "already");
    for n in 2..=10 {
        stage.create(&format!("line-{n}"), &format!("Line {n}")).await.expect("the owner has a slot");
    }
    refused(stage.create("line-11", "Line 11").await, "has 10 of 10 instances");
    println!("ok  an equal name and the 11th instance refused in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    stage.set_desired_state("line-2", "Connected").await;
    let qr = stage.history.until("line-2", "showing a QR code", patience, |i| i.qr().is_some()).await.qr().unwrap();
    let early = stage.set_primary("line-2").expect_err("only a connected instance can be primary");
    assert!(early.contains("must be connected"), "{early}");
    stage.whatsapp().scan(&qr, OTHER_PHONE, "Alice").await.expect("the phone scans the code");
    stage.history.until_phase("line-2", Phase::Connected, patience).await;
    stage.set_primary("line-2").expect("a connected instance becomes primary");
    println!("ok  set-primary refused before, done once connected, in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    stage.delete("line-2").await;
    stage.history.until_gone("line-2", patience).await;
    stage.set_desired_state(INSTANCE, "Disconnected").await;
    stage.history.until_phase(INSTANCE, Phase::Disconnected, patience).await;
    stage.set_desired_state(INSTANCE, "Connected").await;
    stage.history.until_phase(INSTANCE, Phase::Connected, patience).await;
    println!("ok  disconnected and connected again without a scan in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    stage.delete(INSTANCE).await;
    stage.history.until_gone(INSTANCE, patience).await;
    assert!(stage.whatsapp().devices().await.is_empty(), "the device is unlinked");
    println!("ok  deleted and unlinked in {} ms", step.elapsed().as_millis());

    let step = Instant::now();
    three_owners(stage).await;
    println!("ok  three owners with three instances each in {} ms", step.elapsed().as_millis());
    println!("demo-check: all went well");
}

/// The address that is printed leads to the page, with a cookie of this demo's gateway that scripts cannot read.
async fn opens_the_dashboard(stage: &Stage) {
    let address = door::open(&stage.rest.url, stage.token.clone()).await;
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let entered = http.build().expect("a client").get(&address).send().await.expect("the address answers");
    assert_eq!(entered.headers()["location"], format!("{}/dashboard", stage.rest.url));
    let cookie = entered.headers()["set-cookie"].to_str().expect("a cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "the cookie is for the page alone");
    let me = stage.rest.request("GET", "/api/v1/me").header("cookie", cookie.split(';').next().unwrap_or_default());
    assert_eq!(me.send().await.expect("the gateway answers").status(), 200, "it signs in");
}

/// Once the first owner has room again, the line that is printed gives three owners three instances each, and the dashboard's account sees them all.
async fn three_owners(stage: &Stage) {
    for n in 3..=10 {
        stage.delete(&format!("line-{n}")).await;
    }
    for n in 3..=10 {
        stage.history.until_gone(&format!("line-{n}"), Duration::from_secs(60)).await;
    }
    let line = format!("export KUBECONFIG=$PWD/target/demo/kubeconfig; {}", stage.three_owners_line());
    let output = tokio::task::spawn_blocking(move || stage::shell(&line)).await.expect("run the line");
    assert!(output.status.success(), "the line that is printed: {}", String::from_utf8_lossy(&output.stderr));
    let all = stage.rest.get(&stage.token, "/api/v1/sessions/list/?owner=*").await.data(200)["sessions"].clone();
    for owner in ["alice", "bob", "carol"] {
        let names = all.as_array().into_iter().flatten().filter_map(|one| one["instance_name"].as_str());
        let theirs = names.filter(|name| name.ends_with(&format!(" of {owner}"))).count();
        assert_eq!(theirs, 3, "instances of {owner}: {all}");
    }
}

async fn show(stage: &Stage) {
    let dashboard = door::open(&stage.rest.url, stage.token.clone()).await;
    stage.print_how_to_join(INSTANCE, &dashboard);
    let mut printed = String::new();
    let mut changes = stage.history.changes();
    let story = async {
        loop {
            changes.borrow_and_update();
            let newest = stage.history.of(INSTANCE).pop();
            let screen = newest.map_or_else(|| "waiting for the controller".to_owned(), |seen| stage::screen(&seen));
            if screen != printed {
                println!("{screen}");
                printed = screen;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = story => {}
        _ = tokio::signal::ctrl_c() => println!("\n==> stopping everything"),
    }
}
