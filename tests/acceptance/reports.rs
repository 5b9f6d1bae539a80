//! What people report of programs like this one, each tried here with the webhooks on.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::{StreamExt, stream};
use kube::{ResourceExt, api::PostParams};
use serde_json::json;
use whatsapp_operator::api::{
    Phase, WhatsAppInstance,
    conditions::{ACCEPTED, CONNECTED, PAIRED, READY, reason},
};

use crate::{
    support::{
        history::Ask,
        ledger::{self, own, owner},
        phone::Login,
        webhooks::until_asked,
        world::{ALONE, SOON, Wishes, World},
    },
    turns::storm,
};

/// What has to do with many sessions, or with programs that were killed.
const PATIENCE: Duration = Duration::from_secs(90);

fn with_webhooks(operator: &[&str]) -> Wishes {
    Wishes { webhooks: true, ..Wishes::of_operator(operator) }
}

fn unix_millis() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap()
}

/// An instance of the world's owner, linked to this phone.
async fn connected(world: &World, name: &str, phone: &str) -> WhatsAppInstance {
    own(world, name, json!({})).await;
    world.scan(name, phone).await;
    world.history.until_phase(name, Phase::Connected, SOON).await
}

/// Something done in the loop; what may be refused then is asked again by whoever wants it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Create,
    Delete,
    Scan,
    RestartBridge,
    KillBridge,
    KillOperator,
}

/// Makes the same decisions for the same seed.
struct Loop {
    world: World,
    random: Rng,
    phones: u32,
}

impl Loop {
    const LIMIT: usize = 3;

    /// One of five names.
    fn name(&mut self) -> String {
        format!("line-{}", self.random.u8(0..5))
    }

    async fn existing(&self) -> Vec<WhatsAppInstance> {
        self.world.instances().list(&Default::default()).await.unwrap().items
    }

