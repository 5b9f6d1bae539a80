//! A bridge restarts: requests that come meanwhile take a little longer, and none is refused; nor is one left without an answer when
//! the gateway ends too.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    gateway::world,
    gateway_messages::{connected, until_primary},
    support::gateway::{ALL_VERBS, Rest, account, answered, until},
};

const FRIEND: &str = "+15550205991";
/// Messages of a round. Every second one has an idempotency key.
const MESSAGES: usize = 20;
const SEND: &str = "/api/v1/messages/send/";

#[tokio::test(flavor = "multi_thread")]
async fn while_a_bridge_restarts_nobody_is_refused_and_every_message_is_one() {
    let mut world = world("gateway-restarts").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", "+15550205091").await;
    until_primary(&rest, &token, &id).await;
    let mut expected = BTreeSet::new();
    for round in ["terminated", "killed", "away"] {
        let mut asked = JoinSet::new();
        let ask = |asked: &mut JoinSet<_>| {
            for number in 0..MESSAGES {
                let text = format!("{round}-{number}");
                let request = rest.request("POST", SEND).bearer_auth(&token);
                let request = request.json(&json!({"recipient": FRIEND, "message": text}));
                let request = if number % 2 == 0 { request.header("idempotency-key", &text) } else { request };
                asked.spawn(answered(request));
            }
            let list = rest.request("GET", &format!("/api/v1/messages/list/?session_id={id}")).bearer_auth(&token);
            asked.spawn(answered(list));
        };
        // While it ends, or once it is gone.
        if round == "away" {
            world.bridge.kill();
            ask(&mut asked);
        } else {
            ask(&mut asked);
            if round == "killed" {
                world.bridge.kill();
            } else {
                world.bridge.terminate();
                world.bridge.wait();
            }
        }
        world.restart_bridge().await;
        while let Some(answer) = asked.join_next().await {
            let answer = answer.unwrap();
            assert!(matches!(answer.status, 200 | 202), "{round}: {} {}", answer.status, answer.body);
            assert!(!answer.headers.contains_key("idempotent-replayed"), "{round}: asked for once by its caller");
        }
        expected.extend((0..MESSAGES).map(|number| format!("{round}-{number}")));
    }
    assert!(rest.program.log().contains("a request waits for a shard that restarts"));
    let arrived = async || world.whatsapp.inbox(FRIEND).await.len() >= expected.len();
    until("has everything arrived", arrived).await;
    let arrived: Vec<String> = world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    assert_eq!(arrived.len(), expected.len(), "each once");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_while_requests_wait_for_a_bridge_answers_all_of_them() {
    const RECIPIENT: &str = "+15550205992";
    let mut world = world("gateway-restarts-drain").await;
    let mut rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", "+15550205092").await;
    until_primary(&rest, &token, &id).await;
    let mut expected = BTreeSet::new();
    let waiting = |rest: &Rest| rest.program.log().matches("a request waits for a shard that restarts").count();
    for (round, comes_back) in [("back", true), ("away", false)] {
        world.bridge.kill();
        let (mut asked, asked_at, before) = (JoinSet::new(), Instant::now(), waiting(&rest));
        let texts: Vec<String> = (0..6).map(|number| format!("{round}-{number}")).collect();
        for (number, text) in texts.iter().enumerate() {
            let request = rest.request("POST", SEND).bearer_auth(&token);
            let request = request.json(&json!({"recipient": RECIPIENT, "message": text}));
            let request = if number % 2 == 0 { request.header("idempotency-key", text) } else { request };
            let text = text.clone();
            asked.spawn(async move { (number, text, answered(request).await) });
        }
        until("do all of them wait", async || waiting(&rest) >= before + texts.len()).await;
        rest.program.terminate();
        let signalled = Instant::now();
        if comes_back {
            world.restart_bridge().await;
        }
        // Well within the 8 s for which they go on waiting, and the 15 s for which they wait in all.
        let in_time = signalled.elapsed() < Duration::from_secs(6) && asked_at.elapsed() < Duration::from_secs(12);
        let was_there = comes_back && in_time;
        // Each is answered: a connection that was dropped would be an error of the client.
        let mut again = Vec::new();
        while let Some(answer) = asked.join_next().await {
            let (number, text, answer) = answer.unwrap();
            if answer.status == 202 {
                assert!(comes_back, "{text} was accepted by nobody");
                expected.insert(text);
                continue;
            }
            assert!(!was_there, "{text}: {}", answer.body);
            let code = if number % 2 == 0 { "KeysUnavailable" } else { "BridgeUnavailable" };
            answer.refused(503, code);
            again.push((number, text));
        }
        rest.program.wait();
        assert!(!rest.program.log().contains("some requests did not finish in time"));

        // What was refused was not accepted, and may be sent again as it was.
        if !comes_back {
            world.restart_bridge().await;
        }
        rest.restart().await;
        for (number, text) in again {
            let request = rest.request("POST", SEND).bearer_auth(&token);
            let request = request.json(&json!({"recipient": RECIPIENT, "message": text}));
            let request = if number % 2 == 0 { request.header("idempotency-key", &text) } else { request };
            let answer = answered(request).await;
            assert!(answer.status == 202 && !answer.headers.contains_key("idempotent-replayed"), "{}", answer.body);
            expected.insert(text);
        }
    }
    let arrived = async || world.whatsapp.inbox(RECIPIENT).await.len() >= expected.len();
    until("has everything arrived", arrived).await;
    let arrived: Vec<String> = world.whatsapp.inbox(RECIPIENT).await.into_iter().map(|line| line.text).collect();
    assert_eq!(arrived.len(), 12, "each once");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), expected);
}
