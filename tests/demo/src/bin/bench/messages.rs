//! Messages through the gateway: how many are accepted and sent, how long that takes, and what each costs.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use whatsapp_operator::api::{Phase, WhatsAppInstance};

use crate::{
    Arguments,
    measure::{Report, Usage, percentile},
    support::{
        control_plane::ControlPlane,
        gateway::{Rest, apply, make_account, token_of},
        history::{Ask, History},
        program::Program,
        world::{self, BridgeAddress, OperatorAddress},
    },
    whatsmeow,
};

const NAMESPACE: &str = "messages";
const PATIENCE: Duration = Duration::from_secs(300);
/// Callers that ask at the same time, each for one message after the other.
const CALLERS: usize = 64;
/// Messages of one caller, one after the other.
const ALONE: usize = 200;
/// Half of the goal for what is accepted in a second.
const STEADY: u32 = 1500;
/// How many people each session writes to.
const RECIPIENTS: usize = 8;

/// Everything that has to do with messages, on a disk and then without one.
pub async fn run(arguments: &Arguments, plane: &ControlPlane, client: &Client, dir: &Path, report: &mut Report) {
    world::create_namespace(client, NAMESPACE).await;
    make_account(client, NAMESPACE, "app").await;
    for object in rights() {
        apply(client, &object).await;
    }
    let flush = flushes(dir);
    report.row("one write flushed to the disk (the floor)", "p50 ms", percentile(&flush, 50), None);
    let stage = Stage::start(arguments, plane, client, dir, "disk").await;
    stage.measure(arguments, percentile(&flush, 50), report).await;
    drop(stage);
    // What durability costs: the same with the bridge's data in memory.
    let memory = Path::new("/dev/shm").join(format!("bench-{}", std::process::id()));
    if std::fs::create_dir_all(&memory).is_ok() {
        let stage = Stage::start(arguments, plane, client, &memory, "memory").await;
        stage.load(arguments, "nothing on a disk: ", report).await;
        drop(stage);
        let _ = std::fs::remove_dir_all(&memory);
    }
}

fn rights() -> [Value; 2] {
    let version = "rbac.authorization.k8s.io/v1";
    let meta = json!({"name": "app", "namespace": NAMESPACE});
    let rules = json!([{
        "apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances/messages"], "verbs": ["create", "get"],
    }]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "app", "namespace": NAMESPACE}]);
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "app"});
    [
        json!({"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": meta, "roleRef": role_ref, "subjects": subjects}),
    ]
}

/// How long it takes to append a page to a file and flush it.
fn flushes(dir: &Path) -> Vec<Duration> {
    std::fs::create_dir_all(dir).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join("flushes")).unwrap();
    let once = |_| {
        let start = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    (0..200).map(once).collect()
}

/// The programs, and the sessions that send.
struct Stage {
    bridge: Program,
    bridge_admin: String,
    /// The bridge's own address and token.
    direct: (String, String),
    rest: Rest,
    token: String,
    sessions: Vec<String>,
    bridge_idle: Usage,
    _others: (Program, Program),
    whatsapp: crate::support::phone::WhatsApp,
    http: reqwest::Client,
}

impl Stage {
    async fn start(arguments: &Arguments, plane: &ControlPlane, client: &Client, dir: &Path, name: &str) -> Self {
        let history = History::watch(client.clone(), NAMESPACE).await;
        let dir = dir.join(name);
        let (whatsapp_program, whatsapp) = world::start_whatsapp(&dir).await;
        let token = world::token();
        let mut bridge = world::bridge_program(&dir, &token).args([
            "--whatsapp-url",
            &whatsapp.url,
            "--whatsapp-version",
            world::VERSION,
            "--max-waiting-per-session",
            "100000",
        ]);
        bridge.set("--log", "warn");
        let address: BridgeAddress = bridge.start().await;
        let bridge_name = format!("{NAMESPACE}-{name}");
        world::create_namespace(client, &bridge_name).await;
        world::create_bridge(client, &bridge_name, &[&address.http], &token).await;
        let mut operator = world::operator_program(&dir, &plane.kubeconfig(), &bridge_name, None)
            .args(["--watch-namespaces", NAMESPACE]);
        operator.set("--log", "warn");
        let _: OperatorAddress = operator.start().await;
        let sessions = connected(arguments.senders, name, &bridge_name, client, &history, &whatsapp).await;
        let bridge_idle = Usage::once_quiet(bridge.pid()).await;
        let rest =
            Rest::start_quiet(&dir.join("gateway"), &plane.kubeconfig(), NAMESPACE, &["--rate-limit", "0"]).await;
        let direct = (address.http.clone(), token);
        let token = token_of(client, NAMESPACE, "app", None).await;
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(CALLERS).build().unwrap();
        let others = (whatsapp_program, operator);
        Self {
            bridge,
            bridge_admin: address.admin,
            direct,
            rest,
            token,
            sessions,
            bridge_idle,
            _others: others,
            whatsapp,
            http,
        }
    }

