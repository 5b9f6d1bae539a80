//! The webhooks against an API server in memory that keeps versions as the real one does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use super::{Admission, AdmissionMetrics, Ledgers, VALIDATE_INSTANCES, router, testing};
use crate::{
    api::{InstanceRef, WhatsAppInstance, WhatsAppOwnerStatus},
    model::NamespaceScope,
    rules::{
        Denial, InstanceFacts,
        ledger::{SlotRequest, SlotRequestKind},
        settle,
    },
};

#[derive(Clone, Default)]
struct Api(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    owners: BTreeMap<String, Value>,
    instances: Vec<Value>,
    version: u64,
    calls: Vec<String>,
    assigners: Vec<String>,
    /// The namespaces that exist, for a process that looks after some.
    namespaces: Vec<&'static str>,
    /// SubjectAccessReviews are not answered.
    access_hangs: bool,
    /// Namespaces whose instances are being listed now, and the most that ever were.
    listing: usize,
    most_listed: usize,
}

fn failure(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

impl Objects {
    fn store(&mut self, name: &str, mut object: Value) -> Response {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.owners.insert(name.to_owned(), object.clone());
        Json(object).into_response()
    }

    fn writes(&self) -> usize {
        self.calls.iter().filter(|call| call.starts_with("PUT") || call.starts_with("POST")).count()
    }
}

impl Api {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap()
    }

    /// What became of an admitted create.
    fn add_instance(&self, name: &str, display: &str) {
        self.lock().instances.push(json!({
            "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
            "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"name": display, "owner": "alice"},
        }));
    }

    /// What the controller does.
    fn settle(&self) {
        let mut objects = self.lock();
        let facts: Vec<InstanceFacts> = objects
            .instances
            .iter()
            .map(|instance| InstanceFacts::from(&serde_json::from_value::<WhatsAppInstance>(instance.clone()).unwrap()))
            .collect();
        let mut owner = objects.owners["alice"].clone();
        let before: WhatsAppOwnerStatus = serde_json::from_value(owner["status"].clone()).unwrap();
        let settled = settle(Some(&before), &facts, 10, Timestamp::now());
        owner["status"] = serde_json::to_value(settled.status).unwrap();
        drop(objects.store("alice", owner));
    }

    fn client(&self) -> Client {
        let group = "/apis/whatsapp-operator.dev/v1alpha1";
        let routes = Router::new()
            .route(&format!("{group}/whatsappowners"), post(create_owner))
            .route(&format!("{group}/whatsappowners/{{name}}"), get(read_owner))
            .route(&format!("{group}/whatsappowners/{{name}}/status"), put(write_status))
            .route(&format!("{group}/whatsappinstances"), get(list_instances))
            .route(&format!("{group}/namespaces/{{namespace}}/whatsappinstances"), get(list_in_namespace))
            .route("/api/v1/namespaces", get(list_namespaces))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review_access))
            .with_state(self.clone());
        Client::new(routes, "default")
    }

    fn ledgers(&self) -> Ledgers {
        Ledgers::new(self.client(), NamespaceScope::All, None, 10)
    }
}

async fn create_owner(State(api): State<Api>, Json(mut owner): Json<Value>) -> Response {
    let name = owner["metadata"]["name"].as_str().unwrap().to_owned();
    let mut objects = api.lock();
    objects.calls.push(format!("POST {name}"));
    if objects.owners.contains_key(&name) {
        return failure(409, "AlreadyExists");
    }
    owner.as_object_mut().unwrap().remove("status");
    objects.store(&name, owner)
}

async fn read_owner(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let mut objects = api.lock();
    objects.calls.push(format!("GET {name}"));
    objects.owners.get(&name).cloned().map_or_else(|| failure(404, "NotFound"), |owner| Json(owner).into_response())
}

async fn write_status(State(api): State<Api>, Path(name): Path<String>, Json(owner): Json<Value>) -> Response {
    // So that other writers get between reading and writing.
    tokio::task::yield_now().await;
    let mut objects = api.lock();
    objects.calls.push(format!("PUT {name}"));
    let Some(mut current) = objects.owners.get(&name).cloned() else { return failure(404, "NotFound") };
    if current["metadata"]["resourceVersion"] != owner["metadata"]["resourceVersion"] {
        return failure(409, "Conflict");
    }
    current["status"] = owner["status"].clone();
    objects.store(&name, current)
}

