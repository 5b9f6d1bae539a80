//! A hundred readers of the event stream, some of whom take nothing.

use std::time::Duration;

use axum::body::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    gateway::world,
    gateway_messages::{connected, send, until_primary},
    support::{
        gateway::{ALL_VERBS, READ_VERBS, Rest, account, let_message},
        world::{SOON, host},
    },
};

/// Streams that one caller may have.
const EACH: usize = 20;
const MESSAGES: usize = 50;
/// What fifty such messages make as events, 9 MB, is more than the buffers between a gateway and a reader hold (Linux: up to 4 MB).
const LENGTH: usize = 60_000;

/// How often a word comes on a stream, which may be cut anywhere.
struct Count {
    stream: futures::stream::BoxStream<'static, reqwest::Result<Bytes>>,
    tail: Vec<u8>,
    events: usize,
    bytes: usize,
}

impl Count {
    async fn of(rest: &Rest, token: &str) -> Self {
        let request = rest.request("GET", "/api/v1/events?owner=*").bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut count = Self { stream: response.bytes_stream().boxed(), tail: Vec::new(), events: 0, bytes: 0 };
        count.until(|_| true).await;
        count
    }

    /// Reads until it is so.
    async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        const WORD: &[u8] = b"event: message\n";
        let reading = async {
            loop {
                let part = self.stream.next().await.expect("the stream goes on").unwrap();
                self.bytes += part.len();
                self.tail.extend_from_slice(&part);
                self.events += self.tail.windows(WORD.len()).filter(|window| *window == WORD).count();
                // Less than the word, so that nothing is counted twice.
                let keep = self.tail.len().min(WORD.len() - 1);
                self.tail.drain(..self.tail.len() - keep);
                if so(self) {
                    return;
                }
            }
        };
        timeout(SOON * 4, reading).await.expect("the events come");
    }
}

/// A reader with a small buffer, who takes nothing after the beginning.
async fn slow(rest: &Rest, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = host(&rest.url);
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!(
        "GET /api/v1/events?owner=* HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(6).any(|part| part == b"event:") {
        let mut part = [0; 512];
        let read = timeout(SOON, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0);
        head.extend_from_slice(&part[..read]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"));
    stream
}

async fn open(rest: &Rest) -> usize {
    let metrics = reqwest::get(format!("{}/metrics", rest.admin)).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("whatsapp_operator_gateway_event_streams "));
    line.unwrap().parse().unwrap()
}

/// Sends until it is accepted, as the key allows: on a machine at its worst the API server may not say in time who asks.
async fn insist(rest: &Rest, token: &str, body: &Value, key: &str) -> Value {
    let sending = async {
        loop {
            let answer = send(rest, token, "/api/v1/messages/send/", body, Some(key)).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let answer = timeout(SOON * 2, sending).await.expect("it is accepted");
    assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
    answer.body["data"]["id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_readers_the_slow_are_dropped_and_the_others_hear_everything() {
    let (friend, phone) = ("+15550206901", "+15550206001");
    let world = world("gateway-crowd").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let mut readers = Vec::new();
    for n in 0..5 {
        let name = format!("reader-{n}");
        readers.push(account(&world, &name, READ_VERBS).await);
        let_message(&world, &name, "get").await;
    }
    let probe = json!({"recipient": friend, "message": "Probe"});
    let probe = send(&rest, &token, "/api/v1/messages/send/?wait=30", &probe, None).await.data(200).clone();
    let path = format!("/api/v1/messages/{}/", probe["id"].as_str().unwrap());
    for reader in &readers {
        let allowed = async {
            while rest.get(reader, &path).await.body["data"]["status"] != "delivered" {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(SOON, allowed).await.expect("the reader may read, and nothing more comes of this one");
    }
    let (lazy, keen) = readers.split_at(2);
    let mut asleep = Vec::new();
    for reader in lazy {
        for _ in 0..EACH {
            asleep.push(slow(&rest, reader).await);
        }
    }
    let mut awake = Vec::new();
    for reader in keen {
        for _ in 0..EACH {
            awake.push(Count::of(&rest, reader).await);
        }
    }
    assert_eq!(open(&rest).await, 5 * EACH);

    let text = "x".repeat(LENGTH);
    let sending = async {
        let mut ids: Vec<Value> = Vec::new();
        for n in 0..MESSAGES {
            let body = json!({"recipient": friend, "message": format!("{n} {text}")});
            ids.push(insist(&rest, &token, &body, &format!("crowd-{n}")).await);
        }
        ids
    };
    // Accepted, sent and delivered, each told once.
    let wanted = 3 * MESSAGES;
    let hearing = futures::future::join_all(awake.iter_mut().map(|reader| reader.until(|it| it.events >= wanted)));
    let (ids, _) = tokio::join!(sending, hearing);
    assert_eq!(ids.len(), MESSAGES);
    assert!(
        awake.iter().all(|reader| reader.events == wanted),
        "{:?}",
        awake.iter().map(|it| it.events).collect::<Vec<_>>()
    );

    let dropped = async {
        while open(&rest).await != keen.len() * EACH {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(SOON * 2, dropped).await.expect("the slow ones are dropped");
    // Those who are left go on.
    let last = json!({"recipient": friend, "message": "Last"});
    insist(&rest, &token, &last, "crowd-last").await;
    let hearing = futures::future::join_all(awake.iter_mut().map(|reader| reader.until(|it| it.events >= wanted + 3)));
    hearing.await;
    drop(asleep);
}
