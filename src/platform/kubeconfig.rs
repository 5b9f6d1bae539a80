//! From a kubeconfig to how its API server is reached.
//!
//! The client library could do this, but reads the variables for proxies on its way: it does not ask whether `NO_PROXY` covers
//! the API server, and takes no kubeconfig at all where a comma ends that list. So the few lines are ours, and the proxy is what
//! [`cluster_proxy`](super::cluster_proxy) says.

use axum::http::{Uri, uri::Scheme};
use kube::{
    Config,
    config::{ExecAuthCluster, Kubeconfig, KubeconfigError},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

use super::cluster_proxy::{Environment, ProxyError};

/// A kubeconfig that leads nowhere.
#[derive(Debug, Error)]
pub enum Unusable {
    /// It lacks something.
    #[error(transparent)]
    Kubeconfig(Box<KubeconfigError>),
    /// Its authorities do not read.
    #[error("the certificate authority of cluster \"{0}\" is not in PEM")]
    Authority(String),
    /// There is a proxy on the way that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl From<KubeconfigError> for Unusable {
    fn from(error: KubeconfigError) -> Self {
        Self::Kubeconfig(Box::new(error))
    }
}

/// The cluster, credentials and namespace of a context; of the current one when none is named.
///
/// # Errors
/// When there is no such context, it is not complete, or its proxy cannot be used.
pub fn config(kubeconfig: &Kubeconfig, context: Option<&str>, environment: &Environment) -> Result<Config, Unusable> {
    let name = context.or(kubeconfig.current_context.as_deref()).ok_or(KubeconfigError::CurrentContextNotSet)?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref());
    let context = context.ok_or_else(|| KubeconfigError::LoadContext(name.to_owned()))?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| KubeconfigError::LoadClusterOfContext(context.cluster.clone()))?;
    // A user that is missing is nobody, as for kubectl.
    let user = kubeconfig.auth_infos.iter().find(|named| Some(&named.name) == context.user.as_ref());
    let mut user = user.and_then(|named| named.auth_info.clone()).unwrap_or_default();
    let read = ExecAuthCluster::try_from(cluster)?;
    let server = cluster.server.as_deref().ok_or(KubeconfigError::MissingClusterUrl)?;
    let mut config = Config::new(server.parse().map_err(KubeconfigError::ParseClusterUrl)?);
    if let Some(authorities) = &read.certificate_authority_data {
        let authorities = CertificateDer::pem_slice_iter(authorities).map(|one| one.map(|one| one.to_vec()));
        config.root_cert =
            Some(authorities.collect::<Result<_, _>>().map_err(|_| Unusable::Authority(context.cluster.clone()))?);
    }
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        exec.cluster = Some(read);
    }
    config.auth_info = user;
    if let Some(namespace) = &context.namespace {
        config.default_namespace.clone_from(namespace);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    through(&mut config, cluster.proxy_url.as_deref(), environment)?;
    Ok(config)
}

/// Has the API server reached through the proxy that counts, if one does. `stated` is the kubeconfig's `proxy-url`.
///
/// # Errors
/// When that proxy cannot be used.
pub fn through(config: &mut Config, stated: Option<&str>, environment: &Environment) -> Result<(), ProxyError> {
    config.proxy_url = environment.proxy(&config.cluster_url, stated)?;
    if config.proxy_url.is_some() && config.cluster_url.scheme() == Some(&Scheme::HTTP) {
        config.cluster_url = with_port(&config.cluster_url);
    }
    Ok(())
}

/// A tunnel is made to a port, and the client library takes 443 where none stands.
fn with_port(url: &Uri) -> Uri {
    let Some(authority) = url.authority().filter(|authority| authority.port_u16().is_none()) else {
        return url.clone();
    };
    let mut parts = url.clone().into_parts();
    parts.authority = format!("{authority}:80").parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c, cluster: {server: 'https://k8s.example.com:6443', tls-server-name: other, insecure-skip-tls-verify: true}}
- {name: proxied, cluster: {server: 'http://k8s.example.com', proxy-url: 'http://stated:3128'}}
- {name: bad, cluster: {server: 'https://k8s.example.com', certificate-authority-data: bm90aGluZw==}}
- {name: worse, cluster: {server: 'https://k8s.example.com', certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCiEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=}}
users:
- {name: u, user: {token: t}}
- {name: e, user: {exec: {apiVersion: v1, command: x, provideClusterInfo: true, interactiveMode: Never}}}
contexts:
- {name: one, context: {cluster: c, user: u, namespace: team}}
- {name: exec, context: {cluster: c, user: e}}
- {name: nobody, context: {cluster: proxied, user: missing}}
- {name: bad, context: {cluster: bad}}
- {name: worse, context: {cluster: worse}}
- {name: broken, context: {cluster: nowhere, user: u}}
";

    fn of(context: Option<&str>, variables: &'static [(&str, &str)]) -> Result<Config, Unusable> {
        let value = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        config(&Kubeconfig::from_yaml(KUBECONFIG).unwrap(), context, &Environment::of(value))
    }

    #[test]
    fn a_context_is_its_cluster_user_and_namespace() {
        let one = of(None, &[]).unwrap();
        assert_eq!(one.cluster_url, "https://k8s.example.com:6443");
        assert_eq!((one.default_namespace.as_str(), one.tls_server_name.as_deref()), ("team", Some("other")));
        assert!(one.accept_invalid_certs && one.auth_info.token.is_some() && one.proxy_url.is_none());
        let exec = of(Some("exec"), &[]).unwrap();
        assert_eq!(exec.default_namespace, "default");
        let told = exec.auth_info.exec.unwrap().cluster.unwrap();
        assert_eq!(told.server.as_deref(), Some("https://k8s.example.com:6443"));
        let nobody = of(Some("nobody"), &[]).unwrap();
        assert!(nobody.auth_info.token.is_none() && !nobody.accept_invalid_certs);
        assert_eq!(nobody.proxy_url.unwrap(), "http://stated:3128/");
        assert_eq!(nobody.cluster_url, "http://k8s.example.com:80");
        for (context, words) in
            [("none", "current context: none"), ("broken", "nowhere"), ("worse", "\"worse\" is not in PEM")]
        {
            assert!(of(Some(context), &[]).unwrap_err().to_string().contains(words), "{context}");
        }
        assert_eq!(of(Some("bad"), &[]).unwrap().root_cert, Some(Vec::new()), "it trusts nobody, as for kubectl");
    }

    #[test]
    fn the_variables_for_proxies_count_only_where_they_are_meant() {
        let through = of(None, &[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost,.svc,")]).unwrap();
        assert_eq!(through.proxy_url.unwrap(), "http://proxy:3128/");
        let past = of(None, &[("HTTPS_PROXY", "no address"), ("NO_PROXY", "example.com,")]).unwrap();
        assert!(past.proxy_url.is_none());
        let error = of(None, &[("HTTPS_PROXY", "ftp://anna:secret@proxy")]).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("secret"), "{error}");
    }
}
