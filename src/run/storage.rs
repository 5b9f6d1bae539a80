//! `whatsapp-operator migrate-storage`: what is stored in an old version of the API is written again in the present one. Until
//! then the API server does not let the old version be dropped from the definition (`status.storedVersions`).
//! See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>.

use std::pin::pin;

use futures::TryStreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::{PartialObjectMeta, Status},
};
use serde_json::json;
use thiserror::Error;

use super::RunError;
use crate::{
    api::crd,
    cli::storage::StorageArgs,
    platform::{
        kubernetes::{self, CALL_TIMEOUT, CallError, ObjectRef, call, is_missing},
        pages::pages,
        telemetry::{self, LogFormat},
    },
};

/// Why what is stored was not migrated.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The answer of `--check`, for scripts by its exit status.
    #[error("{0} of the definitions may have objects stored in an old version: run whatsapp-operator migrate-storage")]
    Due(usize),
    /// A definition could not be read.
    #[error("read the definition {definition}: {source}")]
    Definition {
        /// Which.
        definition: String,
        /// Why.
        source: CallError,
    },
    /// The definition has no version that is stored; an API server lets in none such.
    #[error(
        "the definition {0} says of no version that it is the one to store; install the definitions of this release"
    )]
    NoStorageVersion(String),
    /// Its objects could not be listed.
    #[error("list the {plural}: {source}; run it again")]
    List {
        /// Of which kind.
        plural: String,
        /// Why.
        source: CallError,
    },
    /// Some objects could not be written; the others were.
    #[error("{failed} of the {plural} could not be written, see above; run it again")]
    Unwritten {
        /// Of which kind.
        plural: String,
        /// How many.
        failed: usize,
    },
    /// What is true now could not be noted down.
    #[error("write status.storedVersions of the definition {definition}: {source}; run it again")]
    Note {
        /// Of which definition.
        definition: String,
        /// Why.
        source: CallError,
    },
}

/// What has to be written anew of one kind.
#[derive(Debug, PartialEq, Eq)]
struct Migration {
    /// The kind, in the version that is stored now.
    resource: ApiResource,
    /// Versions in which objects may be stored beside it.
    old: Vec<String>,
}

/// Writes everything anew that may be stored in an old version, or only says whether there is such.
///
/// # Errors
/// When the API server does not do as it is asked, or `--check` finds something to do.
pub async fn migrate_storage(args: &StorageArgs) -> Result<(), RunError> {
    telemetry::start("info", LogFormat::Text)?;
    let (client, _) = kubernetes::connect(&args.cluster.choice())?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut due = 0;
    for own in crd::all()? {
        let name = own.name_any();
        let Some(definition) = read(&definitions, &name).await? else {
            tracing::warn!(definition = name, "is not installed");
            continue;
        };
        let Some(migration) = migration(&definition)? else {
            tracing::info!(definition = name, "everything is stored in its present version");
            continue;
        };
        let (to, old) = (&migration.resource.version, migration.old.join(", "));
        tracing::info!(definition = name, stored = old, now = to, "has objects that may be stored in an old version");
        due += 1;
        if !args.check {
            let written = rewrite_all(&client, &migration.resource).await?;
            note(&definitions, &definition, to).await?;
            tracing::info!(definition = name, objects = written, version = to, "everything is stored in one version");
        }
    }
    if args.check && due > 0 { Err(StorageError::Due(due).into()) } else { Ok(()) }
}

async fn read(
    definitions: &Api<CustomResourceDefinition>,
    name: &str,
) -> Result<Option<CustomResourceDefinition>, StorageError> {
    let read = call("read it", CALL_TIMEOUT, definitions.get_opt(name)).await;
    read.map_err(|source| StorageError::Definition { definition: name.to_owned(), source })
}

/// What has to be done for a definition.
fn migration(definition: &CustomResourceDefinition) -> Result<Option<Migration>, StorageError> {
    let Some((version, old)) = crd::stored(definition) else {
        return Err(StorageError::NoStorageVersion(definition.name_any()));
    };
    if old.is_empty() {
        return Ok(None);
    }
    let resource = ApiResource {
        group: definition.spec.group.clone(),
        version: version.to_owned(),
        api_version: format!("{}/{version}", definition.spec.group),
        kind: definition.spec.names.kind.clone(),
        plural: definition.spec.names.plural.clone(),
    };
    Ok(Some(Migration { resource, old: old.into_iter().map(str::to_owned).collect() }))
}

