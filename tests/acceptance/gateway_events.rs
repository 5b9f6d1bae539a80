//! The event stream: complete, in order, resumable, and never open longer than its token.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whatsapp_operator::api::Phase;

use crate::support::{
    gateway::{ALL_VERBS, Event, Rest, account, token_that_lasts, until, user},
    world::{SOON, World},
};

fn about(event: &Event) -> (&str, &str, &str) {
    let session = &event.data["session"];
    (event.kind.as_str(), session["object"].as_str().unwrap_or_default(), session["phase"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_everything_once_and_goes_on_where_it_was() {
    let world = World::start("gateway-events").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = json!({"owner": user(&world, "app")});
    world.apply("one", owner.clone()).await;
    world.apply("others", json!({"owner": "bob@example.com", "desiredState": "Disconnected"})).await;
    world.qr("one").await;

    let mut events = rest.follow(&token, "", None).await;
    let (first, _) = events.until("ready", |event| event.kind == "ready").await;
    assert_eq!(first.iter().map(about).collect::<Vec<_>>(), [("session", "one", "AwaitingPairing")]);
    assert!(!first[0].data.to_string().contains("qr_code"), "codes are not told");
    world.scan("one", "+15550300001").await;
    let connected = |event: &Event| about(event) == ("session", "one", "Connected");
    events.until("Connected", connected).await;
    let place = events.last_id.clone();
    drop(events);

    // What happens while nobody listens.
    world.patch_spec("one", json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase("one", Phase::Disconnected, SOON).await;
    world.delete("one").await;
    world.history.until_gone("one", SOON).await;
    // With any replica, and also twice: it is the same every time. Some libraries have no header for where they were.
    let other = Rest::start(&world, &[]).await;
    let mut told = Vec::new();
    let in_query = format!("?lastEventId={place}");
    for (rest, query, since) in
        [(&rest, "", Some(place.as_str())), (&other, "", Some(&place)), (&other, &in_query, None)]
    {
        let mut resumed = rest.follow(&token, query, since).await;
        let (before, last) = resumed.until("the deletion", |event| event.kind == "deleted").await;
        assert_eq!(about(&last).1, "one");
        let all: Vec<_> = before.iter().map(|event| about(event).2.to_owned()).collect();
        assert!(all.contains(&"Disconnected".to_owned()), "{all:?}");
        assert!(before.iter().all(|event| event.kind == "session"), "no reset, no list: {before:?}");
        told.push(all);
    }
    assert!(told[0] == told[1] && told[1] == told[2], "{told:?}");

    // Where it cannot go on it says so, and begins anew.
    for (since, reason) in [
        ("1", "TooLongAgo"),
        ("nonsense", "UnknownId"),
        ("99999999999999", "UnknownId"),
        ("0", "UnknownId"),
        ("00~", "UnknownId"),
    ] {
        let mut anew = rest.follow(&token, "?owner=*", Some(since)).await;
        let (before, _) = anew.until("ready", |event| event.kind == "ready").await;
        assert_eq!((before[0].kind.as_str(), &before[0].data["reason"]), ("reset", &json!(reason)), "{since}");
        assert_eq!(about(&before[1]).1, "others");
    }
    let phones = ["+15550300001"];
    rest.nothing_leaked(&world, &phones, &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_nothing_to_tell_is_not_silent_for_a_minute() {
    let world = World::start("gateway-quiet").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let mut stream = rest.request("GET", "/api/v1/events").bearer_auth(&token).send().await.unwrap();
    let mut text = String::new();
    // Proxies commonly give up a connection on which nothing came for a minute.
    for _ in 0..2 {
        let half_a_minute = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let part = stream.chunk().await.unwrap().expect("the stream goes on");
                text.push_str(&String::from_utf8_lossy(&part));
                if text.contains("event: ready") && text.ends_with(":\n\n") {
                    break;
                }
            }
        });
        half_a_minute.await.unwrap_or_else(|_| panic!("nothing but {text}"));
        text.truncate(text.len() - 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_lasts_longer_than_a_watch() {
    let world = World::start("gateway-expiry").await;
    let rest = Rest::start(&world, &[]).await;
    account(&world, "app", ALL_VERBS).await;
    let token = token_that_lasts(&world, "app", 28).await;
    let began = Instant::now();
    let mut events = rest.follow(&token, "", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    // The API server ends every watch after 20 s; the stream does not notice.
    tokio::time::sleep_until((began + Duration::from_secs(21)).into()).await;
    world.apply("late", json!({"owner": user(&world, "app"), "desiredState": "Disconnected"})).await;
    events.until("the late one", |event| about(event).1 == "late").await;
    let (_, end) = events.until("the end", |event| event.kind == "end").await;
    assert_eq!(end.data["reason"], "TokenExpired");
    assert!(events.next().await.is_none());
    rest.get(&token, "/api/v1/sessions/list/").await.refused(401, "Unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_slow_ones_harm_nobody() {
    let world = World::start("gateway-streams").await;
    let rest = Rest::start(&world, &[]).await;
    let (greedy, other) = (account(&world, "greedy", ALL_VERBS).await, account(&world, "other", ALL_VERBS).await);
    let mut open = Vec::new();
    for _ in 0..20 {
        // They read nothing after the beginning.
        open.push(rest.follow(&greedy, "?owner=*", None).await);
    }
    rest.get(&greedy, "/api/v1/events").await.refused(429, "TooManyStreams");
    let mut events = rest.follow(&other, "?owner=*", None).await;
    events.until("ready", |event| event.kind == "ready").await;
    world.apply("one", json!({"owner": user(&world, "other"), "desiredState": "Disconnected"})).await;
    events.until("one", |event| about(event).1 == "one").await;
    drop(open);
    let another = async || {
        let request = rest.request("GET", "/api/v1/events").bearer_auth(&greedy);
        request.send().await.unwrap().status() == 200
    };
    until("is a closed stream no longer counted", another).await;
    assert_eq!(rest.get(&other, "/api/v1/sessions/list/").await.data(200)["total_count"], Value::from(1));
}
