//! The library's plain HTTP requests (the version of the web client, later media), on the HTTP client we have anyway.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{fs, sync::Mutex, time::Instant};
use wacore::version::parse_sw_js;
use whatsapp_rust::{
    anyhow,
    http::{HttpClient, HttpRequest, HttpResponse},
};

use super::names::Names;

/// Nothing the library fetches is large; what takes longer than this is broken.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Larger than any page the library asks for.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The page that tells the version of the web client (whatsapp-rust 0.7, version.rs). Each client asks for it once a day, and does not
/// connect without it.
const PAGE: &str = "https://web.whatsapp.com/sw.js";
/// How long a page that was fetched does for all clients of the bridge.
const FRESH: Duration = Duration::from_secs(3600);
/// How long an old one does before it is asked for again: a version is accepted for weeks.
const OLD: Duration = Duration::from_secs(300);

/// An HTTP client, made at the first request: with a given version most bridges never make one. Clones are one.
#[derive(Clone)]
pub struct Http(Arc<Shared>);

struct Shared {
    client: OnceLock<reqwest::Client>,
    names: Names,
    /// The page, and until when it does.
    page: Mutex<Option<(HttpResponse, Instant)>>,
    /// Where it is kept.
    file: PathBuf,
}

impl Http {
    /// A client that keeps the page of the version in `file`.
    pub fn new(names: Names, file: PathBuf) -> Self {
        Self(Arc::new(Shared { client: OnceLock::new(), names, page: Mutex::default(), file }))
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        if let Some(client) = self.0.client.get() {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).dns_resolver(self.0.names.clone()).build()?;
        Ok(self.0.client.get_or_init(|| client).clone())
    }

    /// The page of the version: asked for once for all clients, and the last good one when there is none to be had. A session whose
    /// version is a day old would otherwise not connect, though the server takes it.
    async fn page(
        &self,
        fetch: impl Future<Output = Result<HttpResponse, anyhow::Error>>,
    ) -> Result<HttpResponse, anyhow::Error> {
        let mut page = self.0.page.lock().await;
        if let Some((kept, _)) = page.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Ok(kept.clone());
        }
        let fetched = fetch.await;
        if let Ok(fetched) = &fetched
            && tells_version(fetched)
        {
            if let Err(error) = fs::write(&self.0.file, &fetched.body).await {
                tracing::debug!(%error, "the page of the web client's version is not kept");
            }
            *page = Some((fetched.clone(), Instant::now() + FRESH));
            return Ok(fetched.clone());
        }
        let last = match page.take() {
            Some((last, _)) => Some(last),
            None => fs::read(&self.0.file).await.ok().map(|body| HttpResponse { status_code: 200, body }),
        };
        let Some(last) = last.filter(tells_version) else { return fetched };
        let (status, error) = (fetched.as_ref().ok().map(|answer| answer.status_code), fetched.as_ref().err());
        tracing::warn!(
            status,
            error = error.map(tracing::field::display),
            "WhatsApp does not tell the current version of its web client; the last one that is known does for now"
        );
        *page = Some((last.clone(), Instant::now() + OLD));
        Ok(last)
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        let method = reqwest::Method::from_bytes(request.method.as_bytes())?;
        let mut outgoing = self.client()?.request(method, &request.url);
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name, value);
        }
        if let Some(body) = request.body {
            outgoing = outgoing.body(body);
        }
        let mut response = outgoing.send().await?;
        let status_code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            anyhow::ensure!(body.len() + part.len() <= MAX_BODY, "the answer is larger than {MAX_BODY} bytes");
            body.extend_from_slice(&part);
        }
        Ok(HttpResponse { status_code, body })
    }
}

fn tells_version(answer: &HttpResponse) -> bool {
    answer.status_code == 200 && std::str::from_utf8(&answer.body).is_ok_and(|text| parse_sw_js(text).is_some())
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
        if request.method == "GET" && request.url == PAGE {
            return self.page(self.send(request)).await;
        }
        self.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TOLD: &str = r#"self.__swData=JSON.parse("{\"client_revision\":1023902629}")"#;

    fn answer(status_code: u16, body: &str) -> HttpResponse {
        HttpResponse { status_code, body: body.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn the_version_is_asked_for_once_and_the_last_one_does_while_there_is_none_to_be_had() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sw.js");
        let http = |()| Http::new(Names::default(), file.clone());
        let first = http(());
        let asked = AtomicUsize::new(0);
        let ask = async |http: &Http, said: Result<HttpResponse, anyhow::Error>| {
            let fetch = async {
                asked.fetch_add(1, Ordering::Relaxed);
                said
            };
            http.page(fetch).await
        };
        // Without one that was ever known there is nothing to be done.
        assert_eq!(ask(&first, Ok(answer(400, "no"))).await.unwrap().status_code, 400);
        assert!(ask(&first, Err(anyhow::anyhow!("no route"))).await.is_err());
        assert_eq!(ask(&first, Ok(answer(200, TOLD))).await.unwrap().body, TOLD.as_bytes());
        assert_eq!(ask(&first, Ok(answer(400, "no"))).await.unwrap().body, TOLD.as_bytes());
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        // Also in the next process, and when the page has another form.
        let second = http(());
        assert_eq!(ask(&second, Ok(answer(200, "<html>"))).await.unwrap().body, TOLD.as_bytes());
        assert_eq!(ask(&second, Ok(answer(400, "no"))).await.unwrap().body, TOLD.as_bytes());
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}