    /// Sends a message; how long it took until it was accepted or, with a wait, sent.
    async fn send(&self, session: &str, number: usize, wait: u64) -> Duration {
        let body = json!({
            "session_id": session, "message": format!("Message {number}"),
            "recipient": format!("+1555008{:04}", number % RECIPIENTS),
        });
        let start = Instant::now();
        let request = self.http.post(format!("{}/api/v1/messages/send/?wait={wait}", self.rest.url));
        let answer = request.bearer_auth(&self.token).json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status == if wait == 0 { 202 } else { 200 } || status == 200, "{status} {text}");
        start.elapsed()
    }

    /// The same without the gateway.
    async fn send_directly(&self, session: &str, number: usize) -> Duration {
        let (url, token) = &self.direct;
        let content = json!({"type": "text", "text": format!("Message {number}")});
        let body = json!({"to": format!("+1555008{:04}", number % RECIPIENTS), "content": content});
        let start = Instant::now();
        let request = self.http.put(format!("{url}/v1/sessions/{session}/messages/3EB0BE9C4000000000{number:04X}"));
        let answer = request.bearer_auth(token).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        start.elapsed()
    }

    async fn metric(&self, name: &str) -> f64 {
        let text = self.http.get(format!("{}/metrics", self.bridge_admin)).send().await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    async fn until_nothing_waits(&self) {
        let start = Instant::now();
        while self.metric("whatsapp_bridge_messages_waiting").await > 0.0 {
            assert!(start.elapsed() < PATIENCE, "messages still wait");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn measure(&self, arguments: &Arguments, flush: f64, report: &mut Report) {
        let first = &self.sessions[0];
        for number in 0..20 {
            self.send(first, number, 30).await;
        }
        let samples = one_by_one(async |number| self.send(first, number, 0).await).await;
        let accepted = percentile(&samples, 50);
        report.row("one caller, one session: accepted", "p50 ms", accepted, Some(flush + 1.0));
        report.row("one caller, one session: accepted", "p99 ms", percentile(&samples, 99), None);
        let until_accepted = mean_ms(&samples);
        self.until_nothing_waits().await;
        let samples = one_by_one(async |number| self.send_directly(first, number).await).await;
        report.row("  of that the bridge, asked directly", "p50 ms", percentile(&samples, 50), None);
        self.until_nothing_waits().await;
        let before = self.acknowledged().await;
        let samples = one_by_one(async |number| self.send(first, number, 30).await).await;
        let after = self.acknowledged().await;
        let own = (after.0 - before.0) * 1e3 / (after.1 - before.1);
        let mean = mean_ms(&samples);
        let bare = whatsmeow::sends(&self.whatsapp, ALONE).await;
        let bare = percentile(&bare, 50);
        report.row("a whatsmeow process that sends, nothing on a disk (the floor)", "p50 ms", bare, None);
        report.row("one caller, one session: accepted and acknowledged", "p50 ms", percentile(&samples, 50), None);
        report.row("one caller, one session: accepted and acknowledged", "p99 ms", percentile(&samples, 99), None);
        report.row("  against that floor", "times", percentile(&samples, 50) / bare, None);
        report.row("the library's own send in the bridge, to the acknowledgement (the floor)", "mean ms", own, None);
        report.row("one caller, one session: accepted and acknowledged", "mean ms", mean, None);
        report.row(
            "  from the acceptance to the acknowledgement (without what it takes to be accepted)",
            "mean ms",
            mean - until_accepted,
            None,
        );
        report.row("  that against the library's own send", "times", (mean - until_accepted) / own, Some(1.2));
        self.load(arguments, "", report).await;
        let samples = self.steady().await;
        let row = format!("{STEADY} messages a second, whether answered or not: accepted");
        report.row(&row, "p50 ms", percentile(&samples, 50), None);
        report.row("  accepted", "p99 ms", percentile(&samples, 99), Some(5.0));
        let usage = Usage::of(self.bridge.pid());
        let idle = self.bridge_idle.rss_mb;
        report.row("bridge RSS while its sessions send, against idle", "times", usage.rss_mb / idle, Some(1.2));
        let after = Usage::once_quiet(self.bridge.pid()).await;
        report.row("bridge RSS once they are quiet again, against idle", "times", after.rss_mb / idle, None);
        report.row("gateway RSS after that", "MB", Usage::of(self.rest.program.pid()).rss_mb, Some(30.0));
    }

    /// As many as go through.
    async fn load(&self, arguments: &Arguments, what: &str, report: &mut Report) {
        let sessions = self.sessions.len();
        let first = self.burst(sessions * RECIPIENTS).await;
        let row =
            format!("{what}the first message to each of {RECIPIENTS} recipients, {sessions} sessions: acknowledged");
        report.row(&row, "a second", first.sent, None);
        report.row("  bridge CPU for each", "us", first.bridge, None);
        let count = arguments.messages;
        let rest = self.burst(count).await;
        let row = format!("{what}{count} messages to them, {CALLERS} callers, {sessions} sessions: accepted");
        report.row(&row, "a second", rest.accepted, Some(3000.0));
        report.row("  accepted", "p50 ms", percentile(&rest.samples, 50), None);
        report.row("  accepted", "p99 ms", percentile(&rest.samples, 99), None);
        report.row("  accepted and acknowledged", "a second", rest.sent, Some(1000.0));
        report.row("  flushes to the disk for each", "flushes", rest.flushes, Some(0.05));
        report.row("  bridge CPU for each", "us", rest.bridge, None);
        report.row("  gateway CPU for each", "us", rest.gateway, None);
    }

    /// What the client's sends took in all, in seconds, and how many there were.
    async fn acknowledged(&self) -> (f64, f64) {
        let name = "whatsapp_bridge_messages_acknowledged_seconds";
        (self.metric(&format!("{name}_sum")).await, self.metric(&format!("{name}_count")).await)
    }

    /// Half of what is to be accepted, at its own pace for four seconds; from when each was due to when it was accepted.
    async fn steady(&self) -> Vec<Duration> {
        let (start, pause) = (Instant::now(), Duration::from_secs(1) / STEADY);
        let one = async |number: u32| {
            let due = start + pause * number;
            tokio::time::sleep_until(due.into()).await;
            let number = number as usize;
            let (session, message) = (number % self.sessions.len(), number / self.sessions.len());
            self.send(&self.sessions[session], message, 0).await;
            due.elapsed()
        };
        let samples = join_all((0..STEADY * 4).map(one)).await;
        self.until_nothing_waits().await;
        samples
    }

    /// Sends so many messages, spread over all sessions and their recipients, as fast as they are accepted.
    async fn burst(&self, count: usize) -> Burst {
        let cpu = || [&self.bridge, &self.rest.program].map(|program| Usage::of(program.pid()).cpu());
        let ([bridge, gateway], flushes) = (cpu(), self.metric("whatsapp_bridge_store_commits_total").await);
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let caller = async || {
            let mut samples = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return samples;
                }
                let (session, message) = (number % self.sessions.len(), number / self.sessions.len());
                samples.push(self.send(&self.sessions[session], message, 0).await);
            }
        };
        let samples = join_all((0..CALLERS).map(|_| caller())).await.into_iter().flatten().collect();
        let accepted = start.elapsed().as_secs_f64();
        self.until_nothing_waits().await;
        let sent = start.elapsed().as_secs_f64();
        let ([bridge_after, gateway_after], each) = (cpu(), count as f64);
        Burst {
            samples,
            accepted: each / accepted,
            sent: each / sent,
            flushes: (self.metric("whatsapp_bridge_store_commits_total").await - flushes) / each,
            bridge: (bridge_after - bridge) * 1e6 / each,
            gateway: (gateway_after - gateway) * 1e6 / each,
        }
    }
}

