mod take_over;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whatsapp_operator::{
    bridge_api::{
        Event as Shown, Message, MessageState, PairingMethod, Sending, SessionPhase, SessionReason, SessionSpec,
    },
    model::Sensitive,
};

use crate::{
    backend::{
        Command, Delivery, Identity, Outgoing,
        script::{Running, Script},
    },
    feed::{Feed, Subscription},
    keys::script::NotedKeys,
    machine::{ClientEvent, End, Event, Kept, MessageNews, Parked, Receipt, State, Timings},
    metrics::Metrics,
    outbox::Settled,
    sessions::{
        Limits, Outboxes, People, Refusal, Registry, RunningClients, Shared, check_message,
        crowd::MOST_INPUTS,
        new_message::queued,
        request::{NewMessage, Request},
        session::Actor,
    },
    store::{Change, MessageChange, Store, StoreError, Told},
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) registry: Arc<Registry>,
    shared: Arc<Shared>,
    clients: mpsc::UnboundedReceiver<Running>,
    erased: Arc<Mutex<Vec<String>>>,
    shown: Subscription,
    directory: Arc<tempfile::TempDir>,
    /// The store goes on only while nobody holds it.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// How far messages came, as it was told.
    states: Arc<Mutex<Vec<(String, MessageState)>>>,
}

impl Bench {
    fn start(directory: Arc<tempfile::TempDir>, permits: usize) -> Self {
        Self::start_as(directory, permits, false)
    }

    fn start_as(directory: Arc<tempfile::TempDir>, permits: usize, adopts: bool) -> Self {
        let (script, clients) = Script::new();
        let keys = NotedKeys::new();
        let erased = Arc::clone(&keys.erased);
        let outboxes = Outboxes::new(100, 1000);
        let (left, gate) = (outboxes.clone(), Arc::new(tokio::sync::Mutex::new(())));
        let (passed, states) = (Arc::clone(&gate), Arc::new(Mutex::new(Vec::new())));
        let told_states = Arc::clone(&states);
        let listener = move |told: &Told| {
            drop(passed.blocking_lock());
            if let Told::Message { message, changed: true, .. } = told
                && let Some(state) = message.status.state.known()
            {
                told_states.lock().unwrap().push((message.status.id.clone(), state));
            }
            if let Told::Message { settled: true, .. } = told {
                left.leave(1);
            }
        };
        let (store, stored) = Store::open(&directory.path().join("bridge.db"), listener).unwrap();
        let shared = Arc::new(Shared {
            backend: Arc::new(script),
            data: keys.data.clone(),
            keys: Arc::new(keys),
            store,
            feed: Feed::new("run"),
            outboxes,
            people: People::default(),
            permits: Arc::new(crate::permits::Permits::new(permits)),
            metrics: Metrics::new(),
            message_traces: Arc::default(),
            closing: CancellationToken::new(),
            clients: tokio::runtime::Handle::current(),
            running: RunningClients::default(),
        });
        let shown = shared.feed.sessions.subscribe(None);
        let timings = Timings::default();
        let limits = Limits { max_sessions: 9, resume_interval: Some(Duration::ZERO), timings, adopts };
        let registry = Arc::new(Registry::resume(Arc::clone(&shared), limits, stored));
        Self { registry, shared, clients, erased, shown, directory, gate, states }
    }

    pub(crate) fn fresh() -> Self {
        Self::start(Arc::new(tempfile::tempdir().unwrap()), 9)
    }

    async fn client(&mut self) -> Running {
        tokio::time::timeout(PATIENCE, self.clients.recv()).await.expect("a client starts").unwrap()
    }

    /// Reads the stream until `wanted`.
    async fn sees(&mut self, wanted: impl Fn(&Shown) -> bool) {
        loop {
            let next = self.shared.feed.sessions.next(&mut self.shown);
            if wanted(&tokio::time::timeout(PATIENCE, next).await.expect("the event comes").unwrap().1) {
                return;
            }
        }
    }

    async fn sees_phase(&mut self, phase: SessionPhase) {
        self.sees(|event| matches!(event, Shown::Session { session } if session.phase == phase)).await;
    }

