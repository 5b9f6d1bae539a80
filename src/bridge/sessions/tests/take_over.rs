//! An instance that was created anew, and what comes of the session that it had.

use whatsapp_operator::bridge_api::{DesiredState, Session, SessionInstance};

use super::*;
use crate::{sessions::with_their_keys, store::Stored};

/// Of the instance `name` of this owner.
fn spec(name: &str, owner: &str) -> SessionSpec {
    let (namespace, name, owner) = ("team".to_owned(), name.to_owned(), Sensitive::new(owner));
    let sending = Sending { per_minute: 0, burst: 0 };
    SessionSpec {
        instance: Some(Box::new(SessionInstance { namespace, name, owner })),
        sending,
        ..SessionSpec::default()
    }
}

fn adopting() -> Bench {
    Bench::start_as(Arc::new(tempfile::tempdir().unwrap()), 9, true)
}

impl Bench {
    /// A session of Alice's shop that is linked under this id.
    async fn shop(&mut self, id: &str) -> Running {
        let client = self.linked(id).await;
        self.registry.put(id, spec("shop", "alice")).await.unwrap();
        client
    }

    /// Puts a session; `end` is its answer once the client of another one has ended that stands in its way.
    async fn put_when_ended(&self, id: &str, spec: SessionSpec, mut client: Running) -> Result<Session, Refusal> {
        let (registry, id) = (Arc::clone(&self.registry), id.to_owned());
        let put = tokio::spawn(async move { registry.put(&id, spec).await });
        told_to_stop(&mut client).await;
        assert!(!put.is_finished(), "the client is waited for");
        client.ends(End::Stopped);
        tokio::time::timeout(PATIENCE, put).await.expect("it is answered").unwrap()
    }

    fn ids(&self) -> Vec<String> {
        self.shared.feed.sessions.list().items.into_iter().map(|session| session.id).collect()
    }

    /// What is on the disk, as the next process finds it.
    async fn stored(&self, id: &str) -> Option<Stored> {
        self.shared.store.reader.session(id).await.unwrap()
    }

    /// Gives the session its own directory of keys, with something in it.
    fn marks_keys(&self, id: &str) {
        std::fs::create_dir_all(self.shared.data.session(id)).unwrap();
        std::fs::write(self.shared.data.keys(id), "").unwrap();
        std::fs::write(self.shared.data.session(id).join("mark"), "").unwrap();
    }

    fn has_marked_keys(&self, id: &str) -> bool {
        self.shared.data.session(id).join("mark").is_file()
    }
}

#[tokio::test]
async fn an_instance_that_was_created_anew_gets_the_session_that_it_had_with_what_waits() {
    let mut bench = adopting();
    let mut client = bench.shop("before").await;
    bench.marks_keys("before");
    let (first, second) = ("3EB0000000000000000001", "3EB0000000000000000002");
    for id in [first, second] {
        bench.registry.send("before", text(id, "+15550001")).await.unwrap().unwrap();
    }
    let Command::Send(outgoing, _) = told(&mut client).await else { panic!("it is handed over") };
    assert_eq!(outgoing.id, first);

    let taken = bench.put_when_ended("after", spec("shop", "alice"), client).await.unwrap();
    assert!(taken.paired && taken.push_name == Some(Sensitive::new("Anna")), "{taken:?}");
    assert!(bench.ids() == ["after"] && bench.has_marked_keys("after") && !bench.has_marked_keys("before"));
    assert!(bench.erased.lock().unwrap().iter().all(|erased| erased == "after"), "nothing of it is deleted");
    assert_eq!(bench.stored("after").await.unwrap().kept.formerly, ["before"]);
    assert!(bench.stored("before").await.is_none());

    let mut client = bench.client().await;
    assert!(client.start.linked.is_some(), "it logs in, and does not link a device");
    client.says(ClientEvent::Connected { phone_number: None, push_name: None });
    let Command::Send(outgoing, answer) = told(&mut client).await else { panic!("it is sent") };
    assert_eq!(outgoing.id, first);
    assert_eq!(bench.shared.outboxes.waiting(), 2, "each is counted once");
    answer.give(Ok(handed_over(&outgoing)));
    client.says(ClientEvent::Message(MessageNews::Answered { id: first.to_owned(), refused: None, at: None }));
    acknowledged(&mut client, second).await;

    // An idempotency key may name the message as it was.
    let named = bench.registry.now_named("before").await.unwrap();
    let (again, new) = bench.registry.send(&named, text(first, "+15550001")).await.unwrap().unwrap();
    assert!(!new && again.status.session == "after" && again.status.id == first);
}

#[tokio::test]
async fn what_is_not_the_instances_own_stays_where_it_is() {
    let mut bench = adopting();
    let mut client = bench.shop("shop").await;
    for (id, spec) in [("bobs", spec("shop", "bob")), ("desk", spec("desk", "alice")), ("none", SessionSpec::default())]
    {
        let new = bench.registry.put(id, spec).await.unwrap();
        assert!(!new.paired, "{id}");
        let _ = bench.client().await;
    }
    // One that is to be deleted is nobody's any more.
    bench.registry.delete("shop", true).await.unwrap();
    let Command::Unlink(_) = told(&mut client).await else { panic!("the device is to be removed first") };
    assert!(!bench.registry.put("anew", spec("shop", "alice")).await.unwrap().paired);
    assert_eq!(bench.ids(), ["anew", "bobs", "desk", "none", "shop"]);

    let mut bench = Bench::fresh();
    let _client = bench.shop("shop").await;
    assert!(!bench.registry.put("anew", spec("shop", "alice")).await.unwrap().paired, "nobody has asked for it");
    assert_eq!(bench.ids(), ["anew", "shop"]);
}

