//! A leader whose rights are taken away while it runs.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use serde_json::json;

use crate::{
    least_privilege::account,
    readiness::{account_binding, until, until_within},
    support::world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_rights_are_taken_away_is_not_ready_until_they_are_back() {
    let mut world = World::start("blinded").await;
    let kubeconfig = account(&world).await;
    world.operator.stop();
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    let admin = world.operator_address.admin.clone();
    until(&admin, "ok").await;
    world.apply("before", json!({})).await;
    world.qr("before").await;

    // It keeps its lease; that right is the namespace's.
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.delete(&world.name, &Default::default()).await.unwrap();
    // A watch lasts 20 s and may fail for a minute; the attempts become rare.
    until_within(Duration::from_secs(180), &admin, "whatsappinstances").await;
    // Not before: an instance that is seen while nothing can be written is tried again later and later.
    world.apply("meanwhile", json!({})).await;
    account_binding(&world).await;
    until(&admin, "ok").await;
    world.qr("meanwhile").await;
}
