//! The program as its users start it.

use crate::companion::Companion;
use crate::{ALICE, open_store};
use serde_json::Value;
use simulated_whatsapp::server::Announcement;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use whatsapp_rust::waproto::whatsapp as wa;
use whatsapp_rust::{Jid, SendOptions};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_simulated-whatsapp"))
}

fn serve(dir: &Path, announced: Option<&Announcement>) -> (Child, Announcement) {
    let host = |url: &str| url.split('/').nth(2).unwrap_or("127.0.0.1:0").to_owned();
    let (listen, control) =
        announced.map_or(("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()), |at| (host(&at.url), host(&at.control)));
    let mut child = program()
        .args(["serve", "--log", "debug", "--listen", &listen, "--control", &control])
        .args(["--state-dir".as_ref(), dir.join("state").as_os_str()])
        .args(["--announce".as_ref(), dir.join("announce.json").as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), std::fs::read_to_string(dir.join("announce.json")).unwrap());
    (child, serde_json::from_str(&line).unwrap())
}

/// Asks the program to end, as a service manager does, and returns what it logged.
fn terminate(child: Child) -> String {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    String::from_utf8(stderr).unwrap()
}

fn run(arguments: &[&str], control: &str) -> Output {
    program().args(arguments).env("SIMULATED_WHATSAPP_CONTROL", control).output().unwrap()
}

fn json(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_scans_lists_and_resumes_and_its_log_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (child, at) = serve(dir.path(), None);
    assert_eq!(at.root_public_key.len(), 64);
    let companion = Companion::start(&at.url, open_store(dir.path()).await).await;
    let qr = companion.qr().await;
    let linked = json(run(&["scan", "--qr", &qr, "--phone", ALICE, "--push-name", "Alice"], &at.control));
    assert_eq!(linked["jid"], "15550001:1@s.whatsapp.net");
    companion.connected().await;
    assert_eq!(json(run(&["devices"], &at.control))[0]["connected"], true);
    let text = wa::Message { conversation: Some("Is it you".to_owned()), ..Default::default() };
    let to = Jid::pn("15550002");
    companion.client.send_message_with_options(to, text, SendOptions::default()).await.unwrap();
    let arrived = async {
        loop {
            let inbox = json(run(&["inbox", "--phone", "+15550002"], &at.control));
            if inbox[0]["count"] == 1 {
                return inbox;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let inbox = tokio::time::timeout(Duration::from_secs(30), arrived).await.expect("it arrives");
    assert_eq!((&inbox[0]["text"], inbox.as_array().unwrap().len()), (&Value::from("Is it you"), 1));
    let first = terminate(child);
    assert!(!dir.path().join("announce.json").exists(), "nobody must be sent to a server that has ended");

    let (child, again) = serve(dir.path(), Some(&at));
    assert_eq!((&again.url, &again.root_public_key), (&at.url, &at.root_public_key));
    companion.connected().await;
    assert_eq!(json(run(&["unlink", "--phone", ALICE], &at.control))["devices"], 1);
    assert_eq!(json(run(&["stats"], &at.control))["registered"], 0);
    companion.stop().await;
    let log = first + &terminate(child);
    assert!(log.contains("connection opened"), "debug logging must be on for this to mean something: {log}");
    for secret in ["15550001", "15550002", "Is it you", "Alice", "2@"]
        .into_iter()
        .chain(qr.split(',').filter(|field| field.len() > 8))
    {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
}

#[test]
fn bad_input_gets_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (child, at) = serve(dir.path(), None);
    let taken = at.control.trim_start_matches("http://");
    let other = dir.path().join("other");
    let cases: &[(&[&str], &str)] = &[
        (&["unlink", "--phone", "nobody"], "--phone must have 5 to 15 digits"),
        (&["unlink", "--phone", "+15559999"], "no device was ever linked to this phone number"),
        (&["scan", "--qr", "x", "--phone", ALICE], "five comma-separated fields"),
        (&["pair-code", "--code", "12", "--phone", ALICE], "eight letters and digits"),
        (&["serve", "--state-dir", other.to_str().unwrap(), "--listen", taken], "choose another port"),
        (&["mode", "sideways"], "possible values: normal, refuse, stall, gone"),
    ];
    for (arguments, sentence) in cases {
        let output = run(arguments, &at.control);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(sentence), "{arguments:?} said: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let nowhere = String::from_utf8(run(&["stats"], "http://127.0.0.1:9").stderr).unwrap();
    assert!(nowhere.contains("cannot reach the simulated WhatsApp at http://127.0.0.1:9"), "{nowhere}");
    terminate(child);
    std::fs::write(state.join("server.json"), "nonsense").unwrap();
    let damaged = run(&["serve", "--state-dir", state.to_str().unwrap()], "");
    let said = String::from_utf8(damaged.stderr).unwrap();
    assert!(said.contains("server.json") && said.contains("remove the state directory"), "{said}");
}
