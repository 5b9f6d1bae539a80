//! Speaking to the API server with a caller's bearer token: it authenticates, authorises, admits and audits the caller, and
//! the process in between has no right to impersonate anyone.

use axum::http::{HeaderValue, Request, header};
use kube::{Client, client::Body};
use thiserror::Error;

use super::kubernetes::{Cluster, ClusterError, connect_without_credentials};

/// A token that cannot stand in a header.
#[derive(Debug, Error)]
#[error("the token holds characters that no token has")]
pub struct NoToken;

/// One pool of connections that many callers' requests go through, each with its own token.
#[derive(Clone)]
pub struct OnBehalf {
    /// Brings no credentials at all.
    bare: Client,
}

impl OnBehalf {
    /// Of this cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub fn connect(cluster: &Cluster) -> Result<Self, ClusterError> {
        Ok(Self { bare: connect_without_credentials(cluster)? })
    }

    /// Through a client that brings no credentials.
    #[cfg(test)]
    pub fn through(bare: Client) -> Self {
        Self { bare }
    }

    /// A client that acts as the user of `token`. It costs one small task; the connections are shared.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub fn client(&self, token: &str) -> Result<Client, NoToken> {
        let mut shown = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| NoToken)?;
        // Kept out of debug output and of compression tables.
        shown.set_sensitive(true);
        let bare = self.bare.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            request.headers_mut().insert(header::AUTHORIZATION, shown.clone());
            let bare = bare.clone();
            async move { bare.send(request).await }
        });
        Ok(Client::new(service, self.bare.default_namespace().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::HeaderMap, routing::get};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use serde_json::json;

    use super::*;

    async fn who(headers: HeaderMap) -> Json<serde_json::Value> {
        let shown: Vec<_> = headers.get_all("authorization").iter().filter_map(|value| value.to_str().ok()).collect();
        Json(json!({"metadata": {"name": "who"}, "data": {"shown": shown.join(",")}}))
    }

    #[tokio::test]
    async fn each_request_shows_its_callers_token_and_no_other() {
        let api = Router::new().route("/api/v1/namespaces/ns/configmaps/who", get(who));
        let callers = OnBehalf::through(Client::new(api, "ns"));
        for token in ["one", "two"] {
            let api: Api<ConfigMap> = Api::default_namespaced(callers.client(token).unwrap());
            assert_eq!(api.get("who").await.unwrap().data.unwrap()["shown"], format!("Bearer {token}"));
        }
        assert!(callers.client("a\nb").is_err());
    }
}
