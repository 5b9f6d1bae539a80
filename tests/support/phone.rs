//! Drives the simulated WhatsApp through its control API: the phone in somebody's hand, and the weather.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use super::world::SOON;

/// The control side of one simulated WhatsApp.
#[derive(Clone)]
pub struct WhatsApp {
    /// Where clients connect.
    pub url: String,
    control: String,
    root: String,
    http: reqwest::Client,
}

/// What the simulated WhatsApp announces.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// Where clients connect.
    pub url: String,
    /// The control API.
    pub control: String,
    /// The public key of its certificate root, in hex.
    pub root_public_key: String,
}

/// A device in the server's table.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Whether it is connected now.
    pub connected: bool,
    /// Its account's number.
    pub phone: String,
}

/// A try to log in.
#[derive(Clone, Debug, Deserialize)]
pub struct Login {
    /// Its account's number.
    pub phone: String,
    /// Unix milliseconds.
    pub at: u64,
    /// Whether it was let in.
    pub admitted: bool,
}

/// A message that a phone received.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// Its id, as its sender chose it.
    pub id: String,
    /// The sender's number.
    pub from: String,
    /// The other address of the phone that received it, by its linked id.
    pub lid: String,
    /// What it says.
    pub text: String,
    /// How often it arrived and could be read.
    pub count: u32,
    /// How often the phone asked for it again.
    pub retries: u8,
    /// When the server first acknowledged it to its sender, in unix milliseconds; 0 when it has not yet.
    pub acked_at: u64,
}

/// A word of a device on whether it is available.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Its account's number.
    pub phone: String,
    /// Unix milliseconds.
    pub at: u64,
    /// Whether it is.
    pub available: bool,
}

/// What became of a message that somebody wrote to a device.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// How often it was sent to the device.
    pub sent: u32,
    /// Whether the device acknowledged it.
    pub acknowledged: bool,
    /// The receipts the device sent: delivered, read, retry and so on.
    pub receipts: Vec<String>,
}

impl WhatsApp {
    /// Talks to the one that announced itself.
    pub fn new(announcement: &Announcement) -> Self {
        Self {
            url: announcement.url.clone(),
            control: announcement.control.clone(),
            root: announcement.root_public_key.clone(),
            http: reqwest::Client::new(),
        }
    }

