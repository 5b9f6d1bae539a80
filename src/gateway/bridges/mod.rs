//! The shards of the bridges, as the gateway reaches them: by `status.bridge` of an instance, with the credentials that the
//! bridge names.

mod answer;
mod restarts;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::answer::{Unanswered, of_bridge};
use self::{answer::unreachable, restarts::Restarts};
use super::{code::Code, failure::Failure, rendezvous, story::Story};
use crate::{
    api::{BridgeBinding, WhatsAppBridge},
    bridge_api::BridgeError,
    drivers::{self, Driver, Endpoint, Messages},
    platform::{
        kubernetes::{CALL_TIMEOUT, call},
        lock,
    },
};

/// How long a list of the bridges, and a token, count. A new token is taken earlier when a bridge refuses the old one. When the API server
/// does not answer by then, what is known counts on: a bridge that is there answers, whatever the API server does.
const KNOWN: Duration = Duration::from_secs(30);
/// How soon the API server is asked again then, and about credentials of no use.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long the API server may take where there is something known to go on with.
const PATIENCE: Duration = Duration::from_secs(1);

/// All shards, and how each is reached.
pub type Shards = Arc<Vec<(BridgeBinding, Endpoint)>>;
/// A shard as it was last looked up.
struct Known {
    /// How it is reached; none when its credentials are of no use.
    driver: Option<Arc<dyn Driver>>,
    /// What it is reached by.
    endpoint: Endpoint,
    /// Until when that counts.
    until: Instant,
}

/// Finds shards and reaches them.
pub struct Bridges {
    client: Client,
    selector: Option<String>,
    listed: Mutex<Option<(Shards, Instant)>>,
    drivers: Mutex<HashMap<BridgeBinding, Known>>,
    restarts: Restarts,
}

impl Bridges {
    /// By the gateway's own client; only bridges with these labels. A shard that restarts is waited for as long as `restart`, and not
    /// at all once `over` is cancelled.
    pub fn new(client: Client, selector: Option<String>, restart: Duration, over: CancellationToken) -> Self {
        let restarts = Restarts::new(restart, over);
        Self { client, selector, listed: Mutex::default(), drivers: Mutex::default(), restarts }
    }

