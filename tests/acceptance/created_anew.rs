//! Instances that were created anew, as a restore from a backup of the objects does it: with a restored volume each gets back the session
//! that it had, without a scan.

use std::path::Path;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use whatsapp_operator::api::{Phase, WhatsAppBridge, WhatsAppInstance};

use crate::{
    bridge::Bench,
    messages::id,
    support::{
        death::Death,
        gateway::until,
        history::Ask as _,
        program::Program,
        world::{BridgeAddress, SOON, VERSION, World, bridge_program, create_bridge, host},
    },
};

const FRIEND: &str = "+15550503901";

impl World {
    /// Asks a shard.
    async fn ask(&self, shard: &BridgeAddress, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = reqwest::Client::new().request(method, format!("{}{path}", shard.http)).bearer_auth(&self.token);
        let answer = request.json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Has a message sent; says how the bridge answered, and by which session it is sent.
    async fn write(&self, session: &str, message: &str, text: &str) -> (StatusCode, Value) {
        let body = json!({"to": FRIEND, "content": {"type": "text", "text": text}});
        let path = format!("/v1/sessions/{session}/messages/{message}");
        let (status, message) = self.ask(&self.bridge_address, Method::PUT, &path, body).await;
        (status, message["session"].clone())
    }

    /// An instance of this owner that is linked.
    async fn linked(&self, name: &str, owner: &str, phone: &str) -> WhatsAppInstance {
        self.apply(name, json!({"owner": owner})).await;
        self.scan(name, phone).await;
        let instance = self.history.until_phase(name, Phase::Connected, SOON).await;
        // An older bridge would learn it a moment after.
        assert!(self.session(&instance.uid().unwrap()).await["spec"]["instance"]["name"] == name);
        instance
    }

    async fn session(&self, id: &str) -> Value {
        self.ask(&self.bridge_address, Method::GET, &format!("/v1/sessions/{id}"), json!({})).await.1
    }

    /// Deletes an instance without anybody's doing anything about it, as the end of a cluster does.
    async fn vanish(&self, name: &str) {
        let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
        self.instances().patch(name, &PatchParams::default(), &free).await.unwrap();
        self.instances().delete(name, &DeleteParams::default()).await.unwrap();
        self.history.until_gone(name, SOON).await;
    }

    /// The phases that the instance has been seen in since it was created with this uid.
    fn phases(&self, name: &str, uid: &str) -> Vec<Phase> {
        let seen = self.history.of(name).into_iter().filter_map(|seen| seen.instance);
        seen.filter(|instance| instance.uid().as_deref() == Some(uid)).filter_map(|instance| instance.phase()).collect()
    }

    /// It is created for this owner, and gets a new session, which is to be scanned.
    async fn begins_anew(&mut self, name: &str, owner: &str) {
        self.apply(name, json!({"owner": owner})).await;
        self.restart_operator().await;
        self.qr(name).await;
    }

    /// It is connected, and nobody was asked to scan anything.
    async fn comes_back(&self, name: &str, former: &WhatsAppInstance) -> WhatsAppInstance {
        let is_back =
            |instance: &WhatsAppInstance| instance.uid() != former.uid() && instance.phase() == Some(Phase::Connected);
        let instance = self.history.until(name, "connected again", SOON * 2, is_back).await;
        let phases = self.phases(name, &instance.uid().unwrap());
        assert!(!phases.contains(&Phase::AwaitingPairing), "{phases:?}");
        assert_eq!(instance.phone(), former.phone());
        instance
    }

    async fn until_unclaimed(&self, count: u32) {
        let bridges: Api<WhatsAppBridge> = self.bridges();
        until("are unclaimed", async || {
            let status = bridges.get_status(&self.name).await.unwrap().status.unwrap_or_default();
            status.sessions.is_some_and(|sessions| sessions.unclaimed == count)
        })
        .await;
    }

    /// Nothing leaked anywhere, and the bridges have not even written whose the sessions are.
    async fn says_nothing(&self, bridges: &[&Program], owners: &[&str], phones: &[&str]) {
        self.nothing_leaked(phones).await;
        for log in bridges.iter().copied().map(Program::log) {
            for secret in phones.iter().chain(owners).copied().chain([FRIEND, "Waits", "Afterwards", &self.token]) {
                assert!(
                    !log.contains(secret.trim_start_matches('+')),
                    "a log has a secret of {} letters",
                    secret.len()
                );
            }
        }
    }
}

/// What of the instance is told of a person.
trait Phone {
    fn phone(&self) -> Option<String>;
}

impl Phone for WhatsAppInstance {
    fn phone(&self) -> Option<String> {
        Some(self.status.as_ref()?.phone_number.as_ref()?.reveal().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_were_created_anew_get_their_sessions_back_with_what_waits() {
    let (alice, shop_phone, desk_phone) = ("alice-anew@example.com", "+15550503001", "+15550503002");
    let mut world = World::start("created-anew").await;
    let shop = world.linked("shop", alice, shop_phone).await;
    let desk = world.linked("desk", alice, desk_phone).await;
    let before = shop.uid().unwrap();
    // What WhatsApp does not take now waits.
    world.whatsapp.weather("gone").await;
    for number in 1..=3 {
        let (status, _) = world.write(&before, &id(number), &format!("Waits {number}")).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    world.bridge.stop();
    world.operator.stop();
    for name in ["shop", "desk"] {
        world.vanish(name).await;
    }
    world.whatsapp.weather("normal").await;

    // The objects first: they wait for the bridge, and are bound to no shard before it is known which one has their sessions.
    for name in ["shop", "desk"] {
        world.apply(name, json!({"owner": alice})).await;
    }
    world.restart_operator().await;
    let waits = world.history.until_phase("shop", Phase::BridgeUnavailable, SOON).await;
    assert!(waits.status.unwrap().bridge.is_none() && waits.metadata.uid != shop.metadata.uid);
    world.bridge.add(["--adopt-data"]);
    world.restart_bridge().await;
    let anew = [world.comes_back("shop", &shop).await, world.comes_back("desk", &desk).await];

    let ids = anew.each_ref().map(|instance| instance.uid().unwrap());
    let mut sessions = world.sessions().await;
    sessions.sort_by_key(|id| ids.iter().position(|one| one == id));
    assert_eq!(sessions, ids);
    world.until_unclaimed(0).await;
    assert_eq!(world.whatsapp.devices().await.len(), 2, "no device was linked, and none unlinked");
    assert!(world.key_files(&shop).is_empty() && !world.key_files(&anew[0]).is_empty(), "the keys went along");

    // What is asked for anew goes out, and a message that was accepted before is known by its id and by its session's former one.
    let [now, _] = &ids;
    assert_eq!(world.write(now, &id(4), "Afterwards").await.0, StatusCode::CREATED);
    for session in [&before, now] {
        assert_eq!(world.write(session, &id(1), "Waits 1").await, (StatusCode::OK, json!(now)));
    }
    until("have arrived", async || world.whatsapp.inbox(FRIEND).await.len() >= 4).await;
    let inbox = world.whatsapp.inbox(FRIEND).await;
    // One that was with the server when its session was taken over is sent again, under its id, by which the phone knows it.
    let found: Vec<_> = inbox.iter().map(|one| (&*one.id, &*one.text, one.from.trim_start_matches('+'))).collect();
    let ids = [1, 2, 3, 4].map(id);
    let texts = ["Waits 1", "Waits 2", "Waits 3", "Afterwards"];
    let wanted: Vec<_> = ids.iter().zip(texts).map(|(id, text)| (&**id, text, &shop_phone[1..])).collect();
    assert_eq!(found, wanted);

    // From now on it is theirs like any other session.
    world.bridge.stop();
    world.restart_bridge().await;
    world.whatsapp.until_connected(&[shop_phone, desk_phone]).await;
    world.says_nothing(&[&world.bridge], &[alice], &[shop_phone, desk_phone]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_or_was_not_asked_for_is_not_taken() {
    let (alice, bob, phone) = ("alice-other@example.com", "bob-other@example.com", "+15550503011");
    let mut world = World::start("created-anew-not").await;
    let shop = world.linked("shop", alice, phone).await;
    let former = shop.uid().unwrap();
    let stays = async |world: &World, others: usize| {
        let session = world.session(&former).await;
        assert!(
            session["paired"] == true && session["phase"] == "Connected",
            "{} {}",
            session["paired"],
            session["phase"]
        );
        assert_eq!(world.sessions().await.len(), 1 + others);
        world.until_unclaimed(u32::try_from(others).unwrap()).await;
    };
    // Nobody has asked for it: a new one, to be scanned.
    world.operator.stop();
    world.vanish("shop").await;
    world.begins_anew("shop", alice).await;
    stays(&world, 1).await;

    // Another owner's has no claim to it.
    world.operator.stop();
    world.vanish("shop").await;
    world.bridge.stop();
    world.bridge.add(["--adopt-data"]);
    world.restart_bridge().await;
    world.whatsapp.until_connected(&[phone]).await;
    world.begins_anew("shop", bob).await;
    stays(&world, 2).await;

    // Of the two that are Alice's, hers is the one that is linked.
    world.operator.stop();
    world.vanish("shop").await;
    world.apply("shop", json!({"owner": alice})).await;
    world.restart_operator().await;
    world.comes_back("shop", &shop).await;
    assert_eq!(world.sessions().await.len(), 3, "the others are left alone");
    assert_eq!(world.whatsapp.devices().await.len(), 1);
    world.says_nothing(&[&world.bridge], &[alice, bob], &[phone]).await;
}

/// An instance that is created anew again and again; each time the bridge is killed while it takes the session over, one call later.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_killed_while_it_takes_a_session_over_goes_on_with_it() {
    let phone = "+15550503031";
    let mut bench = Bench::start("created-anew-deaths", &["--adopt-data"]).await;
    let death = Death::new(&bench.dir);
    bench.bridge.stop();
    let unused = Program::new("whatsapp-bridge", &bench.dir.join("unused"));
    bench.bridge = death.threatens(std::mem::replace(&mut bench.bridge, unused), "whatsapp-bridge");
    bench.address = bench.bridge.start().await;
    let instance = json!({"namespace": "team", "name": "shop", "owner": "alice-deaths@example.com"});
    let spec = json!({"instance": instance, "sending": {"perMinute": 0}});
    let life = |number: usize| format!("life-{number}");
    bench.put(&life(0), spec.clone()).await;
    bench.link(&life(0), phone).await;
    let mut last = 0;
    for number in 1.. {
        bench.accepted(&life(last), &id(number), FRIEND, &format!("Number {number}")).await;
        last = number;
        death.at(i64::try_from(number).unwrap());
        let answer = bench.try_to_ask(Method::PUT, &format!("/v1/sessions/{}", life(last)), spec.clone()).await;
        let left = death.left();
        death.never();
        if left <= 0 {
            bench.bridge.wait();
            bench.address = bench.bridge.start().await;
            bench.put(&life(last), spec.clone()).await;
        } else {
            assert_eq!(answer.map(|(status, _)| status), Some(StatusCode::OK));
        }
        let session = bench.until_it(&life(last), |session| session["phase"] != "Connecting").await;
        assert_eq!((&session["phase"], &session["paired"]), (&json!("Connected"), &json!(true)), "death {number}");
        let list = bench.ask(Method::GET, "/v1/sessions", None).await.1;
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "death {number}: {list}");
        assert!(bench.has_keys(&life(last)) && !bench.has_keys(&life(last - 1)), "death {number}");
        if left > 0 {
            break;
        }
    }
    println!("{last} deaths");
    for number in 1..=last {
        // A receipt may be lost with the process.
        bench.until_message(&life(last), &id(number), &["Sent", "Delivered"]).await;
    }
    let ids: Vec<String> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|one| one.id).collect();
    assert_eq!(ids, (1..=last).map(id).collect::<Vec<_>>(), "each is one message");
    assert_eq!(bench.whatsapp.devices().await.len(), 1);
    bench.nothing_leaked(&[phone, FRIEND, "Number", "alice-deaths"]).await;
}

/// A second shard.
fn second_shard(world: &World, dir: &Path) -> Program {
    bridge_program(dir, &world.token).args(["--whatsapp-url", &world.whatsapp.url, "--whatsapp-version", VERSION])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_goes_to_the_shard_that_has_its_session() {
    let (alice, phones) = ("alice-shards@example.com", ["+15550503021", "+15550503022"]);
    let mut world = World::start("created-anew-shards").await;
    let mut second = second_shard(&world, &world.dir.join("second"));
    let address: BridgeAddress = second.start().await;
    second.set("--listen", host(&address.http));
    create_bridge(&world.client, &world.name, &[&world.bridge_address.http, &address.http], &world.token).await;
    let shard = |instance: &WhatsAppInstance| instance.status.clone().unwrap().bridge.map(|bound| bound.shard);
    let mut former = Vec::new();
    for (name, phone) in ["one", "two"].into_iter().zip(phones) {
        world.apply(name, json!({"owner": alice})).await;
        world.scan(name, phone).await;
        former.push(world.history.until_phase(name, Phase::Connected, SOON).await);
    }
    assert_eq!([shard(&former[0]), shard(&former[1])], ["shard-0", "shard-1"].map(|name| Some(name.to_owned())));

    world.bridge.stop();
    second.stop();
    world.operator.stop();
    for name in ["one", "two"] {
        world.vanish(name).await;
    }
    // In the other order, by which each would go to the other's.
    for name in ["two", "one"] {
        world.apply(name, json!({"owner": alice})).await;
    }
    world.restart_operator().await;
    second.add(["--adopt-data"]);
    let _: BridgeAddress = second.start().await;
    let two = world.comes_back("two", &former[1]).await;
    assert_eq!(shard(&two).as_deref(), Some("shard-1"));
    // The other waits for the shard that is not there yet, and is begun on no other.
    let says = "The session of this instance may be there";
    let waits = |instance: &WhatsAppInstance| {
        let conditions = instance.status.iter().flat_map(|status| &status.conditions);
        conditions.clone().any(|condition| condition.message.contains(says))
    };
    assert_eq!(shard(&world.history.until("one", "waiting for its shard", SOON, waits).await), None);
    world.bridge.add(["--adopt-data"]);
    world.restart_bridge().await;
    let one = world.comes_back("one", &former[0]).await;
    assert_eq!(shard(&one).as_deref(), Some("shard-0"));
    world.until_unclaimed(0).await;
    assert_eq!(world.whatsapp.devices().await.len(), 2);
    world.says_nothing(&[&world.bridge, &second], &[alice], &phones).await;
}
