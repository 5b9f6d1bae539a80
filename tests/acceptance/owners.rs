//! The rules where admission is away: the controller alone decides who is accepted and who is primary.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
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
    program::executable,
    world::{SOON, World},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn owners(world: &World) -> Api<WhatsAppOwner> {
    Api::all(world.client.clone())
}

/// An owner that no other test has.
fn owner(world: &World) -> String {
    format!("alice@{}", world.name)
}

async fn own(world: &World, name: &str, more: Value) -> WhatsAppInstance {
    let mut spec = json!({"owner": owner(world)});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.apply(name, spec).await
}

async fn decided(world: &World, name: &str) -> WhatsAppInstance {
    world.history.until(name, "decided about", PATIENCE, |i| !i.condition(ACCEPTED).is_empty()).await
}

async fn accepted(world: &World, name: &str) -> WhatsAppInstance {
    world.history.until(name, "accepted", PATIENCE, |i| i.condition(ACCEPTED) == "True").await
}

/// The owner's status once it is as wanted.
async fn until(world: &World, what: &str, wanted: impl Fn(&WhatsAppOwnerStatus) -> bool) -> WhatsAppOwnerStatus {
    let last = Mutex::new(None);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object_name(&owner(world))));
    let search = async {
        let mut seen = watcher(owners(world), config).default_backoff().applied_objects().boxed();
        while let Some(object) = seen.next().await {
            let Ok(WhatsAppOwner { status: Some(status), .. }) = object else { continue };
            if wanted(&status) {
                return status;
            }
            *last.lock().unwrap() = Some(status);
        }
        unreachable!("a watch never ends");
    };
    let Ok(status) = tokio::time::timeout(PATIENCE, search).await else {
        panic!("the owner is not {what}: {:#?}", last.lock().unwrap())
    };
    status
}

async fn set_max(world: &World, max: Option<i64>) {
    let patch = Patch::Merge(json!({"spec": {"maxInstances": max}}));
    owners(world).patch(&object_name(&owner(world)), &PatchParams::default(), &patch).await.unwrap();
}

fn primary(status: &WhatsAppOwnerStatus) -> Option<&str> {
    status.primary.as_ref().map(|primary| primary.name.as_str())
}

