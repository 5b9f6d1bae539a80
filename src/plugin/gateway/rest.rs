//! Requests to the gateway, and what it answers.

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::Value;
use tokio::time::timeout;

use super::Gateway;
use crate::{
    bridge_api::LONGEST_TEXT,
    platform::server_sent::{Event, Reader},
    plugin::error::{PluginError, root_cause},
};

/// A page of the longest messages.
const LARGEST: usize = 50 * (6 * LONGEST_TEXT + 4096);
/// The longest message as an event.
const LARGEST_EVENT: usize = 6 * LONGEST_TEXT + 4096;
/// The gateway says something on a stream every 15 s.
const SILENCE: Duration = Duration::from_secs(40);

/// What was asked for.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The data in it.
    pub data: Value,
}

impl Gateway {
    /// A request to a path below `/api/v1`, to be completed.
    ///
    /// # Errors
    /// When the address cannot be a base.
    pub fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, PluginError> {
        let mut url = self.base.clone();
        let cannot = |()| PluginError::Usage("--gateway must be an address that paths can follow".to_owned());
        url.path_segments_mut().map_err(cannot)?.pop_if_empty().extend(["api", "v1"]).extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url).bearer_auth(self.token.reveal()))
    }

    /// A request that is passed on for somebody else, with the caller's token; `path` may have a query. None when that cannot be an address.
    pub fn passed(&self, method: Method, path: &str) -> Option<RequestBuilder> {
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}")).ok()?;
        // Dots in a path lead nowhere else.
        url.as_str().starts_with(base).then(|| self.http.request(method, url).bearer_auth(self.token.reveal()))
    }

    /// Sends a request that may take `longer` than others; what the gateway answers.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn ask(&self, request: RequestBuilder, longer: Duration) -> Result<Answer, PluginError> {
        let request = match self.limit {
            Some(limit) => request.timeout(limit + longer),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.answer(response).await
    }

    async fn answer(&self, mut response: Response) -> Result<Answer, PluginError> {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + part.len() > LARGEST {
                return Err(self.odd(status));
            }
            body.extend_from_slice(&part);
        }
        let mut body: Value = serde_json::from_slice(&body).map_err(|_| self.odd(status))?;
        if let Some(refusal) = body.get("error").filter(|_| body["success"] == false) {
            let word = |field: &str| refusal[field].as_str().unwrap_or_default().to_owned();
            return Err(PluginError::GatewayRefused {
                code: word("code"),
                message: word("message"),
                request: word("requestId"),
                retryable: refusal["retryable"] == true,
            });
        }
        if !(200..300).contains(&status) || body["success"] != true {
            return Err(self.odd(status));
        }
        Ok(Answer { status, data: body["data"].take() })
    }

    /// Follows events.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn events(&self, query: &[(&str, &str)], since: Option<&str>) -> Result<Events, PluginError> {
        let mut request = self.request(Method::GET, &["events"], query)?;
        if let Some(since) = since {
            request = request.header("last-event-id", since);
        }
        let late = || self.unreachable_because("no answer in time".to_owned());
        let sent = timeout(SILENCE, request.send()).await.map_err(|_| late())?;
        let response = sent.map_err(|error| self.unreachable(&error))?;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let status = response.status().as_u16();
            return Err(self.answer(response).await.err().unwrap_or_else(|| self.odd(status)));
        }
        let bytes = response.bytes_stream().map(|part| part.map(Vec::from)).boxed();
        Ok(Events { bytes, reader: Reader::new(LARGEST_EVENT), ready: VecDeque::new() })
    }

    fn unreachable(&self, error: &reqwest::Error) -> PluginError {
        self.unreachable_because(root_cause(error))
    }

    fn unreachable_because(&self, cause: String) -> PluginError {
        PluginError::GatewayUnreachable { place: self.place.clone(), cause }
    }

    /// Something else answers there.
    fn odd(&self, status: u16) -> PluginError {
        self.unreachable_because(format!("what answers there, with status {status}, is no gateway"))
    }
}

/// An event stream.
pub struct Events {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    reader: Reader,
    ready: VecDeque<Event>,
}

impl Events {
    /// The next event; none when the stream has ended, whyever.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let part = timeout(SILENCE, self.bytes.next()).await.ok()??.ok()?;
            self.reader.read(&part, &mut self.ready).ok()?;
        }
    }
}
