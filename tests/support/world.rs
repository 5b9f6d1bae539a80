//! One test's world: a namespace, a simulated WhatsApp, a bridge and an operator, all its own, on the shared API server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use axum::http::{Request, Response, StatusCode};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    client::Body,
    runtime::wait::{await_condition, conditions},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use whatsapp_operator::api::{Phase, WhatsAppBridge, WhatsAppInstance, labels};

use super::{
    control_plane::{ControlPlane, room},
    history::{Ask, History},
    phone::{Announcement, WhatsApp},
    program::{Program, profile_dir},
    webhooks::{self, Configuration},
};

/// How long something that takes well under a second may take on a busy machine before a test calls it broken.
pub const SOON: Duration = Duration::from_secs(30);

/// For an operator that is killed and has work to do at once when it is back: the lease of the one before lasts 15 s.
pub const ALONE: &str = "--leader-elect=false";

/// The web version the bridge claims: given, because the simulated WhatsApp has no page to read it from.
pub const VERSION: &str = "2.3000.1030000000";

/// Where programs listen, unless something else is wished.
const LOOPBACK: &str = "127.0.0.1:0";

/// What the bridge announces.
#[derive(Clone, Debug, Deserialize)]
pub struct BridgeAddress {
    /// The API.
    pub http: String,
    /// Health and metrics.
    pub admin: String,
}

/// What the operator announces.
#[derive(Clone, Debug, Deserialize)]
pub struct OperatorAddress {
    /// Health and metrics.
    pub admin: String,
    /// The webhooks, when it serves them.
    pub webhook: Option<String>,
}

/// One test's world.
pub struct World {
    /// The namespace, which is also the bridge's name and label.
    pub name: String,
    /// An administrator's client.
    pub client: Client,
    /// Where logs and data are.
    pub dir: PathBuf,
    /// The kubeconfig of the administrator.
    pub kubeconfig: PathBuf,
    /// What became of the instances.
    pub history: History,
    /// WhatsApp's control API.
    pub whatsapp: WhatsApp,
    /// The process behind it.
    pub whatsapp_program: Program,
    /// The bridge.
    pub bridge: Program,
    /// Its addresses.
    pub bridge_address: BridgeAddress,
    /// The operator.
    pub operator: Program,
    /// Its addresses.
    pub operator_address: OperatorAddress,
    /// By which the API server asks it about this world, when wished.
    pub webhooks: Option<Configuration>,
    /// The bridge's token.
    pub token: String,
}

/// What a world may be told before it starts.
#[derive(Default)]
pub struct Wishes {
    /// Further arguments of the operator.
    pub operator: Vec<String>,
    /// Further arguments of the bridge.
    pub bridge: Vec<String>,
    /// Another bridge executable.
    pub bridge_executable: Option<PathBuf>,
    /// The operator serves webhooks too, and is asked.
    pub webhooks: bool,
    /// Another API server than the one that all tests share.
    pub kubeconfig: Option<PathBuf>,
    /// Programs listen on all addresses, and are reached by IPv6 alone.
    pub ipv6: bool,
}

impl Wishes {
    /// Further arguments of the operator.
    pub fn of_operator(arguments: &[&str]) -> Self {
        Self { operator: arguments.iter().map(|&one| one.to_owned()).collect(), ..Self::default() }
    }
}

