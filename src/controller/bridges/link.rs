//! The link to one shard: follow its sessions, pass calls on, say what became of it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, core::Status};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc::UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::sessions::{Seen, Sessions};
use crate::{
    api::{BridgeBinding, SecretKeyRef, conditions::reason},
    bridge_api::{BridgeError, Capabilities, Deletion, Info, SessionSpec},
    controller::{
        decide::facts::{BridgeFault, LinkState},
        instances::{Instances, Strays},
    },
    drivers::{self, Credentials, CredentialsError, Driver, Endpoint, ResumePoint, Snapshot, Update, Updates},
    platform::{
        kubernetes::{CALL_TIMEOUT, CallError, call},
        lock,
        watch::Key,
    },
};

/// The first pause after a failure; it doubles up to [`LAST_PAUSE`], jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: how late a shard that is back may be noticed.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted this long held.
const STEADY: Duration = Duration::from_secs(2);
/// A bridge that was started anew resets its followers once, and a new token makes a new connection: no reason to wait.
const FREE_RESTARTS: u32 = 2;
/// A shard that was up may be gone this long (a restart) before its instances are told.
const PATIENCE: Duration = Duration::from_secs(3);
/// For so long the API server fails to read a bridge's Secret before instances are told.
const UNREAD: Duration = Duration::from_secs(30);
/// Calls to one shard under way at once. A shard whose disk hangs answers none of them, and each holds one of the
/// [`WORKERS`](crate::controller::WORKERS) that every other bridge needs too.
pub const CALLS: usize = 8;
/// A rotated token, and another authority, is picked up at least this often; a refused one at once.
const TOKEN_CHECK: Duration = Duration::from_mins(10);

/// What links tell the rest of the controller.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Instances to reconcile.
    pub queue: UnboundedSender<Key>,
    /// Something a bridge's own status shows may have changed.
    pub bridges: Arc<Notify>,
    /// Session id to instance.
    pub instances: Arc<Instances>,
}

#[derive(Debug, Default)]
struct Shared {
    state: LinkState,
    driver: Option<Arc<dyn Driver>>,
    /// What it calls with.
    credentials: Option<Credentials>,
    sessions: Sessions,
    /// The present connection has told of sessions. One that goes on where the last one broke off may find another volume, and says
    /// only then that it cannot go on.
    heard: bool,
    info: Option<Info>,
}

/// One shard, as the reconcile sees it.
#[derive(Debug)]
pub struct Link {
    shard: BridgeBinding,
    endpoint: Endpoint,
    shared: Mutex<Shared>,
    again: Notify,
    calls: Semaphore,
    stop: CancellationToken,
    listeners: Listeners,
}

/// A shard's part in its bridge's status.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardSummary {
    /// How the link stands.
    pub state: LinkState,
    /// What the bridge last said of itself.
    pub info: Option<Info>,
    /// Its sessions.
    pub total: usize,
    /// Those that are not of instances bound to it, once that can be told.
    pub strays: Option<Strays>,
}

/// What ended one connection.
enum Broken {
    /// The Secret is the problem.
    Credentials(CredentialsError),
    /// The API server is the problem: nothing is known of the bridge.
    Kubernetes(CallError),
    /// The bridge is the problem.
    Bridge(BridgeError),
    /// Nothing is: list again, or use a new token.
    Restart,
}

impl From<BridgeError> for Broken {
    fn from(error: BridgeError) -> Self {
        Self::Bridge(error)
    }
}

impl Link {
    /// Starts following a shard, until dropped from [`Links`].
    fn start(shard: BridgeBinding, endpoint: Endpoint, client: Client, listeners: Listeners) -> Arc<Self> {
        let link = Arc::new(Self {
            shard,
            endpoint,
            shared: Mutex::default(),
            again: Notify::new(),
            calls: Semaphore::new(CALLS),
            stop: CancellationToken::new(),
            listeners,
        });
        let task = Arc::clone(&link);
        tokio::spawn(async move {
            let stop = task.stop.clone();
            stop.run_until_cancelled(task.run(client)).await;
        });
        link
    }

