//! The OpenAPI document is true: held against the running gateway by tools that nobody here wrote (tests/api).

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    time::timeout,
};
use whatsapp_operator::api::Phase;

use crate::{
    gateway::world,
    gateway_messages::connected,
    support::{
        gateway::{ALL_VERBS, Rest, account},
        world::{SOON, World},
    },
};

fn room() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api")
}

/// Where the tools are; the first time they are installed.
fn tools() -> PathBuf {
    let output = Command::new(room().join("tools")).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/api/tools says why above");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn document(world: &World, rest: &Rest) -> PathBuf {
    let text = rest.request("GET", "/api/v1/openapi.json").send().await.unwrap().text().await.unwrap();
    let file = world.dir.join("openapi.json");
    std::fs::write(&file, text).unwrap();
    file
}

/// How many cases each operation gets at most, and how many requests are the least that counts; `make api-check` takes many.
fn cases() -> (u32, u64) {
    let number = |name: &str, otherwise: u64| -> u64 {
        std::env::var(name)
            .ok()
            .map_or(otherwise, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let cases = number("API_CHECK_CASES", 8);
    (cases.try_into().unwrap(), number("API_CHECK_LEAST", 500))
}

/// How many requests were made, by the summary: "Test cases:", then "1169 generated, 1169 passed, 36 skipped".
fn generated(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.trim().split_once(" generated,")?.0.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_the_answer_is_one_of_the_document() {
    let world = world("api-check").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    connected(&world, &rest, &token, "First", "+15550207001").await;
    // What the tools try sometimes: a name that is a phone number. The object's name, which logs hold, is not made of it.
    let named = json!({"name": "+1 (555) 020-7001", "bridge": world.name});
    let made = rest.call(&token, "POST", "/api/v1/sessions/init/", named).await.data(201).clone();
    assert!(made["object"].as_str().unwrap().starts_with("session-"), "{made}");
    let document = document(&world, &rest).await;
    let (cases, least) = cases();
    let tools = tools();
    // One worker: parsing in two threads at once fails by chance in Python 3.11 ("AST constructor recursion depth mismatch").
    // By name: the path in its first line is where it was installed, which may be another checkout.
    let mut run = Command::new(tools.join("python"));
    run.arg(tools.join("schemathesis"))
        .arg("--config-file")
        .arg(room().join("schemathesis.toml"))
        .arg("run")
        .arg(&document)
        .args(["--url", &rest.url, "--workers", "1", "--max-examples", &cases.to_string()])
        .args(["--header", &format!("Authorization: Bearer {token}"), "--no-color"])
        .args(["--seed", "1", "--exclude-checks", "positive_data_acceptance"])
        .current_dir(&world.dir);
    let output = tokio::task::spawn_blocking(move || run.output().unwrap()).await.unwrap();
    let said = said(&output).replace(&token, "TOKEN");
    std::fs::write(world.dir.join("schemathesis.log"), &said).unwrap();
    assert!(output.status.success(), "{said}");
    println!("{}", said.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    let generated = generated(&said).expect("the summary says how many cases there were");
    assert!(generated >= least, "{generated} cases are fewer than {least}");
    rest.nothing_leaked(&world, &["+15550207001"], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_generated_from_the_document_works() {
    let (friend, phone) = ("+15550207912", "+15550207012");
    let world = world("api-client").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let document = document(&world, &rest).await;
    let tools = tools();
    let mut generate = Command::new(tools.join("python"));
    generate
        .args([
            "-m",
            "openapi_python_client",
            "generate",
            "--meta",
            "none",
            "--overwrite",
            "--fail-on-warning",
            "--path",
        ])
        .arg(&document);
    generate.arg("--output-path").arg(world.dir.join("generated"));
    // It formats what it makes, if it finds what with.
    let path =
        std::env::join_paths([tools.clone()].into_iter().chain(std::env::split_paths(&std::env::var("PATH").unwrap())));
    generate.env("PATH", path.unwrap());
    let output = tokio::task::spawn_blocking(move || generate.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let mut child = tokio::process::Command::new(tools.join("python"))
        .arg(room().join("use_client.py"))
        .envs([("GATEWAY", rest.url.as_str()), ("TOKEN", &token), ("RECIPIENT", friend), ("BRIDGE", &world.name)])
        .env("PYTHONPATH", &world.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let story = async {
        let mut done = false;
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(code) = line["scan"].as_str() {
                world.whatsapp.scan(code, phone, "Alice").await.unwrap();
                let object = line["object"].as_str().unwrap();
                world.history.until_phase(object, Phase::Connected, SOON).await;
                child.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
            }
            done |= line["done"] == true;
        }
        done
    };
    let done = timeout(SOON * 8, story).await.expect("the client comes to its end");
    let output = child.wait_with_output().await.unwrap();
    assert!(done && output.status.success(), "{}", said(&output));
    assert_eq!(world.whatsapp.inbox(friend).await.len(), 1);
}
