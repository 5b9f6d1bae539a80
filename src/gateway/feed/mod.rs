//! What becomes of messages, heard once per gateway and passed on to all who follow: event streams ([`News`]), and
//! requests that wait for one message ([`Waiter`]).
//!
//! A shard is followed while somebody wants to know, and for a moment after. Nothing is kept here for those who were away: the
//! bridge's own buffer is what a stream goes on from ([`Feeds::since`]), so any gateway can go on where another one ended.

mod follower;
mod kept;
mod positions;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::kept::Kept;
pub use self::positions::{Positions, Step};
use super::{
    bridges::{Bridges, Unanswered, of_bridge},
    failure::Failure,
    metrics::GatewayMetrics,
};
use crate::{
    api::BridgeBinding,
    bridge_api::{BridgeError, Cursor, Message, MessageEvents, MessageState, MessageStatus},
    platform::lock,
};

/// News on their way to streams. One that is further behind asks the bridge for what it missed.
const AHEAD: usize = 1024;
/// How long a stream waits at its beginning until the shards are followed; one that cannot be reached is not waited for longer.
const JOINING: Duration = Duration::from_secs(2);
/// Streams that ask a bridge for what they missed, at once.
const CATCHING_UP: usize = 16;
/// How long one waits for those before it. Its own news wait meanwhile, so what it missed is then called missed.
const TURN: Duration = Duration::from_secs(5);

/// One piece of news from a shard.
#[derive(Debug)]
pub struct News {
    /// The shard's key in [`Positions`].
    pub shard: Arc<str>,
    /// The position behind it.
    pub cursor: Cursor,
    /// The message that moved; none when only the position is known, after a new start of the bridge for example.
    pub moved: Option<MessageStatus>,
}

/// The message feeds of all shards. Clones share them.
#[derive(Clone)]
pub struct Feeds(Arc<Shared>);

struct Shared {
    bridges: Arc<Bridges>,
    metrics: GatewayMetrics,
    closing: CancellationToken,
    state: Mutex<State>,
    /// Counts up when a shard was reached, or could not be.
    tried: watch::Sender<u64>,
    kept: Mutex<Kept>,
    catching_up: Arc<Semaphore>,
}

/// Session and id of a message.
type Name = (String, String);

struct State {
    shards: HashMap<BridgeBinding, Shard>,
    news: broadcast::Sender<Arc<News>>,
    waiting: HashMap<Name, Vec<(BridgeBinding, Weak<Notify>)>>,
    keeping: bool,
}

/// A shard that is followed.
struct Shard {
    key: Arc<str>,
    at: Option<Cursor>,
    tried: bool,
    stop: CancellationToken,
}

/// A request that waits until a message is settled. It waits no more once this is dropped.
pub struct Waiter {
    feeds: Feeds,
    name: Name,
    notify: Arc<Notify>,
}

impl Feeds {
    /// Follows nothing yet.
    pub fn new(bridges: Arc<Bridges>, metrics: GatewayMetrics, closing: CancellationToken) -> Self {
        let (news, _) = broadcast::channel(AHEAD);
        let state = State { shards: HashMap::new(), news, waiting: HashMap::new(), keeping: false };
        Self(Arc::new(Shared {
            bridges,
            metrics,
            closing,
            state: Mutex::new(state),
            tried: watch::Sender::new(0),
            kept: Mutex::default(),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
        }))
    }