    pub(crate) async fn linked(&mut self, id: &str) -> Running {
        self.registry.put(id, SessionSpec::default()).await.unwrap();
        let client = self.client().await;
        client.says(ClientEvent::Code {
            method: PairingMethod::Qr,
            code: Sensitive::new("code"),
            valid_for: Duration::from_secs(60),
            of: None,
        });
        client.says(ClientEvent::Paired { phone_number: None });
        client.says(ClientEvent::Connected { phone_number: None, push_name: Some(Sensitive::new("Anna")) });
        self.sees_phase(SessionPhase::Connected).await;
        client
    }
}

pub(crate) async fn told(client: &mut Running) -> Command {
    tokio::time::timeout(PATIENCE, client.commands.recv()).await.expect("the client is told").unwrap()
}

pub(crate) async fn told_to_stop(client: &mut Running) {
    let command = told(client).await;
    assert!(matches!(command, Command::Stop), "{command:?}");
}

#[tokio::test]
async fn deletion_is_announced_after_the_client_is_over_and_the_keys_are_gone() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.registry.delete("a", true).await.unwrap();
    let Command::Unlink(answer) = told(&mut client).await else { panic!("the device is to be removed first") };
    answer.give(Ok(()));
    told_to_stop(&mut client).await;
    assert!(bench.erased.lock().unwrap().is_empty() && bench.shared.feed.sessions.get("a").is_some());
    client.ends(End::Stopped);
    let erased = Arc::clone(&bench.erased);
    bench.sees(|event| matches!(event, Shown::Deleted { .. }) && *erased.lock().unwrap() == ["a"]).await;
    assert!(matches!(bench.registry.delete("a", true).await, Ok(None)));
    let again = Bench::start(Arc::clone(&bench.directory), 9);
    assert!(again.shared.feed.sessions.list().items.is_empty());
}

#[tokio::test]
async fn a_logout_is_shown_after_the_keys_are_gone() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    client.says(ClientEvent::LoggedOut);
    told_to_stop(&mut client).await;
    assert_eq!(bench.shared.feed.sessions.get("a").unwrap().phase, SessionPhase::Connected);
    client.ends(End::Stopped);
    bench.sees_phase(SessionPhase::LoggedOut).await;
    assert_eq!(*bench.erased.lock().unwrap(), ["a"]);
}

#[tokio::test]
async fn what_was_linked_is_linked_in_the_next_process_and_needs_no_permit() {
    let mut bench = Bench::fresh();
    let _client = bench.linked("a").await;
    // No orderly end: the next process finds what is on the disk.
    let mut next = Bench::start(Arc::clone(&bench.directory), 0);
    let restored = next.shared.feed.sessions.get("a").expect("known before the first request");
    assert!(restored.paired);
    let client = next.client().await;
    assert_eq!(client.start.push_name, Some(Sensitive::new("Anna")));
    client.says(ClientEvent::Connected { phone_number: None, push_name: None });
    next.sees_phase(SessionPhase::Connected).await;
}

#[tokio::test]
async fn one_permit_is_given_to_one_session_after_the_other() {
    let mut bench = Bench::start(Arc::new(tempfile::tempdir().unwrap()), 1);
    bench.registry.put("a", SessionSpec::default()).await.unwrap();
    let first = bench.client().await;
    let queued = bench.registry.put("b", SessionSpec::default()).await.unwrap();
    assert_eq!(queued.phase, SessionPhase::Queued);
    assert!(bench.clients.try_recv().is_err());
    first.says(ClientEvent::WindowPassed);
    let second = bench.client().await;
    assert_eq!(second.start.generation, 1);
}

#[tokio::test]
async fn a_permit_that_comes_too_late_does_not_cost_the_one_held() {
    let mut bench = Bench::start(Arc::new(tempfile::tempdir().unwrap()), 2);
    let (now, kept) = (jiff::Timestamp::now(), Kept::new(SessionSpec::default()));
    let state = State::new("a".to_owned(), kept, now, Timings::default(), 7, now);
    let one_client = Arc::new(tokio::sync::Semaphore::new(1));
    let mut actor = Actor::new(Arc::clone(&bench.shared), state, (Vec::new(), 0), one_client);
    actor.take(Event::Tick).await;
    let _client = bench.client().await;
    let late = bench.shared.permits.try_acquire().unwrap();
    actor.granted(late).await;
    assert!(actor.permit.is_some());
    assert_eq!(bench.shared.permits.available(), 1);
}