async fn list_instances(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut objects = api.lock();
    objects.calls.push("LIST".into());
    let wanted = query["fieldSelector"].strip_prefix("spec.owner=").unwrap().to_owned();
    let items: Vec<_> =
        objects.instances.iter().filter(|instance| instance["spec"]["owner"] == wanted).cloned().collect();
    Json(json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstanceList", "metadata": {}, "items": items})).into_response()
}

/// Whoever looks after a namespace has its rights by an object in it.
async fn list_in_namespace(
    State(api): State<Api>,
    Path(namespace): Path<String>,
    query: Query<BTreeMap<String, String>>,
) -> Response {
    if !api.lock().namespaces.contains(&&*namespace) {
        return failure(403, "Forbidden");
    }
    {
        let mut objects = api.lock();
        objects.listing += 1;
        objects.most_listed = objects.most_listed.max(objects.listing);
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    api.lock().listing -= 1;
    list_instances(State(api), query).await
}

async fn list_namespaces(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let wanted = query["fieldSelector"].strip_prefix("metadata.name=").unwrap().to_owned();
    let there = api.lock().namespaces.contains(&&*wanted);
    let items: Vec<_> = there.then(|| json!({"metadata": {"name": wanted}})).into_iter().collect();
    Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}))
        .into_response()
}

async fn review_access(State(api): State<Api>, Json(mut review): Json<Value>) -> Response {
    assert_eq!(review["spec"]["resourceAttributes"]["verb"], "assign-owner");
    if api.lock().access_hangs {
        std::future::pending::<()>().await;
    }
    let mut objects = api.lock();
    objects.calls.push("SAR".into());
    let allowed = objects.assigners.iter().any(|user| review["spec"]["user"] == *user);
    review["status"] = json!({"allowed": allowed});
    Json(review).into_response()
}

fn request(name: &str, display: &str) -> SlotRequest {
    SlotRequest::new(InstanceRef { namespace: "shop".into(), name: name.into() }, display, SlotRequestKind::Slot)
}

async fn take(ledgers: &Ledgers, name: &str, display: &str) -> Result<(), Denial> {
    ledgers.reserve("alice", &request(name, display), false, Instant::now()).await.unwrap()
}

fn refusals(answers: &[Result<(), Denial>]) -> Vec<&'static str> {
    let mut reasons: Vec<_> =
        answers.iter().filter_map(|answer| answer.as_ref().err()).map(|denial| denial.reason).collect();
    reasons.dedup();
    reasons
}

#[tokio::test]
async fn of_500_creates_through_three_processes_exactly_ten_get_in() {
    let api = Api::default();
    let processes = [api.ledgers(), api.ledgers(), api.ledgers()];
    let creates = (0..500).map(|i| {
        let (process, api) = (&processes[i % 3], &api);
        async move {
            let name = format!("i{i}");
            let answer = take(process, &name, &format!("Instance {i}")).await;
            if answer.is_ok() {
                api.add_instance(&name, &format!("Instance {i}"));
            }
            answer
        }
    });
    let answers = join_all(creates).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert_eq!(refusals(&answers), ["LimitExceeded"]);
    assert_eq!(api.lock().owners["alice"]["status"]["used"], 10);

    // The controller has seen them; then three go, and before it has seen that, five come.
    api.settle();
    api.lock().instances.drain(..3);
    let creates = (0..5).map(|i| take(&processes[i % 3], ["a", "b", "c", "d", "e"][i], ["A", "B", "C", "D", "E"][i]));
    let answers = join_all(creates).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3, "{answers:?}");
}

#[tokio::test]
async fn of_200_creates_of_one_name_exactly_one_gets_in() {
    let api = Api::default();
    let processes = [api.ledgers(), api.ledgers(), api.ledgers()];
    let spellings =
        ["İstanbul Straße é", "ISTANBUL STRASSE E\u{301}", " ıstanbul strasse É ", "istanbul straße e\u{301}"];
    let creates = (0..200).map(|i| {
        let process = &processes[i % 3];
        async move { take(process, &format!("i{i}"), spellings[i % 4]).await }
    });
    let answers = join_all(creates).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(refusals(&answers), ["NameTaken"]);
}