    async fn create(&self, name: &str) {
        let object: WhatsAppInstance = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"name": name, "owner": owner(&self.world), "bridgeRef": {"name": self.world.name}},
        }))
        .unwrap();
        match self.world.instances().create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(refusal)) => {
                // The old one is still going, the owner has three, or the operator has just been killed.
                let expected = refusal.is_already_exists()
                    || refusal.reason == "LimitExceeded"
                    || refusal.message.contains("failed calling webhook");
                assert!(expected, "{refusal:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody scans a code if one is shown, and waits for the connection.
    async fn scan(&mut self) {
        let waits = |i: &WhatsAppInstance| i.qr().is_some() && i.metadata.deletion_timestamp.is_none();
        let Some(instance) = self.existing().await.into_iter().find(waits) else { return };
        self.phones += 1;
        let phone = format!("+1555013{:04}", self.phones);
        // The code may be that of a bridge that is gone.
        if self.world.whatsapp.scan(&instance.qr().unwrap(), &phone, "Alice").await.is_ok() {
            self.world.history.until_phase(&instance.name_any(), Phase::Connected, PATIENCE).await;
        }
    }

    async fn does(&mut self, deed: Deed) {
        let name = self.name();
        match deed {
            Deed::Create => self.create(&name).await,
            Deed::Delete => {
                let _ = self.world.instances().delete(&name, &Default::default()).await;
            }
            Deed::Scan => self.scan().await,
            Deed::RestartBridge => {
                self.world.bridge.stop();
                self.world.restart_bridge().await;
            }
            Deed::KillBridge => {
                self.world.bridge.kill();
                self.world.restart_bridge().await;
            }
            Deed::KillOperator => {
                self.world.operator.kill();
                self.world.restart_operator().await;
            }
        }
        let existing = self.existing().await.len();
        assert!(existing <= Self::LIMIT, "{existing} instances of an owner who may have {}", Self::LIMIT);
    }

    /// Everything fits together: objects, sessions, keys, devices, ledger.
    async fn converged(&self) {
        let names: Vec<String> = self.existing().await.iter().map(ResourceExt::name_any).collect();
        for name in &names {
            self.world
                .history
                .until(name, "up", PATIENCE, |i| {
                    let phase = i.phase();
                    i.condition(ACCEPTED) == "True"
                        && (phase == Some(Phase::Connected) || phase == Some(Phase::AwaitingPairing))
                })
                .await;
        }
        ledger::until(&self.world, "as large as what exists", |status| {
            let held: BTreeSet<&str> = status.instances.iter().map(|entry| entry.name.as_str()).collect();
            held == names.iter().map(String::as_str).collect() && usize::try_from(status.used) == Ok(names.len())
        })
        .await;
        self.world.until_sessions(names.len()).await;
        let ids: BTreeSet<String> = self.existing().await.iter().filter_map(ResourceExt::uid).collect();
        assert_eq!(self.world.sessions().await.into_iter().collect::<BTreeSet<_>>(), ids);
        assert_eq!(self.kept_keys(), ids, "keys of no session are left behind");
        let paired = self.existing().await.into_iter().filter(|i| i.condition(PAIRED) == "True").count();
        assert_eq!(self.world.whatsapp.devices().await.len(), paired, "a device of no instance is left linked");
    }

    fn kept_keys(&self) -> BTreeSet<String> {
        let sessions = std::fs::read_dir(self.world.dir.join("bridge/sessions")).unwrap();
        sessions.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_deleting_and_restarting_in_a_loop_leaves_nothing_behind() {
    let seed = std::env::var("LOOP_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let seconds = std::env::var("LOOP_SECONDS").map_or(25, |seconds| seconds.parse().unwrap());
    println!("LOOP_SEED={seed} LOOP_SECONDS={seconds}");
    let limit = Loop::LIMIT.to_string();
    let world = World::start_with("loop", with_webhooks(&[ALONE, "--max-instances-per-owner", &limit])).await;
    let mut people = Loop { world, random: Rng::with_seed(seed), phones: 0 };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut deeds = 0;
    while Instant::now() < end {
        let deed = match people.random.u8(0..20) {
            0..7 => Deed::Create,
            7..13 => Deed::Delete,
            13..16 => Deed::Scan,
            16 => Deed::RestartBridge,
            17 => Deed::KillBridge,
            _ => Deed::KillOperator,
        };
        people.does(deed).await;
        deeds += 1;
        tokio::time::sleep(Duration::from_millis(people.random.u64(0..200))).await; // a random point, not a synchronisation
    }
    println!("{deeds} deeds, {} phones", people.phones);
    until_asked(&people.world.instances(), &people.world.probe()).await;
    let going = people.existing().await.into_iter().filter(|i| i.metadata.deletion_timestamp.is_some());
    for instance in going.collect::<Vec<_>>() {
        people.world.history.until_gone(&instance.name_any(), PATIENCE).await;
    }
    people.converged().await;
    for instance in people.existing().await {
        people.world.delete(&instance.name_any()).await;
        people.world.history.until_gone(&instance.name_any(), PATIENCE).await;
    }
    // What was free is free again, at once.
    for n in 0..Loop::LIMIT {
        people.create(&format!("line-{n}")).await;
    }
    assert_eq!(people.existing().await.len(), Loop::LIMIT);
    people.converged().await;
    people.world.nothing_leaked(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinked_on_the_phone_while_the_bridge_was_away_is_logged_out_when_it_is_back() {
    let mut world = World::start_with("unlinked-away", with_webhooks(&[ALONE])).await;
    let (phone, other) = ("+15550131001", "+15550131002");
    let instance = connected(&world, "sales", phone).await;
    connected(&world, "support", other).await;
    for operator_too in [false, true] {
        world.bridge.stop();
        if operator_too {
            world.operator.kill();
        }
        world.whatsapp.happens(phone, "unlink").await;
        let away = unix_millis();
        world.restart_bridge().await;
        if operator_too {
            world.restart_operator().await;
        }
        let out = world.history.until_phase("sales", Phase::LoggedOut, SOON).await;
        assert_eq!((out.reason(PAIRED), out.reason(READY)), (reason::LOGGED_OUT.into(), reason::LOGGED_OUT.into()));
        assert!(out.status.as_ref().unwrap().phone_number.is_none());
        assert!(world.key_files(&instance).is_empty(), "keys are deleted after a logout");
        let tries = since(world.whatsapp.logins(phone).await, away);
        assert!(tries.len() <= 2 && tries.iter().all(|login| !login.admitted), "{tries:?}");
        world.history.until_phase("support", Phase::Connected, SOON).await;

        world.refresh("sales").await;
        world.scan("sales", phone).await;
        world.history.until_phase("sales", Phase::Connected, SOON).await;
        world.whatsapp.until_connected(&[phone, other]).await;
    }
    world.nothing_leaked(&[phone, other]).await;
}

fn since(logins: Vec<Login>, at: u64) -> Vec<Login> {
    logins.into_iter().filter(|login| login.at >= at).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_phone_on_two_instances_is_two_devices_that_do_not_disturb_each_other() {
    let world = World::start_with("one-phone", with_webhooks(&[])).await;
    let phone = "+15550132001";
    for name in ["sales", "support"] {
        connected(&world, name, phone).await;
    }
    let first = world.instances().get_status("sales").await.unwrap();
    assert_eq!(
        first.condition(CONNECTED),
        "True",
        "the second link did not end the first; {}",
        world.history.story("sales")
    );
    assert_eq!(world.whatsapp.devices().await.len(), 2);
    let number =
        |instance: &WhatsAppInstance| instance.status.clone().unwrap().phone_number.unwrap().reveal().to_owned();
    assert_eq!(number(&first), phone);

    // What happens to the account happens to both, and both come back.
    world.whatsapp.happens(phone, "drop").await;
    world.whatsapp.happens_for(phone, "ban", 3).await;
    for name in ["sales", "support"] {
        let banned = world.history.until_phase(name, Phase::Restricted, SOON).await;
        assert_eq!(banned.reason(READY), reason::TEMPORARY_BAN);
    }
    for name in ["sales", "support"] {
        world.history.until_phase(name, Phase::Connected, SOON).await;
    }

    // Deleting one removes its own device and no other.
    world.delete("sales").await;
    world.history.until_gone("sales", SOON).await;
    assert_eq!(world.whatsapp.devices().await.len(), 1);
    let other = world.instances().get_status("support").await.unwrap();
    assert_eq!(other.phase(), Some(Phase::Connected), "{}", world.history.story("support"));
    world.whatsapp.happens(phone, "unlink").await;
    world.history.until_phase("support", Phase::LoggedOut, SOON).await;
    world.nothing_leaked(&[phone]).await;
}

const FLEET: usize = 50;

fn phone(n: usize) -> String {
    format!("+1555013{:04}", 3000 + n)
}

/// Fifty instances of five owners, each with a phone of its own, all connected.
async fn fleet(world: &World) {
    let each = |n: usize| async move {
        let name = format!("line-{n:02}");
        world.apply(&name, json!({"owner": format!("owner-{}@{}", n % 5, world.name)})).await;
        let qr = world.history.until(&name, "showing a QR code", PATIENCE, |i| i.qr().is_some()).await;
        world.whatsapp.scan(&qr.qr().unwrap(), &phone(n), "Alice").await.unwrap();
        world.history.until_phase(&name, Phase::Connected, PATIENCE).await;
    };
    stream::iter(0..FLEET).for_each_concurrent(8, each).await;
}

/// A ban of some phones, and when it began.
struct Ban {
    phones: Vec<String>,
    at: u64,
    seconds: u64,
}

impl Ban {
    async fn begins(world: &World, phones: Vec<String>, seconds: u64) -> Self {
        for phone in &phones {
            world.whatsapp.happens_for(phone, "ban", seconds).await;
        }
        Self { phones, at: unix_millis(), seconds }
    }

    /// Waits until each has logged in again, and returns when they did: nobody tried during the ban, and everybody once.
    async fn ends(&self, world: &World) -> Vec<u64> {
        let mut back = Vec::new();
        for phone in &self.phones {
            let deadline = Instant::now() + PATIENCE;
            let tries = loop {
                let tries = since(world.whatsapp.logins(phone).await, self.at);
                if tries.iter().any(|login| login.admitted) {
                    break tries;
                }
                assert!(Instant::now() < deadline, "a session does not come back after the ban: {tries:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            // The server counts whole seconds, and the last phone was banned a moment after the first.
            let earliest = self.at + self.seconds.saturating_sub(2) * 1000;
            assert!(
                tries.iter().all(|login| login.at > earliest),
                "a login during the ban from {}: {tries:?}",
                self.at
            );
            back.push(tries[0].at);
        }
        back
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_rolling_bans_over_fifty_sessions_cost_one_login_each_and_not_all_at_once() {
    let world = World::start_with("rolling-bans", with_webhooks(&[])).await;
    let _machine = storm().await;
    fleet(&world).await;
    let (mut bans, begin) = (Vec::new(), unix_millis());
    for round in 0..9 {
        let phones = (0..5).map(|n| phone(round * 5 + n)).collect();
        bans.push(Ban::begins(&world, phones, 8).await);
        tokio::time::sleep(Duration::from_secs(1)).await; // rolling: the next begins before the last has ended
    }
    for ban in &bans {
        ban.ends(&world).await;
    }
    for n in 0..FLEET {
        world.history.until_phase(&format!("line-{n:02}"), Phase::Connected, PATIENCE).await;
        let tries = since(world.whatsapp.logins(&phone(n)).await, begin);
        assert_eq!(tries.len(), usize::from(n < 45), "{tries:?}");
    }
    // The tenth is everybody's, and ends for everybody in the same second.
    let last = Ban::begins(&world, (0..FLEET).map(phone).collect(), 10).await;
    let back = last.ends(&world).await;
    let spread = back.iter().max().unwrap() - back.iter().min().unwrap();
    assert!(spread > 1000, "all of them came back within {spread} ms");
    for n in 0..FLEET {
        world.history.until_phase(&format!("line-{n:02}"), Phase::Connected, PATIENCE).await;
        assert_eq!(since(world.whatsapp.logins(&phone(n)).await, last.at).len(), 1);
    }
    assert_eq!(world.whatsapp.devices().await.len(), FLEET, "nobody was paired anew");
    world.nothing_leaked(&[]).await;
}
