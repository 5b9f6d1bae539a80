//! The rules where admission is away: the controller alone decides who is accepted and who is primary.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::{
    api::{
        Phase, WhatsAppInstance, WhatsAppOwner, WhatsAppOwnerStatus,
        conditions::{ACCEPTED, READY, reason},
    },
    rules::owner::object_name,
};

use crate::support::{
    history::Ask,
    ledger::{
        PATIENCE, accepted, accepted_now, by_age, decided, own, owner, owners, plugin, primary, until,
        was_never_stopped,
    },
    world::{ALONE, SOON, Wishes, World, create_namespace},
};

async fn set_max(world: &World, max: Option<i64>) {
    let patch = Patch::Merge(json!({"spec": {"maxInstances": max}}));
    owners(world).patch(&object_name(&owner(world)), &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_15_the_10_oldest_are_accepted_and_the_others_wait_their_turn() {
    let mut world = World::start_with("owners-limit", Wishes::of_operator(&[ALONE])).await;
    // All at once, so that age decides and not who was seen first.
    world.operator.kill();
    let names: Vec<String> = (0..15).map(|n| format!("line-{n:02}")).collect();
    for name in &names {
        own(&world, name, json!({})).await;
    }
    let by_age = by_age(&world).await;
    world.restart_operator().await;
    for name in &names {
        decided(&world, name).await;
    }
    assert_eq!(accepted_now(&world).await, by_age[..10].iter().cloned().collect::<BTreeSet<_>>(), "the oldest ten");
    let status = until(&world, "full", |status| status.used == 10 && status.instances.len() == 15).await;
    assert_eq!(status.max, 10);
    assert_eq!(primary(&status), Some(by_age[0].as_str()));

    for name in &by_age[10..] {
        let waiting = world.history.until_phase(name, Phase::Rejected, SOON).await;
        assert_eq!(waiting.reason(ACCEPTED), reason::LIMIT_EXCEEDED);
        assert_eq!(waiting.reason(READY), reason::LIMIT_EXCEEDED);
        let status = waiting.status.clone().unwrap();
        let message = &status.conditions.iter().find(|c| c.type_ == ACCEPTED).unwrap().message;
        assert!(message.contains("has 10 of 10 instances") && message.contains("delete one"), "{message}");
        assert!(status.bridge.is_none() && !waiting.finalizers().iter().any(|_| true), "nothing was begun for {name}");
    }
    for name in &by_age[..10] {
        world.history.until(name, "on the bridge", PATIENCE, |i| i.status.as_ref().unwrap().bridge.is_some()).await;
    }
    world.until_sessions(10).await;

    world.delete(&by_age[4]).await;
    accepted(&world, &by_age[10]).await;
    world.history.until_gone(&by_age[4], SOON).await;
    assert_eq!(accepted_now(&world).await.len(), 10);

    set_max(&world, Some(12)).await;
    accepted(&world, &by_age[11]).await;
    accepted(&world, &by_age[12]).await;
    until(&world, "at 12 of 12", |status| (status.used, status.max) == (12, 12)).await;
    // The operator has the answers to its writes: one that it has accepted in this very moment and knows no answer for goes back to those
    // that wait.
    world.until_sessions(12).await;

    // Lowering stops nobody; a place that becomes free now is not given away.
    set_max(&world, Some(3)).await;
    let lowered = until(&world, "at 12 of 3", |status| status.max == 3).await;
    assert_eq!(lowered.used, 12);
    world.delete(&by_age[0]).await;
    until(&world, "at 11 of 3", |status| (status.used, status.max) == (11, 3)).await;
    let still: BTreeSet<String> = by_age[1..13].iter().filter(|name| **name != by_age[4]).cloned().collect();
    assert_eq!(accepted_now(&world).await, still);
    set_max(&world, None).await;
    until(&world, "at its default", |status| status.max == 10).await;

    for name in &by_age[..10] {
        was_never_stopped(&world, name);
    }
    world.nothing_leaked(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_nobody_has_no_limit_and_no_primary() {
    let world = World::start_with("owners-nobody", Wishes::of_operator(&["--max-instances-per-owner", "1"])).await;
    for n in 0..3 {
        world.apply(&format!("free-{n}"), json!({"name": "Same", "primary": true})).await;
        own(&world, &format!("owned-{n}"), json!({})).await;
    }
    for n in 0..3 {
        let free = accepted(&world, &format!("free-{n}")).await;
        assert!(!free.status.unwrap().primary);
        decided(&world, &format!("owned-{n}")).await;
    }
    assert_eq!(accepted_now(&world).await.len(), 4, "three of nobody, and one of the owner's by the flag");

    // Given to an owner past admission, it is not beyond the limit because it was up before.
    world.patch_spec("free-0", json!({"owner": owner(&world)})).await;
    let waiting = world.history.until_phase("free-0", Phase::Rejected, SOON).await;
    assert_eq!(waiting.reason(ACCEPTED), reason::LIMIT_EXCEEDED);
    world.patch_spec("free-1", json!({"owner": format!("bob@{}", world.name)})).await;
    world.history.until("free-1", "accepted by its owner's ledger", SOON, |i| i.reason(ACCEPTED) == "Accepted").await;
    let told = world.history.until("free-1", "primary", SOON, |i| i.status.as_ref().is_some_and(|s| s.primary)).await;
    assert_eq!(told.condition(ACCEPTED), "True");
    was_never_stopped(&world, "free-1");
    assert_eq!(accepted(&world, "free-2").await.reason(ACCEPTED), reason::NO_OWNER);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_deleted_corrupted_or_restored_comes_back_right() {
    let world = World::start("owners-repair").await;
    for n in 0..3 {
        own(&world, &format!("line-{n}"), json!({})).await;
        accepted(&world, &format!("line-{n}")).await;
    }
    let phones = ["+15550103001", "+15550103002"];
    world.scan("line-1", phones[0]).await;
    world.scan("line-2", phones[1]).await;
    for name in ["line-1", "line-2"] {
        world.history.until_phase(name, Phase::Connected, SOON).await;
    }
    plugin(&world, &["set-primary", "line-2"]).await.unwrap();
    let right = until(&world, "counted", |s| s.connected == 2 && primary(s) == Some("line-2")).await;
    assert_eq!((right.used, right.max), (3, 10));
    // Not by its wish: by the mirror in the instance, which knows who was primary, once it has been written.
    let mirrored = |i: &WhatsAppInstance| i.status.as_ref().is_some_and(|status| status.primary);
    world.history.until("line-2", "told that it is primary", PATIENCE, mirrored).await;
    world.patch_spec("line-2", json!({"primary": false})).await;
    let unwished = |s: &WhatsAppOwnerStatus| s.instances.iter().all(|entry| entry.primary_since.is_none());
    let right = until(&world, "told that nobody wishes it", |s| unwished(s) && s.used == 3).await;
    assert_eq!((primary(&right), right.connected), (Some("line-2"), 2));
    let name = object_name(&owner(&world));

    let before = owners(&world).get(&name).await.unwrap();
    owners(&world).delete(&name, &DeleteParams::default()).await.unwrap();
    let again = until(&world, "made again", |s| *s == right).await;
    assert_eq!(again, right);
    assert_ne!(owners(&world).get(&name).await.unwrap().uid(), before.uid());

    let nonsense = json!({"status": {
        "instances": [
            {"namespace": world.name, "name": "vanished", "displayName": "vanished"},
            {"namespace": world.name, "name": "reserved", "displayName": "reserved", "reservedAt": "2020-01-01T00:00:00Z"},
            // The schema lets a time pass that no clock shows.
            {"namespace": world.name, "name": "line-0", "displayName": "something else", "reservedAt": "2020-01-01T00:00:00+99:99"},
        ],
        "used": 99, "max": -1, "connected": 7, "primary": {"namespace": world.name, "name": "vanished"},
    }});
    owners(&world).patch_status(&name, &PatchParams::default(), &Patch::Merge(nonsense)).await.unwrap();
    until(&world, "repaired", |s| *s == right).await;
    let empty = json!({"status": null});
    owners(&world).patch_status(&name, &PatchParams::default(), &Patch::Merge(empty)).await.unwrap();
    until(&world, "filled again", |s| *s == right).await;
    // Nobody was stopped meanwhile.
    for n in ["line-1", "line-2"] {
        let phases = world.history.of(n).into_iter().filter_map(|seen| seen.instance?.phase());
        let after: Vec<Phase> = phases.skip_while(|phase| *phase != Phase::Connected).collect();
        assert!(after.iter().all(|phase| *phase == Phase::Connected), "{}", world.history.story(n));
    }
    world.nothing_leaked(&phones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_made_at_creation_counts_once_connected_and_owners_are_listed() {
    let world = World::start("owners-wish").await;
    // Offline, so that no code of its own changes while writes are counted.
    own(&world, "first", json!({"desiredState": "Disconnected"})).await;
    accepted(&world, "first").await;
    own(&world, "second", json!({"primary": true})).await;
    world.qr("second").await;
    let waits = until(&world, "of two", |s| s.used == 2).await;
    assert_eq!(primary(&waits), Some("first"), "not connected yet");
    world.scan("second", "+15550103200").await;
    until(&world, "moved", |s| primary(s) == Some("second")).await;
    world.history.until("second", "mirroring it", SOON, |i| i.status.as_ref().unwrap().primary).await;
    world.history.until("first", "mirroring it", SOON, |i| !i.status.as_ref().unwrap().primary).await;

    let who = owner(&world);
    until(&world, "counted", |s| s.connected == 1).await;
    // What would be a write is a new resourceVersion, of the owner or of an instance.
    let versions = async || {
        let owner = owners(&world).get(&object_name(&who)).await.unwrap().resource_version();
        (owner, world.history.count())
    };
    let before = versions().await;
    tokio::time::sleep(Duration::from_secs(10)).await; // the idling itself: longer than any postponed write waits
    assert_eq!(versions().await, before, "writes while idle");
    let table = plugin(&world, &["owners"]).await.unwrap();
    let row = table.lines().find(|line| line.starts_with(&who)).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[1..5], ["2", "10", "1", "owners-wish/second"], "{table}");
    let all: Value = serde_json::from_str(&plugin(&world, &["owners", "-o", "json"]).await.unwrap()).unwrap();
    assert!(all["items"].as_array().unwrap().iter().any(|item| item["spec"]["owner"] == who.as_str()));
    assert!(plugin(&world, &["owners", "-o", "yaml"]).await.unwrap().contains(&who));

    plugin(&world, &["owner", "set-limit", &who, "1"]).await.unwrap();
    until(&world, "limited", |s| (s.used, s.max) == (2, 1)).await;
    own(&world, "third", json!({})).await;
    world.history.until_phase("third", Phase::Rejected, SOON).await;
    plugin(&world, &["owner", "set-limit", &who, "default"]).await.unwrap();
    accepted(&world, "third").await;
    // For somebody who has nothing yet, too.
    let other = format!("bob@{}", world.name);
    plugin(&world, &["owner", "set-limit", &other, "7"]).await.unwrap();
    assert_eq!(owners(&world).get(&object_name(&other)).await.unwrap().spec.max_instances, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_object_belongs_to_somebody_else_waits_until_it_is_gone() {
    let world = World::start("owners-foreign").await;
    let name = object_name(&owner(&world));
    let foreign: WhatsAppOwner =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"owner": "mallory"}})).unwrap();
    owners(&world).create(&PostParams::default(), &foreign).await.unwrap();
    own(&world, "line", json!({})).await;
    let held = world.history.until_phase("line", Phase::Rejected, PATIENCE).await;
    assert_eq!(held.reason(ACCEPTED), reason::OWNER_OBJECT_FOREIGN);
    assert!(held.finalizers().is_empty(), "nothing was begun");
    owners(&world).delete(&name, &DeleteParams::default()).await.unwrap();
    accepted(&world, "line").await;
    assert_eq!(owners(&world).get(&name).await.unwrap().spec.owner, owner(&world));
}

/// What an operator of one namespace needs: everything there, the shared kinds everywhere, no other namespace's instances.
async fn restrict(world: &mut World) {
    let (name, user) = (world.name.clone(), format!("operator@{}", world.name));
    let group = "rbac.authorization.k8s.io";
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let shared = json!([
        {"apiGroups": ["whatsapp-operator.dev"], "verbs": ["*"],
            "resources": ["whatsappowners", "whatsappowners/status", "whatsappbridges", "whatsappbridges/status"]},
        {"apiGroups": [""], "verbs": ["get", "list", "watch"], "resources": ["namespaces"]},
    ]);
    let apply = PatchParams::apply("test").force();
    for (kind, rules) in [("Role", everything), ("ClusterRole", shared)] {
        let object =
            |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
        let (mut role, mut binding) = (object(kind), object(&format!("{kind}Binding")));
        role["rules"] = rules;
        binding["roleRef"] = json!({"apiGroup": group, "kind": kind, "name": name});
        binding["subjects"] = json!([{"apiGroup": group, "kind": "User", "name": user}]);
        for object in [role, binding] {
            let kind = kube::core::GroupVersionKind::gvk(group, "v1", object["kind"].as_str().unwrap());
            let resource = kube::core::ApiResource::from_gvk(&kind);
            let api: Api<kube::core::DynamicObject> = if kind.kind.starts_with("Cluster") {
                Api::all_with(world.client.clone(), &resource)
            } else {
                Api::namespaced_with(world.client.clone(), &name, &resource)
            };
            api.patch(&name, &apply, &Patch::Apply(object)).await.unwrap();
        }
    }
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    kubeconfig["users"][0]["user"]["as"] = json!(user);
    let file = world.dir.join("operator.kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    world.operator.stop();
    world.operator.set("--kubeconfig", file);
    world.restart_operator().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_one_namespace_takes_the_ledgers_word_for_what_it_may_not_see() {
    let mut world = World::start_with("owners-narrow", Wishes::of_operator(&["--max-instances-per-owner", "2"])).await;
    restrict(&mut world).await;
    own(&world, "near", json!({})).await;
    accepted(&world, "near").await;
    // Elsewhere, with an operator of its own; here is what that one wrote.
    let elsewhere = "owners-narrow-elsewhere";
    create_namespace(&world.client, elsewhere).await;
    let far: WhatsAppInstance =
        serde_json::from_value(json!({"metadata": {"name": "far"}, "spec": {"name": "Far", "owner": owner(&world)}}))
            .unwrap();
    Api::namespaced(world.client.clone(), elsewhere).create(&PostParams::default(), &far).await.unwrap();
    edit_ledger(&world, |instances| {
        instances.push(json!({"namespace": elsewhere, "name": "far", "displayName": "far"}));
    })
    .await;

    // Its place and its name are taken.
    own(&world, "second", json!({})).await;
    let waits = world.history.until_phase("second", Phase::Rejected, PATIENCE).await;
    assert_eq!(waits.reason(ACCEPTED), reason::LIMIT_EXCEEDED);
    set_max(&world, Some(3)).await;
    accepted(&world, "second").await;
    own(&world, "namesake", json!({"name": "FAR"})).await;
    let waits = world.history.until_phase("namesake", Phase::Rejected, PATIENCE).await;
    assert_eq!(waits.reason(ACCEPTED), reason::NAME_TAKEN);
    // When the other operator gives them back, they are free here.
    edit_ledger(&world, |instances| instances.retain(|entry| entry["name"] != "far")).await;
    accepted(&world, "namesake").await;
    was_never_stopped(&world, "near");
}

/// Changes the ledger as another operator would: by the version it was read in.
async fn edit_ledger(world: &World, edit: impl Fn(&mut Vec<Value>)) {
    let name = object_name(&owner(world));
    loop {
        let found = owners(world).get(&name).await.unwrap();
        let mut object = serde_json::to_value(&found).unwrap();
        edit(object["status"]["instances"].as_array_mut().unwrap());
        let object: WhatsAppOwner = serde_json::from_value(object).unwrap();
        match owners(world).replace_status(&name, &PostParams::default(), &object).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => panic!("{error}"),
        }
    }
}
