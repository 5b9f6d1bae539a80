//! A proxy between operator and bridge that passes a request on and then says that it failed.

use axum::http::Method;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance, conditions::BRIDGE_AVAILABLE};

use crate::support::{
    history::Ask,
    relay::{Fate, Relay},
    world::{SOON, World, create_bridge},
};

fn loses_puts(method: &Method, _: &str) -> Fate {
    if method == Method::PUT { Fate::AnswerLost } else { Fate::Passed }
}

/// Waits until the operator has looked at the instance as it is now, and says that the bridge does what it is asked.
async fn until_fine(world: &World) {
    let generation = world.instances().get("sales").await.unwrap().metadata.generation;
    let is_fine = |instance: &WhatsAppInstance| {
        let observed = instance.status.as_ref().and_then(|status| status.observed_generation);
        instance.metadata.generation == generation && observed == generation && !is_blamed(instance)
    };
    world.history.until("sales", "fine", SOON, is_fine).await;
}

fn is_blamed(instance: &WhatsAppInstance) -> bool {
    instance.condition(BRIDGE_AVAILABLE) != "True"
}

/// How many Warnings have been written, repetitions included.
async fn warnings(world: &World) -> i32 {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.name);
    let events = events.list(&Default::default()).await.unwrap().items;
    let warnings = events.iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    warnings.map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum()
}

/// The same once everything is told of what has been seen since then: a Warning is written after the status that it is about.
async fn warnings_of(world: &World, seen: usize, before: i32) -> i32 {
    let since = world.history.of("sales").split_off(seen);
    let blamed = since.iter().filter_map(|seen| seen.instance.as_ref()).any(is_blamed);
    let told = async {
        loop {
            let now = warnings(world).await;
            if !blamed || now > before {
                break now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("the bridge is blamed with a Warning")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_succeeded_while_its_answer_got_lost_is_not_told_of_later_as_a_failure() {
    let world = World::start("lost-answers").await;
    let relay = Relay::of(&world.bridge_address.http).await;
    create_bridge(&world.client, &world.name, &[&relay.url], &world.token).await;
    world.connected("sales", "+15550100041").await;

    let (seen, warned) = (world.history.of("sales").len(), warnings(&world).await);
    relay.now(loses_puts);
    world.patch_spec("sales", json!({"presence": "Visible"})).await;
    relay.until_lost(1).await;
    relay.now(|_, _| Fate::Passed);
    // The bridge is told nothing of this; the operator looks once more, and finds the bridge as it should be.
    world.patch_spec("sales", json!({"name": "Sales and support"})).await;
    until_fine(&world).await;

    let warned = warnings_of(&world, seen, warned).await;
    let seen = world.history.of("sales").len();
    for spec in [json!({"presence": "Hidden"}), json!({"presence": "Visible"})] {
        world.patch_spec("sales", spec).await;
        until_fine(&world).await;
    }
    let since = world.history.of("sales").split_off(seen);
    assert!(since.len() >= 4, "two changes of spec, and what the operator says of them");
    let blamed = since.iter().filter_map(|seen| seen.instance.as_ref()).any(is_blamed);
    assert!(!blamed, "the bridge is blamed for what it did; {}", world.history.story("sales"));
    assert_eq!(warnings(&world).await, warned);

    // A failure of this kind is not the deletion's either.
    let seen = world.history.of("sales").len();
    relay.now(loses_puts);
    world.patch_spec("sales", json!({"presence": "Hidden"})).await;
    relay.until_lost(2).await;
    relay.now(|_, _| Fate::Passed);
    until_fine(&world).await;
    let warned_by_then = warnings_of(&world, seen, warned).await;
    world.delete("sales").await;
    world.history.until_gone("sales", SOON).await;
    let seen = world.history.of("sales");
    let mut going =
        seen.iter().filter_map(|seen| seen.instance.as_ref()).filter(|i| i.phase() == Some(Phase::Terminating));
    assert!(!going.any(is_blamed), "{}", world.history.story("sales"));
    assert_eq!(warnings(&world).await, warned_by_then);
    assert!(world.whatsapp.devices().await.is_empty());
}