/// Writes every object of a kind once; how many that were.
async fn rewrite_all(client: &Client, resource: &ApiResource) -> Result<usize, StorageError> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let (mut pages, mut written, mut failed) = (pin!(pages(&all)), 0, 0);
    let unlisted = |source| StorageError::List { plural: resource.plural.clone(), source };
    while let Some(page) = pages.try_next().await.map_err(unlisted)? {
        if written > 0 {
            tracing::info!(kind = resource.kind, written, "goes on");
        }
        for object in &page {
            match rewrite(client, resource, object).await {
                Ok(()) => written += 1,
                Err(error) => {
                    let shown = ObjectRef::of(object);
                    tracing::warn!(name = shown.name, namespace = shown.namespace, %error, "could not be written");
                    failed += 1;
                }
            }
        }
    }
    if failed > 0 {
        return Err(StorageError::Unwritten { plural: resource.plural.clone(), failed });
    }
    Ok(written)
}

/// Writes an object as it is. A patch that changes nothing is not kept, except where the object is stored in another version
/// than it would be now: that is what is wanted.
async fn rewrite(
    client: &Client,
    resource: &ApiResource,
    object: &PartialObjectMeta<DynamicObject>,
) -> Result<(), CallError> {
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    // Only as it was listed: a write meanwhile has stored it in the present version already.
    let patch = json!({"metadata": {"uid": object.uid(), "resourceVersion": object.resource_version()}});
    let (name, parameters) = (object.name_any(), PatchParams::default());
    match call("write it", CALL_TIMEOUT, api.patch_metadata(&name, &parameters, &Patch::Merge(patch))).await {
        Err(error) if !error.is(is_missing) && !error.is(Status::is_conflict) => Err(error),
        _ => Ok(()),
    }
}

/// Notes that everything is stored in `version`, unless the definition was changed meanwhile.
async fn note(
    definitions: &Api<CustomResourceDefinition>,
    definition: &CustomResourceDefinition,
    version: &str,
) -> Result<(), StorageError> {
    let patch = json!({"metadata": {"resourceVersion": definition.resource_version()}, "status": {"storedVersions": [version]}});
    let (name, parameters) = (definition.name_any(), PatchParams::default());
    let noted =
        call("write it", CALL_TIMEOUT, definitions.patch_status(&name, &parameters, &Patch::Merge(patch))).await;
    noted.map(drop).map_err(|source| StorageError::Note { definition: name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(storage: &str, stored: &[&str]) -> CustomResourceDefinition {
        let mut definition = serde_json::to_value(crd::all().unwrap().remove(0)).unwrap();
        let version = definition["spec"]["versions"][0].clone();
        let versions = ["v1alpha1", "v1beta1"].map(|name| {
            let mut version = version.clone();
            version["name"] = name.into();
            version["storage"] = (name == storage).into();
            version
        });
        definition["spec"]["versions"] = versions.to_vec().into();
        let names = definition["spec"]["names"].clone();
        definition["status"] = json!({"storedVersions": stored, "conditions": [], "acceptedNames": names});
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn what_is_stored_in_another_version_is_due_and_nothing_else() {
        let old = |storage, stored: &[&str]| {
            migration(&definition(storage, stored)).unwrap().map(|due| (due.resource.api_version, due.old))
        };
        assert_eq!(old("v1alpha1", &["v1alpha1"]), None);
        assert_eq!(old("v1beta1", &["v1beta1"]), None);
        assert_eq!(old("v1beta1", &[]), None);
        let due = Some(("whatsapp-operator.dev/v1beta1".to_owned(), vec!["v1alpha1".to_owned()]));
        assert_eq!(old("v1beta1", &["v1alpha1", "v1beta1"]), due);
        assert_eq!(old("v1beta1", &["v1alpha1"]), due);
        // Going back is the same.
        assert_eq!(old("v1alpha1", &["v1alpha1", "v1beta1"]).unwrap().1, ["v1beta1"]);
        assert!(matches!(migration(&definition("none", &[])), Err(StorageError::NoStorageVersion(_))));
    }
}
