//! Many messages while everything breaks, and disks that take nothing. About a minute as it stands; `make message-check` takes
//! the full numbers.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    bridge::Bench,
    messages::id,
    support::{
        bad_disk::{BadDisk, FULL, READ_ONLY},
        phone::Received,
        program::Program,
        world::{BridgeAddress, host, target_dir},
    },
};

const FRIEND: &str = "+15550004901";

/// What is tried: a few, or as many as were promised.
pub(crate) struct Size {
    pub(crate) sessions: usize,
    pub(crate) messages: usize,
    pub(crate) kills: usize,
}

pub(crate) fn size() -> Size {
    if std::env::var_os("BIG_MESSAGES").is_some() {
        Size { sessions: 20, messages: 100, kills: 10 }
    } else {
        Size { sessions: 8, messages: 24, kills: 3 }
    }
}

/// Has a message accepted, asking again while the bridge is away, as every caller does.
async fn insist(bench: &Bench, session: usize, number: usize, to: &str) {
    let (deadline, id) = (Instant::now() + Duration::from_secs(120), id(session * 1000 + number));
    let path = format!("/v1/sessions/s{session}/messages/{id}");
    let body = json!({"to": to, "content": {"type": "text", "text": format!("Umbrella {session} {number}")}});
    loop {
        match bench.try_to_ask(Method::PUT, &path, body.clone()).await {
            Some((StatusCode::OK | StatusCode::CREATED, _)) => return,
            answer => {
                assert!(Instant::now() < deadline, "{id} is not accepted: {:?}", answer.map(|(status, _)| status));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_messages_arrive_once_and_in_order_while_the_bridge_is_killed() {
    let Size { sessions, messages, kills } = size();
    let mut bench = Bench::start("big-messages", &["--resume-interval", "0s"]).await;
    let phone = |session: usize| format!("+155500041{session:02}");
    let friend = |session: usize| format!("+155500049{session:02}");
    for session in 0..sessions {
        bench.sender(&format!("s{session}"), &phone(session)).await;
    }
    // It is killed beside those who send, and comes back where it was.
    let mut bridge = std::mem::replace(&mut bench.bridge, Program::new("whatsapp-bridge", &bench.dir.join("unused")));
    bridge.set("--listen", host(&bench.address.http));
    let mut address = bench.address.clone();
    let mut random = fastrand::Rng::with_seed(12);
    for round in 0..=kills {
        for fault in 0..sessions / 4 {
            let number = phone(random.usize(..sessions));
            match (round + fault) % 4 {
                0 => bench.whatsapp.happens(&number, "drop").await,
                1 => bench.whatsapp.rules(&number, json!({"acks": {"error": 503, "times": 2}})).await,
                2 => bench.whatsapp.rules(&number, json!({"acks": {"lost": true, "times": 1}})).await,
                _ => bench.whatsapp.rules(&number, json!({"acks": {"delayMs": 300, "times": 5}})).await,
            }
        }
        let share = (messages * round / (kills + 1))..(messages * (round + 1) / (kills + 1));
        // Each session in its order, all of them side by side.
        let sending = stream::iter(0..sessions)
            .map(|session| {
                let (bench, share, friend) = (&bench, share.clone(), friend(session));
                async move {
                    for number in share {
                        insist(bench, session, number, &friend).await;
                    }
                }
            })
            .buffer_unordered(sessions)
            .collect::<Vec<()>>();
        let moment = Duration::from_millis(random.u64(10..500));
        let killing = async {
            if round < kills {
                tokio::time::sleep(moment).await;
                bridge.kill();
                address = bridge.start::<BridgeAddress>().await;
            }
        };
        tokio::join!(sending, killing);
    }
    for session in 0..sessions {
        for number in 0..messages {
            let id = id(session * 1000 + number);
            let message = bench.until_message(&format!("s{session}"), &id, &["Sent", "Delivered", "Failed"]).await;
            assert_ne!(message["state"], "Failed", "{}", message["cause"]);
        }
        let arrived: Vec<Received> = bench.whatsapp.inbox(&friend(session)).await;
        let ids: Vec<&String> = arrived.iter().map(|line| &line.id).collect();
        let expected: Vec<String> = (0..messages).map(|number| id(session * 1000 + number)).collect();
        assert_eq!(ids, expected.iter().collect::<Vec<_>>(), "each once, in order, at the phone of session {session}");
    }
    (bench.bridge, bench.address) = (bridge, address);
    let numbers: Vec<String> = (0..sessions).flat_map(|session| [phone(session), friend(session)]).collect();
    bench.nothing_leaked(&numbers.iter().map(String::as_str).chain(["Umbrella"]).collect::<Vec<_>>()).await;
}

/// How long it takes until a bridge with that many waiting messages answers, and the memory it has then, in bytes.
async fn start_with_waiting(bench: &mut Bench) -> (Duration, u64) {
    let began = Instant::now();
    bench.address = bench.bridge.start().await;
    let session = bench.ask(Method::GET, "/v1/sessions/a", None).await;
    assert_eq!(session.0, StatusCode::OK);
    let took = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.bridge.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (took, line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_waiting_messages_are_no_burden_at_a_start() {
    const WAITING: usize = 100_000;
    let mut bench =
        Bench::start("big-outbox", &["--max-waiting-per-session", "150000", "--max-waiting", "150000"]).await;
    bench.sender("a", "+15550004101").await;
    bench.put("a", json!({"desiredState": "Disconnected", "sending": {"perMinute": 0}})).await;
    bench.until("a", "Stopped", None).await;
    bench.accepted("a", &id(1), FRIEND, "Hello").await;
    bench.bridge.stop();
    let (_, before) = start_with_waiting(&mut bench).await;
    bench.bridge.stop();

    let database = Connection::open(bench.dir.join("bridge/bridge.db")).unwrap();
    let columns = "session, recipient, recipient_key, content, state, accepted_at, expires_at";
    let copied = database
        .execute(
            &format!(
                "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < {WAITING})
                 INSERT INTO messages (sequence, id, {columns})
                 SELECT n, printf('3EB0%018X', n), {columns} FROM n, messages WHERE sequence = 1"
            ),
            [],
        )
        .unwrap();
    assert_eq!(copied, WAITING - 1);
    drop(database);
    let (took, after) = start_with_waiting(&mut bench).await;
    println!("{WAITING} waiting: answered after {took:?}, {} kB more memory", after.saturating_sub(before) >> 10);
    // 2 s is what a release build is held to; this one is not optimised, and the machine may be busy.
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(after < before + (64 << 20), "{before} {after}");
    // And they are there: the last is called back, the first goes.
    let last = format!("/v1/sessions/a/messages/{}", id(WAITING));
    assert_eq!(bench.ask(Method::DELETE, &last, None).await.1["state"], "Cancelled");
    bench.put("a", json!({"sending": {"perMinute": 0}})).await;
    bench.until_message("a", &id(1), &["Sent", "Delivered"]).await;
    bench.until_message("a", &id(50), &["Sent", "Delivered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_costs_no_message_and_no_session() {
    let disk = BadDisk::new(&target_dir().join("acceptance").join("big-disk-library"));
    let mut bench = Bench::start_in("big-disk", &[], &disk.environment(Path::new("bridge.db"))).await;
    bench.sender("a", "+15550004111").await;
    bench.sender("b", "+15550004112").await;
    let mut number = 0;
    for (error, refused) in [(FULL, StatusCode::INSUFFICIENT_STORAGE), (READ_ONLY, StatusCode::INTERNAL_SERVER_ERROR)] {
        number += 10;
        bench.accepted("a", &id(number), FRIEND, "Before").await;
        bench.until_message("a", &id(number), &["Delivered"]).await;
        disk.fails(error);
        for session in ["a", "b"] {
            let (status, answer) = bench.post(session, &id(number + 1), FRIEND, "Meanwhile").await;
            assert_eq!(status, refused, "{answer}");
            let said = answer["error"]["message"].as_str().unwrap();
            assert!(said.contains("disk") || said.contains("database"), "{said}");
            assert!(!said.contains("Meanwhile") && !said.contains("4901"), "{said}");
        }
        // What is refused was not kept, and the sessions are what they were.
        for session in ["a", "b"] {
            let (status, _) =
                bench.ask(Method::GET, &format!("/v1/sessions/{session}/messages/{}", id(number + 1)), None).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert_eq!(bench.ask(Method::GET, &format!("/v1/sessions/{session}"), None).await.1["phase"], "Connected");
        }
        let ready = reqwest::get(format!("{}/readyz", bench.address.admin)).await.unwrap();
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        disk.is_good();
        let taken = async {
            while bench.post("b", &id(number + 2), FRIEND, "After").await.0 != StatusCode::CREATED {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), taken).await.expect("messages are accepted again");
        bench.until_message("b", &id(number + 2), &["Delivered"]).await;
    }
    let texts: Vec<String> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["Before", "After", "Before", "After"], "what was refused was not sent");
    // And all of it is still there after a crash.
    bench.bridge.kill();
    bench.address = bench.bridge.start().await;
    for (session, of) in [("a", 10), ("b", 12), ("a", 20), ("b", 22)] {
        assert_eq!(bench.message(session, &id(of)).await["state"], "Delivered");
    }
    bench.nothing_leaked(&["+15550004111", "+15550004112", FRIEND, "Meanwhile"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_cannot_be_read_stops_its_own_session_and_no_other() {
    let mut bench = Bench::start("big-corrupt", &[]).await;
    bench.sender("a", "+15550004121").await;
    bench.sender("b", "+15550004122").await;
    bench.put("a", json!({"desiredState": "Disconnected", "sending": {"perMinute": 0}})).await;
    bench.until("a", "Stopped", None).await;
    bench.accepted("a", &id(1), FRIEND, "Hello").await;
    bench.accepted("a", &id(2), FRIEND, "Hello again").await;
    bench.bridge.stop();
    let database = Connection::open(bench.dir.join("bridge/bridge.db")).unwrap();
    let broken =
        database.execute("UPDATE messages SET content = '{\"type\": \"te' WHERE session = 'a' AND sequence = 1", []);
    assert_eq!(broken.unwrap(), 1);
    drop(database);
    bench.address = bench.bridge.start().await;
    bench.put("a", json!({"sending": {"perMinute": 0}})).await;
    bench.until("a", "Connected", None).await;
    // The others go on.
    bench.accepted("b", &id(3), FRIEND, "From the other").await;
    bench.until_message("b", &id(3), &["Delivered"]).await;
    // What cannot be read ends with a cause, and does not hold up what waits behind it.
    bench.until_message("a", &id(2), &["Delivered"]).await;
    let (status, answer) = bench.ask(Method::GET, &format!("/v1/sessions/a/messages/{}", id(1)), None).await;
    assert!(status == StatusCode::OK || !answer["error"]["message"].as_str().unwrap().is_empty(), "{status} {answer}");
    let inbox: Vec<Value> = bench.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text.into()).collect();
    assert_eq!(inbox.len(), 2);
    bench.nothing_leaked(&["+15550004121", "+15550004122", FRIEND, "Hello again", "From the other"]).await;

    // A file that is no database at all: it does not start, and says what is wrong.
    bench.bridge.stop();
    std::fs::write(bench.dir.join("bridge/bridge.db"), "no database".repeat(1000)).unwrap();
    let said = bench.bridge.fail();
    assert!(said.contains("bridge's database"), "{said}");
}
