//! The gateway of one test's world, and callers with tokens and rights of their own.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, UserInfo},
    authorization::v1::ResourceAttributes,
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use reqwest::{Method, header::HeaderMap};
use rustls::{
    SignatureScheme,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde::Deserialize;
use serde_json::{Value, json};
use whatsapp_operator::{gateway::code::ALL, platform::access::is_allowed};

use super::{
    control_plane::room,
    program::Program,
    world::{SOON, World},
};

/// What an application needs in its namespace.
pub const ALL_VERBS: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// What somebody who only looks needs.
pub const READ_VERBS: &[&str] = &["get", "list", "watch"];

#[derive(Deserialize)]
struct Address {
    gateway: String,
    admin: String,
}

/// A running gateway.
pub struct Rest {
    /// Its process.
    pub program: Program,
    /// Where the API is.
    pub url: String,
    /// Health and metrics.
    pub admin: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// JSON, or null.
    pub body: Value,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The data of a success with this status.
    pub fn data(&self, status: u16) -> &Value {
        assert!(
            self.status == status && self.body["success"] == true,
            "{} instead of {status}: {}",
            self.status,
            self.body
        );
        &self.body["data"]
    }

    /// Checks that it is such a refusal, in the documented form and as the list of codes has it; its sentence.
    pub fn refused(&self, status: u16, code: &str) -> &str {
        let error = &self.body["error"];
        let listed = ALL.iter().find(|entry| entry.word == code).unwrap_or_else(|| panic!("{code} is not in the list"));
        assert!(
            self.status == status && error["code"] == code,
            "{} instead of {status} {code}: {}",
            self.status,
            self.body
        );
        assert_eq!(self.body["success"], false);
        assert_eq!(error["requestId"].as_str().unwrap(), self.headers["x-request-id"].to_str().unwrap());
        let after = self.headers.get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(error["retryAfter"].as_u64(), after);
        assert_eq!((listed.status, &json!(listed.retryable)), (status, &error["retryable"]), "{code}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{code}: {message:?}");
        message
    }
}

impl Rest {
    /// Starts a gateway beside the world, with the rights of examples/rbac.yaml and no others.
    pub async fn start(world: &World, more: &[&str]) -> Self {
        Self::start_changed(world, more, |program| program).await
    }

    /// The same, with a change to how it is started.
    pub async fn start_changed(world: &World, more: &[&str], change: impl FnOnce(Program) -> Program) -> Self {
        let kubeconfig = world.dir.join("gateway.kubeconfig");
        let token = own_account(world).await;
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
        config["users"][0]["user"] = json!({ "token": token });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self::started(change(of_world(world, "gateway", &kubeconfig, more))).await
    }

    /// Starts another gateway beside one that `start` has started, with the same account; `folder` holds its log.
    pub async fn beside(world: &World, folder: &str, more: &[&str]) -> Self {
        Self::started(of_world(world, folder, &world.dir.join("gateway.kubeconfig"), more)).await
    }

    /// Starts it again after its end, where it was.
    pub async fn restart(&mut self) {
        self.program.set("--listen", super::world::host(&self.url));
        let Address { gateway, admin } = self.program.start().await;
        (self.url, self.admin) = (gateway, admin);
    }

    /// Starts a gateway that is whoever the kubeconfig says.
    pub async fn start_as(dir: &Path, kubeconfig: &Path, namespace: &str, more: &[&str]) -> Self {
        Self::started(gateway_program(dir, kubeconfig, namespace).args(more.iter().copied())).await
    }

    async fn started(mut program: Program) -> Self {
        let Address { gateway, admin } = program.start().await;
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { program, url: gateway, admin, http }
    }

    /// The same, without a log of all it does.
    pub async fn start_quiet(dir: &Path, kubeconfig: &Path, namespace: &str, more: &[&str]) -> Self {
        let mut program = gateway_program(dir, kubeconfig, namespace);
        program.set("--log", "warn");
        Self::started(program.args(more.iter().copied())).await
    }

    /// One request, built by hand.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}{path}", self.url))
    }

    /// One request with a token, and a JSON body unless it is null.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let request = self.request(method, path).bearer_auth(token);
        answered(if body.is_null() { request } else { request.json(&body) }).await
    }

    /// GET.
    pub async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null).await
    }

    /// POST without a body.
    pub async fn post(&self, token: &str, path: &str) -> Answer {
        self.call(token, "POST", path, Value::Null).await
    }

    /// Follows events.
    pub async fn follow(&self, token: &str, query: &str, since: Option<&str>) -> Events {
        let mut request = self.request("GET", &format!("/api/v1/events{query}")).bearer_auth(token);
        if let Some(since) = since {
            request = request.header("last-event-id", since);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Events { stream: response.bytes_stream().boxed(), text: String::new(), last_id: String::new() }
    }

    /// No token, code or number stands in the gateway's log or metrics.
    pub async fn nothing_leaked(&self, world: &World, phones: &[&str], tokens: &[&str]) {
        let mut secrets = world.secrets(phones);
        secrets.extend(tokens.iter().map(|&token| token.to_owned()));
        let metrics = reqwest::get(format!("{}/metrics", self.admin)).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("whatsapp_operator_gateway_requests_total"), "{metrics}");
        for (place, text) in [("log", self.program.log()), ("metrics", metrics)] {
            for secret in &secrets {
                assert!(
                    !text.contains(secret.as_str()),
                    "the gateway's {place} contain a secret of {} characters",
                    secret.len()
                );
            }
        }
    }
}

