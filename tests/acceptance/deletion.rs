//! Deleting removes the device, the keys and the object, and never hangs a namespace.

use std::{
    fs,
    time::{Duration, Instant},
};

use axum::http::Method;
use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{PartialObjectMeta, Request},
};
use serde_json::json;
use whatsapp_operator::api::{Phase, WhatsAppInstance, labels};

use crate::support::{
    history::Ask,
    relay::{Fate, Relay},
    world::{ALONE, SOON, Wishes, World},
};

/// The limit of one reconcile.
const RECONCILE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn deletion_unlinks_the_device_and_deletes_the_keys() {
    let world = World::start("delete").await;
    let connected = world.connected("sales", "+15550100020").await;
    let stopped = world.connected("support", "+15550100021").await;
    world.patch_spec("support", json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase("support", Phase::Disconnected, SOON).await;
    assert_eq!(world.whatsapp.devices().await.len(), 2);

    for instance in [connected, stopped] {
        let name = instance.metadata.name.clone().unwrap();
        assert!(instance.metadata.finalizers.iter().flatten().any(|f| f == labels::FINALIZER));
        world.delete(&name).await;
        world.history.until_gone(&name, SOON).await;
        assert!(world.key_files(&instance).is_empty(), "keys of {name}");
    }
    assert!(world.whatsapp.devices().await.is_empty(), "the devices are unlinked, the offline one too");
    assert!(world.sessions().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_leaves_the_device_linked() {
    let world = World::start("forget").await;
    world.apply("sales", json!({"deletionPolicy": "Forget"})).await;
    world.scan("sales", "+15550100022").await;
    let instance = world.history.until_phase("sales", Phase::Connected, SOON).await;
    world.delete("sales").await;
    world.history.until_gone("sales", SOON).await;
    assert!(world.key_files(&instance).is_empty());
    assert_eq!(world.whatsapp.devices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_waits_for_a_bridge_that_is_down() {
    let mut world = World::start("delete-down").await;
    world.connected("sales", "+15550100023").await;
    world.bridge.kill();
    world.delete("sales").await;
    let waiting = world.history.until_phase("sales", Phase::Terminating, SOON).await;
    assert!(waiting.metadata.deletion_timestamp.is_some());
    world.restart_bridge().await;
    world.history.until_gone("sales", Duration::from_secs(60)).await;
    assert!(world.whatsapp.devices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_gives_up_at_the_deadline_with_a_warning() {
    let mut world = World::start_with(
        "delete-deadline",
        Wishes { operator: vec!["--deletion-deadline".into(), "6s".into()], ..Default::default() },
    )
    .await;
    world.connected("sales", "+15550100024").await;
    world.bridge.kill();
    let deleted = jiff::Timestamp::now();
    world.delete("sales").await;
    world.history.until_gone("sales", SOON).await;
    let waited = jiff::Timestamp::now().duration_since(deleted).as_secs_f64();
    assert!(waited >= 5.0, "gave up after {waited} s already"); // deletionTimestamp has whole seconds

    let note = gave_up(&world, &world.name, "WhatsAppInstance", "sales").await;
    assert!(note.contains("may still be linked"), "{note:?}");
    assert_eq!(world.whatsapp.devices().await.len(), 1, "which is the truth");
    assert!(
        world
            .history
            .of("sales")
            .iter()
            .all(|seen| seen.instance.as_ref().is_none_or(|i| i.phase() != Some(Phase::LoggedOut)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_on_a_bridge_that_hangs_takes_one_reconcile_though_no_event_is_taken() {
    let mut world =
        World::start_with("delete-hanging", Wishes::of_operator(&[ALONE, "--deletion-deadline", "4s"])).await;
    world.operator.stop();
    let (relay, kubeconfig) = Relay::of_api_server(&world.kubeconfig, &world.dir).await;
    world.operator.set("--kubeconfig", kubeconfig);
    world.restart_operator().await;
    world.connected("sales", "+15550100027").await;
    world.bridge.freeze();
    relay.now(
        |method, path| {
            if method == Method::POST && path.ends_with("/events") { Fate::Held } else { Fate::Passed }
        },
    );
    world.delete("sales").await;
    // The first reconcile waits 10 s for the bridge, and by then the deadline has passed; the second one gives up.
    world.history.until_gone("sales", Duration::from_secs(10) + RECONCILE + SOON).await;
    let log = world.operator.log();
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((count("gave up unlinking the device"), count("the reconcile took too long")), (1, 0));
    assert!(count("could not publish an Event in time") >= 2, "nothing held the Events back");
    world.bridge.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_in_a_namespace_that_is_being_deleted_is_told_on_the_bridge() {
    let phone = "+15550100025";
    let mut world = World::start_with(
        "delete-namespace",
        Wishes { operator: vec!["--deletion-deadline".into(), "4s".into()], ..Default::default() },
    )
    .await;
    world.connected("sales", phone).await;
    world.bridge.kill();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.name, &DeleteParams::default()).await.unwrap();
    // What the namespace's own controller does in a cluster that has one.
    world.delete("sales").await;
    world.history.until_gone("sales", SOON).await;
    assert_eq!(gave_up(&world, &world.name, "WhatsAppInstance", "sales").await, "", "no Event is taken here any more");
    let note = gave_up(&world, "default", "WhatsAppBridge", &world.name).await;
    assert!(note.contains("delete-namespace/sales") && note.contains("may still be linked"), "{note:?}");
    assert!(!note.contains(phone.trim_start_matches('+')));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_deleted_and_unlinked_all_the_same() {
    let mut world = World::start_with("delete-unfit", Wishes::of_operator(&[ALONE])).await;
    let instance = world.connected("sales", "+15550100026").await;
    world.operator.kill();
    // Good enough for the schema, and beyond what this version takes for a time.
    let metadata: Api<PartialObjectMeta<WhatsAppInstance>> = Api::namespaced(world.client.clone(), &world.name);
    let stored = json!({ "status": { "connectedAt": "9999-12-31T23:59:59Z" } });
    let patch = Patch::Merge(stored);
    let request = Request::new(WhatsAppInstance::url_path(&(), Some(&world.name)));
    let request = request.patch_subresource("status", "sales", &PatchParams::default(), &patch).unwrap();
    world.client.request_text(request).await.unwrap();
    assert!(world.instances().get("sales").await.is_err(), "it can still be read");
    // Nothing of it is remembered.
    world.restart_operator().await;
    metadata.delete("sales", &DeleteParams::default()).await.unwrap();
    let deadline = Instant::now() + SOON;
    while metadata.get_metadata_opt("sales").await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.whatsapp.devices().await.is_empty() && world.key_files(&instance).is_empty());
    assert!(world.operator.log().contains("does not fit this version's schema"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_finalizer_holds_is_not_called_ready() {
    let world = World::start("delete-held").await;
    world.connected("sales", "+15550100029").await;
    let finalizers = |wanted: serde_json::Value| Patch::Merge(json!({ "metadata": { "finalizers": wanted } }));
    let held = finalizers(json!([labels::FINALIZER, "example.com/hold"]));
    world.instances().patch("sales", &PatchParams::default(), &held).await.unwrap();
    world.delete("sales").await;
    let let_go = |i: &WhatsAppInstance| !i.metadata.finalizers.iter().flatten().any(|f| f == labels::FINALIZER);
    let ended =
        |i: &WhatsAppInstance| let_go(i) && i.phase() == Some(Phase::Terminating) && i.condition("Ready") == "False";
    let instance = world.history.until("sales", "let go and not ready", SOON, ended).await;
    assert!(instance.condition("Paired") == "Unknown" && world.whatsapp.devices().await.is_empty());
    let released = finalizers(json!([]));
    world.instances().patch("sales", &PatchParams::default(), &released).await.unwrap();
    world.history.until_gone("sales", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_finds_an_empty_bridge_tells_that_the_device_may_still_be_linked() {
    let phone = "+15550100028";
    let mut world = World::start("delete-empty").await;
    world.connected("sales", phone).await;
    world.bridge.kill();
    world.delete("sales").await;
    world.history.until_phase("sales", Phase::Terminating, SOON).await;
    // Its node is gone, and the volume with it.
    let volume = world.dir.join("bridge");
    fs::remove_dir_all(&volume).unwrap();
    fs::create_dir(&volume).unwrap();
    world.restart_bridge().await;
    world.history.until_gone("sales", SOON).await;
    for (namespace, kind) in [(world.name.as_str(), "WhatsAppInstance"), ("default", "WhatsAppBridge")] {
        let name = if kind == "WhatsAppBridge" { world.name.as_str() } else { "sales" };
        let note = warning(&world, namespace, kind, name, "SessionLost").await;
        assert!(note.contains("may still be linked"), "{kind}: {note:?}");
        assert!(!note.contains(phone.trim_start_matches('+')));
    }
    assert_eq!(world.whatsapp.devices().await.len(), 1, "which is the truth");
}

/// What the Warning Event about a deletion that was given up says; nothing when there is none.
async fn gave_up(world: &World, namespace: &str, kind: &str, name: &str) -> String {
    warning(world, namespace, kind, name, "UnlinkGaveUp").await
}

/// What the Warning Event of this reason about this object says; nothing when there is none.
async fn warning(world: &World, namespace: &str, kind: &str, name: &str, reason: &str) -> String {
    let events: Api<Event> = Api::namespaced(world.client.clone(), namespace);
    let about = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name)
    };
    let warns = |event: &Event| event.type_.as_deref() == Some("Warning") && event.reason.as_deref() == Some(reason);
    let found = events.list(&ListParams::default()).await.unwrap().items;
    found.into_iter().find(|event| about(event) && warns(event)).and_then(|event| event.note).unwrap_or_default()
}