#[tokio::test]
async fn what_a_cut_off_creation_left_is_gone_after_a_deletion() {
    let bench = Bench::fresh();
    let change = Change::save("a", &Kept::new(SessionSpec::default())).unwrap();
    bench.shared.store.apply(vec![change]).await.unwrap();
    assert!(matches!(bench.registry.delete("a", true).await, Ok(None)));
    assert_eq!(*bench.erased.lock().unwrap(), ["a"]);
    let again = Bench::start(Arc::clone(&bench.directory), 9);
    assert!(again.shared.feed.sessions.list().items.is_empty());
}

#[tokio::test]
async fn a_creation_takes_up_what_is_on_the_disk_and_overwrites_nothing() {
    let bench = Bench::fresh();
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let banned = Kept { paired: true, parked: Parked::Banned(until), ..Kept::new(SessionSpec::default()) };
    bench.shared.store.apply(vec![Change::save("a", &banned).unwrap()]).await.unwrap();
    let put = bench.registry.put("a", SessionSpec::default()).await.unwrap();
    assert_eq!((put.phase.known(), put.paired), (Some(SessionPhase::Banned), true));

    let raw = rusqlite::Connection::open(bench.directory.path().join("bridge.db")).unwrap();
    raw.execute("INSERT INTO sessions VALUES ('b', '{')", []).unwrap();
    let refusal = bench.registry.put("b", SessionSpec::default()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unreadable), "{refusal:?}");
    let row: String = raw.query_row("SELECT kept FROM sessions WHERE id = 'b'", [], |row| row.get(0)).unwrap();
    assert_eq!(row, "{");
    // Deleted, it can be created again.
    assert!(bench.registry.delete("b", true).await.unwrap().is_none());
    bench.registry.put("b", SessionSpec::default()).await.unwrap();
}

#[tokio::test]
async fn a_session_whose_task_panics_starts_anew_from_what_is_stored_once_its_client_is_over() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.registry.running("a").unwrap().unwrap().send(Request::Panic).await.unwrap();
    // Asked for before the panic is over, and while the session waits for its restart.
    let refusals = tokio::join!(
        async { bench.registry.put("a", SessionSpec::default()).await.err() },
        async { bench.registry.send("a", text("3EB0000000000001", "+15550001")).await.err() },
        async { bench.registry.delete("a", true).await.err() },
    );
    let (Some(Refusal::Restarting), Some(Refusal::Restarting), Some(Refusal::Restarting)) = refusals else {
        panic!("{refusals:?}")
    };
    told_to_stop(&mut client).await;
    bench.sees_phase(SessionPhase::Queued).await;
    bench.sees_phase(SessionPhase::Connecting).await;
    // Far longer than a client needs to start.
    let early = tokio::time::timeout(Duration::from_millis(300), bench.clients.recv()).await;
    assert!(early.is_err(), "one client at a time");
    client.ends(End::Stopped);
    let next = bench.client().await;
    assert!(next.start.linked.is_some());
    next.says(ClientEvent::Connected { phone_number: None, push_name: None });
    bench.sees_phase(SessionPhase::Connected).await;
    assert!(bench.registry.put("a", SessionSpec::default()).await.unwrap().paired);
}

