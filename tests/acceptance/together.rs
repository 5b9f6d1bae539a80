//! Webhooks and controller together: what one of them lets through or gives back, the other knows.

use std::{collections::BTreeSet, time::Duration};

use kube::{api::PostParams, core::Status};
use serde_json::json;
use whatsapp_operator::{
    api::{
        Phase, WhatsAppInstance,
        conditions::{ACCEPTED, reason},
    },
    rules::RESERVATION,
};

use crate::support::{
    history::Ask,
    ledger::{accepted, accepted_now, by_age, decided, own, owner, until, was_never_stopped},
    webhooks::{status, until_asked, until_not_asked},
    world::{SOON, Wishes, World},
};

async fn create(world: &World, name: &str) -> Result<(), Status> {
    let object: WhatsAppInstance = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"name": name, "owner": owner(world), "bridgeRef": {"name": world.name}},
    }))
    .unwrap();
    world.instances().create(&PostParams::default(), &object).await.map(drop).map_err(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_while_the_webhooks_were_away_waits_its_turn_and_lets_nobody_overtake() {
    let world = World::start_with("together-away", Wishes { webhooks: true, ..Wishes::default() }).await;
    let webhooks = world.webhooks.as_ref().unwrap();
    webhooks.remove().await;
    until_not_asked(&world.instances(), &world.probe()).await;
    for burst in 0..3 {
        for n in 0..5 {
            own(&world, &format!("line-{:02}", burst * 5 + n), json!({})).await;
        }
        // Age has no finer grain than a second, so each burst has seconds of its own.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    webhooks.install().await;
    until_asked(&world.instances(), &world.probe()).await;

    let by_age = by_age(&world).await;
    for name in &by_age {
        decided(&world, name).await;
    }
    until(&world, "full", |s| (s.used, s.instances.len()) == (10, 15)).await;
    assert_eq!(accepted_now(&world).await, by_age[..10].iter().cloned().collect::<BTreeSet<_>>(), "the oldest ten");
    for name in &by_age[10..] {
        let waiting = world.history.until_phase(name, Phase::Rejected, SOON).await;
        assert_eq!(waiting.reason(ACCEPTED), reason::LIMIT_EXCEEDED);
    }
    world.until_sessions(10).await;

    let refused = async |name: &str, sentence: &str| {
        let refusal = create(&world, name).await.unwrap_err();
        assert!(refusal.code == 403 && refusal.message.contains(sentence), "{refusal:?}");
    };
    refused("late", "has 10 of 10 instances and 5 waiting; delete one").await;

    world.delete(&by_age[3]).await;
    accepted(&world, &by_age[10]).await;
    world.history.until_gone(&by_age[3], SOON).await;
    refused("later", "has 10 of 10 instances and 4 waiting; delete one").await;
    let still: BTreeSet<String> = by_age[..11].iter().filter(|name| **name != by_age[3]).cloned().collect();
    assert_eq!(accepted_now(&world).await, still, "the oldest of those that waited, and no other");
    for name in &still {
        was_never_stopped(&world, name);
    }
    world.until_sessions(10).await;
    world.nothing_leaked(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_an_instance_deleted_a_moment_after_its_creation_is_free_at_once() {
    let wishes = Wishes { webhooks: true, ..Wishes::of_operator(&["--max-instances-per-owner", "2"]) };
    let world = World::start_with("together-brief", wishes).await;
    // The primary: what concerns that is written at once in any case.
    own(&world, "stays", json!({})).await;
    accepted(&world, "stays").await;
    for round in 0..5 {
        let name = format!("line-{round}");
        let admitted = async {
            while let Err(refusal) = create(&world, &name).await {
                assert_eq!(refusal.reason, "LimitExceeded", "{refusal:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        // The reservation would keep it for twice as long.
        tokio::time::timeout(RESERVATION / 2, admitted).await.unwrap_or_else(|_| panic!("{name} finds no place"));
        accepted(&world, &name).await;
        world.delete(&name).await;
        world.history.until_gone(&name, SOON).await;
    }
}
