//! Asks the API server. Every question may be refused or stay without an answer; the others are asked all the same.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Request, request::Builder};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::seen::{Access, Answer, Seen, list, text};
use crate::{
    api::{GROUP, VERSION},
    plugin::{
        client::Cluster,
        error::{Attempt, PluginError, root_cause},
    },
};

/// How the chart labels what is its own.
const LABELS: &str = "app.kubernetes.io/name=whatsapp-operator";
/// Pods that are asked for their pages and logs.
const PODS: usize = 20;
/// Events that are kept, the newest.
const EVENTS: usize = 200;
/// Objects of one kind that are asked for at once.
const OBJECTS: usize = 500;
/// How often, for one kind: twice as many instances as one operator is made for.
const PAGES: usize = 40;
/// The same for events, of which a cluster has very many that are not ours.
const PAGES_OF_EVENTS: usize = 4;

/// Everything there is to see. `log_lines` says how much of each pod's log; none when no file is to be written.
///
/// # Errors
/// When the API server cannot be reached at all.
pub async fn collect(cluster: &Cluster, log_lines: Option<u32>) -> Result<Seen, PluginError> {
    let attempt = Attempt { verb: "get", namespace: None, name: None };
    let server = match cluster.limited(attempt, cluster.client.apiserver_version()).await {
        Ok(version) => Ok(version.git_version),
        Err(error) if error.is_passing() => return Err(error),
        Err(error) => Err(error.to_string()),
    };
    let ours = |plural: &str| format!("/apis/{GROUP}/{VERSION}/{plural}?limit={OBJECTS}");
    let asked = Asked { cluster };
    let bridges = asked.items(&ours("whatsappbridges")).await;
    let workloads = asked.workloads().await;
    let pods = asked.installed("/api/v1", "pods").await;
    let references: BTreeSet<(String, String)> = bridges.iter().flatten().map(secret_of).collect();
    let namespaces: BTreeSet<&str> = pods.iter().flatten().map(|pod| text(pod, "/metadata/namespace")).collect();
    let (events, secrets) = (asked.events(&namespaces).await, asked.secrets(&references).await);
    let access = asked.access(workloads.as_deref().unwrap_or_default(), &references).await;
    let (pages, logs) = match log_lines {
        Some(lines) => asked.pages_and_logs(pods.as_deref().unwrap_or_default(), lines).await,
        None => Default::default(),
    };
    Ok(Seen {
        at: Timestamp::now(),
        namespace: cluster.namespace.clone(),
        plugin: env!("CARGO_PKG_VERSION"),
        server,
        definitions: asked.definitions().await,
        webhooks: asked.webhooks().await,
        trial: asked.trial().await,
        owners: asked.items(&ours("whatsappowners")).await,
        instances: asked.items(&ours("whatsappinstances")).await,
        workloads,
        pods,
        bridges,
        secrets,
        access,
        events,
        pages,
        logs,
    })
}

struct Asked<'a> {
    cluster: &'a Cluster,
}

