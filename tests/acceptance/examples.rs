//! Every file under examples/ is what the API server accepts.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::Value;
use whatsapp_operator::rules::owner::check_object_name;

use crate::support::world::{cluster, create_namespace};

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_accepted() {
    let (client, _) = cluster().await;
    create_namespace(&client, "examples").await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What is for other programs (Helm, Argo CD, Flux) is in folders.
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for object in objects {
            let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
            let kind = object["kind"].as_str().unwrap();
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = match (kind, object["metadata"]["namespace"].as_str()) {
                (_, Some(namespace)) => {
                    create_namespace(&client, namespace).await;
                    Api::namespaced_with(client.clone(), namespace, &resource)
                }
                ("WhatsAppInstance", None) => Api::namespaced_with(client.clone(), "examples", &resource),
                _ => Api::all_with(client.clone(), &resource),
            };
            let dry_run = PatchParams { dry_run: true, ..PatchParams::apply("test") };
            let name = object["metadata"]["name"].as_str().unwrap();
            let answer = api.patch(name, &dry_run, &Patch::Apply(&object)).await;
            answer.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if kind == "WhatsAppOwner" {
                check_object_name(name, object["spec"]["owner"].as_str().unwrap()).unwrap();
            }
            count += 1;
        }
    }
    assert!(count >= 6, "only {count} examples");
}