/// How long each message of one caller takes, one after the other.
async fn one_by_one(send: impl AsyncFn(usize) -> Duration) -> Vec<Duration> {
    let mut samples = Vec::new();
    for number in 0..ALONE {
        samples.push(send(number).await);
    }
    samples
}

fn mean_ms(samples: &[Duration]) -> f64 {
    samples.iter().sum::<Duration>().as_secs_f64() * 1e3 / samples.len() as f64
}

/// What a burst of messages came to.
struct Burst {
    /// How long each took until it was accepted.
    samples: Vec<Duration>,
    /// Messages accepted a second.
    accepted: f64,
    /// Messages accepted and acknowledged a second.
    sent: f64,
    /// Flushes to the disk for each.
    flushes: f64,
    /// The bridge's CPU for each, in microseconds.
    bridge: f64,
    /// The gateway's.
    gateway: f64,
}

/// Instances that are linked and connected; their sessions.
async fn connected(
    count: usize,
    name: &str,
    bridge: &str,
    client: &Client,
    history: &History,
    whatsapp: &crate::support::phone::WhatsApp,
) -> Vec<String> {
    let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), NAMESPACE);
    let mut sessions = Vec::new();
    for n in 0..count {
        let name = format!("{name}-{n}");
        let object = json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance", "metadata": {"name": name},
            "spec": {"name": name, "bridgeRef": {"name": bridge}, "sending": {"perMinute": 0}},
        });
        let object = api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(object)).await.unwrap();
        sessions.push(object.uid().unwrap());
        let code = history.until(&name, "showing a QR code", PATIENCE, |i| i.qr().is_some()).await.qr().unwrap();
        whatsapp.scan(&code, &format!("+1555007{n:04}"), "Alice").await.unwrap();
    }
    for n in 0..count {
        history.until_phase(&format!("{name}-{n}"), Phase::Connected, PATIENCE).await;
    }
    sessions
}
