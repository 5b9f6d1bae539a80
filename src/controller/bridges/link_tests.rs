//! The link against a scripted bridge: it lists, follows, resumes, and says what is wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, routing::get};
use futures::StreamExt;
use kube::Client;
use serde_json::json;
use tokio::sync::{
    Notify,
    mpsc::{self, UnboundedReceiver},
};

use super::{link::Listeners, links::Links};
use crate::{
    api::{SecretKeyRef, conditions::reason},
    bridge_api::{
        Event, Session, SessionInstance, SessionPhase, SessionSpec,
        scripted_bridge::{self, Scripted},
    },
    controller::{
        decide::{
            self,
            facts::{FormerSession, LinkState},
        },
        fixtures,
        instances::Instances,
    },
    drivers::{self, Endpoint, Update},
    platform::{lock, watch::Key},
};

const SOON: Duration = Duration::from_secs(20);

struct World {
    bridge: Scripted,
    links: Links,
    listeners: Listeners,
    queue: UnboundedReceiver<Key>,
    away: Arc<Away>,
}

/// An API server that serves one Secret, unless it is away; it counts how often it was.
#[derive(Default)]
struct Away {
    is_away: AtomicBool,
    refusals: AtomicUsize,
}

fn kubernetes(away: &Arc<Away>) -> Client {
    // "right", in base64.
    let secret = json!({"metadata": {"name": "token", "namespace": "ns"}, "data": {"token": "cmlnaHQ="}});
    let away = Arc::clone(away);
    let answer = move || async move {
        if !away.is_away.load(Ordering::Relaxed) {
            return Ok(Json(secret));
        }
        away.refusals.fetch_add(1, Ordering::Relaxed);
        Err(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let app = Router::new().route("/api/v1/namespaces/ns/secrets/token", get(answer));
    Client::new(app, "ns")
}

async fn world(key: &str) -> World {
    let bridge = scripted_bridge::start().await;
    let (queue, triggers) = mpsc::unbounded_channel();
    let instances = Arc::new(Instances::default());
    let bound = fixtures::bound(Default::default());
    instances.note(&fixtures::key(&bound), &bound);
    let listeners = Listeners { queue, bridges: Arc::new(Notify::new()), instances };
    let world = World { bridge, links: Links::default(), listeners, queue: triggers, away: Arc::default() };
    world.link(key);
    world
}

impl World {
    fn link(&self, key: &str) {
        self.link_to(self.bridge.url.clone(), key);
    }

    fn link_to(&self, url: String, key: &str) {
        let token = SecretKeyRef { namespace: "ns".into(), name: "token".into(), key: key.into() };
        let endpoint = Endpoint::builtin(url, None, token);
        self.links.set("main", &[(fixtures::binding(), endpoint)], &kubernetes(&self.away), &self.listeners);
    }

    /// Waits until the link stands as `wanted` says.
    async fn until(&self, wanted: impl Fn(&LinkState, Option<&Session>) -> bool) {
        let reached = async {
            loop {
                let changed = self.listeners.bridges.notified();
                let (state, session) = self.links.get(&fixtures::binding()).unwrap().look(fixtures::UID);
                if wanted(&state, session.as_ref().map(|seen| &*seen.session)) {
                    return;
                }
                // Changes of a known session are told to the queue only.
                let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        };
        tokio::time::timeout(SOON, reached).await.expect("the link gets there");
    }

    async fn until_down(&self, why: &str) {
        self.until(|state, _| matches!(state, LinkState::Down(fault) if fault.reason == why)).await;
    }

    async fn follower(&mut self) -> scripted_bridge::Follower {
        tokio::time::timeout(SOON, self.bridge.followers.next()).await.unwrap().unwrap()
    }

    async fn woken(&mut self) -> Key {
        tokio::time::timeout(SOON, self.queue.recv()).await.unwrap().unwrap()
    }
}

fn event(phase: SessionPhase) -> Event {
    Event::Session { session: Box::new(fixtures::session(phase)) }
}

#[tokio::test]
async fn it_lists_then_follows_and_wakes_the_instance_a_session_belongs_to() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    assert_eq!(follower.since, "run-0");
    world.until(|state, session| *state == LinkState::Up && session.is_none()).await;
    assert_eq!(world.woken().await.name, "one", "told that the shard is up");
    follower.send("run-1", &event(SessionPhase::AwaitingPairing));
    assert_eq!(world.woken().await.name, "one");
    world.until(|_, session| session.is_some_and(|s| s.phase == SessionPhase::AwaitingPairing)).await;
    follower.send("run-2", &Event::Deleted { id: fixtures::UID.into() });
    world.until(|_, session| session.is_none()).await;
    let summary = world.links.get(&fixtures::binding()).unwrap().summary();
    assert_eq!((summary.total, summary.info.map(|info| info.version)), (0, Some("1".into())));
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_its_own_trouble_and_not_the_shards() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    follower.send("run-1", &event(SessionPhase::Connected));
    world.until(|_, session| session.is_some()).await;
    let strange = json!({"type": "session", "session": {"id": fixtures::UID, "phase": ["odd"]}});
    follower.say(&format!("id: run-2\nevent: session\ndata: {strange}\n\n"));
    let another = Session { id: "another".into(), ..fixtures::session(SessionPhase::Opening) };
    follower.send("run-3", &Event::Session { session: Box::new(another) });
    world.until(|state, session| *state == LinkState::Up && session.is_none()).await;
    let link = world.links.get(&fixtures::binding()).unwrap();
    while link.look("another").1.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(link.is_unreadable(fixtures::UID) && !link.is_unreadable("another"));
    assert_eq!(link.summary().total, 2, "it is there all the same");
    follower.send("run-4", &event(SessionPhase::Connected));
    world.until(|state, session| *state == LinkState::Up && session.is_some()).await;
    assert!(!link.is_unreadable(fixtures::UID));
}

#[tokio::test]
async fn a_session_that_an_instance_had_under_another_id_is_found_unless_it_is_somebodys() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    let its = decide::session_instance(&fixtures::instance()).unwrap();
    let spec = SessionSpec { instance: Some(Box::new(its.clone())), ..SessionSpec::default() };
    let send = |at, id: &str, phase| {
        let session = Session { id: id.into(), spec: spec.clone(), ..fixtures::session(phase) };
        follower.send(at, &Event::Session { session: Box::new(session) });
    };
    send("run-1", "going", SessionPhase::Deleting);
    send("run-2", fixtures::UID, SessionPhase::Opening);
    world.until(|_, session| session.is_some()).await;
    let link = world.links.get(&fixtures::binding()).unwrap();
    let former = |its: &SessionInstance| link.former(its, fixtures::UID);
    assert_eq!(former(&its), None, "its own, and one that is being deleted");
    send("run-3", "unlinked", SessionPhase::Opening);
    send("run-4", fixtures::UID, SessionPhase::AwaitingPairing);
    world.until(|_, session| session.is_some_and(|session| session.phase == SessionPhase::AwaitingPairing)).await;
    assert_eq!(former(&its), Some(FormerSession { linked: false }));
    send("run-5", "linked", SessionPhase::Connected);
    send("run-6", fixtures::UID, SessionPhase::Opening);
    world.until(|_, session| session.is_some_and(|session| session.phase == SessionPhase::Opening)).await;
    assert_eq!(former(&its), Some(FormerSession { linked: true }));
    let other = SessionInstance { name: "other".into(), ..its.clone() };
    assert_eq!(former(&other), None);
    // There are objects of these uids, be it that one cannot be read.
    let mut theirs = fixtures::instance();
    theirs.metadata.uid = Some("linked".into());
    world.listeners.instances.note(&fixtures::named("team", "theirs"), &theirs);
    assert_eq!(former(&its), Some(FormerSession { linked: false }));
    world.listeners.instances.note_unfit(&fixtures::named("team", "unread"), Some("unlinked".into()));
    assert_eq!(former(&its), None);
}

#[tokio::test]
async fn a_broken_stream_is_resumed_where_it_left_off_and_a_reset_lists_again() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    follower.send("run-41", &event(SessionPhase::Opening));
    world.until(|_, session| session.is_some()).await;
    drop(follower);
    let follower = world.follower().await;
    assert_eq!(follower.since, "run-41");
    {
        let mut script = lock(&world.bridge.script);
        script.sessions = vec![fixtures::session(SessionPhase::Connected)];
        script.cursor = "other-5".parse().unwrap();
    }
    follower.send("other-5", &Event::Reset);
    assert_eq!(world.follower().await.since, "other-5");
    world.until(|_, session| session.is_some_and(|s| s.phase == SessionPhase::Connected)).await;
}

