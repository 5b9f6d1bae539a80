//! The link to one shard: it follows the shard's sessions, passes calls on, and knows whether the shard can be reached.

mod calls;
mod course;
mod credentials;
mod fault;
mod follow;
mod tell;

use std::sync::{Arc, Mutex};

use kube::Client;
use tokio::sync::{Notify, mpsc::UnboundedSender};
use tokio_util::sync::CancellationToken;

use self::calls::ShardCalls;
pub use self::calls::{AllCalls, Call};
use super::sessions::{Moment, Seen, Sessions};
use crate::{
    api::BridgeBinding,
    bridge_api::{BridgeError, Capabilities, Deletion, Info, Session, SessionInstance, SessionSpec},
    controller::{
        decide::facts::{FormerSession, LinkState},
        instances::{Instances, Strays},
    },
    drivers::{self, Credentials, Driver, Endpoint},
    platform::{lock, watch::Key},
};

/// What links report to in the rest of the controller.
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
    /// As they were read last.
    credentials: Option<Credentials>,
    sessions: Sessions,
    /// The present connection has shown sessions. A connection that resumes may reach another volume than the one before, and learns
    /// that only with the first event; so nothing is known of sessions until then.
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
    calls: ShardCalls,
    stop: CancellationToken,
    listeners: Listeners,
}

/// A shard's part in its bridge's status.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardSummary {
    /// The state of the link.
    pub state: LinkState,
    /// What the bridge last said of itself.
    pub info: Option<Info>,
    /// Its sessions.
    pub total: usize,
    /// Those that are not of instances bound to it, once that is known.
    pub strays: Option<Strays>,
}

impl Link {
    /// Starts following a shard, until it is [stopped](Self::stop).
    pub(super) fn start(
        shard: BridgeBinding,
        endpoint: Endpoint,
        client: Client,
        listeners: Listeners,
        all_calls: AllCalls,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            shard,
            endpoint,
            shared: Mutex::default(),
            again: Notify::new(),
            calls: ShardCalls::among(all_calls),
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

    /// The state of the link, and the session with this id if the shard lists it.
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

    /// Whether the shard has a session with this id and describes it in a form that cannot be read.
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

    /// The permission for one call to the shard, held until the call ends; none while as many are under way as it may have. The caller
    /// then tries again later instead of waiting here.
    pub fn try_call(&self) -> Option<Call<'_>> {
        self.calls.begin()
    }

    /// States what is wanted of a session, and takes the answer for what the shard holds.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn put(&self, id: &str, wanted: &SessionSpec) -> Result<(), BridgeError> {
        let driver = self.driver()?;
        // Where the answer will stand in the order of updates.
        let revision = lock(&self.shared).sessions.revision();
        let session = self.note_unauthorized(driver.put(id, wanted).await)?;
        if lock(&self.shared).sessions.insert_answer(session, revision, Moment::now()) {
            self.listeners.bridges.notify_one();
        }
        Ok(())
    }

    /// Deletes a session, and forgets it once the shard says that it is gone.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn delete(&self, id: &str, unlink: bool) -> Result<Deletion, BridgeError> {
        let deletion = self.note_unauthorized(self.driver()?.delete(id, unlink).await)?;
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
    fn note_unauthorized<T>(&self, answer: Result<T, BridgeError>) -> Result<T, BridgeError> {
        if matches!(answer, Err(BridgeError::Unauthorized)) {
            self.recheck_token();
        }
        answer
    }

    /// Has the token read again.
    pub(super) fn recheck_token(&self) {
        self.again.notify_one();
    }

    /// Whether the shard last listed a session of this id.
    pub(super) fn holds(&self, id: &str) -> bool {
        lock(&self.shared).sessions.holds(id)
    }

    /// The session that `instance` had before it was created anew and has session `id`: one of the same instance that none claims, and that
    /// stays. Of several a linked one.
    pub fn former(&self, instance: &SessionInstance, id: &str) -> Option<FormerSession> {
        let shared = lock(&self.shared);
        if shared.state != LinkState::Up {
            return None;
        }
        let is_former = |session: &Session| {
            session.id != id && session.stays() && !self.listeners.instances.knows(drivers::instance_uid(&session.id))
        };
        let found = shared.sessions.of(instance).filter(is_former);
        found.map(|session| FormerSession { linked: session.paired }).max_by_key(|former| former.linked)
    }

    /// The shard.
    pub(super) fn shard(&self) -> &BridgeBinding {
        &self.shard
    }

    /// Whether the shard is reached like this.
    pub(super) fn is_to(&self, endpoint: &Endpoint) -> bool {
        self.endpoint == *endpoint
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// How many sessions the shard holds, as it last listed them.
    pub fn sessions(&self) -> usize {
        lock(&self.shared).sessions.len()
    }
}