#[tokio::test]
async fn a_session_whose_task_panics_reads_what_the_task_had_begun_to_write() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let gate = Arc::clone(&bench.gate);
    let closed = gate.lock().await;
    // Two writes: the first is on the disk and holds up the writer, so the second is not made when the task panics.
    let (first, second) = (text("3EB0000000000001", "+15550001"), text("3EB0000000000002", "+15550002"));
    let store = bench.shared.store.clone();
    let held = tokio::spawn(async move { store.apply(vec![accept("b", &first)]).await });
    bench.reads("b", 1).await;
    let late = tokio::spawn(bench.shared.store.begin(vec![accept("a", &second)]).await);
    bench.registry.running("a").unwrap().unwrap().send(Request::Panic).await.unwrap();
    told_to_stop(&mut client).await;
    client.ends(End::Stopped);
    // Longer than a look at the disk takes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(closed);
    held.await.unwrap().unwrap();
    late.await.unwrap().unwrap();
    let next = bench.client().await;
    next.says(ClientEvent::Connected { phone_number: None, push_name: None });
    let (third, _) = bench.registry.send("a", text("3EB0000000000003", "+15550003")).await.unwrap().unwrap();
    assert_eq!(third.status.sequence, 2);
}

#[tokio::test]
async fn a_client_that_panics_is_followed_by_another() {
    let mut bench = Bench::fresh();
    let client = bench.linked("a").await;
    client.panics();
    bench.sees_phase(SessionPhase::Reconnecting).await;
    let next = bench.client().await;
    next.says(ClientEvent::Connected { phone_number: None, push_name: None });
    bench.sees_phase(SessionPhase::Connected).await;
}

#[tokio::test]
async fn what_lives_on_of_a_client_that_is_over_has_no_keys() {
    let mut bench = Bench::fresh();
    let client = bench.linked("a").await;
    let keys = Arc::clone(&client.keys);
    keys.put_identity("alice", [7; 32]).await.unwrap();
    client.ends(End::Failed(SessionReason::ConnectionLost));
    let next = bench.client().await;
    assert!(keys.put_identity("alice", [8; 32]).await.is_err());
    assert_eq!(next.keys.load_identity("alice").await.unwrap(), Some([7; 32]));
}

#[tokio::test]
async fn closing_stops_every_client_and_refuses_what_comes_after() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let close = bench.registry.close();
    let stop = async {
        told_to_stop(&mut client).await;
        client.ends(End::Stopped);
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(close, stop) }).await.expect("closing ends");
    let refusal = bench.registry.put("b", SessionSpec::default()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Closing));
}

impl Bench {
    /// Makes every write fail, or lets them through again.
    fn store_fails(&self, fails: bool) {
        self.table_fails("sessions", fails);
    }

    fn table_fails(&self, table: &str, fails: bool) {
        let raw = rusqlite::Connection::open(self.directory.path().join("bridge.db")).unwrap();
        let (from, to) = if fails { (table, "elsewhere") } else { ("elsewhere", table) };
        raw.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    }

