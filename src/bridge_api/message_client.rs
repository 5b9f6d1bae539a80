//! What callers ask a bridge about messages.

use std::pin::Pin;

use futures::{Stream, TryStreamExt as _, future::ready};
use reqwest::{Method, StatusCode};

use super::{
    BridgeClient, BridgeError, Claim, Cursor, Message, MessageList, MessageSpec, MessageStatus, client::decode, limited,
};

/// What becomes of messages, each with the resume point behind it; nothing when some were missed.
pub type MessageEvents =
    Pin<Box<dyn Stream<Item = Result<(Option<Cursor>, Option<MessageStatus>), BridgeError>> + Send>>;

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

    /// Claims a key; the claim that counts, and whether it is this one. On the disk when this returns.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn claim(&self, key: &str, claim: &Claim) -> Result<(Claim, bool), BridgeError> {
        let answer = self.send(self.request(Method::PUT, &["v1", "claims", key])?.json(claim)).await?;
        let new = answer.status() == StatusCode::CREATED;
        Ok((decode(answer, limited::ANSWER).await?, new))
    }

    /// Follows what becomes of messages, after `since` or from now on. The stream ends after its first error; one silent for
    /// 25 s has failed.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn message_events(&self, since: Option<&Cursor>) -> Result<MessageEvents, BridgeError> {
        let events = self.follow(&["v1", "messages", "events"], since).await?;
        let read = |limited::Message { id, name, data }: limited::Message| {
            let status = match &*name {
                "message" => Some(serde_json::from_slice(&data).ok()),
                "reset" => Some(None),
                _ => None,
            };
            status.map(|status| (id.parse().ok(), status))
        };
        Ok(Box::pin(events.try_filter_map(move |event| ready(Ok(read(event))))))
    }
}
