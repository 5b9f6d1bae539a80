//! From a kubeconfig to how its API server is reached.
//!
//! The client library could do this, but reads the variables for proxies on its way: it does not ask whether `NO_PROXY` covers
//! the API server, and takes no kubeconfig at all where a comma ends that list. So the few lines are ours, and the proxy is what
//! [`cluster_proxy`](super::cluster_proxy) says. It also refuses all files of `KUBECONFIG` where one does not exist.

use std::{
    env,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use axum::http::{Uri, uri::Scheme};
use kube::{
    Config,
    config::{ExecAuthCluster, Kubeconfig, KubeconfigError},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

use super::{
    cluster_proxy::{Environment, ProxyError},
    credentials,
};

/// A kubeconfig that leads nowhere.
#[derive(Debug, Error)]
pub enum Unusable {
    /// There is no file.
    #[error("there is no kubeconfig{}", .0.iter().map(|file| format!(" at {}", file.display())).collect::<Vec<_>>().join(" or"))]
    Missing(Vec<PathBuf>),
    /// It does not read, or lacks something. The YAML reader quotes the lines around a mistake, and there may be a token among them.
    #[error("{}", .0.to_string().lines().next().unwrap_or_default())]
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

/// How a cluster is reached.
#[derive(Debug)]
pub struct Found {
    /// For the client.
    pub config: Config,
    /// The context it is by; none when it is the pod's own service account.
    pub context: Option<String>,
}

/// The cluster of a context, of the current one when none is named. In a pod without any kubeconfig it is the pod's own, as for kubectl.
///
/// # Errors
/// When there is no such context, or something of it does not read: it may name another cluster than the pod's.
pub fn find(file: Option<&Path>, context: Option<&str>) -> Result<Found, Unusable> {
    let environment = Environment::read();
    let kubeconfig = match read(file) {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => {
            let inside = may_be_inside(&error, context).then(Config::incluster).and_then(Result::ok);
            let Some(mut config) = inside else { return Err(error) };
            through(&mut config, None, &environment)?;
            return Ok(Found { config, context: None });
        }
    };
    let config = config(&kubeconfig, context, &environment)?;
    Ok(Found { config, context: context.map(str::to_owned).or(kubeconfig.current_context) })
}

fn may_be_inside(error: &Unusable, context: Option<&str>) -> bool {
    matches!(error, Unusable::Missing(_)) && context.is_none()
}

/// What a file says, or the files of `KUBECONFIG` together, or the one in the home directory.
///
/// # Errors
/// When there is none ([`Unusable::Missing`], unless one was named), or one does not read.
pub fn read(file: Option<&Path>) -> Result<Kubeconfig, Unusable> {
    match file {
        Some(file) => Ok(Kubeconfig::read_from(file)?),
        None => together(files(env::var_os("KUBECONFIG").as_deref(), env::home_dir().as_deref())),
    }
}

fn files(listed: Option<&OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    let listed = listed.into_iter().flat_map(env::split_paths);
    let listed: Vec<_> = listed.filter(|file| !file.as_os_str().is_empty()).collect();
    if listed.is_empty() { home.map(|home| home.join(".kube").join("config")).into_iter().collect() } else { listed }
}

/// Of two files the first counts. One that does not exist is passed over, as by kubectl, which makes it when it has something to
/// write there.
fn together(files: Vec<PathBuf>) -> Result<Kubeconfig, Unusable> {
    let mut merged: Option<Kubeconfig> = None;
    for file in &files {
        let next = match Kubeconfig::read_from(file) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        merged = Some(match merged {
            Some(before) => before.merge(next)?,
            None => next,
        });
    }
    merged.ok_or(Unusable::Missing(files))
}

/// The cluster, credentials and namespace of a context; of the current one when none is named.
fn config(kubeconfig: &Kubeconfig, context: Option<&str>, environment: &Environment) -> Result<Config, Unusable> {
    let name = context.or(kubeconfig.current_context.as_deref()).ok_or(KubeconfigError::CurrentContextNotSet)?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref());
    let context = context.ok_or_else(|| KubeconfigError::LoadContext(name.to_owned()))?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| KubeconfigError::LoadClusterOfContext(context.cluster.clone()))?;
    // A user that is missing has no credentials, as for kubectl.
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
    if let Some(exec) = &mut user.exec {
        credentials::keep_input_from(exec);
        if exec.provide_cluster_info {
            exec.cluster = Some(read);
        }
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
fn through(config: &mut Config, stated: Option<&str>, environment: &Environment) -> Result<(), ProxyError> {
    config.proxy_url = environment.proxy(&config.cluster_url, stated)?;
    if config.proxy_url.is_some() && config.cluster_url.scheme() == Some(&Scheme::HTTP) {
        config.cluster_url = with_port(&config.cluster_url);
    }
    Ok(())
}

/// A tunnel is made to a port, and the client library takes 443 where none is given.
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
    fn files_that_do_not_exist_are_passed_over_and_one_that_does_not_read_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("first"), KUBECONFIG).unwrap();
        let second = "current-context: two\ncontexts: [{name: one, context: {cluster: other}}, {name: two, context: {cluster: other}}]\n";
        std::fs::write(file("second"), second).unwrap();
        std::fs::write(file("broken"), "contexts: [").unwrap();
        let read = |names: &[&str]| together(names.iter().map(|name| file(name)).collect());
        let both = read(&["none", "first", "second"]).unwrap();
        assert_eq!(both.current_context.as_deref(), Some("one"));
        let cluster = |name: &str| {
            let named = both.contexts.iter().find(|named| named.name == name).unwrap();
            named.context.as_ref().unwrap().cluster.clone()
        };
        assert_eq!((cluster("one"), cluster("two")), ("c".to_owned(), "other".to_owned()));
        assert_eq!(read(&["second", "none"]).unwrap().current_context.as_deref(), Some("two"));
        for broken in [&["broken"][..], &["first", "broken"], &["none", "broken"], &["."]] {
            assert!(matches!(read(broken), Err(Unusable::Kubeconfig(_))), "{broken:?}");
        }
        let error = read(&["none", "nor"]).unwrap_err();
        let (none, nor) = (file("none"), file("nor"));
        assert_eq!(error.to_string(), format!("there is no kubeconfig at {} or at {}", none.display(), nor.display()));
        assert!(matches!(error, Unusable::Missing(_)));
        assert_eq!(together(Vec::new()).unwrap_err().to_string(), "there is no kubeconfig");
    }

    #[test]
    fn only_where_there_is_no_kubeconfig_at_all_the_pods_account_counts() {
        let missing = Unusable::Missing(Vec::new());
        assert!(may_be_inside(&missing, None) && !may_be_inside(&missing, Some("one")));
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("none", None), ("broken", Some("users:\n- token: hush\n  x: [\n"))] {
            let file = directory.path().join(name);
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let error = read(Some(&file)).unwrap_err();
            assert!(!may_be_inside(&error, None), "{name}");
            let told = error.to_string();
            assert!(!told.contains('\n') && !told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn the_list_counts_before_the_home_directory_unless_it_is_empty() {
        let home = Some(Path::new("/home/anna"));
        let of = |listed: Option<&str>| files(listed.map(OsStr::new), home);
        assert_eq!(of(Some("/a::/b:")), [PathBuf::from("/a"), PathBuf::from("/b")]);
        for none in [None, Some(""), Some(":")] {
            assert_eq!(of(none), [PathBuf::from("/home/anna/.kube/config")], "{none:?}");
        }
        assert!(files(None, None).is_empty());
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