    /// All shards of all bridges.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn shards(&self) -> Result<Shards, Failure> {
        let known = lock(&self.listed).clone();
        if let Some((shards, until)) = &known
            && *until > Instant::now()
        {
            return Ok(Arc::clone(shards));
        }
        let api: Api<WhatsAppBridge> = Api::all(self.client.clone());
        let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
        let known = known.map(|(shards, _)| shards);
        let (shards, counts) = match newest("list the bridges", known, api.list(&params)).await {
            Some(Newest::Answer(found)) => (Arc::new(found.items.iter().flat_map(drivers::endpoints).collect()), KNOWN),
            Some(Newest::Known(shards)) => (shards, ASK_AGAIN),
            None => return Err(unavailable()),
        };
        *lock(&self.listed) = Some((Arc::clone(&shards), Instant::now() + counts));
        Ok(shards)
    }

    /// Asks a shard about messages for a request, and waits for one that restarts. The question may be asked more than
    /// once, so what it asks for must be done once however often it is asked for.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask_through_restart<T, F>(
        &self,
        story: &Story,
        binding: &BridgeBinding,
        question: impl Fn(Arc<dyn Messages>) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, BridgeError>>,
    {
        self.restarts.ask(story, binding, || self.ask(binding, &question)).await
    }

    /// Asks a shard about messages. One that refuses the token is asked once more, with the token that the Secret holds by then.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask<T, F>(
        &self,
        binding: &BridgeBinding,
        question: impl Fn(Arc<dyn Messages>) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, BridgeError>>,
    {
        let driver = self.shard(binding).await?;
        let mut answer = question(messages(&driver)?).await;
        if matches!(answer, Err(BridgeError::Unauthorized)) {
            self.forget(binding, &driver);
            let driver = self.shard(binding).await?;
            answer = question(messages(&driver)?).await;
        }
        self.restarts.note(binding, &answer);
        Ok(answer?)
    }

    /// Asks the shard that keeps an idempotency key, and waits for it as [`Self::ask_through_restart`] does.
    ///
    /// # Errors
    /// See [`Unanswered`]; there may be no shard at all.
    pub async fn ask_home<T, F>(
        &self,
        story: &Story,
        key: &str,
        question: impl Fn(Arc<dyn Messages>) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, BridgeError>>,
    {
        let home = self.home(key).await?;
        self.ask_through_restart(story, &home, question).await
    }

    /// The shard of a session.
    async fn shard(&self, binding: &BridgeBinding) -> Result<Arc<dyn Driver>, Failure> {
        let shards = self.shards().await?;
        let found = shards.iter().find(|(known, _)| known == binding);
        let (_, endpoint) = found.ok_or_else(|| {
            Failure::new(
                Code::BridgeUnavailable,
                "the bridge of this session is gone; have an administrator look at its WhatsAppBridge",
            )
        })?;
        let known = lock(&self.drivers)
            .get(binding)
            .filter(|known| known.endpoint == *endpoint)
            .map(|known| (known.driver.clone(), known.until));
        if let Some((driver, until)) = &known
            && *until > Instant::now()
        {
            return driver.clone().ok_or_else(unreachable);
        }
        let reference = &endpoint.credentials;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &reference.namespace);
        let known = known.and_then(|(driver, _)| driver);
        let read = newest("read a bridge's credentials", known, secrets.get(&reference.name)).await;
        let (driver, counts) = match read {
            Some(Newest::Answer(secret)) => match endpoint.connect(&secret) {
                Ok(driver) => (Some(driver), KNOWN),
                Err(error) => {
                    tracing::warn!(bridge = binding.name, shard = binding.shard, %error, "reach a bridge");
                    (None, ASK_AGAIN)
                }
            },
            Some(Newest::Known(driver)) => (Some(driver), ASK_AGAIN),
            None => return Err(unreachable()),
        };
        let known = Known { driver: driver.clone(), endpoint: endpoint.clone(), until: Instant::now() + counts };
        lock(&self.drivers).insert(binding.clone(), known);
        driver.ok_or_else(unreachable)
    }

    /// The shard that keeps an idempotency key: the same for every gateway, whatever the message's own session is. Chosen by
    /// rendezvous hashing, so that another shard more or less moves as few keys as possible.
    async fn home(&self, key: &str) -> Result<BridgeBinding, Failure> {
        let shards = self.shards().await?;
        let home = shards.iter().map(|(binding, _)| binding).max_by_key(|binding| weight(key, binding));
        home.cloned().ok_or_else(unavailable)
    }

    /// Forgets a driver whose token the shard refused, unless another request has replaced it already.
    fn forget(&self, binding: &BridgeBinding, refused: &Arc<dyn Driver>) {
        let mut drivers = lock(&self.drivers);
        let known = drivers.get(binding).and_then(|known| known.driver.as_ref());
        if known.is_some_and(|driver| Arc::ptr_eq(driver, refused)) {
            drivers.remove(binding);
        }
    }
}

/// What the API server answers, or what was known before where it does not answer.
enum Newest<A, K> {
    Answer(A),
    Known(K),
}

/// Asks the API server, no longer than [`PATIENCE`] when something is known. Nothing when it refuses, or nothing is known: an API server
/// that has trouble is no reason to let go of a bridge.
async fn newest<A, K>(
    doing: &'static str,
    known: Option<K>,
    request: impl Future<Output = Result<A, kube::Error>>,
) -> Option<Newest<A, K>> {
    let limit = if known.is_some() { PATIENCE } else { CALL_TIMEOUT };
    match call(doing, limit, request).await {
        Ok(answer) => Some(Newest::Answer(answer)),
        Err(error) => {
            tracing::warn!(%error, "{doing}");
            known.filter(|_| error.is_trouble()).map(Newest::Known)
        }
    }
}

