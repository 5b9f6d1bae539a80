//! Passes a browser's requests on to the gateway with the caller's token, which the browser never sees.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use serde_json::json;
use tokio::time::timeout;

use super::door::{Answer, Door};
use crate::{
    platform::lock,
    plugin::{
        gateway::{Gateway, Lasting},
        output,
    },
};

/// The gateway takes less, and says so.
const LARGEST: usize = 1 << 20;
/// A request may ask the gateway to wait for a minute.
const ANSWER: Duration = Duration::from_secs(90);

/// What belongs to one connection and is not passed on (RFC 9110, section 7.6.1).
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// What is this browser's and ours, and none of the gateway's business.
const OURS: [HeaderName; 4] = [header::HOST, header::COOKIE, header::AUTHORIZATION, header::CONTENT_LENGTH];

/// What every request needs.
pub struct Proxy {
    gateway: Lasting,
    /// Where the page is.
    page: String,
    door: Mutex<Door>,
}

impl Proxy {
    /// For this gateway. `page` is where whoever comes in is led.
    pub fn new(gateway: Lasting, door: Door, page: String) -> Self {
        Self { gateway, page, door: Mutex::new(door) }
    }
}

/// Answers one request.
pub async fn answer(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let decided = lock(&proxy.door).ask(&parts.method, parts.uri.path(), &parts.headers, Instant::now());
    match decided {
        Answer::Pass => {}
        Answer::Enter => {
            let Some(cookie) = lock(&proxy.door).cookie() else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            let kept = [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            return (kept, Redirect::to(&proxy.page)).into_response();
        }
        Answer::Over => return said(StatusCode::GONE, "This address works once, and only for two minutes."),
        Answer::Stranger => return said(StatusCode::UNAUTHORIZED, "This browser is not signed in here."),
        Answer::OtherHost => return said(StatusCode::MISDIRECTED_REQUEST, "Nothing is served under this name."),
        Answer::CrossSite => return said(StatusCode::FORBIDDEN, "Another page asked for this."),
    }
    let Ok(content) = to_bytes(body, LARGEST).await else {
        return said(StatusCode::PAYLOAD_TOO_LARGE, "That is more than a request may hold.");
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let asked = Asked { method: parts.method, path, headers: passed(&parts.headers, &OURS), content };
    let first = proxy.gateway.current().await;
    let answered = asked.pass(&first).await;
    // A token that was taken back, or a pod that is gone: both may have a successor.
    let refused = answered.as_ref().is_none_or(|answer| answer.status() == StatusCode::UNAUTHORIZED);
    if !refused {
        return answered.map_or_else(unreachable_gateway, returned);
    }
    let second = proxy.gateway.instead_of(&first).await.unwrap_or_else(|error| {
        let _ = output::note(&error.to_string());
        Arc::clone(&first)
    });
    // What may have been done is not done twice.
    let repeatable = answered.is_some() || matches!(asked.method, Method::GET | Method::HEAD);
    if Arc::ptr_eq(&first, &second) || !repeatable {
        return answered.map_or_else(unreachable_gateway, returned);
    }
    asked.pass(&second).await.map_or_else(unreachable_gateway, returned)
}

/// What the browser asked for.
struct Asked<'a> {
    method: Method,
    path: &'a str,
    headers: HeaderMap,
    content: Bytes,
}

impl Asked<'_> {
    /// The gateway's answer; none when there was none.
    async fn pass(&self, gateway: &Gateway) -> Option<reqwest::Response> {
        let request = gateway.passed(self.method.clone(), self.path)?;
        let request = request.headers(self.headers.clone());
        let request = if self.content.is_empty() { request } else { request.body(self.content.clone()) };
        timeout(ANSWER, request.send()).await.ok()?.ok()
    }
}

/// The headers that go to the other side.
fn passed(headers: &HeaderMap, without: &[HeaderName]) -> HeaderMap {
    let stays = |name: &HeaderName| OF_THE_CONNECTION.contains(name) || without.contains(name) || *name == "keep-alive";
    headers.iter().filter(|(name, _)| !stays(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An answer as it came, and as it comes: an event stream goes on for hours. Cookies are between the browser and us.
fn returned(answer: reqwest::Response) -> Response {
    let (status, headers) = (answer.status(), passed(answer.headers(), &[header::SET_COOKIE]));
    (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
}

/// A page that says why nothing is passed on. Everything in it is written here.
fn said(status: StatusCode, what: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
        <meta name=\"color-scheme\" content=\"light dark\">\n<title>kubectl whatsapp dashboard</title>\n\
        <main>\n<h1>{what}</h1>\n<p>To open the dashboard, run <code>kubectl whatsapp dashboard</code>.</p>\n</main>\n</html>\n"
    );
    let kept = [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_SECURITY_POLICY, "default-src 'none'")];
    (status, kept, Html(page)).into_response()
}

/// In the form of the gateway's own refusals, which the page reads.
fn unreachable_gateway() -> Response {
    let error = json!({"code": "Unreachable", "message": "kubectl whatsapp dashboard cannot reach the gateway", "retryable": true});
    (StatusCode::BAD_GATEWAY, Json(json!({"success": false, "error": error}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_sees_nothing_that_is_the_browsers_and_ours() {
        let given = ["cookie", "authorization", "host", "connection", "keep-alive", "accept", "last-event-id"];
        let given: HeaderMap =
            given.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
        let names: Vec<String> = passed(&given, &OURS).keys().map(ToString::to_string).collect();
        assert_eq!(names, ["accept", "last-event-id"]);
        assert!(passed(&given, &[header::SET_COOKIE]).contains_key("cookie"));
    }
}
