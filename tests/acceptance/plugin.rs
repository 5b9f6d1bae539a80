//! `kubectl whatsapp` as a person uses it, against a world where something happens.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use crate::support::{
    program::executable,
    world::{SOON, World},
};

fn plugin(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(executable("kubectl-whatsapp"));
    command.args(arguments).args(["--namespace", &world.name, "--kubeconfig"]).arg(&world.kubeconfig);
    command.env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

async fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = plugin(world, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn qr_follows_the_session_until_it_is_connected() {
    let world = World::start("plugin-qr").await;
    let phone = "+15550100400";
    world.apply("sales", json!({})).await;
    let code = world.qr("sales").await;

    let raw = run(&world, &["qr", "sales", "--once", "-o", "raw"]).await;
    assert!(raw.status.success(), "{}", String::from_utf8_lossy(&raw.stderr));
    assert_eq!(text(&raw).trim(), code);

    let mut watching = plugin(&world, &["qr", "sales"]);
    let child = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.scan("sales", phone).await;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(SOON, output).await.expect("it ends by itself").unwrap();
    assert!(output.status.success());
    let said = format!("{}{}", text(&output), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("Connected as {phone}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_change_what_they_say() {
    let world = World::start("plugin-verbs").await;
    world.connected("sales", "+15550100401").await;

    let table = text(&run(&world, &["list"]).await);
    assert!(table.lines().next().unwrap().contains("PHASE") && table.contains("Connected"), "{table}");
    let all: Value = serde_json::from_str(&text(&run(&world, &["list", "-o", "json"]).await)).unwrap();
    assert_eq!(all["items"][0]["metadata"]["name"], "sales");
    assert!(text(&run(&world, &["list", "-o", "yaml"]).await).contains("kind: WhatsAppInstance"));

    assert!(run(&world, &["disconnect", "sales", "--wait"]).await.status.success());
    world.history.until_phase("sales", Phase::Disconnected, SOON).await;
    assert!(run(&world, &["connect", "sales", "--wait"]).await.status.success());
    world.history.until_phase("sales", Phase::Connected, SOON).await;

    let missing = run(&world, &["qr", "no-such-instance"]).await;
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(error.contains("no-such-instance") && error.contains("kubectl whatsapp list"), "{error}");
    assert_eq!(run(&world, &["no-such-verb"]).await.status.code(), Some(2));
}