impl Asked<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.send(Request::get(path), &Value::Null).await
    }

    async fn send<T: DeserializeOwned>(&self, request: Builder, body: &Value) -> Answer<T> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request =
            request.header("content-type", "application/json").body(body).map_err(|error| error.to_string())?;
        self.answered(self.cluster.client.request(request)).await
    }

    async fn text(&self, path: &str) -> Answer<String> {
        let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        self.answered(self.cluster.client.request_text(request)).await
    }

    async fn answered<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Answer<T> {
        let answer = match self.cluster.request_timeout {
            None => request.await,
            Some(limit) => tokio::time::timeout(limit, request).await.map_err(|_| "no answer in time".to_owned())?,
        };
        answer.map_err(|error| match error {
            kube::Error::Api(status) => status.message.clone(),
            other => root_cause(&other),
        })
    }

    /// The objects of a list. Lists do not say of what kind their items are; the items do afterwards.
    async fn items(&self, path: &str) -> Answer<Vec<Value>> {
        self.pages(path, PAGES).await
    }

    /// The same, of at most so many pages.
    async fn pages(&self, path: &str, pages: usize) -> Answer<Vec<Value>> {
        let (mut items, mut next) = (Vec::new(), path.to_owned());
        for _ in 0..pages {
            let mut answer: Value = self.get(&next).await?;
            let found = match answer.get_mut("items").map(Value::take) {
                Some(Value::Array(found)) => found,
                _ => Vec::new(),
            };
            let kind = text(&answer, "/kind").trim_end_matches("List");
            for mut item in found {
                if let Some(item) = item.as_object_mut() {
                    item.insert("kind".to_owned(), kind.into());
                }
                items.push(item);
            }
            match text(&answer, "/metadata/continue") {
                "" => break,
                token => next = format!("{path}&continue={token}"),
            }
        }
        Ok(items)
    }

    /// What the chart's labels are on: in the cluster or, where that may not be asked, in this namespace.
    async fn installed(&self, api: &str, plural: &str) -> Answer<Vec<Value>> {
        let query = format!("labelSelector={LABELS}&limit={OBJECTS}");
        match self.items(&format!("{api}/{plural}?{query}")).await {
            Err(why) if why.contains("cannot list") => {
                self.items(&format!("{api}/namespaces/{}/{plural}?{query}", self.cluster.namespace)).await
            }
            answer => answer,
        }
    }

    async fn workloads(&self) -> Answer<Vec<Value>> {
        let deployments = self.installed("/apis/apps/v1", "deployments").await?;
        let sets = self.installed("/apis/apps/v1", "statefulsets").await?;
        Ok([deployments, sets].concat())
    }

    async fn definitions(&self) -> Answer<Vec<Value>> {
        let mut found = self.items("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?;
        found.retain(|definition| definition["spec"]["group"] == GROUP);
        Ok(found)
    }

    async fn webhooks(&self) -> Answer<Vec<Value>> {
        let mut found = Vec::new();
        for plural in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            found.extend(self.items(&format!("/apis/admissionregistration.k8s.io/v1/{plural}")).await?);
        }
        found.retain(|configuration| list(configuration, "/webhooks").iter().any(is_ours));
        Ok(found)
    }

    /// Creates an instance that is not kept: both webhooks are asked as for any other.
    async fn trial(&self) -> Answer<Result<(), String>> {
        let path =
            format!("/apis/{GROUP}/{VERSION}/namespaces/{}/whatsappinstances?dryRun=All", self.cluster.namespace);
        let instance = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "WhatsAppInstance", "metadata": {"generateName": "doctor-"},
            "spec": {"name": format!("Doctor {:08x}", fastrand::u32(..)), "desiredState": "Disconnected"},
        });
        match self.send::<Value>(Request::post(path), &instance).await {
            Ok(_) => Ok(Ok(())),
            Err(why) if why.contains("cannot create") => Err(why),
            Err(why) => Ok(Err(why)),
        }
    }

    async fn events(&self, namespaces: &BTreeSet<&str>) -> Answer<Vec<Value>> {
        let mut found = self.pages(&format!("/apis/events.k8s.io/v1/events?limit={OBJECTS}"), PAGES_OF_EVENTS).await?;
        found.retain(|event| {
            text(event, "/regarding/kind").starts_with("WhatsApp")
                || namespaces.contains(text(event, "/metadata/namespace"))
        });
        found.sort_by_key(|event| {
            let times =
                ["/series/lastObservedTime", "/deprecatedLastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
            times
                .iter()
                .map(|pointer| text(event, pointer))
                .find(|time| !time.is_empty())
                .unwrap_or_default()
                .to_owned()
        });
        Ok(found.split_off(found.len().saturating_sub(EVENTS)))
    }

    /// Which of these Secrets are there, by their metadata alone.
    async fn secrets(&self, references: &BTreeSet<(String, String)>) -> BTreeMap<String, Answer<bool>> {
        let mut found = BTreeMap::new();
        for (namespace, name) in references {
            let api: Api<Secret> = Api::namespaced(self.cluster.client.clone(), namespace);
            let there = self.answered(api.get_metadata_opt(name)).await.map(|secret| secret.is_some());
            found.insert(format!("{namespace}/{name}"), there);
        }
        found
    }

    /// Whether operator and gateway may read these Secrets.
    async fn access(&self, workloads: &[Value], references: &BTreeSet<(String, String)>) -> Vec<Access> {
        let mut found = Vec::new();
        let callers = workloads.iter().filter(|object| object["kind"] == "Deployment");
        for workload in callers {
            let namespace = text(workload, "/metadata/namespace");
            let account = text(workload, "/spec/template/spec/serviceAccountName");
            for (secret_namespace, secret) in references {
                let review = json!({
                    "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                    "spec": {
                        "user": format!("system:serviceaccount:{namespace}:{account}"),
                        "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": secret_namespace, "name": secret},
                    },
                });
                let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
                let answer: Answer<Value> = self.send(Request::post(path), &review).await;
                found.push(Access {
                    account: format!("{namespace}/{account}"),
                    secret: format!("{secret_namespace}/{secret}"),
                    allowed: answer.map(|review| review.pointer("/status/allowed") == Some(&Value::Bool(true))),
                });
            }
        }
        found
    }

    async fn pages_and_logs(&self, pods: &[Value], lines: u32) -> (Pages, Pages) {
        let pods = pods.iter().take(PODS).map(|pod| async move {
            let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
            let base = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            let mut pages = Pages::new();
            if let Some(port) = admin_port(pod) {
                for page in ["readyz", "metrics"] {
                    pages.insert(format!("{name} /{page}"), self.text(&format!("{base}:{port}/proxy/{page}")).await);
                }
            }
            let mut logs = Pages::new();
            if lines > 0 {
                logs.insert(name.to_owned(), self.text(&format!("{base}/log?tailLines={lines}&timestamps=true")).await);
            }
            (pages, logs)
        });
        join_all(pods).await.into_iter().fold(
            Default::default(),
            |(mut pages, mut logs): (Pages, Pages), (more_pages, more_logs)| {
                pages.extend(more_pages);
                logs.extend(more_logs);
                (pages, logs)
            },
        )
    }
}

type Pages = BTreeMap<String, Answer<String>>;

fn is_ours(webhook: &Value) -> bool {
    list(webhook, "/rules").iter().any(|rule| list(rule, "/apiGroups").iter().any(|group| group == GROUP))
}

fn secret_of(bridge: &Value) -> (String, String) {
    let part = |key: &str| text(bridge, &format!("/spec/credentialsSecretRef/{key}")).to_owned();
    (part("namespace"), part("name"))
}

fn admin_port(pod: &Value) -> Option<u64> {
    let mut ports = list(pod, "/spec/containers").iter().flat_map(|container| list(container, "/ports"));
    ports.find(|port| port["name"] == "admin")?["containerPort"].as_u64()
}
