//! A bridge restarts: requests that come meanwhile take a little longer, and none is refused.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::task::JoinSet;

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
