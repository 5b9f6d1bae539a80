//! A stock whatsmeow process (tests/whatsmeow-client) that sends to the same simulated WhatsApp and keeps nothing on a disk.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
};

use crate::support::{phone::WhatsApp, world};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long each of so many messages took until the server had acknowledged it, one after the other.
pub async fn sends(whatsapp: &WhatsApp, count: usize) -> Vec<Duration> {
    let program = world::target_dir().join("whatsmeow-client/whatsmeow-client");
    assert!(program.exists(), "the whatsmeow client is not built: `make whatsmeow-client`");
    let mut child = Command::new(program)
        .args(["-address", &world::host(&whatsapp.url), "-root", whatsapp.root()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut commands, events) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut events = BufReader::new(events).lines();
    tell(&mut commands, "connect").await;
    let code = wait(&mut events, "qr").await["code"].as_str().unwrap().to_owned();
    whatsapp.scan(&code, "+15550069000", "Bare").await.unwrap();
    wait(&mut events, "connected").await;
    let mut samples = Vec::new();
    for number in 0..count + 20 {
        let start = Instant::now();
        tell(&mut commands, &format!("send +1555008{:04} Message {number}", number % 8)).await;
        wait(&mut events, "sent").await;
        samples.push(start.elapsed());
    }
    samples.split_off(20)
}

async fn tell(commands: &mut ChildStdin, command: &str) {
    commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
}

async fn wait(events: &mut Lines<BufReader<ChildStdout>>, name: &str) -> Value {
    let search = async {
        while let Some(line) = events.next_line().await.unwrap() {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
            assert_ne!(event["event"], "failed", "{event}");
        }
        panic!("the whatsmeow client ended before {name}")
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no {name}"))
}
