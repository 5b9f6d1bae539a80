//! The operator with the rights of `examples/rbac.yaml` and no others: they are enough, and nothing is asked for beyond them.

use std::path::PathBuf;

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use crate::support::{
    ledger::{own, owner, until},
    world::{SOON, Wishes, World},
};

/// Applies the committed rights to an account of this world's own; its kubeconfig.
pub async fn account(world: &World) -> PathBuf {
    let name = &world.name;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rbac.yaml")).unwrap();
    let text = text.replace("whatsapp-system", name);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    // The gateway has an account and rights of its own.
    let operators = objects.into_iter().filter(|object| object["metadata"]["name"] == "whatsapp-operator");
    let operators: Vec<Value> = operators.collect();
    assert_eq!(operators.len(), 4);
    for mut object in operators {
        rename(&mut object, name);
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap()));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(world.client.clone(), namespace, &resource),
            None => Api::all_with(world.client.clone(), &resource),
        };
        let object_name = object["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&object_name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), name);
    let create = PostParams::default();
    accounts.create(&create, &serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()).await.unwrap();
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"expirationSeconds": 3600}})).unwrap();
    let granted: TokenRequest = accounts.create_subresource("token", name, &create, &request).await.unwrap();
    let token = granted.status.unwrap().token;

    let mut kubeconfig: Value = serde_saphyr::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    for user in kubeconfig["users"].as_array_mut().unwrap() {
        user["user"] = json!({"token": token});
    }
    let path = world.dir.join("least-privilege.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// Tests share a cluster: names that an installation has to itself are this world's instead.
fn rename(object: &mut Value, name: &str) {
    let kind = object["kind"].as_str().unwrap().to_owned();
    object["metadata"]["name"] = name.into();
    if kind.ends_with("Binding") {
        object["roleRef"]["name"] = name.into();
        object["subjects"][0]["name"] = name.into();
    }
    for rule in object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        for one in rule.get_mut("resourceNames").and_then(Value::as_array_mut).into_iter().flatten() {
            match one.as_str() {
                Some("whatsapp-bridge-token" | "whatsapp-operator") => *one = name.into(),
                Some("whatsapp-operator-webhook" | "whatsapp-bridge-tls" | "builtin") => {}
                other => panic!("a name that the test does not know: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_rights_are_enough_from_creation_to_deletion() {
    let wishes = Wishes { webhooks: true, ..Wishes::of_operator(&["--max-instances-per-owner", "1"]) };
    let mut world = World::start_with("least-privilege", wishes).await;
    let kubeconfig = account(&world).await;
    world.operator.stop();
    // What follows is to be said by a process that never had more rights.
    let before = world.operator.log().len();
    // The certificates are made anew, too.
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.client.clone(), &world.name);
    secrets.delete("whatsapp-operator-webhook", &Default::default()).await.unwrap();
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    let webhooks = world.webhooks.as_ref().unwrap();
    webhooks.install().await;
    crate::support::webhooks::until_asked(&world.instances(), &world.probe()).await;

    own(&world, "first", json!({})).await;
    world.scan("first", "+15550008101").await;
    world.history.until_phase("first", Phase::Connected, SOON).await;
    until(&world, "one of one, connected, primary", |s| (s.used, s.connected, s.primary.is_some()) == (1, 1, true))
        .await;
    let second = json!({
        "metadata": {"name": "second"}, "spec": {"name": "second", "owner": owner(&world), "bridgeRef": {"name": world.name}},
    });
    let second = serde_json::from_value(second).unwrap();
    let refusal = world.instances().create(&PostParams::default(), &second).await.unwrap_err();
    assert!(refusal.to_string().contains("has 1 of 1 instances"), "{refusal}");
    world.delete("first").await;
    world.history.until_gone("first", SOON).await;

    let log = world.operator.log();
    let forbidden: Vec<_> = log[before..].lines().filter(|line| line.contains("orbidden")).take(3).collect();
    assert!(forbidden.is_empty(), "a right is missing:\n{}", forbidden.join("\n"));
    world.nothing_leaked(&["+15550008101"]).await;
}