    /// How the link stands, and the session with this id if the shard lists it.
    pub fn look(&self, id: &str) -> (LinkState, Option<Seen>) {
        let shared = lock(&self.shared);
        let session = (shared.state == LinkState::Up).then(|| shared.sessions.get(id)).flatten();
        (shared.state.clone(), session)
    }

    /// Whether the shard has shown that it has this session, or had it until its end.
    pub fn had(&self, id: &str) -> bool {
        let shared = lock(&self.shared);
        shared.heard && shared.sessions.had(id)
    }

    /// What the bridge can do, as far as is known.
    pub fn capabilities(&self) -> Capabilities {
        lock(&self.shared).info.as_ref().map(|info| info.capabilities.clone()).unwrap_or_default()
    }

    /// Whether the shard has a session with this id and tells of it in a way that cannot be read.
    pub fn is_unreadable(&self, id: &str) -> bool {
        let shared = lock(&self.shared);
        shared.state == LinkState::Up && shared.sessions.is_unreadable(id)
    }

    /// What a bridge's status shows of the shard.
    pub fn summary(&self) -> ShardSummary {
        let shared = lock(&self.shared);
        ShardSummary {
            state: shared.state.clone(),
            info: shared.info.clone(),
            total: shared.sessions.len(),
            strays: self.listeners.instances.strays(shared.sessions.ids(), &self.shard),
        }
    }

