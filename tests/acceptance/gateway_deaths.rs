//! Between a message's acceptance and the answer the bridge or the gateway dies, at every point that the schedule names: who
//! repeats the request with its key has sent one message.

use std::{pin::pin, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        death::Death,
        gateway::{ALL_VERBS, Rest, account},
        program::Program,
        world::World,
    },
};

const FRIEND: &str = "+15550208951";
const SEND: &str = "/api/v1/messages/send/?wait=30";
/// More calls than any message takes.
const MANY: i64 = 1 << 40;
/// How long it may take until the message is sent, a restart and a reconnect included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A number of the environment: people may name another schedule, and `make message-check` takes every point.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |number| number.parse().expect("a number"))
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Bridge,
    Gateway,
}

struct Stage {
    world: World,
    rest: Rest,
    token: String,
    bridge: Death,
    gateway: Death,
}

impl Stage {
    fn death(&self, victim: Victim) -> &Death {
        match victim {
            Victim::Bridge => &self.bridge,
            Victim::Gateway => &self.gateway,
        }
    }

    /// Starts whoever has died. Says whether somebody had.
    async fn revive(&mut self) -> bool {
        let dead = (self.world.bridge.has_ended(), self.rest.program.has_ended());
        if dead.0 {
            self.world.bridge.wait();
            self.bridge.never();
            self.world.restart_bridge().await;
        }
        if dead.1 {
            self.rest.program.wait();
            self.gateway.never();
            self.rest.restart().await;
        }
        dead.0 || dead.1
    }

    /// Asks once, and starts whoever dies meanwhile: the gateway waits for a bridge that restarts. Whether somebody died, the message's
    /// id if there was an answer that names one, and whether it was sent.
    async fn ask(&mut self, key: &str) -> (bool, Option<String>, bool) {
        let request = self.rest.request("POST", SEND).bearer_auth(&self.token).json(&body(key));
        let mut answered = pin!(answer(request.header("idempotency-key", key)));
        let mut died = false;
        loop {
            if let Ok((id, sent)) = timeout(Duration::from_millis(200), &mut answered).await {
                return (died | self.revive().await, id, sent);
            }
            died |= self.revive().await;
        }
    }

    /// Sends one message, with a death before call `point`; whether somebody died.
    async fn send(&mut self, victim: Victim, point: i64) -> bool {
        let key = key(victim, point);
        self.death(victim).at(point);
        let (mut died, first, _) = self.ask(&key).await;
        self.death(victim).never();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (again, id, sent) = self.ask(&key).await;
            died |= again;
            if let (Some(first), Some(id)) = (&first, &id) {
                assert_eq!(first, id, "{key}");
            }
            if sent {
                return died;
            }
            assert!(Instant::now() < deadline, "{key} is not sent");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The id that an answer names, if there is one, and whether the message was sent.
async fn answer(request: reqwest::RequestBuilder) -> (Option<String>, bool) {
    let Ok(answer) = request.timeout(Duration::from_secs(60)).send().await else { return (None, false) };
    let status = answer.status().as_u16();
    let Ok(answer) = answer.json::<Value>().await else { return (None, false) };
    // Whatever is wrong passes, and the answer says so.
    assert!(status < 300 || answer["error"]["retryable"] == true, "{status}: {answer}");
    (answer["data"]["id"].as_str().map(str::to_owned), status == 200)
}

fn key(victim: Victim, point: i64) -> String {
    format!("{victim:?}-{point}")
}

fn body(key: &str) -> Value {
    json!({"recipient": FRIEND, "message": key})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_message_wherever_bridge_or_gateway_die() {
    let mut world = world("gateway-deaths").await;
    let bridge = Death::new(&world.dir.join("death-of-bridge"));
    let gateway = Death::new(&world.dir.join("death-of-gateway"));
    let unused = Program::new("whatsapp-bridge", &world.dir.join("unused"));
    let mut program = std::mem::replace(&mut world.bridge, unused);
    program.kill();
    world.bridge = bridge.threatens(program, "whatsapp-bridge");
    world.restart_bridge().await;
    let rest =
        Rest::start_changed(&world, &["--rate-limit", "0"], |program| gateway.threatens(program, "whatsapp-operator"));
    let rest = rest.await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", "+15550208901").await;
    until_primary(&rest, &token, &id).await;
    let warm = send(&rest, &token, SEND, &body("Warm"), Some("warm")).await;
    assert_eq!(warm.status, 200, "{}", warm.body);
    let mut stage = Stage { world, rest, token, bridge, gateway };

    let (seed, points) = (number("DEATH_SEED", 12), number("DEATH_POINTS", 9));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = vec!["Warm".to_owned()];
    for victim in [Victim::Bridge, Victim::Gateway] {
        // How many calls one message takes.
        stage.death(victim).at(MANY);
        assert!(stage.ask(&key(victim, 0)).await.2, "one is sent without a death");
        expected.push(key(victim, 0));
        let calls = MANY - stage.death(victim).left();
        stage.death(victim).never();
        assert!((3..1000).contains(&calls), "{victim:?}: {calls} calls");
        let mut schedule: Vec<i64> = (1..=calls).collect();
        random.shuffle(&mut schedule);
        schedule.truncate(usize::try_from(points).unwrap());
        let (mut deaths, tried) = (0, schedule.len() as u64);
        for point in schedule {
            deaths += u64::from(stage.send(victim, point).await);
            expected.push(key(victim, point));
        }
        println!("{victim:?}: {calls} calls, {deaths} deaths, seed {seed}");
        // One message takes a few calls more than another, so that the last points may not come.
        assert!(deaths * 2 > tried, "{victim:?} has died {deaths} times of {tried}");
    }
    // A line for each id: a message goes out again under its own id when nobody knows whether the server has it, and the
    // recipient's phone shows one.
    let mut arrived: Vec<String> = stage.world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    let secrets = [FRIEND, "+15550208901"];
    stage.rest.nothing_leaked(&stage.world, &secrets, &[&stage.token]).await;
    stage.world.nothing_leaked(&secrets).await;
}
