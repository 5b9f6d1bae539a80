//! The only way other rooms talk to a bridge.

use std::{fmt, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt, future::ready};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use super::{
    BridgeError, Cursor, ErrorBody, Event, Info, Session, SessionList, SessionSpec,
    limited::{self, Message},
};
use crate::{
    model::Sensitive,
    platform::trace::{self, TRACEPARENT},
};

/// A bridge is a neighbour in the cluster: a connection that takes longer is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One request and its whole answer. Listing a full shard is the largest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a bridge may be silent on a stream that lives. This project's bridge sends a comment every 10 s; another
/// release or another program may take this long.
const KEEP_ALIVE_AT_MOST: Duration = Duration::from_secs(15);
/// A stream on which nothing comes for this long is dead, as behind a router that forgot the connection. Long enough for a
/// keep-alive to come 10 s late, and short enough that, with a new connection, events are heard again within half a minute.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(25);
const _: () = assert!(
    KEEP_ALIVE_AT_MOST.as_secs() + 10 <= STREAM_IDLE_TIMEOUT.as_secs()
        && STREAM_IDLE_TIMEOUT.as_secs() + CONNECT_TIMEOUT.as_secs() < 30,
    "a late keep-alive is borne, and a dead stream is noticed within half a minute"
);

/// How a deletion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The bridge is unlinking the device; ask again, or wait for its `deleted` event.
    UnderWay,
    /// The session is gone, or never was.
    Gone,
}

/// The events of a bridge, each with the resume point behind it.
pub type Events = Pin<Box<dyn Stream<Item = Result<(Option<Cursor>, Event), BridgeError>> + Send>>;

/// One shard of a bridge, as its callers see it. Cheap to clone: clones share connections.
#[derive(Clone)]
pub struct BridgeClient {
    http: reqwest::Client,
    base: Url,
    token: Sensitive,
}