#[tokio::test]
async fn a_refused_token_a_missing_key_and_a_stranger_are_typed_and_heal_by_themselves() {
    let world = world("token").await;
    world.until(|state, _| *state == LinkState::Up).await;
    world.link("no-such-key");
    world.until_down(reason::CREDENTIALS_NOT_FOUND).await;
    lock(&world.bridge.script).token = "rotated";
    world.link("token");
    world.until_down(reason::BRIDGE_UNAUTHORIZED).await;
    lock(&world.bridge.script).nonsense = true;
    world.until_down(reason::BRIDGE_MALFORMED_ANSWER).await;
    {
        let mut script = lock(&world.bridge.script);
        (script.token, script.nonsense) = ("right", false);
    }
    world.until(|state, _| *state == LinkState::Up).await;
}

#[tokio::test]
async fn a_bridge_that_resets_every_connection_is_not_asked_without_pause() {
    let mut world = world("token").await;
    let started = std::time::Instant::now();
    for _ in 0..6 {
        let follower = world.follower().await;
        follower.send("other-1", &Event::Reset);
    }
    // The first two are free; then 250, 500 and 1000 ms, or a quarter less.
    assert!(started.elapsed() >= Duration::from_millis(1300), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_refusal_of_the_token_before_does_not_bring_the_link_down() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    world.until(|state, _| *state == LinkState::Up).await;
    world.links.get(&fixtures::binding()).unwrap().recheck_token();
    world.until(|_, _| lock(&world.bridge.script).infos == 2).await;
    follower.send("run-1", &event(SessionPhase::AwaitingPairing));
    world.until(|state, session| *state == LinkState::Up && session.is_some()).await;
    assert!(world.bridge.followers.try_recv().is_err(), "it is still the same connection");
}

#[tokio::test]
async fn a_bridge_is_reached_again_while_the_api_server_is_away() {
    let mut world = world("token").await;
    let follower = world.follower().await;
    world.until(|state, _| *state == LinkState::Up).await;
    world.away.is_away.store(true, Ordering::Relaxed);
    drop(follower);
    world.follower().await.send("run-1", &event(SessionPhase::Connected));
    world.until(|state, session| *state == LinkState::Up && session.is_some()).await;
}

#[tokio::test]
async fn a_token_that_was_read_serves_before_the_first_connection_too() {
    let world = world("token").await;
    world.until(|state, _| *state == LinkState::Up).await;
    lock(&world.bridge.script).nonsense = true;
    // Another address makes another link.
    world.link_to(format!("{}/", world.bridge.url), "token");
    world.until_down(reason::BRIDGE_MALFORMED_ANSWER).await;
    world.away.is_away.store(true, Ordering::Relaxed);
    lock(&world.bridge.script).nonsense = false;
    world.until(|state, _| *state == LinkState::Up).await;
}

#[tokio::test]
async fn a_shard_that_fails_in_ever_new_ways_is_one_trouble() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world("token").await;
    world.link_to(format!("http://{}", listener.local_addr().unwrap()), "token");
    let told = || match world.links.get(&fixtures::binding()).unwrap().look("").0 {
        LinkState::Down(fault) => fault.message,
        other => panic!("{other:?}"),
    };
    drop(listener.accept().await.unwrap());
    world.until_down(reason::BRIDGE_UNREACHABLE).await;
    let first = told();
    let (mut second, _) = listener.accept().await.unwrap();
    second.write_all(b"nonsense\r\n\r\n").await.unwrap();
    drop(second);
    // The third attempt comes after what the second one found was told.
    let _third = listener.accept().await.unwrap();
    assert_eq!(told(), first);
}

