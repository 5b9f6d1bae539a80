//! The demo: everything on one machine, shown live. `make demo`, `make demo-check`, `make run`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a demo that fails should fail loudly
#![allow(dead_code)] // the acceptance tests use more of what is shared

#[path = "../../support/mod.rs"]
mod support;

mod stage;

use std::time::{Duration, Instant};

use clap::Parser;
use whatsapp_operator::api::Phase;

use stage::Stage;
use support::history::Ask;

/// The example that the demo applies and watches.
const INSTANCE: &str = "business-account";
const PHONE: &str = "+15550001111";

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
    println!("demo-check: all went well");
}

async fn show(stage: &Stage) {
    stage.print_how_to_join(INSTANCE);
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
