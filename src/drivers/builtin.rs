//! The driver of this project's own bridge: its HTTP API with an event stream.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Driver, Messages, ResumePoint, Snapshot, Update, Updates, batches::Batches};
use crate::{
    bridge_api::{
        BridgeClient, BridgeError, Capability, Claim, Cursor, Deletion, Event, Info, Load, LoadQuery, Message,
        MessageEvents, MessageList, MessageSpec, Session, SessionList, SessionSpec,
    },
    model::Sensitive,
};

/// One shard.
#[derive(Debug)]
pub struct Builtin(BridgeClient, Arc<Batches>);

impl Builtin {
    /// The shard at `url`.
    pub fn new(url: &str, token: Sensitive, ca_bundle: Option<&str>) -> Result<Self, BridgeError> {
        let client = BridgeClient::new(url, token, ca_bundle)?;
        let batches = Batches::new(client.clone());
        Ok(Self(client, batches))
    }
}

#[async_trait]
impl Driver for Builtin {
    async fn info(&self) -> Result<Info, BridgeError> {
        self.0.info().await
    }

    async fn updates(&self, since: Option<&ResumePoint>) -> Result<Updates, BridgeError> {
        let resumed = since.and_then(|since| since.0.parse::<Cursor>().ok());
        let (cursor, snapshot) = match resumed {
            Some(cursor) => (cursor, None),
            None => {
                let SessionList { items, cursor, unreadable } = self.0.sessions().await?;
                (cursor, Some(Snapshot { sessions: items, unreadable }))
            }
        };
        let events = self.0.events(&cursor).await?;
        let stream = events.map_ok(|(at, event)| (at.as_ref().map(point), update(event)));
        Ok(Updates { snapshot, since: point(&cursor), stream: stream.boxed() })
    }

    async fn put(&self, session: &str, wanted: &SessionSpec) -> Result<Session, BridgeError> {
        self.0.put(session, wanted).await
    }

    async fn delete(&self, session: &str, unlink: bool) -> Result<Deletion, BridgeError> {
        self.0.delete(session, unlink).await
    }

    fn messages(self: Arc<Self>) -> Option<Arc<dyn Messages>> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Builtin {
    async fn send(&self, session: &str, id: &str, message: &MessageSpec) -> Result<(Message, bool), BridgeError> {
        self.1.send(session, id, message).await
    }

    async fn read(&self, session: &str, id: &str) -> Result<Message, BridgeError> {
        self.0.message(session, id).await
    }

    async fn list(&self, session: &str, before: Option<u64>, limit: u32) -> Result<MessageList, BridgeError> {
        self.0.messages(session, before, limit).await
    }

    async fn call_back(&self, session: &str, id: &str) -> Result<Message, BridgeError> {
        self.0.call_back(session, id).await
    }

    async fn load(&self, query: &LoadQuery) -> Result<Vec<Load>, BridgeError> {
        self.0.load(query).await.map(|list| list.items)
    }

    async fn claim(&self, key: &str, claim: &Claim) -> Result<Claim, BridgeError> {
        self.0.claim(key, claim).await
    }

    async fn claimed(&self, key: &str) -> Result<Option<Claim>, BridgeError> {
        if !self.0.info().await?.capabilities.include(Capability::ClaimLookup) {
            return Ok(None);
        }
        match self.0.claimed(key).await {
            Ok(claim) => Ok(Some(claim)),
            Err(BridgeError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn events(&self, since: Option<&Cursor>) -> Result<MessageEvents, BridgeError> {
        self.0.message_events(since).await
    }
}

fn point(cursor: &Cursor) -> ResumePoint {
    ResumePoint(cursor.to_string())
}

fn update(event: Event) -> Update {
    match event {
        Event::Session { session } => Update::Session(session),
        Event::Unreadable { id } => Update::Unreadable(id),
        Event::Deleted { id } => Update::Gone(id),
        // The bridge was started anew, or we were too slow for its buffer.
        Event::Reset => Update::Missed,
    }
}