fn weight(key: &str, BridgeBinding { name, shard }: &BridgeBinding) -> [u8; 32] {
    rendezvous::weight(key, &format!("{name}\n{shard}"))
}

/// The messages of a shard; refused when it is of a kind that sends none.
fn messages(driver: &Arc<dyn Driver>) -> Result<Arc<dyn Messages>, Failure> {
    Arc::clone(driver).messages().ok_or_else(|| {
        Failure::new(
            Code::NotSupported,
            "the bridge of this session is of a kind through which no messages can be sent",
        )
    })
}

fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "the API server does not answer the gateway; try again in a moment")
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicU16, AtomicUsize, Ordering},
    };

    use axum::{
        Json, Router,
        http::{HeaderMap, Response, StatusCode},
        response::IntoResponse as _,
        routing::get,
    };
    use k8s_openapi::ByteString;
    use kube::client::Body;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    fn shard(n: usize) -> BridgeBinding {
        BridgeBinding { name: "main".to_owned(), shard: format!("shard-{n}") }
    }

    #[test]
    fn a_key_has_one_home_and_few_move_with_a_new_shard() {
        let home = |key: &str, count: usize| (0..count).map(shard).max_by_key(|shard| weight(key, shard)).unwrap();
        let keys: Vec<String> = (0..600).map(|n| format!("key-{n}")).collect();
        let homes: BTreeSet<_> = keys.iter().map(|key| home(key, 3).shard).collect();
        assert_eq!(homes.len(), 3);
        let moved: Vec<_> = keys.iter().filter(|key| home(key, 3) != home(key, 4)).collect();
        assert!((100..200).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|key| home(key, 4) == shard(3)), "only to the new one");
    }

    /// A bridge that takes only the token in `right`, and has one message; its address.
    async fn bridge(right: Arc<Mutex<&'static str>>) -> String {
        let read = async move |headers: HeaderMap| {
            let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            if given != format!("Bearer {}", *lock(&right)) {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            let at = "2026-01-01T00:00:00Z";
            let content = json!({"type": "text", "text": "Hi"});
            Json(json!({"id": "3EB0AB", "session": "s", "sequence": 1, "state": "Sent", "to": "+15550001", "content": content, "acceptedAt": at, "expiresAt": at})).into_response()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/sessions/s/messages/m", get(read));
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    /// An API server with this bridge, whose Secret holds the token in `stored`; `reads` counts how often that was read.
    fn api(url: String, stored: Arc<Mutex<&'static str>>, reads: Arc<AtomicUsize>) -> Client {
        let reference = json!({"namespace": "ns", "name": "token", "key": "token"});
        let shards = json!([{"name": "shard-0", "url": url}]);
        let bridge = json!({"metadata": {"name": "main"}, "spec": {"builtin": {"shards": shards}, "credentialsSecretRef": reference}});
        let listed = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppBridgeList", "metadata": {}, "items": [bridge]});
        let secret = async move || {
            reads.fetch_add(1, Ordering::Relaxed);
            let token = ByteString(lock(&stored).as_bytes().to_vec());
            Json(Secret { data: Some([("token".to_owned(), token)].into()), ..Secret::default() })
        };
        let app = Router::new()
            .route("/apis/whatsapp-operator.dev/v1alpha1/whatsappbridges", get(async move || Json(listed.clone())))
            .route("/api/v1/namespaces/ns/secrets/token", get(secret));
        Client::new(app, "ns")
    }

    #[tokio::test]
    async fn a_new_token_is_used_as_soon_as_a_bridge_refuses_the_old_one() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (right, stored) = (Arc::new(Mutex::new("old")), Arc::new(Mutex::new("old")));
        let reads = Arc::new(AtomicUsize::new(0));
        let url = bridge(Arc::clone(&right)).await;
        let bridges = Bridges::new(
            api(url, Arc::clone(&stored), Arc::clone(&reads)),
            None,
            Duration::ZERO,
            CancellationToken::new(),
        );
        let binding = shard(0);
        let ask = async || bridges.ask(&binding, |shard| async move { shard.read("s", "m").await }).await;
        assert_eq!(ask().await.unwrap().status.id, "3EB0AB");
        ask().await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1, "a token that works is kept");
        *lock(&right) = "new";
        *lock(&stored) = "new";
        ask().await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        // A Secret that is wrong is read once more for each question, and no more often.
        *lock(&right) = "newer";
        assert!(matches!(ask().await, Err(Unanswered::Bridge(BridgeError::Unauthorized))));
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        // The shard that keeps keys is asked in the same way.
        *lock(&stored) = "newer";
        let story = Story::begin(&HeaderMap::new());
        let home = bridges.ask_home(&story, "key", |shard| async move { shard.read("s", "m").await });
        assert!(home.await.is_ok());
    }

    #[tokio::test]
    async fn a_bridge_is_asked_also_while_the_api_server_does_not_answer() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (right, reads) = (Arc::new(Mutex::new("token")), Arc::new(AtomicUsize::new(0)));
        let url = bridge(Arc::clone(&right)).await;
        let whole = api(url, Arc::clone(&right), Arc::clone(&reads));
        // 200 for what it answers by itself, 0 for nothing, or the status of a refusal.
        let answers = Arc::new(AtomicU16::new(200));
        let gate = Arc::clone(&answers);
        let service = tower::service_fn(move |request| {
            let (whole, gate) = (whole.clone(), Arc::clone(&gate));
            async move {
                let code = match gate.load(Ordering::Relaxed) {
                    200 => return whole.send(request).await,
                    0 => std::future::pending().await,
                    code => code,
                };
                let status = json!({"status": "Failure", "message": "etcdserver: leader changed", "code": code});
                let body = Body::from(status.to_string().into_bytes());
                Ok(Response::builder().status(code).body(body).unwrap())
            }
        });
        let bridges = Bridges::new(Client::new(service, "ns"), None, Duration::ZERO, CancellationToken::new());
        let binding = shard(0);
        let ask = async || bridges.ask(&binding, |shard| async move { shard.read("s", "m").await }).await;
        ask().await.unwrap();
        answers.store(0, Ordering::Relaxed);
        // As if KNOWN had passed.
        let expire = || {
            lock(&bridges.listed).as_mut().unwrap().1 = Instant::now();
            lock(&bridges.drivers).get_mut(&binding).unwrap().until = Instant::now();
        };
        expire();
        assert_eq!(ask().await.unwrap().status.id, "3EB0AB", "what is known counts on");
        let begun = Instant::now();
        ask().await.unwrap();
        assert!(begun.elapsed() < PATIENCE, "the API server is not waited for each time");
        for trouble in [500, 502, 503, 504, 429, 401] {
            answers.store(trouble, Ordering::Relaxed);
            expire();
            assert_eq!(ask().await.unwrap().status.id, "3EB0AB", "{trouble} says nothing of the bridge");
        }
        for refusal in [403, 404] {
            answers.store(refusal, Ordering::Relaxed);
            expire();
            assert!(ask().await.is_err(), "{refusal}");
        }
        answers.store(200, Ordering::Relaxed);
        expire();
        *lock(&right) = " ";
        assert!(ask().await.is_err() && ask().await.is_err());
        assert_eq!(reads.load(Ordering::Relaxed), 2, "credentials of no use are not read for each question");
    }

    #[test]
    fn a_bridge_that_sends_nothing_is_told_from_one_that_is_away() {
        let driver: Arc<dyn Driver> = Arc::new(drivers::scripted_driver::Scripted::default());
        assert_eq!(messages(&driver).err().unwrap().code, Code::NotSupported);
    }
}
