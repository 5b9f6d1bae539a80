//! A new version of the API, as a later release will bring it: what is stored in the old one is found and written anew, and
//! then the definition may drop the old version.

use std::{path::Path, process::Output};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::api::WhatsAppInstance;

use crate::support::{
    control_plane::{ControlPlane, Options},
    program::executable,
    world::{client, create_namespace, install_crds},
};

const DEFINITION: &str = "whatsappinstances.whatsapp-operator.dev";
/// More than are read at once.
const INSTANCES: usize = 510;

async fn migrate(kubeconfig: &Path, more: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(executable("whatsapp-operator"));
    command.arg("migrate-storage").arg("--kubeconfig").arg(kubeconfig).args(more).output().await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Gives the definition these versions, all alike; the last is the one to store.
async fn versions(definitions: &Api<CustomResourceDefinition>, names: &[&str]) -> Result<(), kube::Error> {
    let present = serde_json::to_value(definitions.get(DEFINITION).await?.spec.versions).unwrap();
    let versions: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut version = present[0].clone();
            (version["name"], version["served"]) = ((*name).into(), true.into());
            version["storage"] = (Some(name) == names.last()).into();
            version
        })
        .collect();
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    definitions.patch(DEFINITION, &PatchParams::default(), &patch).await.map(drop)
}

/// The versions of all objects, which change with every write.
async fn written(client: &Client) -> Vec<Option<String>> {
    let instances: Api<WhatsAppInstance> = Api::all(client.clone());
    instances.list(&ListParams::default()).await.unwrap().into_iter().map(|one| one.resource_version()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_an_old_version_is_written_anew_so_that_the_old_version_may_go() {
    let plane = ControlPlane::start(&Options::default()).await.unwrap();
    let (kubeconfig, client) = (plane.kubeconfig(), client(&plane.kubeconfig()).await);
    install_crds(&client).await;
    create_namespace(&client, "stored").await;
    let instances: Api<WhatsAppInstance> = Api::namespaced(client.clone(), "stored");
    for number in 0..INSTANCES {
        let name = format!("one-{number}");
        let mut instance = WhatsAppInstance::new(&name, serde_json::from_value(json!({"name": name})).unwrap());
        instance.finalizers_mut().push("example.com/kept".to_owned());
        instances.create(&PostParams::default(), &instance).await.unwrap();
    }
    let checked = migrate(&kubeconfig, &["--check"]).await;
    assert!(checked.status.success(), "nothing is to be done before there is another version: {}", said(&checked));

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    versions(&definitions, &["v1alpha1", "v1beta1"]).await.unwrap();
    let stored = async || definitions.get(DEFINITION).await.unwrap().status.unwrap().stored_versions.unwrap();
    let both = async { while stored().await != ["v1alpha1", "v1beta1"] {} };
    tokio::time::timeout(crate::support::world::SOON, both).await.expect("the API server notes the new version");
    let refused = versions(&definitions, &["v1beta1"]).await.expect_err("the old version is still in use");
    assert!(refused.to_string().contains("storedVersions"), "{refused}");

    let before = written(&client).await;
    let checked = migrate(&kubeconfig, &["--check"]).await;
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    assert!(
        said(&checked).contains("1 of the definitions may have objects stored in an old version"),
        "{}",
        said(&checked)
    );
    assert_eq!((stored().await.len(), written(&client).await), (2, before.clone()), "a check writes nothing");

    let done = migrate(&kubeconfig, &[]).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(stored().await, ["v1beta1"]);
    let after = written(&client).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "each object was written");
    assert!(migrate(&kubeconfig, &["--check"]).await.status.success());
    assert!(migrate(&kubeconfig, &[]).await.status.success());
    assert_eq!(written(&client).await, after, "once");

    versions(&definitions, &["v1beta1"]).await.expect("the old version may go");
    let kind = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
        "whatsapp-operator.dev",
        "v1beta1",
        "WhatsAppInstance",
    ));
    let new: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), "stored", &kind);
    let listed = async {
        // The new version is served a moment after it was written.
        loop {
            if let Ok(listed) = new.list(&ListParams::default()).await {
                return listed.items;
            }
        }
    };
    let listed = tokio::time::timeout(crate::support::world::SOON, listed).await.expect("the new version is served");
    assert_eq!(listed.len(), INSTANCES);
    assert!(
        listed.iter().all(|one| one.finalizers() == ["example.com/kept"] && one.data["spec"]["name"] == one.name_any())
    );
}
