//! How the plugin talks to the API server: kubeconfig and flags in, instances out.

mod owners;

use std::{
    future::{Future, ready},
    time::Duration,
};

use axum::http::Response;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    client::{ClientBuilder, DynBody},
    runtime::watcher,
};
use serde_json::Value;
use tower::util::MapResponseLayer;

use super::{
    args::{Global, InstanceName},
    clock::ServerClock,
    error::{Attempt, PluginError, Target, explain, explain_status, root_cause, unreachable_server},
};
use crate::{
    api::WhatsAppInstance,
    platform::{
        credentials,
        kubeconfig::{self, Found, Unusable},
        kubernetes::{escape_selector, place},
        watch::watch_object,
    },
};

/// Field manager of everything the plugin changes.
pub const FIELD_MANAGER: &str = super::PROGRAM;

/// Objects asked for at a time; kubectl's own `--chunk-size`.
const PAGE: u32 = 500;

/// A cluster, as one user sees it from one namespace.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: Client,
    pub(super) clock: ServerClock,
    pub(super) config: Config,
    pub(super) target: Target,
    /// Namespace the verbs work in.
    pub namespace: String,
    pub(super) request_timeout: Option<Duration>,
}

impl Cluster {
    /// Chooses the cluster as kubectl does. Does not connect yet.
    ///
    /// # Errors
    /// When the kubeconfig is missing, broken, or has no such context.
    pub fn open(global: &Global) -> Result<Self, PluginError> {
        if !global.as_group.is_empty() && global.as_user.is_none() {
            return Err(PluginError::Usage("--as-group needs --as: say which user the groups belong to".to_owned()));
        }
        let (mut config, context) = configuration(global)?;
        if let Some(user) = &global.as_user {
            config.auth_info.impersonate = Some(user.clone());
            config.auth_info.impersonate_groups = Some(global.as_group.clone());
        }
        let target = Target { context, server: place(&config) };
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let clock = ServerClock::default();
        let heard = clock.clone();
        let hears = MapResponseLayer::new(move |answer: Response<Box<DynBody>>| {
            heard.hear(answer.headers());
            answer
        });
        let client = ClientBuilder::try_from(config.clone());
        let client = client.map_err(|error| not_signed_in(&error, &config, &target.context))?;
        let client = client.with_layer(&hears).build();
        Ok(Self { client, clock, config, target, namespace, request_timeout: global.request_timeout.0 })
    }

