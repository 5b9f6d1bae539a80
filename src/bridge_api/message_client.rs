//! What callers ask a bridge about messages.

use std::pin::Pin;

use futures::{Stream, TryStreamExt as _, future::ready};
use reqwest::{Method, StatusCode};

use super::{
    BatchAnswer, BridgeClient, BridgeError, Claim, Cursor, LoadList, LoadQuery, Message, MessageBatch, MessageList,
    MessageSpec, MessageStatus, Outcome, Submission, client::decode, limited,
};

/// One event of the stream about messages.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageEvent {
    /// The stream goes on from here. Comes first, unless some were missed; the first release does not say it.
    Begins,
    /// A message has come further.
    Moved(Box<MessageStatus>),
    /// Some were missed: how messages stand is to be asked for.
    Missed,
}

/// What becomes of messages, each event with the resume point behind it.
pub type MessageEvents = Pin<Box<dyn Stream<Item = Result<(Option<Cursor>, MessageEvent), BridgeError>> + Send>>;

impl BridgeClient {
    /// Has a message sent under this id; idempotent. On the disk when this returns, with whether it is new.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn put_message(
        &self,
        session: &str,
        id: &str,
        message: &MessageSpec,
    ) -> Result<(Message, bool), BridgeError> {
        let request = self.request(Method::PUT, &["v1", "sessions", session, "messages", id])?.json(message);
        let answer = self.send(request).await?;
        let new = answer.status() == StatusCode::CREATED;
        Ok((decode(answer, limited::MESSAGE).await?, new))
    }

    /// Has several messages sent, as [`Self::put_message`] does each; what became of each, in order. To be asked only of a bridge
    /// with [`Capability::MessageBatches`](super::Capability::MessageBatches).
    ///
    /// # Errors
    /// See [`BridgeError`]; of those that are about one message only that message's result tells.
    pub async fn put_messages(
        &self,
        items: Vec<Submission>,
    ) -> Result<Vec<Result<(Message, bool), BridgeError>>, BridgeError> {
        let asked = items.len();
        let request = self.request(Method::POST, &["v1", "messages", "batch"])?.json(&MessageBatch { items });
        let answer = self.send(request).await?;
        let status = answer.status().as_u16();
        let BatchAnswer { items } = decode(answer, limited::BATCH).await?;
        if items.len() != asked {
            return Err(BridgeError::Malformed { status });
        }
        let result = |outcome: Outcome| match outcome {
            Outcome { message: Some(message), status, .. } => Ok((message, status == StatusCode::CREATED.as_u16())),
            Outcome { error: Some(error), .. } => Err(BridgeError::of_answer(error)),
            Outcome { status, .. } if status == StatusCode::GATEWAY_TIMEOUT.as_u16() => Err(BridgeError::TimedOut),
            Outcome { status, .. } => Err(BridgeError::Malformed { status }),
        };
        Ok(items.into_iter().map(result).collect())
    }

    /// A message.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn message(&self, session: &str, id: &str) -> Result<Message, BridgeError> {
        let request = self.request(Method::GET, &["v1", "sessions", session, "messages", id])?;
        decode(self.send(request).await?, limited::MESSAGE).await
    }

    /// Messages of a session before a place, newest first.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn messages(&self, session: &str, before: Option<u64>, limit: u32) -> Result<MessageList, BridgeError> {
        let mut url = self.url(&["v1", "sessions", session, "messages"])?;
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(before) = before {
            url.query_pairs_mut().append_pair("before", &before.to_string());
        }
        decode(self.send(self.request_to(Method::GET, url)).await?, limited::LIST).await
    }

    /// Calls a message back that was not handed to the server yet.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn call_back(&self, session: &str, id: &str) -> Result<Message, BridgeError> {
        let request = self.request(Method::DELETE, &["v1", "sessions", session, "messages", id])?;
        decode(self.send(request).await?, limited::MESSAGE).await
    }

    /// How busy sessions are, and which of them a recipient knows.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn load(&self, query: &LoadQuery) -> Result<LoadList, BridgeError> {
        let answer = self.send(self.request(Method::POST, &["v1", "messages", "load"])?.json(query)).await?;
        decode(answer, limited::LIST).await
    }

    /// Claims a key; the claim that counts, this one or one that was made before. On the disk when this returns.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn claim(&self, key: &str, claim: &Claim) -> Result<Claim, BridgeError> {
        let answer = self.send(self.request(Method::PUT, &["v1", "claims", key])?.json(claim)).await?;
        decode(answer, limited::ANSWER).await
    }

    /// The claim of a key. To be asked only of a bridge with [`Capability::ClaimLookup`](super::Capability::ClaimLookup).
    ///
    /// # Errors
    /// See [`BridgeError`]; [`BridgeError::NotFound`] when the key is free.
    pub async fn claimed(&self, key: &str) -> Result<Claim, BridgeError> {
        decode(self.send(self.request(Method::GET, &["v1", "claims", key])?).await?, limited::ANSWER).await
    }

    /// Follows what becomes of messages, after `since` or from now on. The stream ends after its first error; one silent for
    /// 25 s has failed.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn message_events(&self, since: Option<&Cursor>) -> Result<MessageEvents, BridgeError> {
        let events = self.follow(&["v1", "messages", "events"], since).await?;
        let read = |limited::Message { id, name, data }: limited::Message| {
            let event = match &*name {
                "place" => Some(MessageEvent::Begins),
                // One that cannot be read may have been any.
                "message" => Some(serde_json::from_slice(&data).map_or(MessageEvent::Missed, MessageEvent::Moved)),
                "reset" => Some(MessageEvent::Missed),
                _ => None,
            };
            event.map(|event| (id.parse().ok(), event))
        };
        Ok(Box::pin(events.try_filter_map(move |event| ready(Ok(read(event))))))
    }
}