    /// A place for a call to the shard; none while as many as may be are under way. Whoever gets none comes back later
    /// instead of waiting here.
    pub fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.calls.try_acquire().ok()
    }

    /// States what is wanted of a session, and takes the answer for what the shard holds.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn put(&self, id: &str, wanted: &SessionSpec) -> Result<(), BridgeError> {
        let driver = self.driver()?;
        // Where the answer will stand in the order of updates.
        let revision = lock(&self.shared).sessions.revision();
        let session = self.judged(driver.put(id, wanted).await)?;
        if lock(&self.shared).sessions.insert_answer(session, revision, Timestamp::now()) {
            self.listeners.bridges.notify_one();
        }
        Ok(())
    }

    /// Deletes a session, and forgets it once the shard says that it is gone.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn delete(&self, id: &str, unlink: bool) -> Result<Deletion, BridgeError> {
        let deletion = self.judged(self.driver()?.delete(id, unlink).await)?;
        if deletion == Deletion::Gone && lock(&self.shared).sessions.remove(id) {
            self.listeners.bridges.notify_one();
        }
        Ok(deletion)
    }

    fn driver(&self) -> Result<Arc<dyn Driver>, BridgeError> {
        let unmade = || BridgeError::Unreachable { cause: "the link is still being made".into() };
        lock(&self.shared).driver.clone().ok_or_else(unmade)
    }

    /// When a call was refused for its token, the Secret may hold a new one.
    fn judged<T>(&self, answer: Result<T, BridgeError>) -> Result<T, BridgeError> {
        if matches!(answer, Err(BridgeError::Unauthorized)) {
            self.doubt_token();
        }
        answer
    }

    /// Has the token read again.
    pub(super) fn doubt_token(&self) {
        self.again.notify_one();
    }

    async fn run(&self, kubernetes: Client) {
        let mut since = None;
        let mut pause = FIRST_PAUSE;
        let mut down_since: Option<Instant> = None;
        let mut unread_since: Option<Instant> = None;
        let mut hasty = 0_u32;
        loop {
            let started = Instant::now();
            let broken = self.follow(&kubernetes, &mut since).await;
            let was_up = lock(&self.shared).state == LinkState::Up;
            if was_up {
                down_since = None;
            }
            // Two processes behind one address, each of which knows nothing of the other's resume points, break every connection
            // at once: only one that held makes the next one cheap.
            if started.elapsed() >= STEADY {
                (pause, hasty) = (FIRST_PAUSE, 0);
            }
            if let Broken::Kubernetes(error) = &broken {
                tracing::warn!(bridge = self.shard.name, %error, "the token of the bridge cannot be read; trying again");
                // One that is there and fails over this very Secret may do so for long (a key of its encryption is gone, say), and
                // new instances of other bridges wait for this shard.
                if !is_about_the_secret(error) {
                    unread_since = None;
                } else if unread_since.get_or_insert_with(Instant::now).elapsed() >= UNREAD
                    && let Some(fault) = self.fault(&Broken::Credentials(
                        self.wrong("the API server fails to read it or does not answer; its log says why"),
                    ))
                {
                    self.set_state(&self.steady(fault, true));
                }
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LAST_PAUSE);
                continue;
            }
            let Some(fault) = self.fault(&broken) else {
                hasty = hasty.saturating_add(1);
                if hasty > FREE_RESTARTS {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                continue;
            };
            let first = *down_since.get_or_insert_with(Instant::now);
            let brief = matches!(&broken, Broken::Bridge(error) if error.may_be_brief());
            if !brief {
                since = None;
            }
            let patient = brief && since.is_some() && first.elapsed() < PATIENCE;
            self.set_state(&if patient { LinkState::Unknown } else { self.steady(fault, brief) });
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(if patient { PATIENCE / 3 } else { LAST_PAUSE });
        }
    }

    /// How a connection fails may differ from one attempt to the next, refused or not answered: that is one fault, and not
    /// worth telling a thousand instances every time.
    fn steady(&self, fault: BridgeFault, brief: bool) -> LinkState {
        match &lock(&self.shared).state {
            LinkState::Down(told) if brief && told.reason == fault.reason => LinkState::Down(told.clone()),
            _ => LinkState::Down(fault),
        }
    }

    /// Connects and follows until something breaks.
    async fn follow(&self, kubernetes: &Client, since: &mut Option<ResumePoint>) -> Broken {
        match self.connected(kubernetes, since).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn connected(&self, kubernetes: &Client, since: &mut Option<ResumePoint>) -> Result<Infallible, Broken> {
        let credentials = self.credentials(kubernetes).await?;
        let driver = self.endpoint.driver(credentials.clone())?;
        let info = driver.info().await?;
        let Updates { snapshot, since: start, mut stream } = driver.updates(since.as_ref()).await?;
        *since = Some(start);
        let heard = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            self.replace(snapshot);
        }
        {
            let mut shared = lock(&self.shared);
            shared.heard = heard;
            shared.driver = Some(Arc::clone(&driver));
            shared.credentials = Some(credentials.clone());
            shared.info = Some(info);
        }
        self.set_state(&LinkState::Up);
        let mut token_check = tokio::time::interval(TOKEN_CHECK.mul_f64(0.9 + fastrand::f64() / 5.0));
        token_check.reset();
        loop {
            tokio::select! {
                update = stream.next() => {
                    let (at, update) = update.ok_or(BridgeError::StreamEnded)??;
                    if update == Update::Missed {
                        *since = None;
                        return Err(Broken::Restart);
                    }
                    self.apply(update);
                    if at.is_some() {
                        *since = at;
                    }
                }
                () = self.again.notified() => {
                    if self.credentials(kubernetes).await? != credentials {
                        return Err(Broken::Restart);
                    }
                    // What was refused may have been the token before this one.
                    driver.info().await?;
                }
                _ = token_check.tick() => {
                    if self.credentials(kubernetes).await? != credentials {
                        return Err(Broken::Restart);
                    }
                }
            }
        }
    }

    fn replace(&self, snapshot: Snapshot) {
        let (changed, freed) = {
            let sessions = &mut lock(&self.shared).sessions;
            let before = sessions.len();
            (sessions.replace(snapshot, Timestamp::now()), sessions.len() < before)
        };
        for id in changed {
            self.wake(&id);
        }
        if freed {
            self.wake_waiting();
        }
        self.listeners.bridges.notify_one();
    }

    fn apply(&self, update: Update) {
        let gone = matches!(update, Update::Gone(_));
        let (id, counts_changed) = {
            let mut shared = lock(&self.shared);
            shared.heard |= update != Update::Missed;
            let sessions = &mut shared.sessions;
            match update {
                Update::Session(session) => (session.id.clone(), sessions.insert(*session, Timestamp::now())),
                Update::Unreadable(id) => (id.clone(), sessions.insert_unreadable(id, Timestamp::now())),
                Update::Gone(id) => (id.clone(), sessions.remove(&id)),
                Update::Missed => return,
            }
        };
        let claimed = self.wake(&id);
        // One that was an instance's makes room when that is gone.
        if gone && counts_changed && !claimed {
            self.wake_waiting();
        }
        if counts_changed {
            self.listeners.bridges.notify_one();
        }
    }

    /// Has the instance looked at whose session it is; whether there is one.
    fn wake(&self, session_id: &str) -> bool {
        let claimant = self.listeners.instances.claimant(drivers::instance_uid(session_id), &self.shard);
        claimant.is_some_and(|instance| {
            // The queue ends only when the controller does.
            let _ = self.listeners.queue.send(instance);
            true
        })
    }

    /// There is room: instances without a shard may wait for it.
    fn wake_waiting(&self) {
        for instance in self.listeners.instances.select(|_, bound| bound.is_none()) {
            // As above.
            let _ = self.listeners.queue.send(instance);
        }
    }

    fn set_state(&self, state: &LinkState) {
        {
            let mut shared = lock(&self.shared);
            if shared.state == *state {
                return;
            }
            shared.state = state.clone();
        }
        match state {
            LinkState::Up => tracing::info!(bridge = self.shard.name, shard = self.shard.shard, "shard is up"),
            LinkState::Unknown => {
                tracing::info!(bridge = self.shard.name, shard = self.shard.shard, "lost the shard, trying again");
            }
            LinkState::Down(fault) => tracing::warn!(
                bridge = self.shard.name,
                shard = self.shard.shard,
                reason = fault.reason,
                fault = fault.message,
                "shard is down"
            ),
        }
        self.listeners.bridges.notify_one();
        // Whoever is not bound may have waited to hear whether this shard has its session.
        for instance in self.listeners.instances.select(|_, bound| bound.is_none_or(|bound| *bound == self.shard)) {
            let _ = self.listeners.queue.send(instance);
        }
    }

    /// The credentials, or why there are none. An API server that is away is no reason to let go of a bridge, nor to call its
    /// credentials missing: the token before serves, or the link is not known to be anything yet.
    async fn credentials(&self, kubernetes: &Client) -> Result<Credentials, Broken> {
        let reference = &self.endpoint.credentials;
        let wrong = |why| Broken::Credentials(self.wrong(why));
        let secrets: Api<Secret> = Api::namespaced(kubernetes.clone(), &reference.namespace);
        match call("read the bridge's token", CALL_TIMEOUT, secrets.get_opt(&reference.name)).await {
            Ok(Some(secret)) => drivers::credentials(&secret, reference).map_err(Broken::Credentials),
            Ok(None) => Err(wrong("there is no such Secret; create it")),
            Err(error) if error.is(Status::is_forbidden) => {
                Err(wrong("the operator may not read it; grant it get on this Secret"))
            }
            Err(error) => {
                let last = lock(&self.shared).credentials.clone();
                last.ok_or(Broken::Kubernetes(error))
            }
        }
    }

    fn wrong(&self, why: &'static str) -> CredentialsError {
        CredentialsError::new(&self.endpoint.credentials, why)
    }

    /// How many sessions the shard holds, as it last listed them.
    pub fn sessions(&self) -> usize {
        lock(&self.shared).sessions.len()
    }

    fn fault(&self, broken: &Broken) -> Option<BridgeFault> {
        match broken {
            Broken::Restart | Broken::Kubernetes(_) => None,
            Broken::Credentials(error) => Some(BridgeFault::new(reason::CREDENTIALS_NOT_FOUND, error.to_string())),
            Broken::Bridge(error) => {
                let SecretKeyRef { namespace, name, key } = &self.endpoint.credentials;
                let todo = match error {
                    BridgeError::Unauthorized => {
                        format!("make Secret {namespace}/{name}, key {key}, hold the token the bridge was started with")
                    }
                    BridgeError::Malformed { .. } | BridgeError::Unreadable | BridgeError::NotFound => {
                        "check that the address is a whatsapp-bridge of this operator's version".to_owned()
                    }
                    BridgeError::CaBundle | BridgeError::Address => "correct the WhatsAppBridge".to_owned(),
                    _ => "check that the bridge runs and that the operator may reach it; it is tried again".to_owned(),
                };
                let BridgeBinding { name, shard } = &self.shard;
                // What is no address may hold a password, and everybody reads this.
                let at = match error {
                    BridgeError::Address => String::new(),
                    _ => format!(" at {}", self.endpoint.address()),
                };
                let text = format!("Shard {shard} of WhatsAppBridge {name}{at}: {error}; {todo}.");
                Some(BridgeFault::new(error.reason(), text))
            }
        }
    }
}

