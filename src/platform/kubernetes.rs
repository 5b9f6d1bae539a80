//! The Kubernetes client: where it comes from, and one sentence when it does not.

use std::{
    fmt::{self, Debug},
    path::PathBuf,
    time::Duration,
};

use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{ListParams, PostParams},
    config::AuthInfo,
    core::Status,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::{
    causes::innermost,
    cluster_proxy::{ProxyError, shown},
    credentials,
    kubeconfig::{self, Unusable},
    refusal::policy_words,
    repeated,
};

/// One call to the API server, answer included.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may bring nothing before it counts as dead. Longer than a watch lasts, since the API server ends one
/// with a last byte.
const SILENCE: Duration = Duration::from_secs(25);
/// How long the head of an answer may take; a watch has one at once. Longer than [`CALL_TIMEOUT`], so that a call that
/// takes too long ends by that one. When the connection of a watch is dead, idle ones may be dead too: each of those that is tried next
/// costs this long, and no longer.
const ANSWER: Duration = Duration::from_secs(12);

/// Names one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ObjectRef {
    /// Namespace of the object.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
}

impl ObjectRef {
    /// Names this object; its namespace is empty when it has none.
    pub fn of(object: &impl Resource) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A call to the API server that came to nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// The API server did not take or give something.
    #[error("{doing}: {}", describe(source))]
    Api {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        source: Box<kube::Error>,
    },
    /// It did not answer in time.
    #[error("{doing}: no answer from the API server within {limit:?}")]
    Slow {
        /// What was being done.
        doing: &'static str,
        /// How long it had.
        limit: Duration,
    },
}

impl CallError {
    /// Whether the API server answered with such a status.
    pub fn is(&self, kind: fn(&Status) -> bool) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if kind(status)))
    }

    /// From where a list can go on that the API server has dropped (410): its answer says.
    pub fn next_place(&self) -> Option<String> {
        let Self::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = &**source else { return None };
        status.metadata.as_ref()?.continue_.clone().filter(|token| !token.is_empty())
    }

    /// Whether it is only known that the API server has trouble, or does not know who asks: nothing is said of what was asked for. While
    /// etcd is ill or has a new leader, or its disk is full, answers are 500; those of a load balancer in between are 502.
    pub fn is_trouble(&self) -> bool {
        self.is_unanswered() || self.is(|status| status.code == 401 || status.code >= 500)
    }

    /// Whether the API server did not answer what was asked, or only that it has no time now: another try may help.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Slow { .. } => true,
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => matches!(status.code, 429 | 503 | 504),
                kube::Error::SerdeError(_) => false,
                _ => true,
            },
        }
    }
}

/// Makes a call to the API server within a time limit.
///
/// # Errors
/// When it fails or takes longer.
pub async fn call<T>(
    doing: &'static str,
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(|source| CallError::Api { doing, source: Box::new(source) }),
        Err(_) => Err(CallError::Slow { doing, limit }),
    }
}

/// Whether the object is not there, or its very kind. Of a kind without a definition the API server speaks in plain text, which
/// [`Status::is_not_found`] does not understand.
pub fn is_missing(status: &Status) -> bool {
    status.code == 404
}

/// What an API error says, without the values of the refused object: they could be codes or phone numbers.
pub fn describe(error: &kube::Error) -> String {
    match error {
        // Kubernetes' own policies refuse with the code of an invalid object, and say what is wrong in words of the platform's.
        kube::Error::Api(status) if let Some(words) = policy_words(&status.message) => {
            format!("a policy refuses it ({}): {words}", status.code)
        }
        kube::Error::Api(status) if status.is_invalid() => {
            format!("the API server calls the object invalid ({})", status.code)
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        kube::Error::SerdeError(_) => "the answer does not fit this version's types".into(),
        other => credentials::blamed(other).unwrap_or_else(|| other.to_string()),
    }
}

/// Which cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// A kubeconfig file; else KUBECONFIG, ~/.kube/config or the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; else its current one.
    pub context: Option<String>,
}

