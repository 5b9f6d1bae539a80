//! A client that trusts a bundle; what becomes of open and new connections while certificates change; and the Secret and
//! the configurations against an API server in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{CertificateError, CertificateSecret, Certificates, Due, Lifetimes, Memory, ToldBy, carry_out};
use crate::{
    admission::configuration::{Parameters, Reach, mutating, validating},
    platform::{
        https::{Tls, listen, serve},
        shutdown::Shutdown,
    },
};

/// Whether a client that trusts `bundle` accepts `leaf` for `host` at `now`.
pub fn trusts(bundle: &str, leaf: &str, host: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap()));
    verifier.verify_server_cert(&leaf, &[], &host, &[], now).is_ok()
}

/// Clients with a new connection for each request, trusting what was published last, while everything about the
/// certificates changes, and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_renewed_under_load_without_one_failed_request() {
    const CLIENTS: u64 = 4;
    let _ = ring::default_provider().install_default();
    let (hosts, lifetimes) = (vec!["127.0.0.1".to_owned()], Lifetimes::default());
    let step =
        |step, before: Option<&Certificates>| carry_out(step, before, &hosts, &lifetimes, Timestamp::now()).unwrap();
    let mut certificates = step(Due::StartAnew, None);

    let tls = Arc::new(Tls::default());
    tls.show(&certificates.leaf.certificate, certificates.leaf.key.reveal()).unwrap();
    let (stop, stop_clients) = (CancellationToken::new(), CancellationToken::new());
    let answer = Router::new().route("/", get(async || "answered"));
    let (tcp, address) = listen("127.0.0.1:0".parse().unwrap(), "--listen").unwrap();
    let ending = Shutdown { closing: stop.clone(), ..Shutdown::default() };
    let server = serve(tcp, Some(Arc::clone(&tls)), answer, ending, Duration::from_secs(30));

    let (publish, published) = watch::channel(certificates.bundle());
    let (requests, url) = (Arc::new(AtomicU64::new(0)), format!("https://{address}/"));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (published, requests, url, stop) =
                (published.clone(), Arc::clone(&requests), url.clone(), stop_clients.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let roots = reqwest::Certificate::from_pem_bundle(published.borrow().as_bytes()).unwrap();
                    let client = reqwest::Client::builder().tls_certs_only(roots).build().unwrap();
                    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "answered");
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_requests = async || {
        let enough = requests.load(Ordering::Relaxed) + 2 * CLIENTS;
        tokio::time::timeout(Duration::from_secs(30), async {
            while requests.load(Ordering::Relaxed) < enough && !clients.iter().any(JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    };

    let change = [Due::RenewLeaf, Due::IntroduceAuthority, Due::SwitchAuthority, Due::RenewLeaf, Due::RetireAuthority];
    for due in change.into_iter().cycle().take(3 * change.len()) {
        certificates = step(due, Some(&certificates));
        // First one side, then the other: between replicas and the API server there is always a while.
        tls.show(&certificates.leaf.certificate, certificates.leaf.key.reveal()).unwrap();
        some_requests().await;
        publish.send_replace(certificates.bundle());
        some_requests().await;
    }
    stop_clients.cancel();
    for client in clients {
        client.await.unwrap();
    }
    stop.cancel();
    server.await.unwrap();
}

/// An API server that holds one Secret and the two webhook configurations.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    calls: Vec<(Method, String, Instant)>,
    /// Whether the namespace exists.
    has_namespace: bool,
}

const SECRET: &str = "/api/v1/namespaces/ns/secrets/webhook";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

impl Api {
    fn secret(&self, lifetimes: Lifetimes) -> CertificateSecret {
        let client = Client::new(Router::new().fallback(answer).with_state(self.clone()), "ns");
        CertificateSecret {
            client,
            namespace: "ns".into(),
            name: "webhook".into(),
            hosts: vec!["127.0.0.1".into()],
            lifetimes,
            told_by: ToldBy::Configurations("operator".into()),
        }
    }

    fn configure(&self, ca_bundle: &str) {
        let parameters = Parameters {
            name: "operator".into(),
            reach: Reach::Url("https://127.0.0.1:1".into()),
            ca_bundle: Some(ca_bundle.into()),
            namespaces: None,
        };
        let mut objects = self.0.lock().unwrap();
        let mutating = serde_json::to_value(mutating(&parameters)).unwrap();
        objects.by_path.insert(format!("{CONFIGURATIONS}/mutatingwebhookconfigurations/operator"), mutating);
        let validating = serde_json::to_value(validating(&parameters)).unwrap();
        objects.by_path.insert(format!("{CONFIGURATIONS}/validatingwebhookconfigurations/operator"), validating);
    }

    fn calls(&self, wanted: &Method) -> Vec<Instant> {
        let objects = self.0.lock().unwrap();
        objects.calls.iter().filter(|(method, ..)| method == wanted).map(|(_, _, at)| *at).collect()
    }
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut objects = api.0.lock().unwrap();
    objects.calls.push((head.method.clone(), path.clone(), Instant::now()));
    let missing = |what: &str| {
        let status =
            json!({"status": "Failure", "message": format!("{what} not found"), "reason": "NotFound", "code": 404});
        (StatusCode::NOT_FOUND, Json(status)).into_response()
    };
    match head.method {
        Method::POST if !objects.has_namespace => missing("namespaces \"ns\""),
        Method::POST => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            objects.by_path.insert(format!("{path}/{name}"), object.clone());
            (StatusCode::CREATED, Json(object)).into_response()
        }
        Method::PUT => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            objects.by_path.insert(path, object.clone());
            Json(object).into_response()
        }
        _ => objects.by_path.get(&path).cloned().map_or_else(|| missing("it"), |object| Json(object).into_response()),
    }
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_named_and_waited_for_patiently() {
    let api = Api::default();
    let secret = api.secret(Lifetimes::default());
    let (tls, (send, _bundle)) = (Arc::new(Tls::default()), watch::channel(None));
    let error = secret.step(&tls, &send, &mut Memory::default()).await.unwrap_err();
    assert!(matches!(error, CertificateError::NoNamespace { .. }), "{error}");
    assert!(error.to_string().contains("ns/webhook") && error.to_string().contains("--webhook-secret-namespace"));
    assert_eq!(api.calls(&Method::POST).len(), 1, "no second try before a pause");

    let stop = CancellationToken::new();
    let kept = {
        let (tls, stop) = (Arc::clone(&tls), stop.clone());
        tokio::spawn(async move { secret.keep(tls, send, stop).await })
    };
    let until = async |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "not {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until("tried again", &|| api.calls(&Method::POST).len() == 3).await;
    let tries = api.calls(&Method::POST);
    // A second, or up to a quarter less: many that fail together do not come back together.
    assert!(tries[2] - tries[1] >= Duration::from_millis(750), "{tries:?}");
    // As soon as it exists, everything is made.
    api.0.lock().unwrap().has_namespace = true;
    until("certified", &|| tls.is_ready()).await;
    stop.cancel();
    kept.await.unwrap();
}

