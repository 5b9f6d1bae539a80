//! The messages of one stream: which of the news are for its caller, and what was missed.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::authentication::v1::UserInfo;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, timeout_at},
};

use super::told::{Line, Outgoing, Told};
use crate::{
    bridge_api::{Cursor, MessageEvent, MessageStatus},
    drivers,
    gateway::{
        access::Verb,
        caller::Caller,
        failure::Failure,
        feed::{Feeds, News, Positions, Step},
        instances::Which,
        state::Shared,
    },
};

/// Something comes from a bridge that is asked for what was missed, or it is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a stream may take for what it missed: others wait for their turn meanwhile, and its caller may read slowly.
const CATCH_UP: Duration = Duration::from_secs(30);
/// After so many news for others the stream says where it is: a bridge remembers some thousand.
const UNTOLD: u32 = 1000;
/// Why a stream says that messages were missed, and only those.
const MISSED: &str = "MessagesMissed";

/// Follows the messages of the sessions that a stream is about.
pub struct Moves {
    gateway: Shared,
    which: Which,
    user: Arc<UserInfo>,
    news: Receiver<Arc<News>>,
    /// Up to where everything has been told.
    positions: Positions,
    /// Some may have been missed that would be told now.
    doubt: bool,
    untold: u32,
}

impl Moves {
    /// From `since` on, or from now on.
    pub async fn begin(gateway: &Shared, which: &Which, caller: &Caller, since: Option<Positions>) -> Self {
        let news = gateway.feeds.subscribe().await;
        let mut positions = since.unwrap_or_else(|| now(&gateway.feeds));
        positions.keep(|shard| gateway.feeds.has(shard));
        let (gateway, which, user) = (Shared::clone(gateway), which.clone(), Arc::clone(&caller.identity));
        Self { gateway, which, user, news, positions, doubt: false, untold: 0 }
    }

    /// The id of an event: the position in the stream of sessions, and those in the streams of messages.
    pub fn id(&self, sessions: &str) -> String {
        self.positions.id(sessions)
    }

    /// The next news. May be dropped while it waits.
    pub async fn heard(&mut self) -> Result<Arc<News>, RecvError> {
        self.news.recv().await
    }

    /// Tells what was missed since the position where it is; none when the caller is gone. `sessions` is the position in the stream of sessions.
    pub async fn catch_up(&mut self, line: &Line, sessions: &str) -> Option<()> {
        for (shard, at) in self.gateway.feeds.positions() {
            self.take(&shard, &at, None, line, sessions).await?;
        }
        Some(())
    }

    /// Tells what follows from news; none when the caller is gone.
    pub async fn hear(&mut self, news: Result<Arc<News>, RecvError>, line: &Line, sessions: &str) -> Option<()> {
        match news {
            Ok(news) => self.take(&news.shard, &news.cursor, news.moved.as_ref(), line, sessions).await,
            // Too far behind: the bridges still know.
            Err(RecvError::Lagged(_)) => self.catch_up(line, sessions).await,
            // Not while there is a gateway.
            Err(RecvError::Closed) => None,
        }
    }

    async fn take(
        &mut self,
        shard: &str,
        at: &Cursor,
        moved: Option<&MessageStatus>,
        line: &Line,
        sessions: &str,
    ) -> Option<()> {
        match (self.positions.step(shard, at), moved) {
            (Step::Known, _) => Some(()),
            (Step::Next(_), Some(status)) => self.moved(shard, at, status, line, sessions).await,
            (Step::Next(from) | Step::Gap(from), _) => self.missed(shard, &from, at, line, sessions).await,
            (Step::Lost, None) => self.lost(shard, at, line, sessions).await,
            (Step::Lost, Some(status)) => {
                self.doubt = true;
                self.moved(shard, at, status, line, sessions).await
            }
        }
    }

    /// Asks the bridge for what lies between two positions.
    async fn missed(&mut self, shard: &str, from: &Cursor, to: &Cursor, line: &Line, sessions: &str) -> Option<()> {
        let feeds = self.gateway.feeds.clone();
        let Ok((mut events, _permit)) = feeds.since(shard, from).await else {
            return self.lost(shard, to, line, sessions).await;
        };
        let until = Instant::now() + CATCH_UP;
        while let Ok(Some(Ok((at, event)))) = timeout_at(until.min(Instant::now() + SILENCE), events.next()).await {
            // One that is there already is given however late it is.
            if Instant::now() >= until {
                break;
            }
            match (at, event) {
                (Some(at), MessageEvent::Moved(status)) => {
                    self.moved(shard, &at, &status, line, sessions).await?;
                    if at.sequence >= to.sequence {
                        return Some(());
                    }
                }
                (_, MessageEvent::Begins) | (None, MessageEvent::Moved(_)) => {}
                (_, MessageEvent::Missed) => break,
            }
        }
        self.lost(shard, to, line, sessions).await
    }

    /// Some messages were missed, and it is not known which.
    async fn lost(&mut self, shard: &str, to: &Cursor, line: &Line, sessions: &str) -> Option<()> {
        self.positions.set(shard, to);
        (self.doubt, self.untold) = (false, 0);
        self.say(&Told::Reset(MISSED), line, sessions).await
    }

    /// A message moved; told if it is the caller's to read.
    async fn moved(
        &mut self,
        shard: &str,
        at: &Cursor,
        status: &MessageStatus,
        line: &Line,
        sessions: &str,
    ) -> Option<()> {
        let whole = match self.may_read(&status.session).await {
            Ok(true) => match self.gateway.feeds.message(shard, status).await {
                Ok(whole) => whole,
                // It is the caller's, so they may know that there was one.
                Err(_) => return self.lost(shard, at, line, sessions).await,
            },
            Ok(false) => None,
            Err(_) => {
                self.doubt = true;
                None
            }
        };
        self.positions.set(shard, at);
        let Some(whole) = whole else {
            self.untold += 1;
            if self.untold < UNTOLD {
                return Some(());
            }
            self.untold = 0;
            return self.say(&Told::Place, line, sessions).await;
        };
        if self.doubt {
            self.lost(shard, at, line, sessions).await?;
        }
        self.untold = 0;
        let (status, place) = (Box::new(status.clone()), self.positions.id(sessions));
        line.say(Outgoing::Message { whole, status, place }).await
    }

    async fn say(&self, told: &Told<'_>, line: &Line, sessions: &str) -> Option<()> {
        line.say(Outgoing::Event(told.event(Some(&self.positions.id(sessions))))).await
    }

    /// Whether the caller may read this session's messages.
    async fn may_read(&self, session: &str) -> Result<bool, Failure> {
        let Some(known) = self.gateway.index.known(drivers::instance_uid(session)) else { return Ok(false) };
        let (owner, namespace) = (known.owner.as_deref(), &known.place.namespace);
        if !self.which.has(namespace, owner) {
            return Ok(false);
        }
        self.gateway.access.may(&self.user, Verb::Get, owner, namespace).await
    }
}

fn now(feeds: &Feeds) -> Positions {
    let mut positions = Positions::default();
    feeds.positions().into_iter().for_each(|(shard, at)| positions.set(&shard, &at));
    positions
}