/// Asks again and again until it is so; `what` is the question, "is it sent" for example.
pub async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON * 2, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Sends a request; the whole answer.
pub async fn answered(request: reqwest::RequestBuilder) -> Answer {
    let response = request.timeout(SOON * 3).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.unwrap().to_vec();
    Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or_default(), bytes }
}

/// A gateway with the given kubeconfig and default namespace, logging everything it has to say.
pub fn gateway_program(dir: &Path, kubeconfig: &Path, namespace: &str) -> Program {
    Program::new("whatsapp-operator", dir)
        .args(["gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--log", "debug", "--log-format", "json", "--shutdown-delay", "0s", "--namespace", namespace])
        .args([Path::new("--kubeconfig"), kubeconfig])
}

/// A gateway that knows the bridges of this world alone: other worlds have theirs on the same API server.
fn of_world(world: &World, folder: &str, kubeconfig: &Path, more: &[&str]) -> Program {
    let selector = format!("world={}", world.name);
    gateway_program(&world.dir.join(folder), kubeconfig, &world.name)
        .args(["--bridge-selector", &selector])
        .args(more.iter().copied())
}

/// An event stream as a client reads it.
pub struct Events {
    stream: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    text: String,
    /// The last id that came.
    pub last_id: String,
}

/// One event.
#[derive(Debug)]
pub struct Event {
    pub kind: String,
    pub data: Value,
}

impl Events {
    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if let Some(id) = field("id:") {
                    id.clone_into(&mut self.last_id);
                }
                if let Some(data) = field("data:") {
                    let kind = field("event:").unwrap_or_default().to_owned();
                    return Some(Event { kind, data: serde_json::from_str(data).unwrap() });
                }
            }
            let part = self.stream.next().await?.ok()?;
            self.text.push_str(std::str::from_utf8(&part).unwrap());
        }
    }

    /// The next event that is so, and what came before it.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> (Vec<Event>, Event) {
        let mut before = Vec::new();
        let search = async {
            loop {
                let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
                if wanted(&event) {
                    return event;
                }
                before.push(event);
            }
        };
        let found = tokio::time::timeout(SOON, search).await.unwrap_or_else(|_| panic!("no event {what}"));
        (before, found)
    }
}

