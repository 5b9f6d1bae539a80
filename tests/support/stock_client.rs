//! A client of WhatsApp that nobody here wrote, as a process on a leash: tests/whatsmeow-client and tests/baileys-client say which commands
//! they take and which events they report.
//!
//! Stands alone: the tests of the simulated WhatsApp use this file as well.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Generous: a debug build on a busy two-core machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// The process. It ends with this.
pub struct StockClient {
    _child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl StockClient {
    /// A whatsmeow that connects to `url` and trusts the certificate root with this public key, in hex.
    pub fn whatsmeow(url: &str, root: &str) -> Self {
        let address = url.split('/').nth(2).unwrap();
        let mut program = Command::new(built("whatsmeow-client/whatsmeow-client", "Go"));
        program.args(["-address", address, "-root", root]).args(std::env::var_os("RUST_LOG").map(|_| "-debug"));
        Self::spawn(program)
    }

    /// A Baileys that connects to `url`.
    pub fn baileys(url: &str) -> Self {
        let mut program = Command::new("node");
        program.arg(built("baileys-client/main.js", "npm")).arg(url);
        program.args(std::env::var_os("RUST_LOG").map(|_| "debug"));
        Self::spawn(program)
    }

    fn spawn(mut program: Command) -> Self {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = program.spawn().unwrap();
        let (commands, events) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, commands, events: BufReader::new(events).lines() }
    }

    /// Gives a command.
    pub async fn tell(&mut self, command: &str) {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Waits for an event and skips the others; a command that failed ends the test.
    pub async fn wait(&mut self, name: &str) -> Value {
        self.wait_for_one_of(&[name]).await
    }

    /// Waits for the first event with one of these names.
    pub async fn wait_for_one_of(&mut self, names: &[&str]) -> Value {
        self.wait_until(&names.join(" or "), |event| names.iter().any(|name| event["event"] == *name)).await
    }

    /// Waits for the first event that is what is sought, and skips the others.
    pub async fn wait_until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(DEADLINE, async {
            while let Some(line) = self.events.next_line().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap();
                if is_it(&event) {
                    return event;
                }
                assert_ne!(event["event"], "failed", "{event}; before: {seen:?}");
                seen.push(event["event"].to_string());
            }
            panic!("the client ended while {what} was awaited; seen {seen:?}")
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}; seen {seen:?}"))
    }
}

/// Where a goal of the Makefile built it: in target, below which this program is too, a test deeper than the benchmark.
fn built(path: &str, with: &str) -> std::path::PathBuf {
    let (this, goal) = (std::env::current_exe().unwrap(), path.split('/').next().unwrap());
    this.ancestors().skip(2).take(2).map(|folder| folder.join(path)).find(|program| program.exists()).unwrap_or_else(|| {
        panic!(
            "{goal} is not built: run the tests with `make test`, which builds it first with {with}, or `make {goal}` alone"
        )
    })
}