    /// Reads one instance.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn get(&self, name: &InstanceName) -> Result<DynamicObject, PluginError> {
        let api = self.instances();
        self.limited(self.attempt("get", name), api.get(name.as_str())).await
    }

    /// Lists instances, in this namespace or in all of them, optionally of one owner or with such labels.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn list(
        &self,
        all_namespaces: bool,
        owner: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<DynamicObject>, PluginError> {
        let resource = ApiResource::erase::<WhatsAppInstance>(&());
        let (api, namespace) = if all_namespaces {
            (Api::<DynamicObject>::all_with(self.client.clone(), &resource), None)
        } else {
            (self.instances(), Some(self.namespace.as_str()))
        };
        let mut params = ListParams::default().limit(PAGE);
        if let Some(owner) = owner {
            params = params.fields(&format!("spec.owner={}", escape_selector(owner)));
        }
        if let Some(selector) = selector {
            params = params.labels(selector);
        }
        let mut found = Vec::new();
        loop {
            let page = self.limited(Attempt { verb: "list", namespace, name: None }, api.list(&params)).await?;
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            found.extend(page.items);
            let Some(token) = next else { return Ok(found) };
            params = params.continue_token(&token);
        }
    }

    /// Names of the namespaces; for completion.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn namespaces(&self) -> Result<Vec<String>, PluginError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let attempt = Attempt { verb: "list", namespace: None, name: None };
        let params = ListParams::default();
        let page = self.limited(attempt, api.list_metadata(&params)).await?;
        Ok(page.items.iter().map(ResourceExt::name_any).collect())
    }

    /// Changes fields of one instance by a merge patch, and returns what came of it.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn patch(&self, name: &InstanceName, patch: &Value) -> Result<WhatsAppInstance, PluginError> {
        let api = self.instances();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let object = self.limited(self.attempt("patch", name), api.patch(name.as_str(), &params, &patch)).await?;
        read(object)
    }

    /// Follows one instance: how it is now, then every change, for as long as the caller listens. `None` means it is
    /// gone. A broken connection is reported as a passing error and made again.
    pub fn watch(&self, name: &InstanceName) -> impl Stream<Item = Result<Option<Box<WhatsAppInstance>>, PluginError>> {
        let target = self.target.clone();
        let namespace = self.namespace.clone();
        let wanted = name.clone();
        watch_object(self.instances(), name.as_str()).filter_map(move |seen| {
            let attempt = |verb| Attempt { verb, namespace: Some(&namespace), name: Some(wanted.as_str()) };
            let seen = match seen {
                Ok(Some(object)) => read(object).map(Box::new).map(Some),
                Ok(None) => Ok(None),
                Err(watcher::Error::InitialListFailed(error)) => Err(explain(&error, &target, attempt("list"))),
                Err(watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error)) => {
                    Err(explain(&error, &target, attempt("watch")))
                }
                // The server ends a watch that fell behind (410 Gone); the watcher lists again by itself.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => return ready(None),
                Err(watcher::Error::WatchError(status)) => Err(explain_status(&status, &target, attempt("watch"))),
                Err(error @ watcher::Error::NoResourceVersion) => Err(unreachable_server(&target, error.to_string())),
            };
            ready(Some(seen))
        })
    }

    /// The error for an instance that a watch did not find.
    pub fn not_found(&self, name: &InstanceName) -> PluginError {
        PluginError::NotFound { name: name.to_string(), namespace: self.namespace.clone() }
    }

    // Untyped, so that one object this version cannot read does not hide the others.
    fn instances(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<WhatsAppInstance>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    fn attempt<'a>(&'a self, verb: &'static str, name: &'a InstanceName) -> Attempt<'a> {
        Attempt { verb, namespace: Some(&self.namespace), name: Some(name.as_str()) }
    }

    /// Waits for a request no longer than the user wishes, and says what went wrong.
    pub(super) async fn limited<T>(
        &self,
        attempt: Attempt<'_>,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, PluginError> {
        let answer = match self.request_timeout {
            None => request.await,
            Some(limit) => tokio::time::timeout(limit, request).await.map_err(|_| {
                unreachable_server(&self.target, format!("no answer in {}s, see --request-timeout", limit.as_secs()))
            })?,
        };
        answer.map_err(|error| explain(&error, &self.target, attempt))
    }
}

/// Reads an untyped object as an instance.
///
/// # Errors
/// When it does not fit the type.
pub fn read(object: DynamicObject) -> Result<WhatsAppInstance, PluginError> {
    let name = object.name_any();
    object.try_parse().map_err(|error| PluginError::Unreadable { name, cause: error.to_string() })
}

/// Contexts of the kubeconfig; for completion.
pub fn contexts(global: &Global) -> Vec<String> {
    let kubeconfig = kubeconfig::read(global.kubeconfig.as_deref()).unwrap_or_default();
    kubeconfig.contexts.into_iter().map(|context| context.name).collect()
}

/// Why there is no client: a credential plugin is named, with what it said last and the kubeconfig's own hint on how to get it.
fn not_signed_in(error: &kube::Error, config: &Config, context: &str) -> PluginError {
    let Some(blamed) = credentials::blamed(error) else { return PluginError::Kubeconfig(root_cause(error)) };
    let exec = config.auth_info.exec.as_ref();
    let program = exec.and_then(|exec| exec.command.as_deref()).unwrap_or_default();
    let hint = exec.and_then(|exec| exec.install_hint.as_deref()).map(str::trim).filter(|hint| !hint.is_empty());
    let more = [credentials::complaint(error), hint.map(str::to_owned)].into_iter().flatten();
    let cause = [format!("{blamed}: {program}")].into_iter().chain(more).collect::<Vec<_>>().join("; ");
    PluginError::CredentialPlugin { context: context.to_owned(), cause }
}