async fn accepted_now(world: &World) -> BTreeSet<String> {
    let list = world.instances().list(&Default::default()).await.unwrap();
    list.items.iter().filter(|i| i.condition(ACCEPTED) == "True").map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_15_the_10_oldest_are_accepted_and_the_others_wait_their_turn() {
    let mut world = World::start("owners-limit").await;
    // All at once, so that age decides and not who was seen first.
    world.operator.kill();
    let names: Vec<String> = (0..15).map(|n| format!("line-{n:02}")).collect();
    for name in &names {
        own(&world, name, json!({})).await;
    }
    let mut by_age = world.instances().list(&Default::default()).await.unwrap().items;
    by_age.sort_by_key(|i| (i.creation_timestamp(), i.uid()));
    let by_age: Vec<String> = by_age.iter().map(ResourceExt::name_any).collect();
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
    until_sessions(&world, 10).await;

    world.delete(&by_age[4]).await;
    accepted(&world, &by_age[10]).await;
    world.history.until_gone(&by_age[4], SOON).await;
    assert_eq!(accepted_now(&world).await.len(), 10);

    set_max(&world, Some(12)).await;
    accepted(&world, &by_age[11]).await;
    accepted(&world, &by_age[12]).await;
    until(&world, "at 12 of 12", |status| (status.used, status.max) == (12, 12)).await;

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

    for name in &by_age[..13] {
        assert!(
            world
                .history
                .of(name)
                .iter()
                .filter_map(|seen| seen.instance.as_ref())
                .all(|i| i.phase() != Some(Phase::Rejected) || by_age[10..].contains(name)),
            "{name} was never stopped"
        );
    }
    world.nothing_leaked(&[]).await;
}

async fn until_sessions(world: &World, count: usize) {
    let reached = async {
        while world.sessions().await.len() != count {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("not {count} sessions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_name_in_several_spellings_one_is_accepted_until_it_is_free() {
    let mut world = World::start("owners-names").await;
    world.operator.kill();
    let spellings = ["Sales", " sales ", "SALES", "ｓales"];
    for (n, spelling) in spellings.iter().enumerate() {
        own(&world, &format!("line-{n}"), json!({"name": spelling})).await;
    }
    own(&world, "other", json!({"name": "Support"})).await;
    world.restart_operator().await;
    for n in 0..spellings.len() {
        decided(&world, &format!("line-{n}")).await;
    }
    accepted(&world, "other").await;
    let mut in_now = accepted_now(&world).await;
    in_now.remove("other");
    assert_eq!(in_now.len(), 1, "{in_now:?}");
    let first = in_now.pop_first().unwrap();
    let waiting: Vec<String> = (0..4).map(|n| format!("line-{n}")).filter(|name| *name != first).collect();
    for name in &waiting {
        let instance = world.history.until_phase(name, Phase::Rejected, SOON).await;
        assert_eq!(instance.reason(ACCEPTED), reason::NAME_TAKEN);
    }
    // Another name heals one, the name becoming free another.
    world.patch_spec(&waiting[0], json!({"name": "Sales, second line"})).await;
    accepted(&world, &waiting[0]).await;
    world.delete(&first).await;
    world.history.until_gone(&first, SOON).await;
    let next = until(&world, "given to the next", |status| (status.used, status.instances.len()) == (3, 4)).await;
    assert_eq!(next.instances.iter().filter(|entry| entry.waiting.is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_nobody_has_no_limit_and_no_primary() {
    let world = World::start_with("owners-nobody", wishes(&["--max-instances-per-owner", "1"])).await;
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
}

fn wishes(operator: &[&str]) -> crate::support::world::Wishes {
    crate::support::world::Wishes {
        operator: operator.iter().map(|&one| one.to_owned()).collect(),
        ..Default::default()
    }
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
            {"namespace": world.name, "name": "line-0", "displayName": "something else"},
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

async fn plugin(world: &World, arguments: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new(executable("kubectl-whatsapp"));
    command.args(arguments).args(["--namespace", &world.name, "--kubeconfig"]).arg(&world.kubeconfig);
    command.env_remove("KUBECONFIG");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Every version of the owner, as a watcher saw it, with what is wrong with it.
struct Observer {
    wrong: std::sync::Arc<Mutex<Vec<String>>>,
    seen: std::sync::Arc<Mutex<Vec<Option<String>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Observer {
    fn watch(world: &World) -> Self {
        let (wrong, seen) =
            (std::sync::Arc::<Mutex<Vec<String>>>::default(), std::sync::Arc::<Mutex<Vec<_>>>::default());
        let config = watcher::Config::default().fields(&format!("metadata.name={}", object_name(&owner(world))));
        let mut objects = watcher(owners(world), config).default_backoff().applied_objects().boxed();
        let (complaints, pointers) = (wrong.clone(), seen.clone());
        let task = tokio::spawn(async move {
            while let Some(object) = objects.next().await {
                let Ok(WhatsAppOwner { status: Some(status), .. }) = object else { continue };
                let holds = |e: &&whatsapp_operator::api::LedgerEntry| e.waiting.is_none() && e.reserved_at.is_none();
                let accepted: Vec<&str> =
                    status.instances.iter().filter(holds).map(|entry| entry.name.as_str()).collect();
                match primary(&status) {
                    None if !accepted.is_empty() => complaints.lock().unwrap().push(format!("zero: {status:?}")),
                    Some(name) if !accepted.contains(&name) => {
                        complaints.lock().unwrap().push(format!("points at nothing accepted: {status:?}"));
                    }
                    name => pointers.lock().unwrap().push(name.map(str::to_owned)),
                }
            }
        });
        Self { wrong, seen, task }
    }

    fn moves(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_exactly_one_primary_whatever_happens() {
    const LINES: usize = 5;
    let mut world = World::start("owners-primary").await;
    let names: Vec<String> = (0..LINES).map(|n| format!("line-{n}")).collect();
    let phones: Vec<String> = (0..LINES).map(|n| format!("+1555010310{n}")).collect();
    for (name, phone) in names.iter().zip(&phones) {
        own(&world, name, json!({})).await;
        world.scan(name, phone).await;
        let instance = world.history.until_phase(name, Phase::Connected, PATIENCE).await;
        let writes = world.history.of(name).len() - 1;
        assert!(writes <= 4, "{writes} writes; {}", world.history.story(name));
        assert_eq!(instance.status.unwrap().primary, name == &names[0], "the first is primary, in the same writes");
    }
    let observer = Observer::watch(&world);
    until(&world, "connected", |s| s.connected == 5 && primary(s) == Some("line-0")).await;

    let refused = plugin(&world, &["set-primary", "no-such-line"]).await.unwrap_err();
    assert!(refused.contains("no-such-line"), "{refused}");
    let mut expected = String::new();
    for round in 0..40 {
        let name = &names[fastrand::usize(..LINES)];
        if round % 8 == 5 {
            world.operator.kill();
        }
        plugin(&world, &["set-primary", name]).await.unwrap();
        if round % 8 == 5 {
            world.operator.spawn();
        }
        expected.clone_from(name);
        if round % 4 == 3 {
            until(&world, "moved", |s| primary(s) == Some(expected.as_str())).await;
        }
    }
    until(&world, "moved", |s| primary(s) == Some(expected.as_str())).await;
    world.history.until(&expected, "mirroring it", SOON, |i| i.status.as_ref().unwrap().primary).await;
    assert!(observer.moves() >= 8, "the pointer moved {} times", observer.moves());

    // A primary that is taken offline stays primary, until a wish says otherwise.
    world.patch_spec(&expected, json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase(&expected, Phase::Disconnected, SOON).await;
    let stays = until(&world, "counted", |s| s.connected == 4).await;
    assert_eq!(primary(&stays), Some(expected.as_str()));
    let other = names.iter().find(|name| **name != expected).unwrap().clone();
    let offline = plugin(&world, &["set-primary", &other, "--wait"]).await.unwrap();
    assert!(offline.contains("is the primary instance"), "{offline}");
    let not_connected = plugin(&world, &["set-primary", &expected]).await.unwrap_err();
    assert!(not_connected.contains("must be connected"), "{not_connected}");

    // Deleted one after the other, the primary first each time, the operator dying in between.
    let mut left: BTreeSet<String> = names.iter().cloned().collect();
    while !left.is_empty() {
        let status = until(&world, "pointing", |s| primary(s).is_some_and(|name| left.contains(name))).await;
        let going = primary(&status).unwrap().to_owned();
        world.delete(&going).await;
        if left.len().is_multiple_of(2) {
            world.operator.kill();
            world.operator.spawn();
        }
        left.remove(&going);
        world.history.until_gone(&going, PATIENCE).await;
    }
    until(&world, "empty", |s| s.used == 0 && s.primary.is_none()).await;
    let wrong = observer.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
    world.operator.kill();
    world.restart_operator().await;
    world.nothing_leaked(&phones).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_made_at_creation_counts_once_connected_and_owners_are_listed() {
    let world = World::start("owners-wish").await;
    own(&world, "first", json!({})).await;
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