#[tokio::test]
async fn a_password_in_an_address_is_refused_and_not_repeated() {
    let world = world("token").await;
    world.link_to("http://operator:hunter2@127.0.0.1:1".into(), "token");
    world.until_down(reason::BRIDGE_UNREACHABLE).await;
    let LinkState::Down(fault) = world.links.get(&fixtures::binding()).unwrap().look("").0 else { panic!("up") };
    assert!(fault.message.contains("without user and password"), "{fault:?}");
    assert!(!fault.message.contains("hunter2"), "{fault:?}");
}

#[tokio::test]
async fn a_link_that_is_no_longer_wanted_is_gone() {
    let world = world("token").await;
    world.links.set("another", &[], &kubernetes(&world.away), &world.listeners);
    assert!(world.links.get(&fixtures::binding()).is_some());
    world.links.set("main", &[], &kubernetes(&world.away), &world.listeners);
    assert!(world.links.get(&fixtures::binding()).is_none());
}

#[tokio::test]
async fn a_bridge_of_another_kind_is_followed_through_its_driver_alone() {
    let mut world = world("token").await;
    world.until(|state, _| *state == LinkState::Up).await;
    let driver = drivers::scripted_driver::Scripted::default();
    lock(&driver.0).snapshot.sessions = vec![fixtures::session(SessionPhase::Opening)];
    let token = SecretKeyRef { namespace: "ns".into(), name: "token".into(), key: "token".into() };
    let endpoint = Endpoint::scripted(driver.clone(), token);
    world.links.set("main", &[(fixtures::binding(), endpoint)], &kubernetes(&world.away), &world.listeners);
    let phase = |wanted: SessionPhase| {
        move |state: &LinkState, session: Option<&Session>| {
            *state == LinkState::Up && session.is_some_and(|session| session.phase == wanted)
        }
    };
    world.until(phase(SessionPhase::Opening)).await;
    driver.tell("one", Update::Session(Box::new(fixtures::session(SessionPhase::Connected))));
    world.until(phase(SessionPhase::Connected)).await;
    // A stream that ends is taken up again behind the last update.
    lock(&driver.0).follower = None;
    while lock(&driver.0).follower.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    driver.tell("two", Update::Gone(fixtures::UID.into()));
    world.until(|state, session| *state == LinkState::Up && session.is_none()).await;
    // After a gap everything is asked for again.
    driver.tell("three", Update::Missed);
    world.until(phase(SessionPhase::Opening)).await;
    assert_eq!(lock(&driver.0).followed, [None, Some("one".to_owned()), None]);
    while world.queue.try_recv().is_ok() {}

    let link = world.links.get(&fixtures::binding()).unwrap();
    lock(&driver.0).put = Some(fixtures::session(SessionPhase::Connected));
    link.put(fixtures::UID, &fixtures::session(SessionPhase::Connected).spec).await.unwrap();
    world.until(phase(SessionPhase::Connected)).await;
    link.delete(fixtures::UID, true).await.unwrap();
    world.until(|_, session| session.is_none()).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_from_the_start_does_not_make_the_credentials_missing() {
    let world = world("token").await;
    world.until(|state, _| *state == LinkState::Up).await;
    world.away.is_away.store(true, Ordering::Relaxed);
    // Another address makes another link, which has no token yet.
    world.link_to(format!("{}/", world.bridge.url), "token");
    let asked_three_times = async {
        while world.away.refusals.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, asked_three_times).await.expect("it is asked again and again");
    assert_eq!(world.links.get(&fixtures::binding()).unwrap().look("").0, LinkState::Unknown);
    world.away.is_away.store(false, Ordering::Relaxed);
    world.until(|state, _| *state == LinkState::Up).await;
}