/// Why the API server cannot be used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Neither a kubeconfig nor a pod, or one that cannot be used.
    #[error(
        "no usable Kubernetes configuration: {0}; check --kubeconfig, --context and KUBECONFIG, or run in a pod with a service account"
    )]
    Nowhere(String),
    /// There is a proxy on the way that cannot be used.
    #[error("cannot reach the API server: {0}")]
    Proxy(#[from] ProxyError),
    /// No connection.
    #[error(
        "no answer from the API server at {url}: {cause}; check that it runs and that the kubeconfig names its address"
    )]
    Unreachable {
        /// Its address.
        url: String,
        /// The cause.
        cause: String,
    },
    /// It does not know the kind.
    #[error(
        "the API server does not serve {plural}; install the definitions: whatsapp-operator crd | kubectl apply --server-side -f -"
    )]
    NotInstalled {
        /// The plural.
        plural: String,
    },
    /// It does not allow it.
    #[error("the API server refuses to list {plural}: {cause}; check the service account's ClusterRole")]
    Refused {
        /// The plural.
        plural: String,
        /// The cause.
        cause: String,
    },
}

impl From<Unusable> for ClusterError {
    fn from(error: Unusable) -> Self {
        match error {
            Unusable::Proxy(error) => Self::Proxy(error),
            error => Self::Nowhere(root_cause(&error)),
        }
    }
}

/// A client of the cluster, and the cluster's address for messages.
///
/// # Errors
/// When there is no usable configuration; nothing is sent yet.
pub fn connect(cluster: &Cluster) -> Result<(Client, String), ClusterError> {
    let config = configuration(cluster)?;
    let url = place(&config);
    Ok((client(config)?, url))
}

/// A client of the cluster that brings no credentials of its own, no client certificate either: its user adds a
/// bearer token to each request, and is to the API server the one whose token that is.
///
/// # Errors
/// When there is no usable configuration; nothing is sent yet.
pub fn connect_without_credentials(cluster: &Cluster) -> Result<Client, ClusterError> {
    let mut config = configuration(cluster)?;
    config.auth_info = AuthInfo::default();
    config.headers.clear();
    client(config)
}

/// A client that waits for the head of an answer no longer than [`ANSWER`].
fn client(config: Config) -> Result<Client, ClusterError> {
    let once = Client::try_from(config).map_err(|error| ClusterError::Nowhere(root_cause(&error)))?;
    Ok(repeated::client(once, ANSWER))
}

/// Where the API server is, for messages, and how it is reached when that is not directly.
pub fn place(config: &Config) -> String {
    let server = shown(&config.cluster_url);
    match &config.proxy_url {
        Some(proxy) => format!("{server} (through the proxy {})", shown(proxy).trim_end_matches('/')),
        None => server,
    }
}

/// How the cluster is reached.
fn configuration(cluster: &Cluster) -> Result<Config, ClusterError> {
    let found = kubeconfig::find(cluster.kubeconfig.as_deref(), cluster.context.as_deref());
    let mut config = found?.config;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // The client's own policy retries for up to a quarter of an hour inside one call; ours is the only one.
    config.default_retry = false;
    Ok(config)
}

/// For how long a program that starts asks an API server again that answers, and has no time or no storage for it now: a program that ended
/// for it would be started again after minutes.
const BUSY: Duration = Duration::from_secs(15);
/// Between two such questions.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Lists one object of a kind, to say in one sentence what is wrong instead of retrying for ever.
///
/// # Errors
/// When the API server does not answer, does not know the kind or does not allow it.
pub async fn probe<K>(api: &Api<K>, url: &str) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    probe_for(api, url, BUSY).await
}

async fn probe_for<K>(api: &Api<K>, url: &str, patience: Duration) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let plural = K::plural(&()).into_owned();
    let page = ListParams::default().limit(1);
    let unreachable = |cause: String| ClusterError::Unreachable { url: url.into(), cause };
    let began = Instant::now();
    loop {
        let source = match call("list one object", CALL_TIMEOUT, api.list_metadata(&page)).await {
            Ok(_) => return Ok(()),
            Err(CallError::Slow { .. }) => return Err(unreachable("timed out".into())),
            Err(CallError::Api { source, .. }) => source,
        };
        return Err(match *source {
            kube::Error::Api(status) if is_missing(&status) => ClusterError::NotInstalled { plural },
            kube::Error::Api(status) if may_pass(&status) => {
                if began.elapsed() < patience {
                    sleep(BUSY_PAUSE).await;
                    continue;
                }
                unreachable(format!("{} ({})", status.message, status.code))
            }
            kube::Error::Api(status) => ClusterError::Refused { plural, cause: status.message.clone() },
            error => unreachable(root_cause(&error)),
        });
    }
}