impl World {
    /// Starts everything, with defaults.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, Wishes::default()).await
    }

    /// Starts everything.
    pub async fn start_with(name: &str, wishes: Wishes) -> Self {
        let (client, kubeconfig) = match wishes.kubeconfig {
            Some(kubeconfig) => {
                let client = client(&kubeconfig).await;
                install_crds(&client).await;
                (client, kubeconfig)
            }
            None => cluster().await,
        };
        let dir = target_dir().join("acceptance").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        create_namespace(&client, name).await;
        let history = History::watch(client.clone(), name).await;

        let listen = if wishes.ipv6 { ":0" } else { LOOPBACK };
        let seen = |url: &str| if wishes.ipv6 { by_ipv6(url) } else { url.to_owned() };
        let (whatsapp_program, whatsapp) =
            start_whatsapp_at(&dir, if wishes.ipv6 { "[::1]:0" } else { LOOPBACK }).await;
        let token = token();
        let mut bridge = bridge_program(&dir, &token)
            .args(["--whatsapp-url", &whatsapp.url, "--whatsapp-version", VERSION, "--resume-interval", "50ms"])
            .args(wishes.bridge);
        if let Some(executable) = wishes.bridge_executable.or_else(|| of_another_release("BRIDGE")) {
            bridge = bridge.executable(executable);
        }
        bridge.set("--listen", listen);
        bridge.set("--admin-listen", listen);
        let mut bridge_address: BridgeAddress = bridge.start().await;
        bridge_address.http = seen(&bridge_address.http);
        bridge_address.admin = seen(&bridge_address.admin);
        // So that a restarted bridge is found where it was.
        bridge.set("--listen", host(&bridge_address.http));
        create_bridge(&client, name, &[&bridge_address.http], &token).await;

        let mut operator = operator_program(&dir, &kubeconfig, name, wishes.webhooks.then_some(name))
            .args(["--watch-namespaces", name, "--bridge-selector", &format!("world={name}")])
            .args(wishes.operator);
        if let Some(executable) = of_another_release("OPERATOR") {
            operator = operator.executable(executable);
        }
        operator.set("--admin-listen", listen);
        if wishes.webhooks && wishes.ipv6 {
            operator.set("--webhook-listen", listen);
            operator.set("--webhook-hosts", "[::1]");
        }
        let mut operator_address: OperatorAddress = operator.start().await;
        operator_address.admin = seen(&operator_address.admin);
        operator_address.webhook = operator_address.webhook.as_deref().map(seen);
        let webhooks = operator_address.webhook.as_deref().map(|url| {
            // So that a restarted operator is found where it was.
            operator.set("--webhook-listen", host(url));
            Configuration {
                name: name.to_owned(),
                namespace: name.to_owned(),
                url: url.to_owned(),
                label: None,
                kubeconfig: kubeconfig.clone(),
            }
        });

        let world = Self {
            name: name.to_owned(),
            client,
            kubeconfig,
            history,
            whatsapp,
            whatsapp_program,
            bridge,
            bridge_address,
            operator,
            operator_address,
            webhooks,
            token,
            dir,
        };
        if let Some(webhooks) = &world.webhooks {
            webhooks.install().await;
            webhooks::until_asked(&world.instances(), &world.probe()).await;
        }
        world
    }

    /// An instance to try by a dry run.
    pub fn probe(&self) -> WhatsAppInstance {
        let object = json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance", "metadata": {"name": "probe"},
            "spec": {"name": "Probe", "owner": format!("probe@{}", self.name), "bridgeRef": {"name": self.name}},
        });
        serde_json::from_value(object).unwrap()
    }

    /// The instances of this world.
    pub fn instances(&self) -> Api<WhatsAppInstance> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The bridges of the cluster.
    pub fn bridges(&self) -> Api<WhatsAppBridge> {
        Api::all(self.client.clone())
    }

    /// `kubectl apply` of an instance with these fields beside name and bridge.
    pub async fn apply(&self, name: &str, more: Value) -> WhatsAppInstance {
        let mut spec = json!({"name": name, "bridgeRef": {"name": self.name}});
        merge(&mut spec, more);
        let object = json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": name}, "spec": spec,
        });
        self.instances().patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap()
    }

    /// A merge patch of the spec.
    pub async fn patch_spec(&self, name: &str, spec: Value) {
        let patch = json!({ "spec": spec });
        self.instances().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Asks for a new pairing window.
    pub async fn refresh(&self, name: &str) {
        let value = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {labels::REFRESH_QR: value}}});
        self.instances().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// `kubectl delete --wait=false`.
    pub async fn delete(&self, name: &str) {
        self.instances().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for a QR code and returns its text.
    pub async fn qr(&self, name: &str) -> String {
        let instance = self.history.until(name, "showing a QR code", SOON, |i| i.qr().is_some()).await;
        instance.qr().unwrap()
    }

    /// The phone scans the code shown now.
    pub async fn scan(&self, name: &str, phone: &str) {
        let qr = self.qr(name).await;
        self.whatsapp.scan(&qr, phone, "Alice").await.unwrap_or_else(|error| panic!("scan for {name}: {error}"));
    }

    /// An instance that is applied, scanned and connected.
    pub async fn connected(&self, name: &str, phone: &str) -> WhatsAppInstance {
        self.apply(name, json!({})).await;
        self.scan(name, phone).await;
        self.history.until_phase(name, Phase::Connected, SOON).await
    }

    /// The session's files on the bridge.
    pub fn key_files(&self, instance: &WhatsAppInstance) -> Vec<PathBuf> {
        let id = instance.uid().unwrap();
        let mut found = Vec::new();
        find(&self.dir.join("bridge"), &id, &mut found);
        found
    }

    /// The ids of the sessions on the bridge.
    pub async fn sessions(&self) -> Vec<String> {
        let answer = reqwest::Client::new()
            .get(format!("{}/v1/sessions", self.bridge_address.http))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        let list: whatsapp_operator::bridge_api::SessionList = answer.json().await.unwrap();
        list.items.into_iter().map(|session| session.id).collect()
    }

    /// Waits until the bridge holds so many sessions.
    pub async fn until_sessions(&self, count: usize) {
        let reached = async {
            while self.sessions().await.len() != count {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(SOON * 2, reached).await.unwrap_or_else(|_| panic!("not {count} sessions"));
    }

    /// Starts the bridge again where it was.
    pub async fn restart_bridge(&mut self) {
        self.bridge_address = self.bridge.start().await;
    }

    /// Starts the operator again.
    pub async fn restart_operator(&mut self) {
        self.operator_address = self.operator.start().await;
    }
}

/// The executable in ANOTHER_BRIDGE or ANOTHER_OPERATOR: with it the tests run one program of this build with the other one
/// of another release, as a rolling upgrade does.
fn of_another_release(program: &str) -> Option<PathBuf> {
    std::env::var_os(format!("ANOTHER_{program}")).map(PathBuf::from)
}

/// Starts a simulated WhatsApp that a restart finds again at the same addresses.
pub async fn start_whatsapp(dir: &Path) -> (Program, WhatsApp) {
    start_whatsapp_at(dir, LOOPBACK).await
}

async fn start_whatsapp_at(dir: &Path, listen: &str) -> (Program, WhatsApp) {
    let mut program = Program::new("simulated-whatsapp", dir)
        .args(["serve", "--no-delay", "--listen", listen, "--control", listen, "--state-dir"])
        .args([dir.join("whatsapp")]);
    let announcement: Announcement = program.start().await;
    program.set("--listen", host(&announcement.url));
    program.set("--control", host(&announcement.control));
    (program, WhatsApp::new(&announcement))
}

/// A bridge with its data and token under `dir`, logging everything it has to say.
pub fn bridge_program(dir: &Path, token: &str) -> Program {
    let program = Program::new("whatsapp-bridge", dir);
    let token_file = dir.join("bridge-token");
    std::fs::write(&token_file, token).unwrap();
    let program = program
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log", "debug"])
        .args(["--shutdown-delay", "0s"]);
    program.args([Path::new("--token-file"), &token_file, Path::new("--data-dir"), &dir.join("bridge")])
}

/// An operator whose lease is in `namespace`, logging everything it has to say. It serves webhooks only when it is told the
/// name of their configuration.
pub fn operator_program(dir: &Path, kubeconfig: &Path, namespace: &str, webhooks: Option<&str>) -> Program {
    let program = Program::new("whatsapp-operator", dir);
    let program = match webhooks {
        Some(configuration) => program.args(["controller"]).args(webhooks::serving(configuration)),
        None => program.args(["controller", "--webhook-listen", "none"]),
    };
    program
        .args(["--admin-listen", "127.0.0.1:0", "--log", "debug", "--log-format", "json"])
        .args(["--shutdown-delay", "0s"])
        .args(["--lease-namespace", namespace, "--kubeconfig"])
        .args([kubeconfig])
}

/// A bearer token that no other run has: the leak test looks for it in every log.
pub fn token() -> String {
    format!("token-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Where cargo builds.
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile folder has a parent").to_owned()
}

/// The API server that all tests share, with the definitions installed: an administrator's client and kubeconfig.
pub async fn cluster() -> (Client, PathBuf) {
    static READY: OnceCell<PathBuf> = OnceCell::const_new();
    let kubeconfig = READY.get_or_init(|| async {
        let kubeconfig = ControlPlane::shared().await.kubeconfig();
        install_crds(&client(&kubeconfig).await).await;
        kubeconfig
    });
    // A client for each test: its connection belongs to the test's own runtime.
    let kubeconfig = kubeconfig.await.clone();
    (client(&kubeconfig).await, kubeconfig)
}

/// A client for a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    patient(Client::try_from(config).unwrap())
}

/// Whether the API server says that a webhook did not answer in time.
pub fn is_late(said: &str) -> bool {
    said.contains("deadline exceeded")
}

/// Asks again, as every controller does, when a webhook did not answer the API server within its 5 s: a machine on which
/// everything runs at once may be that slow. (Anything else of a 5xx that is worth it, kube itself repeats.)
pub fn patient(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let (deadline, mut pause) = (Instant::now() + SOON, Duration::from_millis(200));
            loop {
                let request = Request::from_parts(head.clone(), Body::from(body.clone()));
                let (answer, text) = client.send(request).await?.into_parts();
                if answer.status != StatusCode::INTERNAL_SERVER_ERROR {
                    return Ok::<_, kube::Error>(Response::from_parts(answer, text));
                }
                let text = text.collect_bytes().await?;
                if !is_late(&String::from_utf8_lossy(&text)) || Instant::now() > deadline {
                    return Ok(Response::from_parts(answer, Body::from(text)));
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    });
    Client::new(service, namespace)
}

/// Installs the committed CustomResourceDefinitions and waits until they are served.
pub async fn install_crds(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let folder = room().join("../../crds");
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let object: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
        let name = object.name_any();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(SOON, served).await.expect("the definition is served").unwrap();
    }
}

/// Creates a namespace.
pub async fn create_namespace(client: &Client, name: &str) {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"world": name}}})).unwrap();
    match Api::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("create the namespace: {error}"),
    }
}

