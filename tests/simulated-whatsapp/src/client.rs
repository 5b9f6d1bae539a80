//! The command line's side of the control API.

use crate::control::RefusalBody;
use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Longer than the server waits for a companion to answer a scan.
const DEADLINE: Duration = Duration::from_secs(90);

/// Calls `method path` on the control API and returns its JSON answer.
///
/// # Errors
/// One sentence: the server cannot be reached, or why it refuses.
pub async fn call<B: Serialize + Sync>(control: &str, path: &str, body: Option<&B>) -> anyhow::Result<Value> {
    // No certificate is ever checked here, but the HTTP client insists on a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build()?;
    let url = format!("{}{path}", control.trim_end_matches('/'));
    let request = match body {
        Some(body) => client.post(&url).json(body),
        None => client.get(&url),
    };
    let answer = request.send().await.map_err(reqwest::Error::without_url).with_context(|| {
        format!("cannot reach the simulated WhatsApp at {control}: is it running, and is this its control address")
    })?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(reqwest::Error::without_url).context("the answer broke off")?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .with_context(|| format!("{control} is not a simulated WhatsApp: its answer is not JSON"));
    }
    match serde_json::from_slice::<RefusalBody>(&body) {
        Ok(refusal) => anyhow::bail!("{}", refusal.error),
        Err(_) => anyhow::bail!("{control} is not a simulated WhatsApp: it answered HTTP {}", status.as_u16()),
    }
}