    /// All news from now on. Shards that can be reached are followed when this returns.
    pub async fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        let news = lock(&self.0.state).news.subscribe();
        let shards = self.0.bridges.shards().await;
        if let Ok(shards) = &shards {
            for (binding, _) in shards.iter() {
                self.follow(binding);
            }
        }
        self.keep();
        let mut tried = self.0.tried.subscribe();
        let all_tried = tried.wait_for(|_| lock(&self.0.state).shards.values().all(|shard| shard.tried));
        let _ = timeout(JOINING, all_tried).await;
        news
    }

    /// Where each shard that is followed is now.
    pub fn positions(&self) -> Vec<(Arc<str>, Cursor)> {
        let state = lock(&self.0.state);
        state.shards.values().filter_map(|shard| Some((Arc::clone(&shard.key), shard.at.clone()?))).collect()
    }

    /// Whether there is such a shard.
    pub fn has(&self, shard: &str) -> bool {
        lock(&self.0.state).shards.values().any(|known| *known.key == *shard)
    }

    /// Hears when a message of this shard is settled, from now on.
    pub fn wait(&self, binding: &BridgeBinding, session: &str, id: &str) -> Waiter {
        let notify = Arc::new(Notify::new());
        let name = (session.to_owned(), id.to_owned());
        let entry = (binding.clone(), Arc::downgrade(&notify));
        lock(&self.0.state).waiting.entry(name.clone()).or_default().push(entry);
        self.follow(binding);
        self.keep();
        Waiter { feeds: self.clone(), name, notify }
    }

    /// A stream of the shard's own events after `since`, for a reader that missed some, and a permit to keep while it is read: only a
    /// few do that at a time.
    ///
    /// # Errors
    /// When the shard cannot be reached, or too many others ask.
    pub async fn since(&self, shard: &str, since: &Cursor) -> Result<(MessageEvents, OwnedSemaphorePermit), Failure> {
        let gone = || of_bridge(&BridgeError::StreamEnded);
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.0.catching_up).acquire_owned());
        let held = turn.await.ok().and_then(Result::ok).ok_or_else(gone)?;
        let binding = self.binding(shard).ok_or_else(gone)?;
        let events = self.0.bridges.ask(&binding, |shard| async move { shard.events(Some(since)).await }).await?;
        Ok((events, held))
    }

    /// The message that a piece of news is about; none when its bridge has it no more.
    ///
    /// # Errors
    /// When the bridge does not say.
    pub async fn message(&self, shard: &str, status: &MessageStatus) -> Result<Option<Arc<Message>>, Failure> {
        if let Some(kept) = lock(&self.0.kept).get(&status.session, &status.id) {
            return Ok(Some(kept));
        }
        let Some(binding) = self.binding(shard) else { return Ok(None) };
        match self.0.bridges.ask(&binding, |shard| async move { shard.read(&status.session, &status.id).await }).await {
            Ok(message) => {
                let message = Arc::new(message);
                lock(&self.0.kept).put(Arc::clone(&message));
                Ok(Some(message))
            }
            Err(Unanswered::Bridge(BridgeError::NotFound)) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// A message that was accepted just now: streams are about to ask what it says.
    pub fn accepted(&self, message: &Message) {
        if lock(&self.0.state).news.receiver_count() > 0 {
            lock(&self.0.kept).put(Arc::new(message.clone()));
        }
    }

    fn binding(&self, shard: &str) -> Option<BridgeBinding> {
        let state = lock(&self.0.state);
        state.shards.iter().find(|(_, known)| *known.key == *shard).map(|(binding, _)| binding.clone())
    }

    /// Follows a shard, unless it is followed.
    fn follow(&self, binding: &BridgeBinding) {
        let mut state = lock(&self.0.state);
        if state.shards.contains_key(binding) || self.0.closing.is_cancelled() {
            return;
        }
        let stop = self.0.closing.child_token();
        let shard = Shard { key: key(binding), at: None, tried: false, stop: stop.clone() };
        state.shards.insert(binding.clone(), shard);
        self.0.metrics.feed(true);
        let (feeds, binding) = (self.clone(), binding.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(follower::follow(&feeds, &binding)).await;
            feeds.0.metrics.feed(false);
        });
    }

    /// Keeps up with which shards there are, and follows none after a while without a reader.
    fn keep(&self) {
        if !std::mem::replace(&mut lock(&self.0.state).keeping, true) {
            let (feeds, closing) = (self.clone(), self.0.closing.clone());
            tokio::spawn(async move { closing.run_until_cancelled(follower::keep(&feeds)).await });
        }
    }

    /// The shard is at this position, and a message may have moved.
    fn heard(&self, binding: &BridgeBinding, at: &Cursor, moved: Option<MessageStatus>) {
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        let Some(shard) = state.shards.get_mut(binding) else { return };
        shard.at = Some(at.clone());
        match &moved {
            Some(status) if status.state == MessageState::Queued => {}
            Some(status) => {
                // Most of the time no request waits; then the key of the look-up need not be made.
                let waiting = if state.waiting.is_empty() {
                    None
                } else {
                    state.waiting.get(&(status.session.clone(), status.id.clone()))
                };
                for (_, notify) in waiting.into_iter().flatten() {
                    wake(notify);
                }
            }
            // Any message of the shard may have moved while its events were not followed.
            None => {
                let all = state.waiting.values().flatten().filter(|(of, _)| of == binding);
                all.for_each(|(_, notify)| wake(notify));
            }
        }
        // An error only means that there is no stream now.
        let _ = state.news.send(Arc::new(News { shard: Arc::clone(&shard.key), cursor: at.clone(), moved }));
    }

    /// The shard was reached, or could not be.
    fn tried(&self, binding: &BridgeBinding) {
        if let Some(shard) = lock(&self.0.state).shards.get_mut(binding) {
            shard.tried = true;
        }
        self.0.tried.send_modify(|count| *count += 1);
    }
}

impl Waiter {
    /// Comes back when the message may be settled; look it up then.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = lock(&self.feeds.0.state);
        let own = Arc::downgrade(&self.notify);
        if let Some(waiting) = state.waiting.get_mut(&self.name) {
            waiting.retain(|(_, notify)| !notify.ptr_eq(&own));
            if waiting.is_empty() {
                state.waiting.remove(&self.name);
            }
        }
    }
}

fn wake(notify: &Weak<Notify>) {
    if let Some(notify) = notify.upgrade() {
        notify.notify_one();
    }
}

/// What a shard is called in the id of an event: short, and the same in every gateway.
fn key(BridgeBinding { name, shard }: &BridgeBinding) -> Arc<str> {
    let digest = Sha256::digest(format!("{name}\n{shard}"));
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
