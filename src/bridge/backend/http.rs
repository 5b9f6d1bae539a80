//! The library's plain HTTP requests (the version of the web client, later media), on the HTTP client we have anyway.

use std::time::Duration;

use async_trait::async_trait;
use whatsapp_rust::{
    anyhow,
    http::{HttpClient, HttpRequest, HttpResponse},
};

/// Nothing the library fetches is large; what takes longer than this is broken.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Larger than any page the library asks for.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// An HTTP client, made at the first request: with a given version most bridges never make one.
#[derive(Clone, Default)]
pub struct Http(std::sync::Arc<std::sync::OnceLock<reqwest::Client>>);

impl Http {
    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        if let Some(client) = self.0.get() {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(self.0.get_or_init(|| client).clone())
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, anyhow::Error> {
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
