//! `whatsapp-operator release-instances`: after an uninstallation, no object waits for an operator that is gone.

use std::pin::pin;

use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    core::{PartialObjectMeta, Status},
};
use serde_json::json;
use thiserror::Error;

use super::RunError;
use crate::{
    api::{WhatsAppBridge, WhatsAppInstance, labels},
    cli::release::ReleaseArgs,
    platform::{
        kubernetes::{self, CALL_TIMEOUT, CallError, ObjectRef, call, is_missing},
        lease::{self, Candidate},
        pages::pages,
        telemetry::{self, LogFormat},
        watch::Guarded,
    },
};

/// Writes of one finalizer: the object may be changed meanwhile, a few times.
const ATTEMPTS: usize = 5;

/// Why instances could not be released.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// They could not be listed.
    #[error("list the instances: {0}")]
    List(#[source] CallError),
    /// One of them.
    #[error("take the finalizer off {instance}: {source}")]
    Finalizer {
        /// Which.
        instance: String,
        /// Why.
        source: CallError,
    },
    /// The Lease.
    #[error("delete the Lease {name}: {source}")]
    Lease {
        /// Which.
        name: String,
        /// Why.
        source: CallError,
    },
    /// The bridge of the installation.
    #[error("delete WhatsAppBridge {name}: {source}")]
    Bridge {
        /// Which.
        name: String,
        /// Why.
        source: CallError,
    },
}

/// Takes our finalizer off all instances; they stay, as do the links of their devices.
///
/// # Errors
/// When the API server does not do as it is asked.
pub async fn release_instances(args: &ReleaseArgs) -> Result<(), RunError> {
    telemetry::start("info", LogFormat::Text)?;
    let (client, _) = kubernetes::connect(&args.cluster.choice())?;
    if let Some(namespace) = &args.lease_namespace {
        // An operator that is still ending would put the finalizers back.
        tracing::info!(namespace, lease = args.lease_name, "waiting until no operator holds the lease");
        Candidate::new(client.clone(), namespace, &args.lease_name, lease::identity()).acquire(|_| ()).await;
    }
    if let (Some(name), Some(namespace)) = (&args.default_bridge, &args.lease_namespace)
        && let Some(theirs) = another(&Api::all(client.clone()), name, namespace).await?
    {
        tracing::warn!(
            bridge = name,
            namespace = theirs,
            "the bridge is that of another installation, whose operator looks after the instances: they and it are left alone"
        );
        delete_lease(&Api::namespaced(client, namespace), &args.lease_name).await?;
        return Ok(());
    }
    let of = |namespace: &String| Api::namespaced(client.clone(), namespace);
    let mut apis: Vec<Api<WhatsAppInstance>> = args.watch_namespaces.iter().map(of).collect();
    if apis.is_empty() {
        apis.push(Api::all(client.clone()));
    }
    let mut released = 0;
    for api in apis {
        released += release_all(&client, &api).await?;
    }
    tracing::info!(released, "took the finalizer off the instances; their devices stay linked");
    if let Some(name) = &args.default_bridge {
        delete_bridge(&Api::all(client.clone()), name).await?;
    }
    if let Some(namespace) = &args.lease_namespace {
        delete_lease(&Api::namespaced(client, namespace), &args.lease_name).await?;
    }
    Ok(())
}

/// How many of these had our finalizer.
async fn release_all(client: &Client, all: &Api<WhatsAppInstance>) -> Result<usize, ReleaseError> {
    let (mut pages, mut released) = (pin!(pages(all)), 0_usize);
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(released),
            // Without the definition there is none.
            Err(error) if error.is(is_missing) => return Ok(released),
            Err(error) => return Err(ReleaseError::List(error)),
        };
        for instance in page {
            let namespace = instance.namespace().unwrap_or_default();
            let api: Api<WhatsAppInstance> = Api::namespaced(client.clone(), &namespace);
            released += usize::from(release(&api, instance).await?);
        }
    }
}

