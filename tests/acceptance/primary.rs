//! One primary per owner, all the time, and which one.

use std::{collections::BTreeSet, time::Duration};

use fastrand::Rng;
use futures::future::join_all;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use whatsapp_operator::{
    api::{Phase, WhatsAppInstance, labels::PRIMARY_SINCE},
    rules::owner::object_name,
};

use crate::support::{
    history::Ask,
    ledger::{Observer, PATIENCE, accepted, own, owner, owners, plugin, primary, until},
    webhooks::{Configuration, start_webhook, until_asked, webhook_program},
    world::{ALONE, SOON, Wishes, World},
};

/// A line of the storm, and what it waits for.
struct Line {
    name: String,
    phone: String,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Connected, so it can be set as primary.
    Ready,
    /// Connecting; a phone is at hand if it wants to be linked.
    Coming,
    /// Taken offline until that round.
    Offline(usize),
    /// Being deleted, to be made again.
    Going,
}

/// What happens in a round beside its move.
#[derive(Clone, Copy)]
enum Trouble {
    None,
    Crash,
    Offline,
    Replace,
}

impl Line {
    fn newest(&self, world: &World) -> Option<WhatsAppInstance> {
        world.history.of(&self.name).pop()?.instance
    }

    /// Does what the line waits for, if it is time.
    async fn tend(&mut self, world: &World, round: usize) {
        let newest = self.newest(world);
        let phase = newest.as_ref().and_then(Ask::phase);
        self.state = match self.state {
            State::Going if newest.is_none() => {
                own(world, &self.name, json!({})).await;
                State::Coming
            }
            State::Offline(until) if round >= until => {
                world.patch_spec(&self.name, json!({"desiredState": "Connected"})).await;
                // Not by what was seen of it before.
                world
                    .history
                    .until(&self.name, "told to connect", SOON, |i| i.spec.desired_state == Default::default())
                    .await;
                State::Coming
            }
            State::Coming if phase == Some(Phase::Connected) => State::Ready,
            State::Coming => {
                if let Some(qr) = newest.and_then(|instance| instance.qr()) {
                    // One that was scanned a moment ago, or is of an object that is gone, is refused: look again later.
                    let _ = world.whatsapp.scan(&qr, &self.phone, "Alice").await;
                }
                State::Coming
            }
            other => other,
        };
    }
}