/// Creates a WhatsAppBridge with a shard for each address, and the Secret with their token.
pub async fn create_bridge<U: AsRef<str>>(client: &Client, name: &str, urls: &[U], token: &str) {
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"token": token}})).unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
    let apply = PatchParams::apply("test").force();
    let mut object = serde_json::to_value(&secret).unwrap();
    merge(&mut object, json!({"apiVersion": "v1", "kind": "Secret"}));
    secrets.patch(name, &apply, &Patch::Apply(object)).await.unwrap();
    let shard = |(n, url): (usize, &U)| json!({"name": format!("shard-{n}"), "url": url.as_ref()});
    let shards: Vec<Value> = urls.iter().enumerate().map(shard).collect();
    let bridge = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppBridge",
        "metadata": {"name": name, "labels": {"world": name}},
        "spec": {
            "builtin": {"shards": shards},
            "credentialsSecretRef": {"namespace": name, "name": name},
        },
    });
    let bridges: Api<WhatsAppBridge> = Api::all(client.clone());
    bridges.patch(name, &apply, &Patch::Apply(bridge)).await.unwrap();
}

/// Merges `more` over `base`, one level deep.
fn merge(base: &mut Value, more: Value) {
    if let (Value::Object(base), Value::Object(more)) = (base, more) {
        base.extend(more);
    }
}

/// The address of a program that listens on all addresses, by that of IPv6: it announces the other one.
pub fn by_ipv6(url: &str) -> String {
    url.replace("127.0.0.1", "[::1]")
}

/// HOST:PORT of a URL.
pub fn host(url: &str) -> String {
    url.split("://").nth(1).unwrap().split('/').next().unwrap().to_owned()
}

fn find(dir: &Path, part: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(part) {
            found.push(path);
        } else if path.is_dir() {
            find(&path, part, found);
        }
    }
}