/// Whether a refusal says something of the API server, and nothing of who asks.
fn may_pass(status: &Status) -> bool {
    status.code == 429 || status.code >= 500
}

/// Replaces the status of the very object it was computed from: its uid and resourceVersion are the condition.
///
/// Of all ways to write a status this costs the API server least, and it is its CPU that decides how fast thousands of
/// sessions come up: an apply is read as YAML and merged field by field, a merge patch takes one more trip through JSON. Our
/// statuses have one writer each, so there is nothing to merge. Only what the API server looks at is sent; `spec` and the rest
/// of the metadata stay what they are whatever a status write says of them.
///
/// # Errors
/// A conflict when the object has been written since; otherwise any failure of the call.
pub async fn replace_status<K, R>(
    api: &Api<K>,
    of: &R,
    status: &impl Serialize,
    field_manager: &str,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
    R: Resource<DynamicType = ()>,
{
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Precondition<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        uid: Option<&'a str>,
        resource_version: Option<&'a str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Update<'a, S> {
        api_version: &'a str,
        kind: &'a str,
        metadata: Precondition<'a>,
        status: &'a S,
    }
    let (meta, name) = (of.meta(), of.name_any());
    let body = Update {
        api_version: &R::api_version(&()),
        kind: &R::kind(&()),
        metadata: Precondition {
            name: &name,
            namespace: meta.namespace.as_deref(),
            uid: meta.uid.as_deref(),
            resource_version: meta.resource_version.as_deref(),
        },
        status,
    };
    let params = PostParams { field_manager: Some(field_manager.to_owned()), ..PostParams::default() };
    api.replace_subresource("status", &name, &params, &body).await
}

/// An object's resource version, 0 without one. Those of one kind are comparable decimal numbers (KEP-5504, guaranteed since
/// Kubernetes 1.35 and true of every etcd-backed API server before).
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Escapes a value for a field selector, as k8s.io/apimachinery/pkg/fields `EscapeValue` does.
pub fn escape_selector(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

/// The innermost error. Of a credential plugin, what it did and nothing that it printed.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    credentials::blamed(error).unwrap_or_else(|| innermost(error))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_kind_without_a_definition_is_named_as_such() {
        let unknown = async || (axum::http::StatusCode::NOT_FOUND, "404 page not found\n");
        let api: Api<Secret> = Api::all(Client::new(axum::Router::new().fallback(unknown), "ns"));
        let text = probe(&api, "https://cluster").await.unwrap_err().to_string();
        assert!(text.contains("does not serve secrets"), "{text}");
    }

    #[tokio::test]
    async fn an_api_server_that_has_no_time_is_asked_again_for_a_while_and_no_right_is_missed() {
        use axum::{Json, http::StatusCode, response::IntoResponse as _};
        let busy_for = |times: usize, code: u16| {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&asked);
            let answer = async move || {
                let status = json!({"status": "Failure", "message": "not now", "code": code});
                if count.fetch_add(1, Ordering::Relaxed) < times {
                    return (StatusCode::from_u16(code).unwrap(), Json(status)).into_response();
                }
                let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": []});
                Json(list).into_response()
            };
            let api: Api<Secret> = Api::all(Client::new(axum::Router::new().fallback(answer), "ns"));
            (api, asked)
        };
        for code in [429, 500, 503, 504] {
            probe(&busy_for(1, code).0, "https://cluster").await.unwrap();
            let for_ever = busy_for(usize::MAX, code).0;
            let error = probe_for(&for_ever, "https://cluster", Duration::ZERO).await.unwrap_err();
            assert!(
                matches!(error, ClusterError::Unreachable { .. }) && error.to_string().contains("not now"),
                "{error}"
            );
        }
        let (refusing, asked) = busy_for(usize::MAX, 403);
        assert!(matches!(probe(&refusing, "https://cluster").await, Err(ClusterError::Refused { .. })));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_missing_kubeconfig_is_named_with_the_flag() {
        let cluster = Cluster { kubeconfig: Some("/nonexistent/kubeconfig".into()), context: None };
        let text = connect(&cluster).err().unwrap().to_string();
        assert!(text.contains("/nonexistent/kubeconfig") && text.contains("--kubeconfig"), "{text}");
    }
}