impl fmt::Debug for BridgeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl BridgeClient {
    /// A client of the shard at `url`. With `ca_bundle` (PEM) only its certificates are trusted, else the platform's.
    ///
    /// # Errors
    /// [`BridgeError::Address`] and [`BridgeError::CaBundle`]: nothing is sent yet.
    pub fn new(url: &str, token: Sensitive, ca_bundle: Option<&str>) -> Result<Self, BridgeError> {
        let base = Url::parse(url).map_err(|_| BridgeError::Address)?;
        // A password here would be shown wherever the address is.
        let secret = !base.username().is_empty() || base.password().is_some();
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() || secret {
            return Err(BridgeError::Address);
        }
        // A proxy for the way to the internet must not see a neighbour's bearer token.
        let mut http =
            reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none()).no_proxy();
        if let Some(pem) = ca_bundle {
            let certs = Certificate::from_pem_bundle(pem.as_bytes()).map_err(|_| BridgeError::CaBundle)?;
            if certs.is_empty() {
                return Err(BridgeError::CaBundle);
            }
            http = http.tls_certs_only(certs);
        }
        let http = http.build().map_err(|_| BridgeError::CaBundle)?;
        Ok(Self { http, base, token })
    }

    /// What the bridge says of itself.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn info(&self) -> Result<Info, BridgeError> {
        decode(self.send(self.request(Method::GET, &["v1", "info"])?).await?, limited::ANSWER).await
    }

    /// All sessions, with the cursor to follow events from.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn sessions(&self) -> Result<SessionList, BridgeError> {
        let answer = self.send(self.request(Method::GET, &["v1", "sessions"])?).await?;
        let status = answer.status().as_u16();
        let list = limited::body(answer, limited::LIST).await?;
        SessionList::read(&list).map_err(|_| BridgeError::Malformed { status })
    }

    /// States everything that is wanted of a session; idempotent.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn put(&self, id: &str, spec: &SessionSpec) -> Result<Session, BridgeError> {
        let request = self.request(Method::PUT, &["v1", "sessions", id])?.json(spec);
        decode(self.send(request).await?, limited::ANSWER).await
    }

    /// Deletes a session and its keys, `unlink`ing the device at WhatsApp first. Repeat until [`Deletion::Gone`].
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn delete(&self, id: &str, unlink: bool) -> Result<Deletion, BridgeError> {
        let mut url = self.url(&["v1", "sessions", id])?;
        url.query_pairs_mut().append_pair("unlink", if unlink { "true" } else { "false" });
        let answer = self.send(self.request_to(Method::DELETE, url)).await;
        match answer {
            Ok(answer) if answer.status() == StatusCode::NO_CONTENT => Ok(Deletion::Gone),
            // What the session looks like meanwhile is told by the events.
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => Ok(Deletion::UnderWay),
            Ok(answer) => Err(BridgeError::Malformed { status: answer.status().as_u16() }),
            // Answering 404 for a session that never was is within the meaning of 204, from this API only.
            Err(BridgeError::NotFound) => Ok(Deletion::Gone),
            Err(error) => Err(error),
        }
    }

    /// Follows the bridge's events after `since`. The stream ends after its first error; one silent for 25 s has failed.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn events(&self, since: &Cursor) -> Result<Events, BridgeError> {
        let messages = self.follow(&["v1", "events"], Some(since)).await?;
        let event = |Message { id, name, data }: Message| {
            // While the bridge is upgraded before us it may tell of more than we know of.
            Event::read(&name, &data).map(|event| (id.parse().ok(), event))
        };
        Ok(Box::pin(messages.try_filter_map(move |message| ready(Ok(event(message))))))
    }

    /// Follows a stream of server-sent events, from `since` or from now on.
    pub(super) async fn follow(
        &self,
        path: &[&str],
        since: Option<&Cursor>,
    ) -> Result<impl Stream<Item = Result<Message, BridgeError>> + Send + use<>, BridgeError> {
        let mut request = self.request(Method::GET, path)?;
        if let Some(since) = since {
            request = request.header("Last-Event-ID", since.to_string());
        }
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.execute(request)).await;
        let answer = answer.map_err(|_| BridgeError::TimedOut)??;
        let is_stream = answer
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("text/event-stream"));
        if !is_stream {
            return Err(BridgeError::Malformed { status: answer.status().as_u16() });
        }
        // Keep-alives are comments, which the parser swallows: idleness is judged on the bytes, below it.
        Ok(limited::messages(Box::pin(until_silent(answer.bytes_stream()))))
    }

    pub(super) fn url(&self, path: &[&str]) -> Result<Url, BridgeError> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| BridgeError::Address)?.pop_if_empty().extend(path);
        Ok(url)
    }

    pub(super) fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, BridgeError> {
        Ok(self.request_to(method, self.url(path)?))
    }

    pub(super) fn request_to(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url).bearer_auth(self.token.reveal());
        match trace::current() {
            Some(trace) => request.header(TRACEPARENT, trace.header()),
            None => request,
        }
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, BridgeError> {
        self.execute(request.timeout(REQUEST_TIMEOUT)).await
    }

    async fn execute(&self, request: RequestBuilder) -> Result<Response, BridgeError> {
        let answer = request.send().await.map_err(|error| BridgeError::of_transport(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(BridgeError::Unauthorized);
        }
        // Only a body of this API's shape is this API's refusal: a stray proxy answers 404 and 503 too.
        match decode::<ErrorBody>(answer, limited::ANSWER).await.map(|body| body.error) {
            Ok(error) => Err(BridgeError::of_answer(error)),
            Err(BridgeError::TimedOut) => Err(BridgeError::TimedOut),
            Err(_) => Err(BridgeError::Malformed { status: status.as_u16() }),
        }
    }
}

pub(super) async fn decode<T: DeserializeOwned>(answer: Response, limit: usize) -> Result<T, BridgeError> {
    let status = answer.status().as_u16();
    let body = limited::body(answer, limit).await?;
    serde_json::from_slice(&body).map_err(|_| BridgeError::Malformed { status })
}

/// Ends a stream of bytes with a typed error when it fails, ends or stays silent for [`STREAM_IDLE_TIMEOUT`].
fn until_silent<B: Send>(
    bytes: impl Stream<Item = Result<B, reqwest::Error>> + Send,
) -> impl Stream<Item = Result<B, BridgeError>> + Send {
    futures::stream::unfold(Some(Box::pin(bytes)), |bytes| async {
        let mut bytes = bytes?;
        match tokio::time::timeout(STREAM_IDLE_TIMEOUT, bytes.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(bytes))),
            Ok(Some(Err(error))) => Some((Err(BridgeError::of_transport(&error)), None)),
            Ok(None) => Some((Err(BridgeError::StreamEnded), None)),
            Err(_) => Some((Err(BridgeError::TimedOut), None)),
        }
    })
}