/// 200 rounds with so much trouble in random places.
fn troubles(random: &mut Rng) -> Vec<Trouble> {
    let mut all = vec![Trouble::None; 200];
    for (trouble, count) in [(Trouble::Crash, 10), (Trouble::Offline, 12), (Trouble::Replace, 8)] {
        let free = all.iter_mut().filter(|one| matches!(one, Trouble::None)).take(count);
        free.for_each(|one| *one = trouble);
    }
    random.shuffle(&mut all);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_moves_among_ten_with_deletes_disconnects_and_crashes_leave_one_primary_all_the_time() {
    // Shown when it fails; give it again to see the same sequence.
    let seed = std::env::var("PRIMARY_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("PRIMARY_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let mut world = World::start_with("primary-storm", Wishes::of_operator(&[ALONE])).await;
    // A process of its own: wishes are stamped and judged while the controller is dead.
    let mut webhook = webhook_program(&world.dir, &world.kubeconfig, &world.name, "primary-storm");
    let configuration = Configuration {
        name: world.name.clone(),
        namespace: world.name.clone(),
        url: start_webhook(&mut webhook).await,
        label: None,
        kubeconfig: world.kubeconfig.clone(),
    };
    configuration.install().await;
    until_asked(&world.instances(), &world.probe()).await;

    let mut lines: Vec<Line> = (0..10)
        .map(|n| Line { name: format!("line-{n}"), phone: format!("+155501040{n:02}"), state: State::Coming })
        .collect();
    join_all(lines.iter().map(|line| own(&world, &line.name, json!({})))).await;
    let observer = Observer::watch(&world);
    all_ready(&world, &mut lines, 0).await;

    let (mut moves, mut last): (usize, Option<String>) = (0, None);
    let quiet = std::iter::repeat_with(|| Trouble::None);
    for (round, trouble) in troubles(&mut random).into_iter().chain(quiet).enumerate() {
        if moves == 200 {
            break;
        }
        for line in &mut lines {
            line.tend(&world, round).await;
        }
        // The one that has just been made primary is as good a victim as any other.
        let victim = random.usize(..lines.len());
        let victim = Some(&mut lines[victim]).filter(|line| line.state == State::Ready);
        match (trouble, victim) {
            (Trouble::Crash, _) => {
                world.operator.kill();
                world.operator.spawn();
            }
            (Trouble::Offline, Some(line)) => {
                world.patch_spec(&line.name, json!({"desiredState": "Disconnected"})).await;
                line.state = State::Offline(round + random.usize(1..10));
                last = last.filter(|last| *last != line.name);
            }
            (Trouble::Replace, Some(line)) => {
                world.delete(&line.name).await;
                line.state = State::Going;
                last = last.filter(|last| *last != line.name);
            }
            _ => {}
        }
        let ready: Vec<&Line> = lines.iter().filter(|line| line.state == State::Ready).collect();
        let Some(line) = random.choice(ready) else { continue };
        plugin(&world, &["set-primary", &line.name]).await.unwrap();
        moves += 1;
        last = Some(line.name.clone());
        observer.saw_nothing_wrong();
        if round % 20 == 19 {
            until(&world, "moved", |s| primary(s) == last.as_deref()).await;
        }
    }
    all_ready(&world, &mut lines, usize::MAX).await;
    plugin(&world, &["set-primary", &lines[0].name]).await.unwrap();
    until(&world, "moved", |s| primary(s) == Some(&lines[0].name) && s.connected == 10).await;
    for (n, line) in lines.iter().enumerate() {
        let mirrors = |i: &WhatsAppInstance| i.status.as_ref().is_some_and(|status| status.primary == (n == 0));
        world.history.until(&line.name, "mirroring it", PATIENCE, mirrors).await;
    }
    observer.saw_nothing_wrong();
    assert!(observer.moves() >= 100, "the pointer moved {} times", observer.moves());
    let phones: Vec<&str> = lines.iter().map(|line| line.phone.as_str()).collect();
    world.operator.kill();
    world.restart_operator().await;
    world.nothing_leaked(&phones).await;
}

async fn all_ready(world: &World, lines: &mut [Line], round: usize) {
    let ready = async {
        while !lines.iter().all(|line| line.state == State::Ready) {
            for line in lines.iter_mut() {
                line.tend(world, round).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, ready).await.is_err() {
        let late: Vec<String> = lines
            .iter()
            .filter(|line| line.state != State::Ready)
            .map(|line| world.history.story(&line.name))
            .collect();
        panic!("{late:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_exactly_one_primary_whatever_happens() {
    const LINES: usize = 5; // without admission, by the plugin's stamps
    let mut world = World::start_with("primary-alone", Wishes::of_operator(&[ALONE])).await;
    let names: Vec<String> = (0..LINES).map(|n| format!("line-{n}")).collect();
    let phones: Vec<String> = (0..LINES).map(|n| format!("+1555010310{n}")).collect();
    for (name, phone) in names.iter().zip(&phones) {
        own(&world, name, json!({})).await;
        world.scan(name, phone).await;
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
        let seen = world.history.of(name).into_iter().filter_map(|seen| seen.instance?.status);
        assert!(
            seen.filter(|s| s.phase.is_some()).all(|s| s.primary == (name == &names[0])),
            "the first is primary, and each is told so with its first status: {}",
            world.history.story(name)
        );
    }
    let observer = Observer::watch(&world);
    until(&world, "connected", |s| s.connected == 5 && primary(s) == Some("line-0")).await;

    let refused = plugin(&world, &["set-primary", "no-such-line"]).await.unwrap_err();
    assert!(refused.contains("no-such-line"), "{refused}");
    let (mut expected, mut waited_for) = (String::new(), names[0].clone());
    for round in 0..16 {
        // What is waited for is a move each time.
        let choices: Vec<&String> = names.iter().filter(|name| round % 4 != 3 || **name != waited_for).collect();
        let name = choices[fastrand::usize(..choices.len())];
        if round % 4 == 1 {
            world.operator.kill();
        }
        plugin(&world, &["set-primary", name]).await.unwrap();
        if round % 4 == 1 {
            world.operator.spawn();
        }
        expected.clone_from(name);
        if round % 4 == 3 {
            until(&world, "moved", |s| primary(s) == Some(expected.as_str())).await;
            waited_for.clone_from(name);
        }
    }
    until(&world, "moved", |s| primary(s) == Some(expected.as_str())).await;
    world.history.until(&expected, "mirroring it", SOON, |i| i.status.as_ref().unwrap().primary).await;
    let moved = async {
        // Its watch is another one than that waited by.
        while observer.moves() < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, moved).await.unwrap_or_else(|_| panic!("{} moves", observer.moves()));

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
    observer.saw_nothing_wrong();
    let phones: Vec<&str> = phones.iter().map(String::as_str).collect();
    world.operator.kill();
    world.restart_operator().await;
    world.nothing_leaked(&phones).await;
}

/// A file from Git, applied as a GitOps controller does.
async fn sync(world: &World, annotations: Value) -> WhatsAppInstance {
    let file = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppInstance",
        "metadata": {"name": "from-git", "annotations": annotations},
        "spec": {"name": "From Git", "owner": owner(world), "primary": true, "bridgeRef": {"name": world.name}}});
    let apply = PatchParams::apply("gitops").force();
    world.instances().patch("from-git", &apply, &Patch::Apply(file)).await.unwrap()
}

/// An owner with two instances, `from-git` being primary by the wish in its file, and the whole story written down.
async fn with_git(name: &str) -> World {
    let world = World::start_with(name, Wishes { webhooks: true, ..Wishes::default() }).await;
    own(&world, "by-hand", json!({})).await;
    sync(&world, json!({})).await;
    for (n, name) in ["by-hand", "from-git"].into_iter().enumerate() {
        world.scan(name, &format!("+1555010350{n}")).await;
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
    }
    until(&world, "at rest", |s| {
        (s.connected, primary(s)) == (2, Some("from-git"))
            && s.instances.iter().all(|entry| entry.reserved_at.is_none())
    })
    .await;
    world.history.until("from-git", "mirroring it", PATIENCE, |i| i.status.as_ref().unwrap().primary).await;
    world.history.until("by-hand", "mirroring it", PATIENCE, |i| !i.status.as_ref().unwrap().primary).await;
    world
}

async fn owner_version(world: &World) -> Option<String> {
    owners(world).get(&object_name(&owner(world))).await.unwrap().resource_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_applied_from_git_every_second_for_a_minute_causes_no_write() {
    let world = with_git("primary-gitops").await;
    let (instance, owner, seen) =
        (sync(&world, json!({})).await.resource_version(), owner_version(&world).await, world.history.count());
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..60 {
        seconds.tick().await;
        assert_eq!(sync(&world, json!({})).await.resource_version(), instance);
        assert_eq!(owner_version(&world).await, owner);
    }
    assert_eq!(world.history.count(), seen, "{}", world.history.story("from-git"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_is_made_anew_by_one_write_and_never_by_a_file() {
    let world = with_git("primary-anew").await;
    let stamp = |instance: &WhatsAppInstance| instance.annotations()[PRIMARY_SINCE].clone();
    let first = sync(&world, json!({})).await;
    let exported = json!({PRIMARY_SINCE: stamp(&first)});

    plugin(&world, &["set-primary", "by-hand"]).await.unwrap();
    until(&world, "moved", |s| primary(s) == Some("by-hand")).await;
    world.history.until("from-git", "mirroring it", PATIENCE, |i| !i.status.as_ref().unwrap().primary).await;
    let outdone = sync(&world, json!({})).await;
    assert_eq!(stamp(&outdone), stamp(&first));

    // One write, and no moment without the wish.
    let before = world.history.of("from-git").len();
    plugin(&world, &["set-primary", "from-git"]).await.unwrap();
    until(&world, "moved back", |s| primary(s) == Some("from-git")).await;
    let mirrored = |i: &WhatsAppInstance| i.status.as_ref().is_some_and(|status| status.primary);
    world.history.until("from-git", "mirroring it", PATIENCE, mirrored).await;
    let since: Vec<WhatsAppInstance> =
        world.history.of("from-git").drain(before..).filter_map(|seen| seen.instance).collect();
    assert_eq!(since.len(), 2, "the wish and the mirror: {}", world.history.story("from-git"));
    assert!(since.iter().all(|instance| instance.spec.primary));
    assert!(stamp(&since[0]).parse::<jiff::Timestamp>().unwrap() > stamp(&first).parse().unwrap());

    // A file that was exported before is older than that, and takes nothing back, however often it is applied.
    plugin(&world, &["set-primary", "by-hand"]).await.unwrap();
    until(&world, "moved again", |s| primary(s) == Some("by-hand")).await;
    world.history.until("from-git", "mirroring it", PATIENCE, |i| !i.status.as_ref().unwrap().primary).await;
    for _ in 0..5 {
        let applied = sync(&world, exported.clone()).await;
        // The API server notes the time of the attempt among the managed fields; nothing else changes.
        assert_eq!((stamp(&applied), applied.metadata.generation), (stamp(&since[0]), since[0].metadata.generation));
    }
    assert_eq!(
        primary(&owners(&world).get(&object_name(&owner(&world))).await.unwrap().status.unwrap()),
        Some("by-hand")
    );

    // Not connected, a wish made anew is refused like a first one.
    world.patch_spec("from-git", json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase("from-git", Phase::Disconnected, PATIENCE).await;
    let anew = json!({"metadata": {"annotations": {PRIMARY_SINCE: jiff::Timestamp::now().to_string()}}});
    let refused = world.instances().patch("from-git", &PatchParams::default(), &Patch::Merge(anew)).await.unwrap_err();
    assert!(refused.to_string().contains("must be connected to be set as primary"), "{refused}");
    accepted(&world, "from-git").await;
}
