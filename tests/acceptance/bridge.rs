//! The bridge alone against the simulated WhatsApp: its API, and what it survives.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use whatsapp_operator::{
    bridge_api::{BridgeClient, BridgeError, Info},
    model::Sensitive,
};

use crate::support::{
    phone::WhatsApp,
    program::{Program, executable},
    wall_clock::WallClock,
    world::{BridgeAddress, VERSION, bridge_program, start_whatsapp, target_dir, token},
};

const PHONE: &str = "+15550002001";

/// A bridge and a WhatsApp of its own.
pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    pub(crate) whatsapp: WhatsApp,
    _whatsapp_program: Program,
    pub(crate) bridge: Program,
    pub(crate) address: BridgeAddress,
    token: String,
    http: reqwest::Client,
}

impl Bench {
    pub(crate) async fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_by(name, arguments, None).await
    }

    /// With a bridge that goes by this wall clock.
    pub(crate) async fn start_by(name: &str, arguments: &[&str], clock: Option<&WallClock>) -> Self {
        let environment: Vec<_> = clock.into_iter().flat_map(WallClock::environment).collect();
        Self::start_in(name, arguments, &environment).await
    }

    /// With a bridge that has these variables in its environment.
    pub(crate) async fn start_in(name: &str, arguments: &[&str], environment: &[(&'static str, &Path)]) -> Self {
        // Another test of this process may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = target_dir().join("acceptance").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let (whatsapp_program, whatsapp) = start_whatsapp(&dir).await;
        let token = token();
        let mut bridge = bridge_program(&dir, &token)
            .args(["--whatsapp-url", &whatsapp.url, "--whatsapp-version", VERSION])
            .args(arguments.iter().copied());
        for &(name, value) in environment {
            bridge = bridge.env(name, value);
        }
        let address: BridgeAddress = bridge.start().await;
        Self {
            dir,
            whatsapp,
            _whatsapp_program: whatsapp_program,
            bridge,
            address,
            token,
            http: reqwest::Client::new(),
        }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.address.http)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// The same; none when nobody answers.
    pub(crate) async fn try_to_ask(&self, method: Method, path: &str, body: Value) -> Option<(StatusCode, Value)> {
        let request = self.http.request(method, format!("{}{path}", self.address.http)).bearer_auth(&self.token);
        let answer = request.json(&body).timeout(Duration::from_secs(20)).send().await.ok()?;
        Some((answer.status(), answer.json().await.unwrap_or_default()))
    }

    pub(crate) async fn put(&self, id: &str, spec: Value) -> Value {
        let (status, session) = self.ask(Method::PUT, &format!("/v1/sessions/{id}"), Some(spec)).await;
        assert_eq!(status, StatusCode::OK, "{session}");
        session
    }

    pub(crate) async fn until(&self, id: &str, phase: &str, reason: Option<&str>) -> Value {
        let so = |session: &Value| session["phase"] == phase && reason.is_none_or(|reason| session["reason"] == reason);
        self.until_it(id, so).await
    }

    pub(crate) async fn until_it(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(75);
        loop {
            let (_, session) = self.ask(Method::GET, &format!("/v1/sessions/{id}"), None).await;
            if is(&session) {
                return session;
            }
            assert!(
                Instant::now() < deadline,
                "{id} does not become what it should: {} {} {}",
                session["phase"],
                session["reason"],
                session["restriction"]["kind"]
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn metrics(&self) -> String {
        let metrics = reqwest::get(format!("{}/metrics", self.address.admin)).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("whatsapp_bridge_"), "{metrics}");
        metrics
    }

    /// The value of a series, written with its labels as in the metrics; 0 where it is not there.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let metrics = self.metrics().await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Every test's last word on messages: neither these numbers nor what was written stand in the bridge's log or metrics.
    pub(crate) async fn nothing_leaked(&self, secrets: &[&str]) {
        let metrics = self.metrics().await;
        for (place, text) in [("log", self.bridge.log()), ("metrics", metrics)] {
            for secret in secrets.iter().copied().chain([self.token.as_str()]) {
                let secret = secret.trim_start_matches('+');
                assert!(!text.contains(secret), "the bridge's {place} contain a secret of {} characters", secret.len());
            }
        }
    }

    /// Waits until no device of this phone is connected.
    pub(crate) async fn disconnected(&self, phone: &str) {
        let deadline = Instant::now() + Duration::from_secs(75);
        while self.whatsapp.devices().await.iter().any(|device| device.phone == phone && device.connected) {
            assert!(Instant::now() < deadline, "a device is still connected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn link(&self, id: &str, phone: &str) {
        let session = self.until(id, "AwaitingPairing", None).await;
        self.whatsapp.scan(session["qr"]["code"].as_str().unwrap(), phone, "Anna").await.unwrap();
        self.until(id, "Connected", None).await;
    }

    pub(crate) async fn deleted(&self, id: &str) {
        let deadline = Instant::now() + Duration::from_secs(75);
        while self.ask(Method::DELETE, &format!("/v1/sessions/{id}"), None).await.0 != StatusCode::NO_CONTENT {
            assert!(Instant::now() < deadline, "{id} is not deleted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn has_keys(&self, id: &str) -> bool {
        self.dir.join("bridge/sessions").join(id).exists()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_comes_back_from_whatever_the_server_does() {
    let bench = Bench::start("bridge-weather", &[]).await;
    bench.put("a", json!({})).await;
    bench.link("a", PHONE).await;
    for (weather, reason) in
        [("refuse", "ServerRefused"), ("gone", "ServerUnreachable"), ("stall", "ServerNotAnswering")]
    {
        bench.whatsapp.weather(weather).await;
        bench.until("a", "Reconnecting", Some(reason)).await;
        bench.whatsapp.weather("normal").await;
        bench.until("a", "Connected", None).await;
    }
    bench.whatsapp.happens_for(PHONE, "ban", 3).await;
    let banned = bench.until("a", "Banned", Some("TemporaryBan")).await;
    assert_eq!(banned["restriction"]["kind"], "TemporaryBan");
    bench.until("a", "Connected", None).await;
    bench.whatsapp.happens(PHONE, "replace").await;
    bench.until("a", "Ended", Some("StreamReplaced")).await;
    bench.put("a", json!({"pairing": {"window": "2"}})).await;
    bench.until("a", "Connected", None).await;
    bench.whatsapp.happens(PHONE, "unlink").await;
    let over = bench.until("a", "LoggedOut", None).await;
    assert!(over["paired"] == false && !bench.has_keys("a"), "{over}");
    bench.put("a", json!({"pairing": {"window": "3"}})).await;
    bench.link("a", PHONE).await;
    assert_eq!(bench.whatsapp.devices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_that_came_or_went_while_offline_is_seen_at_the_next_connect() {
    let bench = Bench::start("bridge-restricted", &[]).await;
    bench.put("a", json!({})).await;
    bench.link("a", PHONE).await;
    for (what, kind) in [("restrict", json!("ReachoutTimelock")), ("unrestrict", json!(null))] {
        bench.put("a", json!({"desiredState": "Disconnected"})).await;
        // Nobody is told: the device is gone before it happens.
        bench.disconnected(PHONE).await;
        bench.whatsapp.happens_for(PHONE, what, 600).await;
        bench.put("a", json!({})).await;
        let session =
            bench.until_it("a", |session| session["phase"] == "Connected" && session["restriction"]["kind"] == kind);
        assert_eq!(session.await["restriction"]["expiresAt"].is_null(), kind.is_null());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bridge_resumes_without_a_scan_and_goes_on_deleting() {
    let mut bench = Bench::start("bridge-killed", &[]).await;
    bench.put("kept", json!({})).await;
    bench.put("waiting", json!({})).await;
    bench.put("doomed", json!({})).await;
    bench.link("kept", PHONE).await;
    bench.link("doomed", "+15550002002").await;
    bench.until("waiting", "AwaitingPairing", None).await;
    bench.whatsapp.weather("gone").await;
    let (status, doomed) = bench.ask(Method::DELETE, "/v1/sessions/doomed", None).await;
    assert_eq!((status, &doomed["phase"]), (StatusCode::ACCEPTED, &json!("Deleting")));
    bench.bridge.kill();
    bench.address = bench.bridge.start().await;
    assert_eq!(bench.until("doomed", "Deleting", None).await["paired"], true);
    let refusal = bench.ask(Method::PUT, "/v1/sessions/doomed", Some(json!({}))).await;
    assert_eq!((refusal.0, &refusal.1["error"]["code"]), (StatusCode::CONFLICT, &json!("Deleting")));
    bench.whatsapp.weather("normal").await;
    bench.until("kept", "Connected", None).await;
    bench.until("waiting", "AwaitingPairing", None).await;
    bench.deleted("doomed").await;
    assert!(!bench.has_keys("doomed") && bench.has_keys("kept"));
    let phones: Vec<_> = bench.whatsapp.devices().await.into_iter().map(|device| device.phone).collect();
    assert_eq!(phones, [PHONE]);
    bench.bridge.stop();
    let log = bench.bridge.log();
    for secret in [PHONE.trim_start_matches('+'), "15550002002", "Anna", "2@", &bench.token] {
        assert!(!log.contains(secret), "the log tells a secret");
    }
}

/// Writes a new certificate for this machine and its key, in the order in which half of them is no pair; returns the
/// certificate.
fn renew(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let chain = made.cert.pem();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("tls.crt"), &chain).unwrap();
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_and_token_are_checked_and_may_be_renewed_while_it_runs() {
    let files = tempfile::tempdir().unwrap();
    let first = renew(files.path());
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let bench = Bench::start("bridge-tls", &["--tls-cert", &file("tls.crt"), "--tls-key", &file("tls.key")]).await;
    assert!(bench.address.http.starts_with("https://"), "{}", bench.address.http);
    let ask = async |token: &str, trusted: &str| -> Result<Info, BridgeError> {
        // A client of its own each time: one that has a connection would go on with that.
        BridgeClient::new(&bench.address.http, Sensitive::new(token), Some(trusted)).unwrap().info().await
    };
    let until = async |token: &str, trusted: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = ask(token, trusted).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    ask(&bench.token, &first).await.unwrap();
    let plain = bench.address.http.replace("https://", "http://");
    let refused = BridgeClient::new(&plain, Sensitive::new(bench.token.clone()), None).unwrap().info().await;
    assert!(matches!(refused, Err(BridgeError::Broken { .. })), "{refused:?}");

    let second = renew(files.path());
    until(&bench.token, &second).await;
    let stranger = ask(&bench.token, &first).await;
    assert!(matches!(stranger, Err(BridgeError::Unreachable { .. })), "{stranger:?}");

    std::fs::write(bench.dir.join("bridge-token"), "another-token-of-this-bridge").unwrap();
    until("another-token-of-this-bridge", &second).await;
    assert_eq!(ask(&bench.token, &second).await, Err(BridgeError::Unauthorized));
}

#[tokio::test(flavor = "multi_thread")]
async fn pairing_permits_are_given_in_turn_and_a_second_process_is_refused() {
    let bench = Bench::start("bridge-places", &["--max-pairings", "1", "--max-sessions", "2"]).await;
    bench.put("first", json!({})).await;
    bench.until("first", "AwaitingPairing", None).await;
    assert_eq!(bench.put("second", json!({})).await["phase"], "Queued");
    let full = bench.ask(Method::PUT, "/v1/sessions/third", Some(json!({}))).await;
    assert_eq!((full.0, &full.1["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("Full")));
    bench.link("first", PHONE).await;
    bench.until("second", "AwaitingPairing", None).await;

    let data = bench.dir.join("bridge");
    let second = Command::new(executable("whatsapp-bridge"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .arg("--token-file")
        .arg(bench.dir.join("bridge-token"))
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && said.contains("is in use by another whatsapp-bridge"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_one_sentence_and_the_events_resume() {
    let bench = Bench::start("bridge-requests", &[]).await;
    let anonymous = bench.http.get(format!("{}/v1/sessions", bench.address.http)).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    for (method, path, body, status) in [
        (Method::GET, "/v1/sessions/none", None, StatusCode::NOT_FOUND),
        (Method::GET, "/v1/nonsense", None, StatusCode::NOT_FOUND),
        (Method::PUT, "/v1/sessions/%2e%2e%2fescape", Some(json!({})), StatusCode::BAD_REQUEST),
        (Method::PUT, "/v1/sessions/a", Some(json!({"desiredState": 1})), StatusCode::BAD_REQUEST),
        (Method::PUT, "/v1/sessions/a", Some(json!({"pairing": {"method": "Code"}})), StatusCode::BAD_REQUEST),
        (Method::DELETE, "/v1/sessions/a?unlink=perhaps", None, StatusCode::BAD_REQUEST),
        (Method::GET, "/v1/events?since=yesterday", None, StatusCode::BAD_REQUEST),
    ] {
        let (answered, body) = bench.ask(method, path, body).await;
        assert_eq!(answered, status, "{path}: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.contains('\n')), "{path}: {body}");
    }
    let (_, list) = bench.ask(Method::GET, "/v1/sessions", None).await;
    let cursor = list["cursor"].as_str().unwrap();
    bench.put("a", json!({"desiredState": "Disconnected"})).await;
    bench.deleted("a").await;
    assert_eq!(bench.first_events(cursor, 3).await, ["session", "session", "deleted"]);
    assert_eq!(bench.first_events("elsewhere-7", 1).await, ["reset"]);
}

impl Bench {
    async fn first_events(&self, since: &str, count: usize) -> Vec<String> {
        let request = self.http.get(format!("{}/v1/events", self.address.http)).bearer_auth(&self.token);
        let mut answer = request.header("Last-Event-ID", since).send().await.unwrap();
        let mut text = String::new();
        let names = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect()
        };
        while names(&text).len() < count {
            let part = tokio::time::timeout(Duration::from_secs(30), answer.chunk()).await.unwrap().unwrap().unwrap();
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        names(&text)
    }
}