#[tokio::test]
async fn the_certificate_changes_its_authority_only_once_the_api_server_was_told_of_it() {
    let (api, hosts) = (Api::default(), vec!["127.0.0.1".to_owned()]);
    let lifetimes = Lifetimes { overlap: Duration::from_millis(1), ..Lifetimes::default() };
    let secret = api.secret(lifetimes);
    api.0.lock().unwrap().has_namespace = true;
    let (tls, (send, bundle)) = (Tls::default(), watch::channel(None));
    secret.step(&tls, &send, &mut Memory::default()).await.unwrap();
    let old = bundle.borrow().clone().unwrap();
    api.configure(&old);
    // A year later.
    let state = || -> Certificates {
        let objects = api.0.lock().unwrap();
        let data = objects.by_path[SECRET]["data"]["certificates.json"].clone();
        serde_json::from_slice(&serde_json::from_value::<k8s_openapi::ByteString>(data).unwrap().0).unwrap()
    };
    let introduced = carry_out(Due::IntroduceAuthority, Some(&state()), &hosts, &lifetimes, Timestamp::now()).unwrap();
    let text = k8s_openapi::ByteString(serde_json::to_vec(&introduced).unwrap());
    api.0.lock().unwrap().by_path.get_mut(SECRET).unwrap()["data"]["certificates.json"] =
        serde_json::to_value(text).unwrap();

    for _ in 0..3 {
        tokio::time::sleep(lifetimes.overlap * 2).await;
        secret.step(&tls, &send, &mut Memory::default()).await.unwrap();
        assert!(trusts(&old, &state().leaf.certificate, "127.0.0.1", Timestamp::now()), "nobody was told yet");
    }
    let both = bundle.borrow().clone().unwrap();
    assert_ne!(both, old);
    api.configure(&both);
    for _ in 0..2 {
        secret.step(&tls, &send, &mut Memory::default()).await.unwrap();
        tokio::time::sleep(lifetimes.overlap * 2).await;
    }
    assert!(!trusts(&old, &state().leaf.certificate, "127.0.0.1", Timestamp::now()));
    assert!(trusts(&both, &state().leaf.certificate, "127.0.0.1", Timestamp::now()));
}

#[tokio::test]
async fn certificates_that_are_not_valid_yet_are_made_anew_and_those_of_a_replica_with_a_wrong_clock_not_for_ever() {
    let (api, hosts, lifetimes) = (Api::default(), vec!["127.0.0.1".to_owned()], Lifetimes::default());
    let secret = api.secret(lifetimes);
    api.0.lock().unwrap().has_namespace = true;
    let (tls, (send, bundle)) = (Tls::default(), watch::channel(None));
    let mut memory = Memory::default();
    secret.step(&tls, &send, &mut memory).await.unwrap();
    // Made by a clock that is two months ahead.
    let ahead = Timestamp::now() + SignedDuration::from_hours(60 * 24);
    let by_another = || {
        let anew = carry_out(Due::StartAnew, None, &hosts, &lifetimes, ahead).unwrap();
        let text = k8s_openapi::ByteString(serde_json::to_vec(&anew).unwrap());
        api.0.lock().unwrap().by_path.get_mut(SECRET).unwrap()["data"]["certificates.json"] =
            serde_json::to_value(text).unwrap();
        anew
    };
    let wrong = by_another();
    secret.step(&tls, &send, &mut memory).await.unwrap();
    let shown = bundle.borrow().clone().unwrap();
    assert_ne!(shown, wrong.bundle());
    let writes = api.calls(&Method::PUT).len();
    let wrong = by_another();
    let wait = secret.step(&tls, &send, &mut memory).await.unwrap();
    assert_eq!(api.calls(&Method::PUT).len(), writes, "a moment later it is left");
    assert_eq!(bundle.borrow().clone().unwrap(), wrong.bundle(), "clients are told what the server shows");
    assert!(wait > Duration::from_secs(500) && wait < Duration::from_secs(700), "{wait:?}");
}