/// The way to the cluster, and what to call it.
fn configuration(global: &Global) -> Result<(Config, String), PluginError> {
    match kubeconfig::find(global.kubeconfig.as_deref(), global.context.as_deref()) {
        Ok(Found { config, context }) => Ok((config, context.unwrap_or_else(|| "(in cluster)".to_owned()))),
        // A proxy is not a matter of `--kubeconfig`.
        Err(Unusable::Proxy(error)) => Err(PluginError::Ended(format!("cannot reach the API server: {error}"))),
        Err(error) => Err(PluginError::Kubeconfig(error.to_string())),
    }
}

/// The annotations of an instance with one more.
pub fn annotation_patch(key: &str, value: &str) -> Value {
    serde_json::json!({ "metadata": { "annotations": { key: value } } })
}

/// `kind.group/name`, as `kubectl get -o name` prints it.
pub fn resource_name(name: &str) -> String {
    format!("{}.{}/{name}", WhatsAppInstance::kind(&()).to_lowercase(), WhatsAppInstance::group(&()))
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::{Cluster, contexts, escape_selector, read};
    use crate::plugin::{args::Global, error::PluginError};

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: one, context: {cluster: c, user: u, namespace: team}}
- {name: two, context: {cluster: c, user: u}}
- {name: broken, context: {cluster: nowhere, user: u}}
";

    fn global(directory: &tempfile::TempDir, context: Option<&str>) -> Global {
        Kubeconfig::from_yaml(KUBECONFIG).unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, KUBECONFIG).unwrap();
        Global { kubeconfig: Some(file), context: context.map(str::to_owned), ..Global::default() }
    }

    fn open(global: &Global) -> Result<Cluster, PluginError> {
        // Several tests may come first; only one installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Cluster::open(global)
    }

    #[tokio::test]
    async fn the_namespace_is_the_flags_then_the_contexts_then_default() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(open(&global(&directory, None)).unwrap().namespace, "team");
        assert_eq!(open(&global(&directory, Some("two"))).unwrap().namespace, "default");
        let flag = Global { namespace: Some("flag".into()), ..global(&directory, None) };
        assert_eq!(open(&flag).unwrap().namespace, "flag");
    }

    #[tokio::test]
    async fn a_bad_kubeconfig_is_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        for context in ["nope", "broken"] {
            let Err(error) = open(&global(&directory, Some(context))) else { panic!("{context} opened") };
            assert!(matches!(error, PluginError::Kubeconfig(_)) && error.to_string().contains("--context"), "{error}");
        }
        let missing = Global { kubeconfig: Some(directory.path().join("none")), ..Global::default() };
        assert!(matches!(open(&missing), Err(PluginError::Kubeconfig(_))));
        let broken = directory.path().join("broken");
        std::fs::write(&broken, "users:\n- token: hush\n  x: [\n").unwrap();
        let Err(error) = open(&Global { kubeconfig: Some(broken), ..Global::default() }) else { panic!() };
        assert!(!error.to_string().contains('\n') && !error.to_string().contains("hush"), "{error}");
        let groups = Global { as_group: vec!["g".into()], ..global(&directory, None) };
        assert!(matches!(open(&groups), Err(PluginError::Usage(_))));
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = open(&global(&directory, None)).unwrap();
        let error = cluster.list(false, None, None).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("https://127.0.0.1:1/") && text.contains("\"one\""), "{text}");
    }

    #[test]
    fn contexts_are_listed_for_completion() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(contexts(&global(&directory, None)), ["one", "two", "broken"]);
    }

    #[test]
    fn an_owner_cannot_break_out_of_the_selector() {
        assert_eq!(escape_selector(r"a,b=c\"), r"a\,b\=c\\");
    }

    #[test]
    fn an_object_of_another_shape_is_named() {
        let object = serde_json::json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance", "metadata": {"name": "odd"}, "spec": {"name": 5}});
        let error = read(serde_json::from_value(object).unwrap()).unwrap_err();
        assert!(error.to_string().contains("\"odd\""), "{error}");
    }
}
