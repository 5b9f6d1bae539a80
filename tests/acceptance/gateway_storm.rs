//! Many messages through two gateways with keys, while the bridge is killed and the server fails: each arrives once and in order, and
//! none is called sent before the server has acknowledged it. A minute as it stands; `make message-check` takes the full numbers.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};
use whatsapp_operator::rules::owner::object_name;

use crate::{
    big_messages::{Size, size},
    gateway::world,
    gateway_messages::{connected, send},
    support::{
        gateway::{ALL_VERBS, Rest, account, apply, user},
        program::Program,
        world::{BridgeAddress, World},
    },
};

const SEND: &str = "/api/v1/messages/send/";
/// A word of every message, which stands nowhere else.
const WORD: &str = "Umbrella";
/// How long a message may take to be accepted or sent while the bridge is killed again and again.
const PATIENCE: Duration = Duration::from_secs(180);

fn phone(session: usize) -> String {
    format!("+155502101{session:02}")
}

fn friend(session: usize) -> String {
    format!("+155502109{session:02}")
}

struct Storm {
    world: World,
    gateways: [Rest; 2],
    token: String,
    sessions: Vec<String>,
    /// The message that each session had accepted last.
    last: Mutex<Vec<Option<String>>>,
}

impl Storm {
    /// Has a message accepted, by one gateway and the other until one of them has; its id.
    async fn insist(&self, session: usize, number: usize) -> String {
        let (deadline, text) = (Instant::now() + PATIENCE, format!("{WORD} {session} {number}"));
        let key = format!("storm-{session}-{number}");
        let body = json!({"recipient": friend(session), "message": text, "session_id": self.sessions[session]});
        let mut asked = session + number;
        loop {
            asked += 1;
            let answer = send(&self.gateways[asked % 2], &self.token, SEND, &body, Some(&key)).await;
            if let Some(id) = answer.body["data"]["id"].as_str() {
                self.last.lock().unwrap()[session] = Some(id.to_owned());
                return id.to_owned();
            }
            assert!(answer.body["error"]["retryable"] == true, "{key}: {}", answer.body);
            assert!(Instant::now() < deadline, "{key} is not accepted: {}", answer.body["error"]["code"]);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is said of a message; none while nobody can say.
    async fn status(&self, session: usize, id: &str) -> Option<String> {
        let answer = self.gateways[session % 2].get(&self.token, &format!("/api/v1/messages/{id}/")).await;
        assert!(answer.status == 200 || answer.body["error"]["retryable"] == true, "{id}: {}", answer.body);
        answer.body["data"]["status"].as_str().map(str::to_owned)
    }

    /// Looks whether a message is called sent that the server has not acknowledged, of a session whose friend sends no receipts.
    /// Says whether the phone had it without the server having said so, in which case it could have been.
    async fn is_not_sent_too_early(&self, session: usize, id: &str) -> bool {
        let Some(status) = self.status(session, id).await else { return false };
        let inbox = self.world.whatsapp.inbox(&friend(session)).await;
        let Some(line) = inbox.iter().find(|line| id.ends_with(&line.id)) else { return false };
        // Asked afterwards: what is not acknowledged now was not then.
        assert!(line.acked_at > 0 || status == "queued", "{id} is {status} and not acknowledged");
        line.acked_at == 0
    }

    /// Goes on looking until told to stop.
    async fn watch(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for session in silent(self.sessions.len()) {
                let last = self.last.lock().unwrap()[session].clone();
                if let Some(id) = last {
                    self.is_not_sent_too_early(session, &id).await;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_sent(&self, session: usize, id: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.status(session, id).await.as_deref() {
                Some("sent" | "delivered") => return,
                Some("queued") | None => assert!(Instant::now() < deadline, "{id} is not sent"),
                Some(other) => panic!("{id} is {other}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Sessions whose friends send no receipts: only the server can say that something is sent.
fn silent(sessions: usize) -> impl Iterator<Item = usize> {
    (1..sessions).step_by(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_gateways_take_arrives_once_and_in_order_and_is_not_sent_before_the_server_has_it() {
    let Size { sessions, messages, kills } = size();
    let world = world("gateway-storm").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let other = Rest::beside(&world, "gateway-2", &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    let more = json!({"apiVersion": "whatsapp-operator.dev/v1alpha1", "kind": "WhatsAppOwner", "metadata": {"name": object_name(&owner)}, "spec": {"owner": owner, "maxInstances": sessions}});
    apply(&world.client, &more).await;
    let mut ids = Vec::new();
    for session in 0..sessions {
        ids.push(connected(&world, &rest, &token, &format!("Line {session}"), &phone(session)).await);
    }
    for session in silent(sessions) {
        world.whatsapp.rules(&friend(session), json!({"receipts": {"delivered": false}})).await;
    }
    let last = Mutex::new(vec![None; sessions]);
    let mut storm = Storm { world, gateways: [rest, other], token, sessions: ids, last };
    // The instances' pace is on the bridge by then, and both gateways know them all.
    let mut accepted: Vec<Vec<String>> = vec![Vec::new(); sessions];
    for (session, of) in accepted.iter_mut().enumerate() {
        of.push(storm.insist(session, 0).await);
        storm.until_sent(session, &of[0]).await;
    }

    // It is killed beside those who send, and comes back where it was.
    let unused = Program::new("whatsapp-bridge", &storm.world.dir.join("unused"));
    let mut bridge = std::mem::replace(&mut storm.world.bridge, unused);
    let mut address = storm.world.bridge_address.clone();
    let mut random = fastrand::Rng::with_seed(13);
    for round in 0..=kills {
        for fault in 0..sessions / 4 {
            let number = phone(random.usize(..sessions));
            match (round + fault) % 4 {
                0 => storm.world.whatsapp.happens(&number, "drop").await,
                1 => storm.world.whatsapp.rules(&number, json!({"acks": {"error": 503, "times": 2}})).await,
                2 => storm.world.whatsapp.rules(&number, json!({"acks": {"lost": true, "times": 1}})).await,
                _ => storm.world.whatsapp.rules(&number, json!({"acks": {"delayMs": 300, "times": 5}})).await,
            }
        }
        let stop = AtomicBool::new(false);
        // Each session in its order, all of them side by side.
        let share = (messages * round / (kills + 1)).max(1)..(messages * (round + 1) / (kills + 1));
        let sending = async {
            let of_session = |session: usize| {
                let (storm, share) = (&storm, share.clone());
                async move {
                    let mut accepted = Vec::new();
                    for number in share {
                        accepted.push(storm.insist(session, number).await);
                    }
                    accepted
                }
            };
            let sent = join_all((0..sessions).map(of_session)).await;
            stop.store(true, Ordering::Relaxed);
            sent
        };
        let moment = Duration::from_millis(random.u64(10..500));
        let killing = async {
            if round < kills {
                sleep(moment).await;
                bridge.kill();
                address = bridge.start::<BridgeAddress>().await;
            }
        };
        let (sent, (), ()) = tokio::join!(sending, storm.watch(&stop), killing);
        accepted.iter_mut().zip(sent).for_each(|(of, more)| of.extend(more));
    }
    (storm.world.bridge, storm.world.bridge_address) = (bridge, address);

    // And once for certain: an ack that is held back while the phone has the message.
    let session = 1;
    for id in &accepted[session] {
        storm.until_sent(session, id).await;
    }
    storm.world.whatsapp.rules(&phone(session), json!({"acks": {"delayMs": 3000, "times": 1}})).await;
    let held_back = storm.insist(session, messages).await;
    let (mut seen, deadline) = (0, Instant::now() + PATIENCE);
    while storm.status(session, &held_back).await.as_deref() != Some("sent") {
        seen += u32::from(storm.is_not_sent_too_early(session, &held_back).await);
        assert!(Instant::now() < deadline, "it is not sent");
    }
    assert!(seen > 0, "it was looked at before its ack");
    accepted[session].push(held_back);

    for (session, ids) in accepted.iter().enumerate() {
        for id in ids {
            storm.until_sent(session, id).await;
        }
        let arrived = storm.world.whatsapp.inbox(&friend(session)).await;
        let texts: Vec<String> = arrived.iter().map(|line| line.text.clone()).collect();
        let expected: Vec<String> = (0..ids.len()).map(|number| format!("{WORD} {session} {number}")).collect();
        assert_eq!(texts, expected, "each once, in order, at the phone of session {session}");
        let expected: Vec<&str> = ids.iter().map(|id| id.rsplit_once('.').unwrap().1).collect();
        assert_eq!(arrived.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), expected);
        assert!(arrived.iter().all(|line| line.from == phone(session)));
    }
    let numbers: Vec<String> = (0..sessions).flat_map(|session| [phone(session), friend(session)]).collect();
    let secrets: Vec<&str> = numbers.iter().map(String::as_str).chain([WORD]).collect();
    for gateway in &storm.gateways {
        gateway.nothing_leaked(&storm.world, &secrets, &[&storm.token]).await;
    }
    storm.world.nothing_leaked(&secrets).await;
}
