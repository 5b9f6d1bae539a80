//! The same asked of many sessions at once, and unlinking, through the REST API.

use serde_json::{Value, json};
use whatsapp_operator::api::{DesiredState, Phase};

use crate::{
    gateway::world,
    gateway_messages::connected,
    support::{
        gateway::{ALL_VERBS, READ_VERBS, Rest, account, user},
        history::Ask as _,
        world::{SOON, World},
    },
};

const BULK: &str = "/api/v1/sessions/bulk/";

async fn bulk(rest: &Rest, token: &str, action: &str, ids: &[&str]) -> Vec<(bool, String)> {
    let answer = rest.call(token, "POST", BULK, json!({"action": action, "session_ids": ids})).await;
    let outcomes = answer.data(200)["outcomes"].as_array().unwrap().clone();
    let given: Vec<&str> = outcomes.iter().map(|outcome| outcome["session_id"].as_str().unwrap()).collect();
    assert_eq!(given, ids, "in the order in which they were given");
    let of = |outcome: &Value| {
        let code = outcome["error"]["code"].as_str().unwrap_or_default();
        assert!(code.is_empty() || outcome["error"]["message"].as_str().is_some_and(|said| !said.is_empty()));
        (outcome["done"].as_bool().unwrap(), code.to_owned())
    };
    outcomes.iter().map(of).collect()
}

fn done() -> (bool, String) {
    (true, String::new())
}

fn refused(code: &str) -> (bool, String) {
    (false, code.to_owned())
}

async fn wishes(world: &World, names: &[&str]) -> Vec<DesiredState> {
    let mut wishes = Vec::new();
    for name in names {
        wishes.push(world.instances().get(name).await.unwrap().spec.desired_state);
    }
    wishes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_has_the_outcome_it_would_have_alone() {
    let world = World::start("gateway-bulk").await;
    let rest = Rest::start(&world, &["--rate-limit", "50"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let (mine, theirs) = (user(&world, "app"), "somebody@example.com");
    for (name, owner) in [("a", mine.as_str()), ("b", mine.as_str()), ("c", mine.as_str()), ("theirs", theirs)] {
        let spec = json!({"name": format!("Line {name}"), "owner": owner, "desiredState": "Disconnected"});
        world.apply(name, spec).await;
    }
    let uid = world.instances().get("b").await.unwrap().metadata.uid.unwrap();

    // By object name or id; what is not there is that one's affair, and so is what cannot be asked of it now.
    let outcomes = bulk(&rest, &token, "connect", &["a", &uid, "nowhere"]).await;
    assert_eq!(outcomes, [done(), done(), refused("NotFound")]);
    use DesiredState as D;
    assert_eq!(wishes(&world, &["a", "b", "c"]).await, [D::Connected, D::Connected, D::Disconnected]);
    world.history.until_phase("a", Phase::AwaitingPairing, SOON).await;
    assert_eq!(bulk(&rest, &token, "disconnect", &["a", "b"]).await, [done(), done()]);
    world.history.until_phase("a", Phase::Disconnected, SOON).await;
    // By name and by id it is one session all the same.
    let mut twice = bulk(&rest, &token, "disconnect", &["b", &uid]).await;
    twice.sort();
    assert_eq!(twice, [refused("Invalid"), done()]);

    // Each is asked for as the caller: one who may only read changes nothing, one who may nothing sees nothing.
    let reader = account(&world, "reader", READ_VERBS).await;
    assert_eq!(bulk(&rest, &reader, "connect", &["a", "c"]).await, [refused("NotAllowed"), refused("NotAllowed")]);
    let nobody = account(&world, "nobody", &[]).await;
    assert_eq!(bulk(&rest, &nobody, "delete", &["a", "theirs"]).await, [refused("NotFound"), refused("NotFound")]);
    assert_eq!(wishes(&world, &["a", "b", "c"]).await, [D::Disconnected; 3]);

    // It counts as many: whoever asks for many waits afterwards. At one a second that is for longer than any machine takes to answer.
    let slow = Rest::beside(&world, "slow", &["--rate-limit", "1"]).await;
    let many: Vec<String> = (0..200).map(|n| format!("none-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(bulk(&slow, &nobody, "connect", &many).await.iter().all(|outcome| *outcome == refused("NotFound")));
    let answer = slow.call(&nobody, "POST", BULK, json!({"action": "connect", "session_ids": ["a"]})).await;
    answer.refused(429, "RateLimited");

    assert_eq!(bulk(&rest, &token, "delete", &["a", "b", "c"]).await, [done(), done(), done()]);
    for name in ["a", "b", "c"] {
        world.history.until_gone(name, SOON).await;
    }
    assert!(world.instances().get("theirs").await.is_ok());
    rest.nothing_leaked(&world, &[], &[&token, &reader, &nobody]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinking_removes_the_device_and_keeps_the_session() {
    let phone = "+15550206001";
    let world = world("gateway-unlink").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "Shop", phone).await;
    let unlinked = rest.post(&token, &format!("/api/v1/sessions/unlink/{session}/?wait=60")).await;
    let unlinked = unlinked.data(200);
    assert_eq!((&unlinked["phase"], &unlinked["phone_number"]), (&json!("Unlinked"), &Value::Null));
    assert!(unlinked["actions"].as_array().unwrap().contains(&json!("connect")));
    assert!(world.whatsapp.devices().await.is_empty(), "the phone lists no device");
    // It is there, with its name, and takes a scan to be connected again.
    let connecting = rest.post(&token, &format!("/api/v1/sessions/connect/{session}/?wait=0")).await;
    assert_eq!(connecting.data(202)["instance_name"], "Shop");
    let object = connecting.data(202)["object"].as_str().unwrap().to_owned();
    world.history.until(&object, "showing a code", SOON, |i| i.qr().is_some()).await;
    // Nothing is linked: there is nothing to be removed, and asking for it is no failure.
    let reader = account(&world, "reader", READ_VERBS).await;
    rest.post(&reader, &format!("/api/v1/sessions/unlink/{session}/")).await.refused(404, "NotAllowed");
    rest.nothing_leaked(&world, &[phone], &[&token, &reader]).await;
}