#[tokio::test]
async fn a_reservation_is_one_write_and_a_storm_of_refusals_few_reads() {
    let api = Api::default();
    let ledgers = api.ledgers();
    take(&ledgers, "first", "First").await.unwrap();
    for i in 0..9 {
        api.lock().calls.clear();
        take(&ledgers, &format!("i{i}"), &format!("Instance {i}")).await.unwrap();
        assert_eq!(api.lock().calls, ["PUT alice"]);
    }
    api.lock().calls.clear();
    let answers = join_all((0..100).map(|i| take(&ledgers, ["x", "y"][i % 2], ["X", "Y"][i % 2]))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(api.lock().writes(), 0);
    assert!(api.lock().calls.len() <= 4, "{:?}", api.lock().calls);
}

#[tokio::test]
async fn a_dry_run_is_answered_alike_and_reserves_nothing() {
    let api = Api::default();
    let ledgers = api.ledgers();
    let dry = |name: &'static str| {
        let ledgers = &ledgers;
        async move { ledgers.reserve("alice", &request(name, name), true, Instant::now()).await.unwrap() }
    };
    assert_eq!(dry("a").await, Ok(()));
    assert_eq!(api.lock().writes(), 0, "not even the owner's object");
    for i in 0..10 {
        take(&ledgers, &format!("i{i}"), &format!("Instance {i}")).await.unwrap();
    }
    api.lock().calls.clear();
    assert_eq!(dry("a").await.unwrap_err().reason, "LimitExceeded");
    assert_eq!(dry("i3").await, Ok(()), "its own slot");
    assert_eq!(api.lock().writes(), 0);
}

