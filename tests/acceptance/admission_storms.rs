//! The limit under load: creates by the hundred through three webhook processes, of which one may die.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::sync::Semaphore;
use whatsapp_operator::{
    api::WhatsAppOwner,
    rules::{RESERVATION, owner::object_name},
};

use crate::{
    gate::{Gate, REPLICAS, at_once},
    support::{
        ledger::PATIENCE,
        webhooks::start_webhook,
        world::{OperatorAddress, cluster, create_namespace, operator_program},
    },
    turns::storm,
};

const FULL: &str = "has 10 of 10 instances; delete one, or have an administrator raise spec.maxInstances";

/// Three go, five come.
async fn three_of_five_get_in(gate: &Gate) {
    gate.settle("alice").await;
    gate.delete(3, "alice").await;
    let answers = gate.creates("more", 5, "alice").await;
    answers.assert_admitted(3);
    answers.all_say(403, FULL);
    assert_eq!(gate.owned("alice").await.len(), 10);
}

#[tokio::test]
async fn of_500_concurrent_creates_through_three_processes_exactly_ten_exist() {
    let gate = Gate::start("storm-limit", &[]).await;
    let _turn = storm().await;
    let answers = gate.creates("i", 500, "alice").await;
    answers.assert_admitted(10);
    answers.all_say(403, FULL);
    assert_eq!(gate.owned("alice").await.len(), 10);
    three_of_five_get_in(&gate).await;
}

#[tokio::test]
async fn a_process_killed_and_restarted_between_neither_lets_more_in_nor_loses_places() {
    let mut gate = Gate::start("storm-killed", &[]).await;
    let mut killed = gate.replicas.remove(1);
    let _turn = storm().await;
    let (answers, ()) = tokio::join!(gate.creates("i", 500, "alice"), async {
        // In the middle of the first reservations.
        until_one_exists(&gate).await;
        killed.kill();
        start_webhook(&mut killed).await;
    });
    answers.assert_admitted(10);
    answers.all_say(403, FULL);
    assert_eq!(gate.owned("alice").await.len(), 10);
    let ledger = gate.ledger("alice").await;
    assert_eq!((ledger.used, ledger.instances.len()), (10, 10), "no place is lost");
    three_of_five_get_in(&gate).await;
}

#[tokio::test]
async fn a_hundred_owners_of_thirty_creates_each_have_ten() {
    let gate = Gate::start("storm-owners", &[]).await;
    // 3000 at once would be a test of the API server.
    let (_turn, few) = (storm().await, Semaphore::new(60));
    let creates = (0..3000).map(|i| {
        let (gate, few) = (&gate, &few);
        async move {
            // Those at work at a time belong to two or three owners.
            let (owner, n) = (i / 30, i % 30);
            let _one = few.acquire().await.unwrap();
            gate.create(&format!("o{owner}-{n}"), i % REPLICAS, &format!("Instance {n}"), &format!("o{owner}")).await
        }
    });
    let answers = at_once(creates).await;
    answers.all_say(403, FULL);
    answers.assert_admitted(1000);
    for owner in 0..100 {
        assert_eq!(gate.owned(&format!("o{owner}")).await.len(), 10, "owner {owner}");
    }
}

async fn until_one_exists(gate: &Gate) {
    let one = async { while gate.owned("alice").await.is_empty() {} };
    tokio::time::timeout(PATIENCE, one).await.expect("one of the many is admitted");
}

/// How many instances the ResourceQuota lets into the namespace: fewer than have a place.
const QUOTA: usize = 6;

/// A storm after which places are taken for objects that never came to be: Kubernetes asks quotas after webhooks, one
/// webhook process dies with its answers on its lips, and nobody asks twice. Says how many exist.
async fn storm_with_losses(name: &'static str) -> (Gate, usize) {
    let (client, _) = cluster().await;
    create_namespace(&client, name).await;
    // No controller manager counts here, so the test says what it would; the API server goes on counting by itself.
    let count = |n: usize| json!({"count/whatsappinstances.whatsapp-operator.dev": n.to_string()});
    let quota: ResourceQuota =
        serde_json::from_value(json!({"metadata": {"name": "few"}, "spec": {"hard": count(QUOTA)}})).unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(client, name);
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let counted = Patch::Merge(json!({"status": {"hard": count(QUOTA), "used": count(0)}}));
    quotas.patch_status("few", &PatchParams::default(), &counted).await.unwrap();

    let mut gate = Gate::start(name, &[]).await;
    let mut killed = gate.replicas.remove(1);
    let _turn = storm().await;
    let names: Vec<String> = (0..300).map(|i| format!("i{i}")).collect();
    let creates = names.iter().enumerate().map(|(i, name)| gate.create_once(name, i % REPLICAS, name, "alice"));
    let (answers, ()) = tokio::join!(at_once(creates), async {
        until_one_exists(&gate).await;
        killed.kill();
        start_webhook(&mut killed).await;
    });
    assert!(answers.refusals().any(|refusal| refusal.message.contains("exceeded quota")), "the quota refused none");
    let exist = gate.owned("alice").await.len();
    assert_eq!(exist, answers.admitted());
    assert!(exist <= QUOTA, "{exist}");
    let ledger = gate.ledger("alice").await;
    assert!(ledger.instances.len() > exist, "nothing was lost: {ledger:#?}");
    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    gate.replicas.push(killed);
    (gate, exist)
}

#[tokio::test]
async fn places_of_what_never_came_to_be_are_free_for_the_next_after_a_minute() {
    let (gate, exist) = storm_with_losses("storm-losses").await;
    tokio::time::sleep(RESERVATION).await; // the minute itself
    gate.creates("more", 20, "alice").await.assert_admitted(10 - exist);
    assert_eq!(gate.owned("alice").await.len(), 10);
}

#[tokio::test]
async fn the_controller_frees_places_of_what_never_came_to_be_after_a_minute() {
    let (gate, exist) = storm_with_losses("storm-swept").await;
    // Nothing is to come up, and the bridges there are belong to other tests.
    let mut controller = operator_program(&gate.dir, &gate.kubeconfig, gate.name, None).args([
        "--watch-namespaces",
        gate.name,
        "--bridge-selector",
        "world=none",
    ]);
    let _: OperatorAddress = controller.start().await;
    let swept = |owner: Option<&WhatsAppOwner>| {
        let status = owner.and_then(|owner| owner.status.as_ref());
        status.is_some_and(|status| (status.used, status.instances.len()) == (i64::try_from(exist).unwrap(), exist))
    };
    let owner = object_name(&gate.owner("alice"));
    let swept = await_condition(gate.owners(), &owner, swept);
    let swept = tokio::time::timeout(RESERVATION + Duration::from_secs(30), swept).await;
    swept.unwrap_or_else(|_| panic!("not {exist} places but {:#?}", controller.log())).unwrap();
    gate.creates("more", 20, "alice").await.assert_admitted(10 - exist);
}
