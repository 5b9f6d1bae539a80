//! The gateway, for verbs that need it: where it is, who calls, and what it says.
//!
//! **Where.** `--gateway URL` or the variable `WHATSAPP_GATEWAY`; else the Service with the labels of an installation, through a
//! port-forward of the API server ([`forward`]), so that nothing has to be exposed.
//! **Who.** The kubeconfig's own bearer token (token, file, exec plug-in); a client certificate cannot be passed on, so then
//! `--as-service-account` names whose short token to take ([`token`]).
//! Verbs that go on find both again ([`lasting`]).

mod forward;
mod lasting;
mod rest;
mod token;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use reqwest::{Certificate, Url, redirect};

use self::forward::Forward;
pub use self::{
    lasting::{Lasting, Trouble},
    rest::{Answer, Events},
};
use super::{client::Cluster, error::PluginError, message_args::GatewayFlags, output};
use crate::{model::Sensitive, platform::cluster_proxy};

/// A gateway that does not take a connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// It is said once.
static WARNED: AtomicBool = AtomicBool::new(false);

/// A gateway that can be asked.
pub struct Gateway {
    http: reqwest::Client,
    base: Url,
    token: Sensitive,
    limit: Option<Duration>,
    /// What is shown of where it is.
    place: String,
    /// Kept while it is used.
    _forward: Option<Forward>,
}

impl Gateway {
    /// Finds the gateway and a token for it.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn open(cluster: &Cluster, flags: &GatewayFlags) -> Result<Self, PluginError> {
        let token = token::token(cluster, flags.as_service_account.as_deref()).await?;
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none());
        if let Some(file) = &flags.gateway_ca {
            http = http.tls_certs_only(authorities(file)?);
        }
        let given = flags.gateway.as_deref().filter(|url| !url.is_empty());
        let (base, forward) = match given {
            Some(text) => {
                let base = address(text)?;
                if is_direct(&base) {
                    http = http.no_proxy();
                }
                (base, None)
            }
            None => {
                let forward = Forward::open(cluster).await?;
                // The certificate is the Service's, the connection goes to our own end of the forward.
                http = http.no_proxy().resolve(forward.host(), forward.local());
                (forward.url()?, Some(forward))
            }
        };
        let http = http.build().map_err(|error| PluginError::Usage(format!("--gateway-ca: {error}")))?;
        let place = forward.as_ref().map_or_else(|| base.to_string(), ToString::to_string);
        Ok(Self { http, base, token, limit: cluster.request_timeout, place, _forward: forward })
    }
}

/// A base URL, of a gateway that a token may be sent to.
fn address(text: &str) -> Result<Url, PluginError> {
    let wrong = |why: &str| PluginError::Usage(format!("--gateway (or WHATSAPP_GATEWAY) {why}"));
    let url = Url::parse(text).map_err(|_| wrong("must be an address such as https://whatsapp.example.com"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(wrong("must hold neither user, password nor query"));
    }
    if url.scheme() == "http" && !is_here(&url) && !WARNED.swap(true, Ordering::Relaxed) {
        output::note("warning: the gateway's address is plain http; the token and the messages travel unprotected")?;
    }
    Ok(url)
}

/// Whether no proxy may stand before it: one for the way to the internet has no business with this machine, and would read the token
/// where there is no TLS.
fn is_direct(url: &Url) -> bool {
    url.scheme() == "http" || is_here(url)
}

fn is_here(url: &Url) -> bool {
    cluster_proxy::is_here(url.host_str().unwrap_or_default())
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, PluginError> {
    let wrong = |why: String| PluginError::Usage(format!("--gateway-ca {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("it holds no certificates in PEM".to_owned()))?;
    if found.is_empty() { Err(wrong("it holds no certificates in PEM".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_web_address_without_secrets() {
        for good in ["https://whatsapp.example.com", "http://127.0.0.1:8000/", "https://example.com/whatsapp/"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["", "whatsapp.example.com", "ftp://a", "https://a:b@c", "https://c/?a=b", "mailto:a@b"] {
            let error = address(bad).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("--gateway"), "{error}");
        }
        let here = |url: &str| is_here(&Url::parse(url).unwrap());
        assert!(
            here("http://localhost:1")
                && here("http://127.0.0.1")
                && here("http://[::1]:5")
                && !here("http://10.0.0.1")
        );
        let direct = |url: &str| is_direct(&Url::parse(url).unwrap());
        assert!(direct("http://gateway.example.com") && direct("https://127.0.0.1:1") && direct("https://[::1]:1"));
        assert!(!direct("https://gateway.example.com"));
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        assert!(authorities(&file).unwrap_err().to_string().contains("ca.pem"));
        std::fs::write(&file, "nothing").unwrap();
        assert!(authorities(&file).unwrap_err().to_string().contains("no certificates"));
    }
}