#[tokio::test]
async fn a_lost_ledger_is_rebuilt_from_what_exists_before_anybody_gets_in() {
    let api = Api::default();
    for i in 0..9 {
        api.add_instance(&format!("i{i}"), &format!("Instance {i}"));
    }
    assert_eq!(take(&api.ledgers(), "new", "instance 3").await.unwrap_err().reason, "NameTaken");
    take(&api.ledgers(), "new", "New").await.unwrap();
    assert_eq!(take(&api.ledgers(), "more", "More").await.unwrap_err().reason, "LimitExceeded");

    // Deleted under a process that still remembers it.
    let remembers = api.ledgers();
    take(&remembers, "new", "New").await.unwrap();
    api.add_instance("new", "New");
    api.lock().owners.clear();
    assert_eq!(take(&remembers, "more", "More").await.unwrap_err().reason, "LimitExceeded");
    take(&remembers, "new", "New").await.unwrap();
    assert_eq!(api.lock().owners["alice"]["status"]["instances"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_namespace_that_is_gone_refuses_nobody_and_gives_its_slots_back() {
    let api = Api::default();
    api.lock().namespaces = vec!["shop"];
    let entry = |namespace: &str, n: usize| json!({"namespace": namespace, "name": format!("i{n}"), "displayName": format!("{namespace} {n}")});
    // Six in a namespace that is looked after and gone, four in one that another operator looked after.
    let entries: Vec<_> = (0..6).map(|n| entry("gone", n)).chain((0..4).map(|n| entry("elsewhere", n))).collect();
    let owner = json!({
        "apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner", "metadata": {"name": "alice"},
        "spec": {"owner": "alice"}, "status": {"instances": entries, "used": 10, "max": 10},
    });
    drop(api.lock().store("alice", owner));
    let scope = NamespaceScope::Only(vec!["shop".into(), "gone".into()]);
    let ledgers = || Ledgers::new(api.client(), scope.clone(), None, 10);
    // Of a namespace that is there, the ledger's word stands.
    api.lock().namespaces.push("elsewhere");
    take(&ledgers(), "new", "New").await.unwrap();
    assert_eq!(api.lock().owners["alice"]["status"]["instances"].as_array().unwrap().len(), 5);
    api.add_instance("new", "New");
    for i in 0..5 {
        take(&ledgers(), &format!("n{i}"), &format!("New {i}")).await.unwrap();
        api.add_instance(&format!("n{i}"), &format!("New {i}"));
    }
    assert_eq!(take(&ledgers(), "more", "More").await.unwrap_err().reason, "LimitExceeded");
    api.lock().namespaces.pop();
    take(&ledgers(), "more", "More").await.unwrap();
}

#[tokio::test]
async fn many_namespaces_are_listed_side_by_side_but_not_all_at_once() {
    let api = Api::default();
    let namespaces: Vec<&'static str> = (0..30).map(|n| &*format!("ns{n}").leak()).collect();
    api.lock().namespaces.clone_from(&namespaces);
    let scope = NamespaceScope::Only(namespaces.into_iter().map(str::to_owned).collect());
    // Without a ledger, everything that exists is looked at.
    take(&Ledgers::new(api.client(), scope, None, 10), "new", "New").await.unwrap();
    let objects = api.lock();
    assert_eq!(objects.calls.iter().filter(|call| *call == "LIST").count(), 30);
    assert!((2..=8).contains(&objects.most_listed), "{}", objects.most_listed);
}

#[tokio::test]
async fn the_limit_of_the_owner_counts_and_zero_means_none() {
    let api = Api::default();
    take(&api.ledgers(), "a", "A").await.unwrap();
    api.lock().owners.get_mut("alice").unwrap()["spec"]["maxInstances"] = json!(0);
    let denial = take(&api.ledgers(), "b", "B").await.unwrap_err();
    assert!(denial.message.contains("1 of 0 instances"), "{denial}");
}

async fn post_review(api: &Api, ledgers: Ledgers, body: String) -> (StatusCode, Value) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{VALIDATE_INSTANCES}", listener.local_addr().unwrap());
    let server = tokio::spawn(
        axum::serve(
            listener,
            router(Arc::new(Admission::new(api.client(), ledgers, None, AdmissionMetrics::default()))),
        )
        .into_future(),
    );
    // The process default is the first thing main installs; a client needs one even for http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    server.abort();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn who_may_not_assign_owners_learns_nothing_of_them() {
    let api = Api::default();
    for i in 0..10 {
        take(&api.ledgers(), &format!("i{i}"), &format!("Instance {i}")).await.unwrap();
    }
    api.lock().calls.clear();
    let mut answers = Vec::new();
    for owner in ["alice", "nobody"] {
        let spec = json!({"name": "Instance 3", "owner": owner});
        let (_, review) = post_review(&api, api.ledgers(), testing::create("mallory", "m", spec).to_string()).await;
        assert_eq!(review["response"]["allowed"], false);
        assert_eq!(review["response"]["auditAnnotations"]["decided-by"], "assign-owner");
        answers.push(review["response"]["status"].clone());
    }
    assert_eq!(answers[0], answers[1], "whether the owner exists does not show");
    assert_eq!(api.lock().calls, ["SAR", "SAR"]);

    // Nor by giving an instance of theirs, which anybody with the verb update may do, one name after the other.
    answers.clear();
    for name in ["Instance 3", "Unheard of"] {
        let spec = |name| json!({"name": name, "owner": "alice"});
        let review = testing::update("mallory", "i7", spec("Instance 7"), spec(name));
        let (_, review) = post_review(&api, api.ledgers(), review.to_string()).await;
        assert_eq!(review["response"]["status"]["reason"], "OwnerNotAllowed");
        answers.push(review["response"]["status"].clone());
    }
    assert_eq!(answers[0], answers[1], "whether the name is taken does not show");
    assert_eq!(api.lock().calls, ["SAR"; 4]);

    api.lock().assigners.push("gitops".into());
    let spec = json!({"name": "Shop", "owner": "bob"});
    let (_, review) = post_review(&api, api.ledgers(), testing::create("gitops", "m", spec).to_string()).await;
    assert_eq!(review["response"]["allowed"], true, "{review}");
    assert_eq!(api.lock().owners["bob"]["status"]["instances"][0]["name"], "m");
}

#[tokio::test]
async fn an_access_review_that_is_not_answered_is_not_called_a_busy_ledger() {
    let api = Api::default();
    api.lock().access_hangs = true;
    let spec = json!({"name": "Shop", "owner": "bob"});
    let (_, review) = post_review(&api, api.ledgers(), testing::create("gitops", "m", spec).to_string()).await;
    let status = &review["response"]["status"];
    assert_eq!((&status["reason"], &status["code"]), (&json!("AccessUnknown"), &json!(503)), "{review}");
    assert!(status["message"].as_str().unwrap().contains("SubjectAccessReview"), "{review}");
}

#[tokio::test]
async fn what_is_no_review_is_answered_400() {
    let api = Api::default();
    for body in ["", "{}", "null", &"[".repeat(200_000), &format!("\"{}\"", "x".repeat(2 << 20))] {
        let (status, sentence) = post_review(&api, api.ledgers(), body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(sentence.as_str().unwrap().contains("the body"), "{sentence}");
    }
}