#[tokio::test]
async fn of_two_sessions_of_the_instance_the_one_that_is_linked_is_taken_and_of_two_linked_ones_none() {
    let mut bench = adopting();
    let client = bench.shop("linked").await;
    // As an earlier restore leaves it: what came after was begun without --adopt-data.
    let kept = Kept::new(SessionSpec { desired_state: DesiredState::Disconnected.into(), ..spec("shop", "alice") });
    bench.shared.store.apply(vec![Change::create("unlinked", &kept).unwrap()]).await.unwrap();
    bench.registry.put("unlinked", kept.spec).await.unwrap();
    assert!(bench.put_when_ended("anew", spec("shop", "alice"), client).await.unwrap().paired);
    assert_eq!(bench.ids(), ["anew", "unlinked"]);

    let mut bench = adopting();
    let clients = [bench.linked("one").await, bench.linked("two").await];
    for id in ["one", "two"] {
        bench.registry.put(id, spec("shop", "alice")).await.unwrap();
    }
    assert!(!bench.registry.put("anew", spec("shop", "alice")).await.unwrap().paired);
    assert_eq!(bench.ids(), ["anew", "one", "two"]);
    drop(clients);
}

#[tokio::test]
async fn a_bridge_that_is_full_has_room_for_what_it_has() {
    let mut bench = adopting();
    let client = bench.shop("shop").await;
    for number in 1..9 {
        let idle = SessionSpec { desired_state: DesiredState::Disconnected.into(), ..SessionSpec::default() };
        bench.registry.put(&number.to_string(), idle).await.unwrap();
    }
    assert!(matches!(bench.registry.put("other", spec("other", "alice")).await, Err(Refusal::Full { max: 9 })));
    assert!(bench.put_when_ended("anew", spec("shop", "alice"), client).await.unwrap().paired);
}

#[tokio::test]
async fn a_session_that_cannot_be_given_goes_on_as_it_was() {
    let mut bench = adopting();
    let client = bench.shop("before").await;
    let raw = rusqlite::Connection::open(bench.directory.path().join("bridge.db")).unwrap();
    raw.execute_batch("CREATE TRIGGER no BEFORE UPDATE OF id ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let refused = bench.put_when_ended("after", spec("shop", "alice"), client).await;
    assert!(matches!(refused, Err(Refusal::Store(_))), "{refused:?}");
    // It connects again by itself.
    let client = bench.client().await;
    assert!(client.start.linked.is_some());
    client.says(ClientEvent::Connected { phone_number: None, push_name: None });
    bench.sees_phase(SessionPhase::Connected).await;
    assert_eq!(bench.ids(), ["before"]);
    raw.execute_batch("DROP TRIGGER no").unwrap();
    assert!(bench.put_when_ended("after", spec("shop", "alice"), client).await.unwrap().paired);
}

#[tokio::test]
async fn a_caller_who_gives_up_leaves_nothing_half_done() {
    let mut bench = adopting();
    let mut client = bench.shop("before").await;
    let put = bench.registry.put("after", spec("shop", "alice"));
    tokio::select! {
        _ = put => panic!("the client is waited for"),
        () = told_to_stop(&mut client) => {}
    }
    client.ends(End::Stopped);
    let client = bench.client().await;
    assert!(client.start.linked.is_some() && bench.ids() == ["after"]);
}

/// Killed after the record was given, and before the keys were moved.
#[tokio::test]
async fn keys_that_could_not_be_moved_are_nobody_elses_and_are_moved_later() {
    let bench = adopting();
    bench.marks_keys("before");
    let kept = Kept { paired: true, ..Kept::new(spec("shop", "alice")) };
    let begun = vec![Change::create("before", &kept).unwrap()];
    bench.shared.store.apply(begun).await.unwrap();
    let given = Kept { formerly: vec!["before".to_owned()], ..kept.clone() };
    bench.shared.store.apply(vec![Change::rename("before", "after", &given).unwrap()]).await.unwrap();
    let found = || async { vec![bench.stored("after").await.unwrap()] };

    // Something stands in the way.
    let obstacle = bench.shared.data.session("after").join("obstacle");
    std::fs::create_dir_all(&obstacle).unwrap();
    let keys = &*bench.shared.keys;
    assert!(with_their_keys(keys, found().await).await.is_empty(), "it does not begin without its keys");
    let put = || bench.registry.put("after", spec("shop", "alice"));
    assert!(matches!(put().await, Err(Refusal::Keys(_))));
    // Nobody gets them by the former id, to use them or to have them deleted.
    assert!(matches!(bench.registry.put("before", spec("shop", "alice")).await, Err(Refusal::TakenOver)));
    assert!(matches!(bench.registry.delete("before", true).await, Ok(None)));
    assert!(matches!(bench.registry.delete("after", true).await, Err(Refusal::Keys(_))), "it may be linked");
    assert!(bench.has_marked_keys("before"));

    std::fs::remove_dir(&obstacle).unwrap();
    for _ in 0..2 {
        assert_eq!(with_their_keys(keys, found().await).await.len(), 1);
        assert!(bench.has_marked_keys("after") && !bench.has_marked_keys("before"));
    }
    assert!(put().await.unwrap().paired);
    // Keys that are there are not replaced by what may be found under the former id.
    bench.marks_keys("before");
    with_their_keys(keys, found().await).await;
    assert!(bench.has_marked_keys("before"));
}