/// Whether it may be this very Secret that cannot be read, as when a key of its encryption is gone or the service that has the key
/// hangs. An API server that is away, or has no time, says nothing of it.
fn is_about_the_secret(error: &CallError) -> bool {
    matches!(error, CallError::Slow { .. }) || error.is(|status| status.code == 500)
}

impl Drop for Links {
    fn drop(&mut self) {
        for link in lock(&self.by_shard).values() {
            link.stop.cancel();
        }
    }
}

/// All links.
#[derive(Debug, Default)]
pub struct Links {
    by_shard: Mutex<HashMap<BridgeBinding, Arc<Link>>>,
}

impl Links {
    /// The link to a shard.
    pub fn get(&self, shard: &BridgeBinding) -> Option<Arc<Link>> {
        lock(&self.by_shard).get(shard).cloned()
    }

    /// The shards that last listed a session of this id.
    pub fn holding(&self, id: &str) -> Vec<BridgeBinding> {
        let links: Vec<_> = lock(&self.by_shard).values().cloned().collect();
        let holds = |link: &Arc<Link>| lock(&link.shared).sessions.holds(id);
        links.iter().filter(|link| holds(link)).map(|link| link.shard.clone()).collect()
    }

    /// Makes the links of `bridge` exactly `wanted`; one whose endpoint changed is made anew.
    pub fn set(&self, bridge: &str, wanted: &[(BridgeBinding, Endpoint)], client: &Client, listeners: &Listeners) {
        let mut links = lock(&self.by_shard);
        links.retain(|shard, link| {
            let keep =
                shard.name != bridge || wanted.iter().any(|(key, endpoint)| key == shard && *endpoint == link.endpoint);
            if !keep {
                link.stop.cancel();
            }
            keep
        });
        for (shard, endpoint) in wanted {
            links
                .entry(shard.clone())
                .or_insert_with(|| Link::start(shard.clone(), endpoint.clone(), client.clone(), listeners.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_hangs_is_told_from_an_api_server_that_is_away() {
        let answered = |code: u16| {
            let status = serde_json::json!({"code": code, "reason": "no", "message": "no"});
            let status: Status = serde_json::from_value(status).unwrap();
            CallError::Api { doing: "read", source: Box::new(kube::Error::Api(Box::new(status))) }
        };
        assert!(is_about_the_secret(&CallError::Slow { doing: "read", limit: CALL_TIMEOUT }));
        assert!(is_about_the_secret(&answered(500)));
        assert!(!is_about_the_secret(&answered(429)) && !is_about_the_secret(&answered(503)));
    }
}