    /// Waits until this is the last sequence that is on the disk.
    async fn reads(&self, session: &str, last: u64) {
        let read = async {
            while self.shared.store.reader.waiting(session).await.unwrap().1 != last {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("it is written");
    }

    /// Waits until a message waits no longer, as far as its session knows.
    async fn waits_no_longer(&self, message: &Message) {
        loop {
            let mut asked = [message.clone()];
            asked[0].status.waits_for = None;
            self.registry.describe(&message.status.session, &mut asked).await.unwrap();
            if asked[0].status.waits_for.is_none() {
                return;
            }
        }
    }

    /// Waits until the session has something that it could not store.
    async fn stalls(&self) {
        let stalled = async {
            while self.shared.store.works().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stalled).await.expect("the store fails");
    }
}

#[tokio::test]
async fn what_happened_while_the_store_failed_is_stored_later_and_requests_are_refused_meanwhile() {
    let mut bench = Bench::fresh();
    let client = bench.linked("a").await;
    bench.store_fails(true);
    client.says(ClientEvent::PushName(Sensitive::new("Berta")));
    bench.stalls().await;
    let refusal = tokio::time::timeout(PATIENCE, bench.registry.put("a", SessionSpec::default())).await.unwrap();
    assert!(matches!(refusal, Err(Refusal::Store(_))), "{refusal:?}");
    let refusal = tokio::time::timeout(PATIENCE, bench.registry.delete("a", false)).await.unwrap();
    assert!(matches!(refusal, Err(Refusal::Store(_))), "{refusal:?}");
    bench.store_fails(false);
    let berta = Some(Sensitive::new("Berta"));
    bench.sees(|event| matches!(event, Shown::Session { session } if session.push_name == berta)).await;
    bench.registry.put("a", SessionSpec::default()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_fails_does_not_keep_the_process_from_ending() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.store_fails(true);
    client.says(ClientEvent::PushName(Sensitive::new("Berta")));
    bench.stalls().await;
    let stop = async {
        told_to_stop(&mut client).await;
        client.says(ClientEvent::PushName(Sensitive::new("Carla")));
        client.ends(End::Stopped);
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(bench.registry.close(), stop) }).await.expect("closing ends");
}

#[tokio::test]
async fn what_a_client_says_while_the_store_fails_is_bounded() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.store_fails(true);
    client.says(ClientEvent::PushName(Sensitive::new("Berta")));
    bench.stalls().await;
    for n in 0..=MOST_INPUTS {
        let (ids, at) = (vec![format!("3EB0{n:016X}")], Timestamp::now());
        client.says(ClientEvent::Message(MessageNews::Receipt { ids, receipt: Receipt::Read, at }));
    }
    told_to_stop(&mut client).await;
    bench.sees_phase(SessionPhase::Reconnecting).await;
    client.ends(End::Stopped);
    bench.store_fails(false);
    let next = bench.client().await;
    assert_eq!(next.start.push_name, Some(Sensitive::new("Berta")));
}

fn text(id: &str, to: &str) -> NewMessage {
    let spec = serde_json::json!({"to": to, "content": {"type": "text", "text": "Hello"}});
    check_message(id, serde_json::from_value(spec).unwrap()).unwrap()
}

#[tokio::test]
async fn messages_that_are_asked_for_together_are_flushed_together_and_a_repetition_among_them_is_the_same_message() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let before = bench.shared.store.commits();
    let ids: Vec<String> = (0..30).map(|n| format!("3EB0{:016X}", n / 2)).collect();
    let asked = ids.iter().map(|id| bench.registry.send("a", text(id, "+15550001")));
    let answers: Vec<_> = futures::future::join_all(asked).await.into_iter().map(|one| one.unwrap().unwrap()).collect();
    for (n, pair) in answers.chunks(2).enumerate() {
        assert_eq!((pair[0].1, pair[1].1), (true, false), "{n}");
        assert_eq!(pair[0].0.status.sequence, pair[1].0.status.sequence);
    }
    assert!(bench.shared.store.commits() - before < 15, "{}", bench.shared.store.commits() - before);
    assert_eq!(bench.shared.outboxes.waiting(), 15);
    let Command::Send(outgoing, _) = told(&mut client).await else { panic!("the first one is handed over") };
    assert_eq!(outgoing.id, ids[0]);
    // Another message under an id that is taken is refused, and is not sent.
    assert!(matches!(bench.registry.send("a", text(&ids[2], "+15550002")).await, Err(Refusal::OtherMessage)));
    assert_eq!(bench.shared.outboxes.waiting(), 15);
}

/// The first message of a session, as it is written.
fn accept(session: &str, new: &NewMessage) -> Change {
    let (now, hour) = (Timestamp::now(), jiff::SignedDuration::from_hours(1));
    let message = Box::new(queued(new, session, 1, now, now + hour));
    Change::Message(MessageChange::Accept { message, recipient: new.recipient.key() })
}

/// What a client says when it has handed a message over.
fn handed_over(message: &Outgoing) -> Delivery {
    Delivery::HandedOver { keyed: true, identity: Identity { person: message.to.key(), lid: None } }
}

/// Sends a message up to the server's word that it has it.
async fn acknowledged(client: &mut Running, id: &str) {
    let Command::Send(outgoing, answer) = told(client).await else { panic!("it is handed over") };
    assert_eq!(outgoing.id, id);
    answer.give(Ok(handed_over(&outgoing)));
    client.says(ClientEvent::Message(MessageNews::Answered { id: id.to_owned(), refused: None, at: None }));
}