    /// Where its control API listens.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// The public key of its certificate root, in hex.
    pub fn root(&self) -> &str {
        &self.root
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        let answer = self.http.post(format!("{}{path}", self.control)).json(&body).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}")) }
    }

    /// The phone scans a QR code.
    pub async fn scan(&self, qr: &str, phone: &str, push_name: &str) -> Result<Value, String> {
        self.post("/v1/scan", json!({"qr": qr, "phone": phone, "pushName": push_name})).await
    }

    /// A code is typed on the phone.
    pub async fn type_code(&self, code: &str, phone: &str, push_name: &str) -> Result<Value, String> {
        self.post("/v1/pair-code", json!({"code": code, "phone": phone, "pushName": push_name})).await
    }

    /// The phone scans a QR code and answers with a link that is wrong: wrongHmac, wrongSignature, noIdentity,
    /// garbledIdentity, unheard or hosted.
    pub async fn scan_wrong(&self, qr: &str, phone: &str, fault: &str) -> Result<Value, String> {
        self.post("/v1/scan", json!({"qr": qr, "phone": phone, "pushName": "", "fault": fault})).await
    }

    /// Something goes wrong once on the open connections of an account; returns on how many. Forms:
    /// `{"act": "end" or "streamError", "code": 503, "conflict": "replaced"}`, `{"act": "damagedFrame"}`,
    /// `{"act": "halfFrame"}`, `{"act": "reset"}`, `{"act": "route"}`, `{"act": "silent", "about": "everything" or "answers"}`.
    pub async fn act(&self, phone: &str, what: Value) -> u64 {
        let digits = phone.trim_start_matches('+');
        let answer = self.post(&format!("/v1/phones/{digits}/act"), what).await.unwrap();
        answer["connected"].as_u64().unwrap()
    }

    /// What goes wrong on every connection of an account until other rules replace these (`{}` ends them):
    /// `refuse {reason, code, expire, times}`, `endLogin {afterMs, with {failure, code, conflict}, times}`,
    /// `unanswered [{xmlns, type, child}]`, `refused [{iq {xmlns, type, child}, code, times}]`, `keepAppStateKey`, `ordinary`; for what its devices send `acks {error, lost, swallowed,
    /// delayMs, behindSecs, times}`; for what it receives `receipts {delivered, read, afterMs, address}`, `retry {times}`, `keepKeys`,
    /// `notOnWhatsapp`, `unsignedDevices`, `phoneUnlisted`.
    pub async fn rules(&self, phone: &str, rules: Value) {
        let digits = phone.trim_start_matches('+');
        self.post(&format!("/v1/phones/{digits}/rules"), rules).await.unwrap();
    }

    /// What goes wrong for clients whose phone is not known yet: `refuse`, `references` (none, one, notUtf8,
    /// controlCharacters, huge), `refuseCode {stage, code, backoff, times}`, and for all clients `hello` (truncated, halfFrame,
    /// thenHangUp) with `helloTimes`; also ikRefused, ikIgnored, onlyXx, routedRefused.
    pub async fn newcomers(&self, rules: Value) {
        self.post("/v1/newcomers", rules).await.unwrap();
    }

    /// The codes of all clients that wait for a scan become stale; returns how many were told.
    pub async fn refresh_codes(&self) -> u64 {
        self.post("/v1/pairings/refresh", json!({})).await.unwrap()["clients"].as_u64().unwrap()
    }

    /// Something happens to an account: unlink, logout, replace, ban, restrict, unrestrict, drop.
    pub async fn happens(&self, phone: &str, what: &str) {
        let digits = phone.trim_start_matches('+');
        self.post(&format!("/v1/phones/{digits}/{what}"), json!({})).await.unwrap();
    }

    /// A ban or restriction that ends.
    pub async fn happens_for(&self, phone: &str, what: &str, seconds: u64) {
        let digits = phone.trim_start_matches('+');
        self.post(&format!("/v1/phones/{digits}/{what}"), json!({ "seconds": seconds })).await.unwrap();
    }

    /// Somebody else writes to this phone's devices: `from` (a number) and `text`, and if wanted `name`, `count` with
    /// `intervalMs`, `address` (pn or lid) and `queued` (for the next login, although the device is connected). Returns the
    /// ids of the messages.
    pub async fn write(&self, phone: &str, letter: Value) -> Vec<String> {
        let digits = phone.trim_start_matches('+');
        let answer = self.post(&format!("/v1/phones/{digits}/messages"), letter).await.unwrap();
        serde_json::from_value(answer["ids"].clone()).unwrap()
    }

    /// Writes to this phone, and waits until one of its devices has told that it received that.
    pub async fn is_heard(&self, from: &str, phone: &str) {
        let sent = self.write(phone, json!({"from": from, "text": "Are you there?"})).await;
        let received = async {
            while !self.written(phone).await.iter().any(|one| sent.contains(&one.id) && !one.receipts.is_empty()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, received).await.expect("the session answers");
    }

    /// What became of what was written to this phone's devices, oldest first.
    pub async fn written(&self, phone: &str) -> Vec<Delivery> {
        let digits = phone.trim_start_matches('+');
        let answer = self.http.get(format!("{}/v1/phones/{digits}/messages", self.control)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// What a phone received, in the order in which it arrived first.
    pub async fn inbox(&self, phone: &str) -> Vec<Received> {
        let digits = phone.trim_start_matches('+');
        let answer = self.http.get(format!("{}/v1/inbox?phone={digits}", self.control)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// The owner of a phone reads what it received; returns how many messages that were.
    pub async fn read(&self, phone: &str) -> u64 {
        let digits = phone.trim_start_matches('+');
        self.post(&format!("/v1/phones/{digits}/read"), json!({})).await.unwrap()["messages"].as_u64().unwrap()
    }

    /// The owner gives the account another name, which its devices are told.
    pub async fn rename(&self, phone: &str, push_name: &str) {
        let digits = phone.trim_start_matches('+');
        self.post(&format!("/v1/phones/{digits}/rename"), json!({ "pushName": push_name })).await.unwrap();
    }

    /// normal, refuse, stall or gone.
    pub async fn weather(&self, mode: &str) {
        self.post("/v1/mode", json!({ "mode": mode })).await.unwrap();
    }

    /// The registered devices.
    pub async fn devices(&self) -> Vec<Device> {
        let answer = self.http.get(format!("{}/v1/devices", self.control)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Waits until these accounts are connected and no others are.
    pub async fn until_connected(&self, phones: &[&str]) {
        let wanted: BTreeSet<&str> = phones.iter().map(|phone| phone.trim_start_matches('+')).collect();
        let search = async {
            loop {
                let devices = self.devices().await;
                let connected = devices.iter().filter(|device| device.connected);
                if connected.map(|device| device.phone.trim_start_matches('+')).collect::<BTreeSet<_>>() == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(SOON, search)
            .await
            .unwrap_or_else(|_| panic!("not {} accounts are connected", phones.len()));
    }

    /// Every try of this phone's devices to log in, oldest first.
    pub async fn logins(&self, phone: &str) -> Vec<Login> {
        let answer = self.http.get(format!("{}/v1/logins", self.control)).send().await.unwrap();
        let all: Vec<Login> = answer.json().await.unwrap();
        all.into_iter().filter(|login| login.phone == phone).collect()
    }

    /// Waits until this phone's devices have tried that often to log in; returns the tries.
    pub async fn until_logins(&self, phone: &str, count: usize) -> Vec<Login> {
        self.until_logins_within(phone, count, SOON).await
    }

    /// The same, where it may take longer.
    pub async fn until_logins_within(&self, phone: &str, count: usize, patience: Duration) -> Vec<Login> {
        let search = async {
            loop {
                let logins = self.logins(phone).await;
                if logins.len() >= count {
                    return logins;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(patience, search).await.unwrap_or_else(|_| panic!("fewer than {count} logins"))
    }

    /// What this phone's devices said of being available, oldest first.
    pub async fn presences(&self, phone: &str) -> Vec<Said> {
        let answer = self.http.get(format!("{}/v1/presences", self.control)).send().await.unwrap();
        let all: Vec<Said> = answer.json().await.unwrap();
        all.into_iter().filter(|said| said.phone == phone).collect()
    }

    /// The server's counters.
    pub async fn stats(&self) -> Value {
        self.http.get(format!("{}/v1/stats", self.control)).send().await.unwrap().json().await.unwrap()
    }
}
