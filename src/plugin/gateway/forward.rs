//! The way to the gateway's pod through the API server, as `kubectl port-forward` goes: a port of this machine, which is ours
//! alone while the verb runs.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Portforwarder},
};
use reqwest::Url;
use tokio::{
    io::{DuplexStream, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::{
    platform::refusal::{Refusal, refusal},
    plugin::{
        client::Cluster,
        error::{Attempt, PluginError, root_cause},
    },
};

/// How an installation labels the gateway's Service.
const LABELS: &str = "app.kubernetes.io/name=whatsapp-operator,app.kubernetes.io/component=gateway";
/// A connection through the API server and a kubelet that takes longer is not coming.
const CONNECT: Duration = Duration::from_secs(15);

/// A port here that leads to a gateway. It is closed when dropped.
pub struct Forward {
    service: String,
    namespace: String,
    host: String,
    scheme: &'static str,
    local: SocketAddr,
    accepting: AbortHandle,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {} in namespace {}", self.service, self.namespace)
    }
}

impl Forward {
    /// Finds the gateway's Service and one of its pods, and opens a port that leads there.
    pub async fn open(cluster: &Cluster) -> Result<Self, PluginError> {
        let service = service(cluster).await?;
        let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
        let (scheme, port) = port(&service).ok_or_else(|| {
            missing(&format!("Service \"{name}\" in namespace \"{namespace}\" has no port named http or https"))
        })?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
        let selector = service.spec.iter().filter_map(|spec| spec.selector.as_ref()).flatten();
        let selector: Vec<String> = selector.map(|(key, value)| format!("{key}={value}")).collect();
        if selector.is_empty() {
            return Err(missing(&format!("Service \"{name}\" in namespace \"{namespace}\" selects no pods")));
        }
        let params = ListParams::default().labels(&selector.join(","));
        let attempt = Attempt { verb: "list", namespace: Some(&namespace), name: None };
        let found =
            cluster.limited(attempt, pods.list(&params)).await.map_err(|error| denied(error, "pods", &namespace))?;
        let pod = found.items.into_iter().find(is_ready);
        let pod =
            pod.ok_or_else(|| missing(&format!("no pod of Service \"{name}\" in namespace \"{namespace}\" is ready")))?;
        let port = number(&port, &pod).ok_or_else(|| {
            missing(&format!("the pods of Service \"{name}\" in namespace \"{namespace}\" do not have its port"))
        })?;
        let closed =
            |error: std::io::Error| missing(&format!("no port of this machine can be opened for it ({error})"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(closed)?;
        let local = listener.local_addr().map_err(closed)?;
        // The first connection is made now, so that a missing right is told as one.
        let first = connect(&pods, &pod.name_any(), port).await.map_err(|error| match error {
            // It is a WebSocket, which is opened by GET: API servers ask for the right to get, and from 1.35 on also for that to create.
            kube::Error::Api(status) if matches!(refusal(&status), Refusal::RightMissing { .. }) => PluginError::Ended(format!(
                "you may not reach the gateway's pods through the API server; ask for a role with the verbs \"get\" and \"create\" on pods/portforward in namespace \"{namespace}\", or give the gateway's address with --gateway URL"
            )),
            error => missing(&format!("pod \"{}\" cannot be reached through the API server: {}", pod.name_any(), root_cause(&error))),
        })?;
        drop(first);
        let accepting = tokio::spawn(accept(listener, pods, pod.name_any(), port)).abort_handle();
        let host = format!("{name}.{namespace}.svc");
        Ok(Self { service: name, namespace, host, scheme, local, accepting })
    }

    /// The name that the gateway's certificate has.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where that name is.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The gateway's address.
    pub fn url(&self) -> Result<Url, PluginError> {
        let text = format!("{}://{}:{}/", self.scheme, self.host, self.local.port());
        Url::parse(&text).map_err(|_| missing("its Service has a name that is none"))
    }
}

/// The one Service with an installation's labels, in the cluster or, where that may not be asked, in this namespace.
async fn service(cluster: &Cluster) -> Result<Service, PluginError> {
    let params = ListParams::default().labels(LABELS);
    let everywhere: Api<Service> = Api::all(cluster.client.clone());
    let attempt = Attempt { verb: "list", namespace: None, name: None };
    let mut found = match cluster.limited(attempt, everywhere.list(&params)).await {
        Ok(found) => found.items,
        Err(PluginError::Forbidden { .. }) => {
            let here: Api<Service> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let attempt = Attempt { namespace: Some(&cluster.namespace), ..attempt };
            let found = cluster.limited(attempt, here.list(&params)).await;
            found.map_err(|error| nowhere_listed(error, &cluster.namespace))?.items
        }
        Err(error) => return Err(error),
    };
    // With several, the one beside the instances.
    found.sort_by_key(|service| service.namespace().as_deref() != Some(cluster.namespace.as_str()));
    let count = found.len();
    let mut found = found.into_iter();
    match (found.next(), count) {
        (None, _) => Err(missing(&format!("no Service has the labels {LABELS}"))),
        (Some(first), 1) => Ok(first),
        (Some(first), _) if first.namespace().as_deref() == Some(cluster.namespace.as_str()) => Ok(first),
        _ => Err(missing(&format!(
            "{count} Services have the labels {LABELS}, none of them in namespace \"{}\"",
            cluster.namespace
        ))),
    }
}

/// The port of the API: its scheme and where it leads in a pod.
fn port(service: &Service) -> Option<(&'static str, IntOrString)> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ["https", "http"].into_iter().find_map(|scheme| {
        let port = ports.iter().find(|port| port.name.as_deref() == Some(scheme))?;
        Some((scheme, port.target_port.clone().unwrap_or(IntOrString::Int(port.port))))
    })
}

/// The number of a port that a pod may give a name.
fn number(port: &IntOrString, pod: &Pod) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

type Connection = (Portforwarder, DuplexStream);

async fn connect(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Connection, kube::Error> {
    let late = || kube::Error::Service("no answer in time".into());
    let forwarded = tokio::time::timeout(CONNECT, pods.portforward(pod, &[port])).await;
    let mut forwarder = forwarded.map_err(|_| late())??;
    let stream = forwarder.take_stream(port).ok_or_else(late)?;
    Ok((forwarder, stream))
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(pass(socket, pods.clone(), pod.clone(), port));
    }
}

/// Passes one connection on. If the pod cannot be reached, the connection is closed, and the client reports that.
async fn pass(mut socket: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let Ok((forwarder, mut stream)) = connect(&pods, &pod, port).await else { return };
    let _ = copy_bidirectional(&mut socket, &mut stream).await;
    drop(stream);
    forwarder.abort();
}

fn missing(why: &str) -> PluginError {
    PluginError::NoGateway(why.to_owned())
}

/// Of Services, of which those in all namespaces were asked for first.
fn nowhere_listed(error: PluginError, namespace: &str) -> PluginError {
    match error {
        PluginError::Forbidden { .. } => {
            missing(&format!("you may list services neither in all namespaces nor in namespace \"{namespace}\""))
        }
        other => other,
    }
}

fn denied(error: PluginError, what: &str, namespace: &str) -> PluginError {
    match error {
        PluginError::Forbidden { .. } => missing(&format!("you may not list {what} in namespace \"{namespace}\"")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(ports: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "gateway"}, "spec": {"ports": ports}})).unwrap()
    }

    #[test]
    fn the_port_is_the_one_with_a_schemes_name_and_tls_comes_first() {
        let named = |name: &str, target: Value| json!({"name": name, "port": 80, "targetPort": target});
        let both = service(json!([named("http", json!(8000)), named("https", json!("tls"))]));
        assert_eq!(port(&both), Some(("https", IntOrString::String("tls".into()))));
        let without = service(json!([{"name": "http", "port": 8000}, named("metrics", json!(9090))]));
        assert_eq!(port(&without), Some(("http", IntOrString::Int(8000))));
        assert_eq!(port(&service(json!([named("metrics", json!(9090))]))), None);
        assert_eq!(port(&Service::default()), None);
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let forbidden = || PluginError::Forbidden { verb: "list", scope: String::new() };
        let services = nowhere_listed(forbidden(), "team").to_string();
        assert!(services.contains("neither in all namespaces nor in namespace \"team\""), "{services}");
        let pods = denied(forbidden(), "pods", "team").to_string();
        assert!(pods.contains("may not list pods in namespace \"team\"") && pods.contains("--gateway"), "{pods}");
    }

    #[test]
    fn a_pod_has_the_port_by_its_name_and_is_ready() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "a", "ports": [{"name": "api", "containerPort": 8000}]}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        assert_eq!(number(&IntOrString::String("api".into()), &pod), Some(8000));
        assert_eq!(number(&IntOrString::String("other".into()), &pod), None);
        assert_eq!(number(&IntOrString::Int(70_000), &pod), None);
        assert!(is_ready(&pod) && !is_ready(&Pod::default()));
    }
}