/// On several threads: there a task may start before one that was spawned earlier.
/// A message of session "a" that the server has.
async fn is_sent(bench: &Bench, id: &str, sequence: u64) {
    let (new, now) = (text(id, "+15550001"), Timestamp::now());
    let message = Box::new(queued(&new, "a", sequence, now, now));
    let settled = Settled { state: MessageState::Sent, cause: None, code: None, at: now, by_server: true };
    let accept = MessageChange::Accept { message, recipient: new.recipient.key() };
    let settle = MessageChange::Settle { session: "a".to_owned(), sequence, settled };
    bench.shared.store.apply(vec![Change::Message(accept), Change::Message(settle)]).await.unwrap();
}

/// The server is told that a receipt arrived before it is stored, and does not send it again.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_come_while_the_process_ends_are_kept() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let id = "3EB00000000000000001";
    is_sent(&bench, id, 1).await;
    let stop = async {
        told_to_stop(&mut client).await;
        let news = MessageNews::Receipt { ids: vec![id.to_owned()], receipt: Receipt::Delivered, at: Timestamp::now() };
        client.says(ClientEvent::Message(news));
        client.ends(End::Stopped);
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(bench.registry.close(), stop) }).await.expect("closing ends");
    let status = bench.shared.store.reader.message("a", id).await.unwrap().unwrap().status;
    assert!(status.delivered_at.is_some(), "{:?}", status.state);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_told_in_the_order_in_which_they_come_and_each_of_the_ids_in_one() {
    use MessageState as S;
    const MESSAGES: usize = 40;
    let mut bench = Bench::fresh();
    let client = bench.linked("a").await;
    let ids: Vec<String> = (0..MESSAGES).map(|n| format!("3EB0{n:016X}")).collect();
    for (id, sequence) in ids.iter().zip(1..) {
        is_sent(&bench, id, sequence).await;
    }
    // What waits at a login comes at once: of each pair of messages, that both were delivered, and then that both were read.
    for pair in ids.chunks(2) {
        for (receipt, second) in [(Receipt::Delivered, 5), (Receipt::Read, 9)] {
            let (ids, at) = (pair.to_vec(), Timestamp::from_second(second).unwrap());
            client.says(ClientEvent::Message(MessageNews::Receipt { ids, receipt, at }));
        }
    }
    let told = |id: &String| -> Vec<S> {
        bench.states.lock().unwrap().iter().filter(|(of, _)| of == id).map(|(_, state)| *state).collect()
    };
    let all = async {
        while !ids.iter().all(|id| told(id).contains(&S::Read)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all are read");
    for id in &ids {
        assert_eq!(told(id), [S::Queued, S::Sent, S::Delivered, S::Read], "{id}");
        let status = bench.shared.store.reader.message("a", id).await.unwrap().unwrap().status;
        assert_eq!([status.delivered_at, status.read_at].map(|at| at.unwrap().as_second()), [5, 9]);
    }
}

#[tokio::test]
async fn a_session_goes_on_while_it_is_written_that_a_message_was_sent() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let id = "3EB0000000000001";
    let (message, _) = bench.registry.send("a", text(id, "+15550001")).await.unwrap().unwrap();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.lock().await;
    acknowledged(&mut client, id).await;
    // Less than the store may take for it.
    tokio::time::timeout(Duration::from_secs(9), bench.waits_no_longer(&message)).await.expect("the session answers");
    assert_eq!(bench.shared.outboxes.waiting(), 1, "it is written");
    drop(closed);
    assert!(matches!(bench.registry.call_back("a", id.to_owned()).await, Err(Refusal::TooLate)));
}

#[tokio::test]
async fn that_a_message_was_sent_is_written_once_the_store_takes_it() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let (first, second) = ("3EB0000000000001", "3EB0000000000002");
    let (message, _) = bench.registry.send("a", text(first, "+15550001")).await.unwrap().unwrap();
    bench.table_fails("messages", true);
    acknowledged(&mut client, first).await;
    tokio::time::timeout(PATIENCE, bench.waits_no_longer(&message)).await.expect("the session takes it in");
    // Once there is an answer the other was tried; both may have failed together.
    let _ = bench.shared.store.apply(vec![Change::Nothing]).await;
    bench.table_fails("messages", false);
    let sent = async {
        loop {
            let message = bench.shared.store.reader.message("a", first).await.unwrap().unwrap();
            if message.status.state == MessageState::Sent {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("it is written");
    bench.registry.send("a", text(second, "+15550001")).await.unwrap().unwrap();
    acknowledged(&mut client, second).await;
}

#[tokio::test]
async fn no_message_is_handed_over_while_an_earlier_change_is_owed_to_the_store() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.unpaces("a").await;
    let (first, second, third) = ("3EB0000000000001", "3EB0000000000002", "3EB0000000000003");
    bench.registry.send("a", text(first, "+15550001")).await.unwrap().unwrap();
    acknowledged(&mut client, first).await;
    bench.registry.send("a", text(second, "+15550002")).await.unwrap().unwrap();
    let Command::Send(outgoing, answer) = told(&mut client).await else { panic!("it is handed over") };
    assert_eq!(outgoing.id, second);
    answer.give(Ok(handed_over(&outgoing)));
    bench.registry.send("a", text(third, "+15550001")).await.unwrap().unwrap();

    // It cannot be written that nothing came of the second.
    let raw = rusqlite::Connection::open(bench.directory.path().join("bridge.db")).unwrap();
    raw.execute_batch(
        "CREATE TRIGGER no_return BEFORE UPDATE OF handed_over ON messages WHEN NOT NEW.handed_over
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    // A new chat, which the account may not start. The third is none.
    let news = MessageNews::Answered { id: second.to_owned(), refused: Some(463), at: None };
    client.says(ClientEvent::Message(news));
    let fails = async { while bench.registry.call_back("a", "NONE0000".to_owned()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, fails).await.expect("the session notices");
    let (waiting, _) = bench.shared.store.reader.waiting("a").await.unwrap();
    assert_eq!(waiting.iter().map(|waiting| waiting.handed_over).collect::<Vec<_>>(), [true, false]);

    raw.execute_batch("DROP TRIGGER no_return").unwrap();
    let Command::Send(outgoing, _) = told(&mut client).await else { panic!("the third is handed over") };
    assert_eq!(outgoing.id, third);
    let (waiting, _) = bench.shared.store.reader.waiting("a").await.unwrap();
    assert_eq!(waiting.iter().map(|waiting| waiting.handed_over).collect::<Vec<_>>(), [false, true]);
}

/// Takes as long as the store may take, 10 s.
#[tokio::test]
async fn a_message_that_a_slow_disk_took_is_sent_although_its_caller_was_told_otherwise() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let gate = Arc::clone(&bench.gate);
    // It is on the disk by then, and the store does not get to say so.
    let closed = gate.lock().await;
    let refusal = bench.registry.send("a", text("3EB0000000000001", "+15550001")).await;
    assert!(matches!(refusal, Err(Refusal::Store(StoreError::Slow(_)))), "{refusal:?}");
    assert_eq!(bench.shared.outboxes.waiting(), 1);
    drop(closed);
    let Command::Send(outgoing, _) = told(&mut client).await else { panic!("it is handed over") };
    assert_eq!(outgoing.id, "3EB0000000000001");
    let again = bench.registry.send("a", text("3EB0000000000001", "+15550001")).await.unwrap().unwrap();
    assert!(!again.1, "it was accepted");
    assert_eq!(bench.shared.outboxes.waiting(), 1);
}

#[tokio::test]
async fn a_message_that_was_forgotten_is_not_sent_again_while_a_key_may_name_it() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    let id = "3EB0000000000000000001";
    bench.registry.send("a", text(id, "+15550001")).await.unwrap().unwrap();
    let Command::Send(outgoing, answer) = told(&mut client).await else { panic!("it is handed over") };
    answer.give(Ok(handed_over(&outgoing)));
    client.says(ClientEvent::Message(MessageNews::Answered { id: id.to_owned(), refused: None, at: None }));
    let sent = async {
        while bench.shared.outboxes.waiting() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("it is sent");
    let forget = MessageChange::Forget { before: Timestamp::MAX, now: Timestamp::now(), most: 9 };
    bench.shared.store.apply(vec![Change::Message(forget)]).await.unwrap();
    assert_eq!(bench.shared.store.reader.message("a", id).await.unwrap(), None);

    let (again, new) = bench.registry.send("a", text(id, "+15550001")).await.unwrap().unwrap();
    assert_eq!((again.status.state.known(), new), (Some(MessageState::Sent), false));
    assert_eq!(again.to.reveal(), "+15550001");
    assert!(matches!(bench.registry.send("a", text(id, "+15550002")).await, Err(Refusal::OtherMessage)));
    assert!(bench.registry.call_back("a", id.to_owned()).await.unwrap().is_none());
    // It is the next one that is handed over.
    bench.registry.send("a", text("3EB0000000000000000002", "+15550003")).await.unwrap().unwrap();
    let Command::Send(outgoing, _) = told(&mut client).await else { panic!("the next one is handed over") };
    assert_eq!(outgoing.id, "3EB0000000000000000002");
}

impl Bench {
    /// Nothing slows the session's messages down.
    async fn unpaces(&self, session: &str) {
        let unpaced = SessionSpec { sending: Sending { per_minute: 0, burst: 0 }, ..SessionSpec::default() };
        self.registry.put(session, unpaced).await.unwrap();
    }

    /// Waits until a message is delivered, as it is on the disk.
    async fn is_delivered(&self, id: &str) {
        let delivered = async {
            let read = || self.shared.store.reader.message("a", id);
            while read().await.unwrap().unwrap().status.state != MessageState::Delivered {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, delivered).await.expect("it is delivered");
    }
}

#[tokio::test]
async fn what_the_phone_tells_of_is_settled_whether_it_is_out_or_came_back_or_was_out_before_a_restart() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    bench.unpaces("a").await;
    let ids = ["3EB0000000000001", "3EB0000000000002", "3EB0000000000003"];
    for (id, to) in ids.into_iter().zip(["+15550001", "+15550002", "+15550003"]) {
        bench.registry.send("a", text(id, to)).await.unwrap().unwrap();
    }
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let tells =
        |id: &str, receipt| ClientEvent::Message(MessageNews::Receipt { ids: vec![id.to_owned()], receipt, at });
    let Command::Send(outgoing, answer) = told(&mut client).await else { panic!("it is handed over") };
    answer.give(Ok(handed_over(&outgoing)));
    // That a companion has it does not say that the phone can read it.
    client.says(tells(ids[0], Receipt::CompanionDelivered));
    client.says(tells(ids[0], Receipt::Delivered));
    bench.is_delivered(ids[0]).await;
    let Command::Send(outgoing, _unanswered) = told(&mut client).await else { panic!("the next is handed over") };
    assert_eq!(outgoing.id, ids[1]);

    // The process is killed between the receipt of the second and what follows from it.
    let receipt =
        MessageChange::Receipt { session: "a".to_owned(), id: ids[1].to_owned(), receipt: Receipt::Delivered, at };
    bench.shared.store.apply(vec![Change::Message(receipt)]).await.unwrap();
    let mut next = Bench::start(Arc::clone(&bench.directory), 9);
    let mut client = next.client().await;
    next.is_delivered(ids[1]).await;
    client.says(ClientEvent::Connected { phone_number: None, push_name: None });
    let Command::Send(outgoing, _unanswered) = told(&mut client).await else { panic!("the third is handed over") };
    assert_eq!(outgoing.id, ids[2]);

    // Of the third the process after that hears before it is connected.
    let mut last = Bench::start(Arc::clone(&bench.directory), 9);
    let client = last.client().await;
    client.says(tells(ids[2], Receipt::Delivered));
    last.is_delivered(ids[2]).await;
    assert_eq!(last.shared.outboxes.waiting(), 0);
}

#[tokio::test]
async fn a_deletion_that_meets_the_end_of_the_process_is_not_called_done() {
    let mut bench = Bench::fresh();
    let mut client = bench.linked("a").await;
    // In this order: the task of the session reads the end before the deletion.
    let ((), deleted, ()) = tokio::join!(
        async {
            bench.registry.shared.closing.cancel();
        },
        bench.registry.delete("a", true),
        async {
            told_to_stop(&mut client).await;
            bench.registry.entries().closing = true;
            client.ends(End::Stopped);
        }
    );
    assert!(matches!(deleted, Err(Refusal::Closing)), "{:?}", deleted.err());
}