/// A service account of this world with these verbs on instances; its token. With none it may do nothing.
pub async fn account(world: &World, name: &str, verbs: &[&str]) -> String {
    let namespace = &world.name;
    make_account(&world.client, namespace, name).await;
    if !verbs.is_empty() {
        let rules =
            json!([{"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances"], "verbs": verbs}]);
        let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
        let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        let meta = json!({"name": name, "namespace": namespace});
        let version = "rbac.authorization.k8s.io/v1";
        apply(&world.client, &json!({"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules})).await;
        apply(&world.client, &json!({"apiVersion": version, "kind": "RoleBinding", "metadata": meta, "roleRef": role_ref, "subjects": subjects})).await;
        until_allowed(
            &world.client,
            &user(world, name),
            Some(namespace),
            verbs[verbs.len() - 1],
            "whatsapp-operator.dev",
            "whatsappinstances",
        )
        .await;
    }
    token_of(&world.client, namespace, name, None).await
}

/// What the API server calls an account of this world.
pub fn user(world: &World, name: &str) -> String {
    format!("system:serviceaccount:{}:{name}", world.name)
}

/// A token of an account of this world, for an audience.
pub async fn token_for(world: &World, name: &str, audience: &str) -> String {
    token_of(&world.client, &world.name, name, Some(audience)).await
}

/// A genuine token of an account that lasts as long as wished, which is shorter than the API server would make one.
pub async fn token_that_lasts(world: &World, name: &str, seconds: i64) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.name);
    let uid = accounts.get(name).await.unwrap().uid().unwrap();
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let claims = json!({
        "iss": issuer, "aud": [issuer], "iat": now - 3600, "nbf": now - 3600, "exp": now + seconds,
        "sub": user(world, name),
        "kubernetes.io": {"namespace": world.name, "serviceaccount": {"name": name, "uid": uid}},
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
    // The key that the API server signs tokens with lies beside its certificate.
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    let certificate = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
    let key = PrivateKeyDer::from_pem_file(Path::new(certificate).with_extension("key")).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let signature = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).unwrap().sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The gateway's own account with the committed rights; its token.
async fn own_account(world: &World) -> String {
    let name = format!("{}-gateway", world.name);
    make_account(&world.client, &world.name, &name).await;
    let text = std::fs::read_to_string(room().join("../../examples/rbac.yaml")).unwrap();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let ours = objects.into_iter().filter(|object| object["metadata"]["name"] == "whatsapp-operator-gateway");
    let mut count = 0;
    for mut object in ours {
        object["metadata"]["name"] = name.clone().into();
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = world.name.clone().into();
        }
        // The Secret with the bridge's token has this world's name.
        for rule in object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(names) = rule.get_mut("resourceNames") {
                *names = json!([world.name]);
            }
        }
        if object["kind"].as_str().unwrap().ends_with("Binding") {
            object["roleRef"]["name"] = name.clone().into();
            object["subjects"][0] = json!({"kind": "ServiceAccount", "name": name, "namespace": world.name});
        }
        apply(&world.client, &object).await;
        count += 1;
    }
    assert_eq!(count, 4);
    let user = user(world, &name);
    until_allowed(&world.client, &user, None, "create", "authentication.k8s.io", "tokenreviews").await;
    token_of(&world.client, &world.name, &name, None).await
}

/// Gives an account of this world a verb on messages.
pub async fn let_message(world: &World, account: &str, verb: &str) {
    let (name, namespace) = (format!("{account}-messages-{verb}"), &world.name);
    let rules =
        json!([{"apiGroups": ["whatsapp-operator.dev"], "resources": ["whatsappinstances/messages"], "verbs": [verb]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    let (meta, version) = (json!({"name": name, "namespace": namespace}), "rbac.authorization.k8s.io/v1");
    apply(&world.client, &json!({"apiVersion": version, "kind": "Role", "metadata": meta, "rules": rules})).await;
    apply(&world.client, &json!({"apiVersion": version, "kind": "RoleBinding", "metadata": meta, "roleRef": role_ref, "subjects": subjects})).await;
}

/// Makes a service account that may do nothing, unless it is there.
pub async fn make_account(client: &Client, namespace: &str, name: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    match accounts.create(&PostParams::default(), &account).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("{error}"),
    }
}

/// A token of a service account, for an audience or for the API server.
pub async fn token_of(client: &Client, namespace: &str, name: &str, audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let audiences: Vec<&str> = audience.into_iter().collect();
    let request = json!({"spec": {"audiences": audiences, "expirationSeconds": 3600}});
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let granted: TokenRequest =
        accounts.create_subresource("token", name, &PostParams::default(), &request).await.unwrap();
    granted.status.unwrap().token.unwrap()
}

/// Server-side apply of any object of a group.
pub async fn apply(client: &Client, object: &Value) {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
}

/// The API server learns of a binding by a watch.
pub async fn until_allowed(
    client: &Client,
    user: &str,
    namespace: Option<&str>,
    verb: &str,
    group: &str,
    resource: &str,
) {
    until_reviewed(client, user, attributes(namespace, verb, group, resource), true).await;
}

/// What is asked for, as the API server reviews it.
pub fn attributes(namespace: Option<&str>, verb: &str, group: &str, resource: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    }
}

/// Waits until the API server lets this user do so, or until it does not any more.
pub async fn until_reviewed(client: &Client, user: &str, what: ResourceAttributes, allowed: bool) {
    let reviewed = async {
        let user = || UserInfo { username: Some(user.to_owned()), ..UserInfo::default() };
        while is_allowed(client, user(), what.clone(), SOON).await.unwrap() != allowed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, reviewed).await.expect("the rights are known");
}
