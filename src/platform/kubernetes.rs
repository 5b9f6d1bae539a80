//! The Kubernetes client: where it comes from, and one sentence when it does not.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// One call to the API server, answer included.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The kubeconfig is missing or malformed.
    #[error("read kubeconfig {file}: {cause}; check --kubeconfig and --context")]
    Kubeconfig {
        /// The file.
        file: String,
        /// The cause.
        cause: String,
    },
    /// Neither a kubeconfig nor a pod.
    #[error("no Kubernetes configuration: {0}; set --kubeconfig or KUBECONFIG, or run in a pod with a service account")]
    Nowhere(String),
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

/// A client of the cluster, and the cluster's address for messages.
///
/// # Errors
/// When there is no usable configuration; nothing is sent yet.
pub async fn connect(cluster: &Cluster) -> Result<(Client, String), ClusterError> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    let mut config = if let Some(file) = &cluster.kubeconfig {
        let named = |cause: String| ClusterError::Kubeconfig { file: file.display().to_string(), cause };
        let read = Kubeconfig::read_from(file).map_err(|error| named(chain(&error)))?;
        Config::from_custom_kubeconfig(read, &options).await.map_err(|error| named(chain(&error)))?
    } else if cluster.context.is_some() {
        Config::from_kubeconfig(&options).await.map_err(|error| ClusterError::Nowhere(chain(&error)))?
    } else {
        Config::infer().await.map_err(|error| ClusterError::Nowhere(chain(&error)))?
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    // The client's own policy retries for up to a quarter of an hour inside one call; ours is the only one.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| ClusterError::Nowhere(chain(&error)))?;
    Ok((client, url))
}

/// Lists one object of a kind, to say in one sentence what stands in the way instead of retrying for ever.
///
/// # Errors
/// When the API server does not answer, does not know the kind or does not allow it.
pub async fn probe<K>(api: &Api<K>, url: &str) -> Result<(), ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let plural = K::plural(&()).into_owned();
    let page = ListParams::default().limit(1);
    match tokio::time::timeout(CALL_TIMEOUT, api.list_metadata(&page)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Err(ClusterError::NotInstalled { plural }),
        Ok(Err(kube::Error::Api(status))) => Err(ClusterError::Refused { plural, cause: status.message.clone() }),
        Ok(Err(error)) => Err(ClusterError::Unreachable { url: url.into(), cause: chain(&error) }),
        Err(_) => Err(ClusterError::Unreachable { url: url.into(), cause: "timed out".into() }),
    }
}

/// An object's resource version, 0 without one. Those of one kind are comparable decimal numbers (KEP-5504, guaranteed since
/// Kubernetes 1.35 and true of every etcd-backed API server before).
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// An error and its innermost cause, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_the_flag() {
        let cluster = Cluster { kubeconfig: Some("/nonexistent/kubeconfig".into()), context: None };
        let text = connect(&cluster).await.err().unwrap().to_string();
        assert!(text.contains("/nonexistent/kubeconfig") && text.contains("--kubeconfig"), "{text}");
    }
}
