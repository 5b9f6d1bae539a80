//! Clocks, memory, percentiles, and the table.

use std::time::{Duration, Instant};

use axum::http::Request;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;
use whatsapp_operator::api::WhatsAppInstance;

use crate::support::{history::History, program::Program, world};

/// The operator with the environment that its image sets (Dockerfile).
pub fn as_in_its_image(operator: Program) -> Program {
    operator.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "131072")
}

/// One line of the result.
#[derive(Serialize)]
pub struct Row {
    what: String,
    unit: &'static str,
    value: f64,
    goal: Option<f64>,
}

/// All lines.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds a line, and shows it at once.
    pub fn row(&mut self, what: &str, unit: &'static str, value: f64, goal: Option<f64>) {
        eprintln!("bench: {what}: {value:.2} {unit}");
        self.rows.push(Row { what: what.to_owned(), unit, value, goal });
    }

    /// The table.
    pub fn print(&self) {
        println!("{:<58} {:>10} {:<10} {:>8} {:>8}", "what", "measured", "unit", "goal", "of goal");
        for row in &self.rows {
            let (goal, ratio) = match row.goal {
                Some(goal) => (format!("{goal:.1}"), format!("{:.2}", row.value / goal)),
                None => (String::new(), String::new()),
            };
            println!("{:<58} {:>10.2} {:<10} {goal:>8} {ratio:>8}", row.what, row.value, row.unit);
        }
    }
}

/// The p-th percentile (0 to 100) in milliseconds.
pub fn percentile(samples: &[Duration], p: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let at = (sorted.len() * p).div_ceil(100).clamp(1, sorted.len()) - 1;
    sorted[at].as_secs_f64() * 1000.0
}

/// What a process uses, from /proc.
pub struct Usage {
    pub rss_mb: f64,
    cpu: Duration,
    at: Instant,
}

impl Usage {
    /// Reads it.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kb: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Fields 14 and 15, in ticks of 10 ms (USER_HZ is 100 on Linux); the name before them may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Self { rss_mb: kb / 1024.0, cpu: Duration::from_millis(ticks * 10), at: Instant::now() }
    }

    /// Reads it once the process has nothing more to do of what it has begun.
    pub async fn once_quiet(pid: u32) -> Self {
        let mut before = Self::of(pid);
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await; // longer than anything it postpones
            let now = Self::of(pid);
            if now.cpu_since(&before) < 1.0 {
                return now;
            }
            before = now;
        }
    }

    /// Seconds of CPU time since the process started.
    pub fn cpu(&self) -> f64 {
        self.cpu.as_secs_f64()
    }

    /// Per cent of one core since an earlier reading.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        100.0 * self.cpu.saturating_sub(earlier.cpu).as_secs_f64() / (self.at - earlier.at).as_secs_f64()
    }
}

/// How many writes of our objects the API server has answered, refused ones and those of the benchmark itself included.
#[derive(Clone, Copy, Default)]
pub struct Writes {
    pub instances: f64,
    pub owners: f64,
    pub events: f64,
}

impl Writes {
    /// By its own count.
    pub async fn so_far(client: &Client) -> Self {
        let metrics = client.request_text(Request::get("/metrics").body(Vec::new()).unwrap()).await.unwrap();
        let written = metrics.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && !["GET", "LIST", "WATCH"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        });
        let mut writes = Self::default();
        for line in written {
            let count = line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            let of = |resource: &str| line.contains(&format!("resource=\"{resource}\""));
            let kinds = [&mut writes.instances, &mut writes.owners, &mut writes.events];
            for (counter, _) in
                kinds.into_iter().zip(["whatsappinstances", "whatsappowners", "events"]).filter(|(_, r)| of(r))
            {
                *counter += count;
            }
        }
        writes
    }

    /// What was written since.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            instances: self.instances - earlier.instances,
            owners: self.owners - earlier.owners,
            events: self.events - earlier.events,
        }
    }

    /// Of all kinds.
    pub fn total(self) -> f64 {
        self.instances + self.owners + self.events
    }
}

/// From a bare status write to a watcher that sees it, p50 in milliseconds: what no operator can beat here.
pub async fn floor(client: &Client) -> f64 {
    let namespace = "floor";
    world::create_namespace(client, namespace).await;
    let history = History::watch(client.clone(), namespace).await;
    let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), namespace);
    let object = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance", "metadata": {"name": "floor"}, "spec": {"name": "floor"}});
    api.patch("floor", &PatchParams::apply("bench"), &Patch::Apply(object)).await.unwrap();
    let mut samples = Vec::new();
    for n in 0..100 {
        let id = n.to_string();
        let start = Instant::now();
        let patch = Patch::Merge(json!({"status": {"sessionId": id}}));
        api.patch_status("floor", &PatchParams::default(), &patch).await.unwrap();
        let seen = |i: &WhatsAppInstance| i.status.as_ref().and_then(|s| s.session_id.as_ref()) == Some(&id);
        history.until("floor", "written", Duration::from_secs(5), seen).await;
        samples.push(start.elapsed());
    }
    percentile(&samples, 50)
}