/// Whether it had our finalizer.
async fn release(
    api: &Api<WhatsAppInstance>,
    mut instance: PartialObjectMeta<WhatsAppInstance>,
) -> Result<bool, ReleaseError> {
    let shown = ObjectRef::of(&instance);
    let failed = |source| ReleaseError::Finalizer { instance: format!("{}/{}", shown.namespace, shown.name), source };
    for attempt in 1.. {
        if !instance.finalizers().iter().any(|name| name == labels::FINALIZER) {
            return Ok(false);
        }
        if instance.metadata.deletion_timestamp.is_some() {
            tracing::warn!(
                instance = shown.name,
                namespace = shown.namespace,
                "was being deleted; its device may still be linked"
            );
        }
        let others: Vec<_> = instance.finalizers().iter().filter(|name| *name != labels::FINALIZER).collect();
        // Only if it has not been written meanwhile: another finalizer would be lost.
        let version = instance.resource_version();
        let patch = json!({"metadata": {"finalizers": others, "resourceVersion": version}});
        let (name, parameters) = (instance.name_any(), PatchParams::default());
        let patched =
            call("write it", CALL_TIMEOUT, api.patch_metadata(&name, &parameters, &Patch::Merge(patch))).await;
        match patched {
            Ok(_) => return Ok(true),
            Err(error) if error.is(is_missing) => return Ok(false),
            Err(error) if error.is(Status::is_conflict) && attempt < ATTEMPTS => {
                let found = call("read it", CALL_TIMEOUT, api.get_metadata_opt(&name)).await.map_err(failed)?;
                let Some(found) = found else { return Ok(false) };
                instance = found;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(false)
}

/// The namespace of another installation that the bridge `name` belongs to, if it does.
async fn another(api: &Api<Guarded<WhatsAppBridge>>, name: &str, ours: &str) -> Result<Option<String>, ReleaseError> {
    match call("read it", CALL_TIMEOUT, api.get_opt(name)).await {
        Ok(found) => {
            let namespace =
                found.and_then(|found| found.0.ok()).and_then(|found| found.installed_in().map(str::to_owned));
            Ok(namespace.filter(|namespace| namespace != ours))
        }
        Err(error) if error.is(is_missing) => Ok(None),
        Err(source) => Err(ReleaseError::Bridge { name: name.to_owned(), source }),
    }
}

/// Deletes the bridge of the installation, unless it was made by others.
async fn delete_bridge(api: &Api<WhatsAppBridge>, name: &str) -> Result<(), ReleaseError> {
    let failed = |source| ReleaseError::Bridge { name: name.to_owned(), source };
    let found = match call("read it", CALL_TIMEOUT, api.get_metadata_opt(name)).await {
        Ok(found) => found,
        Err(error) if error.is(is_missing) => None,
        Err(error) => return Err(failed(error)),
    };
    if found.is_some_and(|bridge| labels::is_of_an_installation(&bridge.metadata)) {
        match call("delete it", CALL_TIMEOUT, api.delete(name, &DeleteParams::default())).await {
            Ok(_) => tracing::info!(name, "deleted the WhatsAppBridge of the installation"),
            Err(error) if error.is(is_missing) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Deletes the lease, which this process holds.
async fn delete_lease(api: &Api<Lease>, name: &str) -> Result<(), ReleaseError> {
    match call("delete it", CALL_TIMEOUT, api.delete(name, &DeleteParams::default())).await {
        Err(error) if !error.is(is_missing) => Err(ReleaseError::Lease { name: name.to_owned(), source: error }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use kube::Client;

    use super::*;

    /// What an API server says of a kind whose definition is gone: no status, but plain text.
    async fn unknown() -> (axum::http::StatusCode, &'static str) {
        (axum::http::StatusCode::NOT_FOUND, "404 page not found\n")
    }

    #[tokio::test]
    async fn without_the_definitions_there_is_nothing_to_release() {
        let client = Client::new(Router::new().fallback(unknown), "ns");
        assert_eq!(release_all(&client, &Api::all(client.clone())).await.unwrap(), 0);
        delete_bridge(&Api::all(client.clone()), "builtin").await.unwrap();
        delete_lease(&Api::namespaced(client, "ns"), "operator").await.unwrap();
    }
}
