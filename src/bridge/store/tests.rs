use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::json;
use whatsapp_operator::{
    bridge_api::{MessageCause, MessageState, MessageStatus, SessionSpec},
    model::Sensitive,
};

use super::*;
use crate::{
    machine::{Kept, Receipt},
    outbox::{Recipient, Settled},
};

fn kept(phone: &str) -> Kept {
    Kept { phone_number: Some(Sensitive::new(phone)), paired: true, ..Kept::new(SessionSpec::default()) }
}

async fn saved(store: &Store, id: &str, kept: &Kept) -> Result<(), StoreError> {
    store.apply(vec![Change::save(id, kept)?]).await.map(drop)
}

#[tokio::test]
async fn what_was_saved_is_there_after_reopening_and_what_was_removed_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, found) = Store::open(&path, |_| ()).unwrap();
    assert!(found.is_empty());
    saved(&store, "a", &kept("+15550001")).await.unwrap();
    saved(&store, "a", &kept("+15550002")).await.unwrap();
    saved(&store, "b", &kept("+15550003")).await.unwrap();
    store.apply(vec![Change::remove("b")]).await.unwrap();
    let (_store, found) = Store::open(&path, |_| ()).unwrap();
    let found: Vec<_> = found.into_iter().map(|stored| (stored.id, stored.kept)).collect();
    assert_eq!(found, [("a".to_owned(), kept("+15550002"))]);
}

#[tokio::test]
async fn a_store_that_fails_does_not_work_until_a_write_would_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("ALTER TABLE sessions RENAME TO elsewhere").unwrap();
    assert!(store.works().await, "nobody has needed it");
    assert!(saved(&store, "a", &kept("+15550001")).await.is_err());
    assert!(!store.works().await);
    raw.execute_batch("ALTER TABLE elsewhere RENAME TO sessions").unwrap();
    assert!(store.works().await);
    assert!(!store.failing.load(Ordering::Relaxed));
    let (_store, found) = Store::open(&path, |_| ()).unwrap();
    assert!(found.is_empty());
}

#[test]
fn what_is_written_outlives_the_power() {
    let directory = tempfile::tempdir().unwrap();
    let connection = connection(&directory.path().join("bridge.db")).unwrap();
    let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(
        (synchronous, journal.as_str()),
        (2, "wal"),
        "FULL: each transaction is flushed before it is acknowledged"
    );
}

#[test]
fn a_later_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(matches!(Store::open(&path, |_| ()), Err(StoreError::TooNew { found: 9, .. })));
}

/// A release that only adds to the tables can be rolled back.
#[tokio::test]
async fn a_later_layout_is_used_where_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    store.apply(vec![accepted(1, "one", "+15550001")]).await.unwrap();
    drop(store);
    let later = |usable_since: i64| {
        let raw = Connection::open(&path).unwrap();
        raw.execute("UPDATE layout SET usable_since = ?1", [usable_since]).unwrap();
        raw.pragma_update(None, "user_version", 9).unwrap();
    };
    later(layout::LAYOUT + 1);
    assert!(matches!(Store::open(&path, |_| ()), Err(StoreError::TooNew { found: 9, .. })));

    later(layout::LAYOUT);
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE TABLE later (x TEXT); CREATE INDEX later_by_code ON messages (code); ALTER TABLE messages ADD COLUMN later TEXT;
         UPDATE messages SET later = 'kept';",
    )
    .unwrap();
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    store.apply(vec![accepted(2, "two", "+15550001"), settle(1, MessageState::Sent)]).await.unwrap();
    let one = store.reader.message("a", "one").await.unwrap().unwrap();
    assert_eq!(one.status.state.known(), Some(MessageState::Sent));
    let kept: Vec<Option<String>> = raw
        .prepare("SELECT later FROM messages ORDER BY sequence")
        .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    assert_eq!(kept, [Some("kept".to_owned()), None]);
    let layout: i64 = raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(layout, 9, "the release that comes back finds it as it left it");
}

/// Whoever upgrades has to know when there is no way back without a snapshot.
#[test]
fn every_layout_is_told_of_where_people_look_before_an_upgrade() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        Some((cells.get(1)?.parse().ok()?, cells.get(3)?.parse().ok()?))
    };
    let told: Vec<(i64, i64)> = text
        .lines()
        .skip_while(|line| *line != "### Layouts of the database")
        .take_while(|line| !line.starts_with("## "))
        .filter_map(row)
        .collect();
    // Each says so for all before it.
    let since: Vec<i64> = layout::all().map(|(_, since)| since).collect();
    assert!(since.is_sorted() && layout::all().all(|(layout, since)| since <= layout), "{since:?}");
    assert_eq!(
        told,
        layout::all().collect::<Vec<_>>(),
        "docs/operations.md, `Layouts of the database`: one row a layout"
    );
}

#[tokio::test]
async fn an_unreadable_row_is_skipped_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    saved(&store, "good", &kept("+15550001")).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute("INSERT INTO sessions VALUES ('bad', '{')", []).unwrap();
    let (_store, found) = Store::open(&path, |_| ()).unwrap();
    assert_eq!(found.len(), 1);
    let rows: i64 = raw.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn a_session_is_not_created_over_one_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let create = async |phone| store.apply(vec![Change::create("a", &kept(phone)).unwrap()]).await;
    create("+15550001").await.unwrap();
    create("+15550002").await.unwrap();
    assert!(store.works().await);
    assert_eq!(store.reader.session("a").await.unwrap().unwrap().kept, kept("+15550001"));
    assert!(store.reader.session("b").await.unwrap().is_none());
}

#[tokio::test]
async fn changes_of_one_write_are_made_together_and_a_bad_one_is_left_out_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE TRIGGER no_bad BEFORE INSERT ON sessions WHEN NEW.id = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .unwrap();
    let kept = kept("+15550001");
    let with_bad = vec![Change::save("half", &kept).unwrap(), Change::save("bad", &kept).unwrap()];
    // In one batch, because the thread cannot take up the first before the second waits.
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (refused, good, ()) = tokio::join!(store.apply(with_bad), saved(&store, "good", &kept), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        raw.execute_batch("ROLLBACK").unwrap();
    });
    assert!(matches!(refused, Err(StoreError::Database { .. })), "{refused:?}");
    good.unwrap();
    assert!(store.works().await);
    let (_store, found) = Store::open(&path, |_| ()).unwrap();
    assert_eq!(found.into_iter().map(|stored| stored.id).collect::<Vec<_>>(), ["good"]);
}

#[tokio::test]
async fn a_full_disk_is_called_so_and_tolerated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    drop(Store::open(&path, |_| ()).unwrap());
    let mut connection = Connection::open(&path).unwrap();
    layout::prepare(&mut connection).unwrap();
    connection.execute_batch("PRAGMA max_page_count = 4").unwrap();
    let store = Store::write_to(connection, Reader::open(&path).unwrap(), |_| ()).unwrap();
    saved(&store, "a", &kept("+15550001")).await.unwrap();
    let long = kept(&"5".repeat(20_000));
    let refused = saved(&store, "b", &long).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("is full"));
    // What fits is stored all the same.
    saved(&store, "a", &kept("+15550002")).await.unwrap();
    assert!(store.works().await);
}

#[tokio::test]
async fn the_log_of_changes_stays_small() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    let long = kept(&"5".repeat(100_000));
    for turn in 0..200 {
        let changes = (0..8).map(|id| Change::save(&format!("{turn}-{id}"), &long).unwrap()).collect();
        store.apply(changes).await.unwrap();
    }
    let log = path.with_extension("db-wal").metadata().unwrap().len();
    // Of 160 MB.
    assert!(log < 48 * 1024 * 1024, "{log}");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let (queue, _never_read) = mpsc::channel(1);
    let store = Store { queue, ..store };
    let change = Change::save("a", &kept("+15550001")).unwrap();
    let refused = store.apply_within(Duration::from_millis(50), vec![change]).await;
    assert!(matches!(refused, Err(StoreError::Slow(_))), "{refused:?}");
    assert!(!store.works().await);
}

#[test]
fn a_file_without_tables_gets_them_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    for _ in 0..2 {
        drop(Store::open(&path, |_| ()).unwrap());
        let raw = Connection::open(&path).unwrap();
        let layout: i64 = raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(layout, layout::LAYOUT);
    }
}

fn accepted(sequence: u64, id: &str, to: &str) -> Change {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let message = serde_json::from_value(json!({
        "id": id, "session": "a", "sequence": sequence, "state": "Queued", "acceptedAt": at, "expiresAt": at,
        "to": to, "content": {"type": "text", "text": "Hello"},
    }));
    let recipient = Recipient::parse(to).unwrap().key();
    Change::Message(MessageChange::Accept { message: message.unwrap(), recipient })
}

fn settle(sequence: u64, state: MessageState) -> Change {
    let at = Timestamp::from_second(1_800_000_009).unwrap();
    let settled = Settled { state, cause: None, code: None, at, by_server: false };
    Change::Message(MessageChange::Settle { session: "a".to_owned(), sequence, settled })
}

fn receipt(id: &str, receipt: Receipt, second: i64) -> Change {
    let at = Timestamp::from_second(second).unwrap();
    Change::Message(MessageChange::Receipt { session: "a".to_owned(), id: id.to_owned(), receipt, at })
}

/// What a change did to messages: the states that are told, in order.
async fn states(store: &Store, change: Change) -> Vec<MessageState> {
    let settles = matches!(change, Change::Message(MessageChange::Settle { .. }));
    let told = store.apply(vec![change]).await.unwrap();
    let settled = |told: &&Told| matches!(told, Told::Message { settled: true, .. });
    assert!(!settles || told.iter().filter(settled).count() == usize::from(!told.is_empty()), "counted once: {told:?}");
    told.into_iter().filter_map(moved).filter_map(|status| status.state.known()).collect()
}

/// How far a message is that something is told of.
fn moved(told: Told) -> Option<MessageStatus> {
    match told {
        Told::Message { message, changed: true, .. } => Some(message.status),
        _ => None,
    }
}

/// The receipts of a phone and of two linked devices, on both of which it was read, in every order, before the acknowledgement, after it,
/// and on both sides of it: the end is the same, and nothing is told twice.
#[tokio::test]
async fn receipts_come_to_the_same_in_whatever_order_they_come_and_whenever_the_acknowledgement_does() {
    use Receipt as R;
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let receipts =
        [(R::CompanionDelivered, 5), (R::Delivered, 6), (R::CompanionDelivered, 7), (R::Read, 8), (R::Read, 9)];
    let mut sequence = 0;
    for order in orders(receipts.len()) {
        for acknowledged_after in [0, 2, receipts.len()] {
            sequence += 1;
            let id = format!("3EB0{sequence:016X}");
            // The server says it again when it was not acknowledged.
            let twice = |&number: &usize| {
                let (kind, second) = receipts[number];
                [receipt(&id, kind, second), receipt(&id, kind, second)]
            };
            let mut changes: Vec<Change> = order.iter().flat_map(twice).collect();
            changes.insert(acknowledged_after * 2, settle(sequence, MessageState::Sent));
            store.apply(vec![accepted(sequence, &id, "+15551234567")]).await.unwrap();
            let told: Vec<_> = store.apply(changes).await.unwrap().into_iter().filter_map(moved).collect();
            let case = format!("{order:?} {acknowledged_after}");
            let status = store.reader.message("a", &id).await.unwrap().unwrap().status;
            assert_eq!(status.state, MessageState::Read, "{case}");
            let times = [status.companion_delivered_at, status.delivered_at, status.read_at];
            assert_eq!(times.map(|at| at.unwrap().as_second()), [5, 6, 8], "{case}");
            assert_eq!(status.sent_at.map(Timestamp::as_second), Some(1_800_000_009), "{case}");
            let states: Vec<_> = told.iter().map(|status| status.state.known().unwrap()).collect();
            assert!(states.is_sorted() && states.last() == Some(&MessageState::Read), "{case}: {states:?}");
            let words: BTreeSet<_> =
                told.iter().map(|status| (status.state.known(), status.companion_delivered_at.is_some())).collect();
            assert_eq!(words.len(), told.len(), "{case}: told twice: {told:?}");
        }
    }
}

#[tokio::test]
async fn one_that_is_only_known_to_have_been_read_was_delivered_when_it_was_read_first() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    store.apply(vec![accepted(1, "ONE", "+15551234567"), settle(1, MessageState::Sent)]).await.unwrap();
    store.apply(vec![receipt("ONE", Receipt::Read, 9), receipt("ONE", Receipt::Read, 8)]).await.unwrap();
    let status = store.reader.message("a", "ONE").await.unwrap().unwrap().status;
    assert_eq!([status.delivered_at, status.read_at].map(|at| at.unwrap().as_second()), [8, 8]);
}

/// Every order of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let with_last = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    orders(last).into_iter().flat_map(with_last).collect()
}

#[tokio::test]
async fn a_message_is_accepted_once_and_its_state_only_moves_forward() {
    use MessageState as S;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    assert_eq!(states(&store, accepted(1, "ONE", "+15551234567")).await, [S::Queued]);
    assert_eq!(states(&store, accepted(2, "ONE", "+15551234567")).await, [], "it is there already");
    // Receipts may be faster than the acknowledgement, doubled and in any order.
    assert_eq!(states(&store, receipt("ONE", Receipt::CompanionDelivered, 5)).await, []);
    assert_eq!(states(&store, receipt("ONE", Receipt::Delivered, 6)).await, []);
    assert_eq!(states(&store, settle(1, S::Sent)).await, [S::Sent, S::Delivered]);
    assert_eq!(states(&store, settle(1, S::Failed)).await, [], "it is settled");
    assert_eq!(states(&store, receipt("ONE", Receipt::Read, 8)).await, [S::Read]);
    assert_eq!(states(&store, receipt("ONE", Receipt::Read, 9)).await, []);
    assert_eq!(states(&store, receipt("OTHER", Receipt::Read, 9)).await, []);
    let message = store.reader.message("a", "ONE").await.unwrap().unwrap();
    let seconds = |at: Option<Timestamp>| at.map(Timestamp::as_second);
    let status = &message.status;
    assert_eq!((seconds(status.companion_delivered_at), seconds(status.delivered_at)), (Some(5), Some(6)));
    assert_eq!((seconds(status.sent_at), seconds(status.read_at)), (Some(1_800_000_009), Some(8)));
    // Both were there when the first was sent; the third is to somebody else.
    store.apply(vec![accepted(3, "TWO", "1 555 123 4567"), accepted(4, "THREE", "+15557654321")]).await.unwrap();
    let key = |to| Recipient::parse(to).unwrap().key();
    assert_eq!(store.reader.known("a").await.unwrap(), [key("15551234567")]);
    assert!(store.reader.knows("a", vec![7, key("15551234567")]).await.unwrap());
    let hand_over = MessageChange::HandOver { session: "a".to_owned(), sequence: 3 };
    store.apply(vec![Change::Message(hand_over)]).await.unwrap();
    drop(store);

    let (store, _) = Store::open(&path, |_| ()).unwrap();
    let (waiting, last) = store.reader.waiting("a").await.unwrap();
    assert_eq!(
        waiting.iter().map(|waiting| (waiting.sequence, waiting.handed_over)).collect::<Vec<_>>(),
        [(3, true), (4, false)]
    );
    assert_eq!(last, 4);
    let (page, _) = store.reader.page("a", Some(4), 10).await.unwrap();
    assert_eq!(page.iter().map(|message| message.status.sequence).collect::<Vec<_>>(), [3, 1]);
    let abandon = MessageChange::Abandon {
        session: "a".to_owned(),
        cause: MessageCause::SessionDeleted,
        at: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(states(&store, Change::Message(abandon)).await, [S::Failed, S::Failed]);
    assert_eq!(store.reader.over(Timestamp::MAX, 9).await.unwrap(), 3);
    let forget = MessageChange::Forget { before: Timestamp::MAX, now: Timestamp::MAX, most: 2 };
    store.apply(vec![Change::Message(forget)]).await.unwrap();
    assert_eq!(store.reader.history().await.unwrap(), 1);
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// So many seconds after the first message was accepted.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Message 1, which waited for `waited` seconds and might have waited for 30 days.
async fn sent_after(store: &Store, waited: i64) -> Result<(), StoreError> {
    let message = json!({
        "id": "ONE", "session": "a", "sequence": 1, "state": "Queued", "acceptedAt": at(0), "expiresAt": at(30 * DAY),
        "to": "+15551234567", "content": {"type": "text", "text": "Hello"},
    });
    let recipient = Recipient::parse("+15551234567").unwrap().key();
    let accept = MessageChange::Accept { message: serde_json::from_value(message).unwrap(), recipient };
    let settled = Settled { state: MessageState::Sent, cause: None, code: None, at: at(waited), by_server: false };
    let settle = MessageChange::Settle { session: "a".to_owned(), sequence: 1, settled };
    store.apply(vec![Change::Message(accept), Change::Message(settle)]).await.map(drop)
}

/// What whoever asks for message 1 again hears: its state, or that it is another message, or nothing.
async fn asked_again(store: &Store, to: &str, text: &str) -> Option<Result<MessageState, ()>> {
    let spec = serde_json::from_value(json!({"to": to, "content": {"type": "text", "text": text}})).unwrap();
    let found = store.reader.accepted("a", "ONE", Recipient::parse(to).unwrap().key(), &spec).await.unwrap()?;
    let same = found.to == spec.to && found.content == spec.content;
    Some(if same { Ok(found.status.state.known().unwrap()) } else { Err(()) })
}

async fn forget(store: &Store, before: Timestamp, now: Timestamp) {
    let changes = [MessageChange::Forget { before, now, most: 9 }, MessageChange::ForgetKeys { now, most: 9 }];
    store.apply(changes.into_iter().map(Change::Message).collect()).await.unwrap();
}

#[tokio::test]
async fn a_message_is_remembered_from_when_it_was_over_and_not_from_when_it_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    sent_after(&store, 9 * DAY).await.unwrap();
    forget(&store, at(DAY), at(9 * DAY)).await;
    assert!(store.reader.message("a", "ONE").await.unwrap().is_some(), "it was sent just now");
    assert_eq!(states(&store, receipt("ONE", Receipt::Read, at(9 * DAY).as_second())).await, [MessageState::Read]);
    assert_eq!(store.reader.over(at(9 * DAY), 9).await.unwrap(), 0);
    assert_eq!(store.reader.over(at(9 * DAY + 1), 9).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_left_of_a_forgotten_message_says_nothing_and_knows_it_again_until_no_key_can_name_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    sent_after(&store, 1).await.unwrap();
    forget(&store, at(DAY), at(8 * DAY)).await;

    // It is not shown any more, and neither text nor recipient is there.
    assert_eq!(store.reader.message("a", "ONE").await.unwrap(), None);
    assert_eq!(store.reader.page("a", None, 9).await.unwrap(), (vec![], false));
    assert_eq!(store.reader.history().await.unwrap(), 0);
    assert!(!store.reader.knows("a", vec![Recipient::parse("+15551234567").unwrap().key()]).await.unwrap());
    let raw = Connection::open(&path).unwrap();
    let left = "SELECT recipient || content, recipient_key, length(digest) FROM messages";
    let left: (String, i64, i64) = raw.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(left, (String::new(), 0, 32));

    // A repetition hears how far it is; receipts still count, and nobody is told of them.
    assert_eq!(asked_again(&store, "+1 555 123-4567", "Hello").await, Some(Ok(MessageState::Sent)));
    assert_eq!(states(&store, receipt("ONE", Receipt::Delivered, at(8 * DAY).as_second())).await, []);
    assert_eq!(asked_again(&store, "+15551234567", "Hello").await, Some(Ok(MessageState::Delivered)));
    assert_eq!(asked_again(&store, "+15551234567", "Hello!").await, Some(Err(())), "another text");
    assert_eq!(asked_again(&store, "+15551234568", "Hello").await, Some(Err(())), "somebody else");
    // Nor is it accepted a second time.
    let told = store.apply(vec![accepted(2, "ONE", "+15551234567")]).await.unwrap();
    let [Told::Message { message, changed: false, settled: false }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((message.status.sequence, message.to.reveal()), (1, "+15551234567"));
    assert_eq!(store.reader.waiting("a").await.unwrap(), (vec![], 1));

    // A claim counts for a day after the message has expired; an hour more is for clocks.
    for (now, remembered) in [(at(31 * DAY), true), (at(31 * DAY + HOUR), true), (at(31 * DAY + HOUR + 1), false)] {
        assert_eq!(store.reader.unnamed(now, 9).await.unwrap(), u32::from(!remembered));
        forget(&store, at(DAY), now).await;
        assert_eq!(asked_again(&store, "+15551234567", "Hello").await.is_some(), remembered, "{now}");
    }
}

#[tokio::test]
async fn a_session_with_another_id_keeps_its_messages_and_knows_those_again_that_were_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    saved(&store, "a", &kept("+15550001")).await.unwrap();
    sent_after(&store, 1).await.unwrap();
    forget(&store, at(DAY), at(8 * DAY)).await;
    store.apply(vec![accepted(2, "TWO", "+15551234567")]).await.unwrap();
    let renamed = Kept { formerly: vec!["a".to_owned()], ..kept("+15550001") };
    store.apply(vec![Change::rename("a", "b", &renamed).unwrap()]).await.unwrap();

    assert_eq!(store.reader.successor("a").await.unwrap().as_deref(), Some("b"));
    assert_eq!(store.reader.successor("b").await.unwrap(), None);
    for id in ["a", "b"] {
        assert!(store.reader.has_left(id).await.unwrap());
    }
    assert!(!store.reader.has_left("c").await.unwrap());
    store.apply(vec![Change::create("a", &kept("+15550001")).unwrap()]).await.unwrap();
    assert!(store.reader.session("a").await.unwrap().is_none(), "it is the other's");
    assert_eq!(store.reader.waiting("b").await.unwrap().0.len(), 1);
    assert_eq!(store.reader.page("b", None, 9).await.unwrap().0.len(), 1, "what was forgotten stays so");
    let again = async |text: &str| {
        let spec = serde_json::from_value(json!({"to": "+15551234567", "content": {"type": "text", "text": text}}));
        let recipient = Recipient::parse("+15551234567").unwrap().key();
        store.reader.accepted("b", "ONE", recipient, &spec.unwrap()).await.unwrap().unwrap()
    };
    assert_eq!(again("Hello").await.to.reveal(), "+15551234567");
    assert!(again("Hello!").await.to.reveal().is_empty(), "another text");
    // Whatever comes after, of that one or of the next one's.
    let next = Kept { formerly: vec!["a".to_owned(), "b".to_owned()], ..kept("+15550001") };
    store.apply(vec![Change::rename("b", "c", &next).unwrap()]).await.unwrap();
    assert_eq!(store.reader.waiting("c").await.unwrap().0.len(), 1);
    // A row that this version cannot read names nobody.
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("INSERT INTO sessions VALUES ('odd', 'no JSON')").unwrap();
    for id in ["a", "b"] {
        assert_eq!(store.reader.successor(id).await.unwrap().as_deref(), Some("c"));
    }
    assert_eq!(store.reader.successor("no").await.unwrap(), None);
}

#[tokio::test]
async fn what_no_key_can_name_any_more_is_forgotten_at_once_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    sent_after(&store, DAY).await.unwrap();
    // These expire when they are accepted, and are over ten seconds later.
    store.apply(vec![accepted(2, "TWO", "+15550001"), accepted(3, "THREE", "+15550002")]).await.unwrap();
    store.apply(vec![settle(2, MessageState::Expired), settle(3, MessageState::Expired)]).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    let rows = || {
        let (whole, remnants) =
            ("SELECT count(*) FROM messages WHERE digest IS NULL", "SELECT count(digest) FROM messages");
        [whole, remnants].map(|count| raw.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap())
    };
    let oldest = |most| Change::Message(MessageChange::Forget { before: Timestamp::MAX, now: at(2 * DAY), most });
    store.apply(vec![oldest(1)]).await.unwrap();
    assert_eq!(rows(), [2, 0]);
    store.apply(vec![oldest(2)]).await.unwrap();
    assert_eq!(rows(), [0, 1]);
    // A shard that only keeps keys for others forgets them too.
    let claim = json!({"fingerprint": "f", "session": "b", "message": "ONE", "expiresAt": at(DAY)});
    let claim = serde_json::from_value(claim).unwrap();
    store.apply(vec![Change::Claim { key: "k".to_owned(), claim, now: at(0) }]).await.unwrap();
    assert_eq!(store.reader.unnamed(at(2 * DAY), 9).await.unwrap(), 1);
    forget(&store, at(0), at(2 * DAY)).await;
    assert_eq!(store.reader.unnamed(at(2 * DAY), 9).await.unwrap(), 0);
}

#[tokio::test]
async fn messages_of_the_layout_before_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    layout::prepare_up_to(2, &mut Connection::open(&path).unwrap()).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        r#"INSERT INTO messages (session, sequence, id, recipient, recipient_key, content, state, accepted_at, expires_at, sent_at)
           VALUES ('a', 1, 'ONE', '+15551234567', 5, '{"type":"text","text":"Hello"}', 'Sent', 1000, 2000, 1500),
                  ('a', 2, 'TWO', '+15551234567', 5, '{"type":"text","text":"Hello"}', 'Queued', 1000, 2000, NULL);"#,
    )
    .unwrap();
    let (store, _) = Store::open(&path, |_| ()).unwrap();
    assert_eq!(store.reader.page("a", None, 9).await.unwrap().0.len(), 2);
    assert_eq!((store.reader.history().await.unwrap(), store.reader.waiting("a").await.unwrap().1), (1, 2));
    assert_eq!(store.reader.over(Timestamp::from_millisecond(1500).unwrap(), 9).await.unwrap(), 0);
    assert_eq!(store.reader.over(Timestamp::from_millisecond(1501).unwrap(), 9).await.unwrap(), 1);
}

/// A million rows are looked through for what is over every few minutes.
#[test]
fn what_is_forgotten_is_found_by_an_index() {
    let mut connection = Connection::open_in_memory().unwrap();
    layout::prepare(&mut connection).unwrap();
    let over = remnants::OVER;
    for (query, index) in [
        (
            format!("SELECT 1 FROM messages WHERE digest IS NULL AND {over} < 5 ORDER BY {over} LIMIT 9"),
            "messages_over (",
        ),
        (
            "SELECT 1 FROM messages WHERE digest IS NOT NULL AND expires_at < 5 ORDER BY expires_at".to_owned(),
            "messages_remnants (",
        ),
        ("SELECT count(*) FROM messages WHERE digest IS NOT NULL".to_owned(), "COVERING INDEX messages_remnants"),
        ("SELECT count(*) FROM messages WHERE state = 'Queued'".to_owned(), "COVERING INDEX messages_"),
        (message_queries::WAITING.to_owned(), "COVERING INDEX messages_waiting (session=?)"),
        (message_queries::LOAD.to_owned(), "COVERING INDEX messages_waiting (session=?)"),
        (message_queries::KNOWN.to_owned(), "COVERING INDEX messages_waiting (session=?)"),
        (settle_sql::abandon(), "INDEX messages_waiting (session=?)"),
    ] {
        let query = ["?1", "?2", "?3"].iter().fold(query, |query, name| query.replace(name, "'7'"));
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        assert!(plan.iter().any(|step| step.contains(index)), "{query}: {plan:?}");
        let scans = |step: &String| step.contains("USING PRIMARY KEY (session=?)") || step.starts_with("SCAN messages");
        assert!(!plan.iter().any(|step| scans(step) && !step.contains("COVERING")), "{query}: {plan:?}");
    }
}

#[tokio::test]
async fn what_the_recipients_phone_has_told_of_was_sent_whatever_is_said_later() {
    use MessageState as S;
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let texts = ["ONE", "TWO", "THREE", "FOUR", "FIVE"];
    for (sequence, id) in (1..).zip(texts) {
        store.apply(vec![accepted(sequence, id, "+15551234567")]).await.unwrap();
    }
    store.apply(vec![receipt("ONE", Receipt::Delivered, 5), receipt("TWO", Receipt::Read, 6)]).await.unwrap();
    store.apply(vec![receipt("THREE", Receipt::CompanionDelivered, 7)]).await.unwrap();
    assert_eq!(states(&store, settle(1, S::Failed)).await, [S::Sent, S::Delivered]);
    assert_eq!(states(&store, settle(2, S::Expired)).await, [S::Sent, S::Read]);
    assert_eq!(states(&store, settle(4, S::Failed)).await, [S::Failed]);
    let (session, at) = ("a".to_owned(), Timestamp::UNIX_EPOCH);
    let abandon = MessageChange::Abandon { session, cause: MessageCause::AccountChanged, at };
    assert_eq!(states(&store, Change::Message(abandon)).await, [S::Failed, S::Failed], "one device is not the phone");
    let one = store.reader.message("a", "ONE").await.unwrap().unwrap().status;
    assert_eq!((one.sent_at, one.cause, one.ended_at), (Some(Timestamp::from_second(5).unwrap()), None, None));
    let five = store.reader.message("a", "FIVE").await.unwrap().unwrap().status;
    assert_eq!((five.cause, five.ended_at), (Some(MessageCause::AccountChanged.into()), Some(at)));
}

#[tokio::test]
async fn a_message_that_failed_was_sent_when_the_recipients_phone_tells_of_it() {
    use MessageState as S;
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let at = |second| Timestamp::from_second(second).unwrap();
    let fails = |sequence| {
        let (cause, code) = (Some(MessageCause::RefusedByServer), Some(479));
        let settled = Settled { state: S::Failed, cause, code, at: at(1_800_000_009), by_server: false };
        Change::Message(MessageChange::Settle { session: "a".to_owned(), sequence, settled })
    };
    for (sequence, id) in (1..).zip(["ONE", "TWO", "THREE", "FOUR"]) {
        store.apply(vec![accepted(sequence, id, "+15551234567")]).await.unwrap();
    }
    store.apply(vec![fails(1), fails(2), fails(3), settle(4, S::Cancelled)]).await.unwrap();
    assert_eq!(states(&store, receipt("ONE", Receipt::Delivered, 5)).await, [S::Delivered]);
    assert_eq!(states(&store, receipt("ONE", Receipt::Read, 6)).await, [S::Read]);
    assert_eq!(states(&store, receipt("TWO", Receipt::Read, 7)).await, [S::Read]);
    assert_eq!(states(&store, receipt("THREE", Receipt::CompanionDelivered, 8)).await, [S::Failed], "not the phone");
    assert_eq!(states(&store, receipt("FOUR", Receipt::Delivered, 9)).await, [S::Cancelled], "it never left");
    for (id, second) in [("ONE", 5), ("TWO", 7)] {
        let sent = store.reader.message("a", id).await.unwrap().unwrap().status;
        assert_eq!((sent.cause, sent.code, sent.ended_at), (None, None, None), "{id}");
        assert_eq!((sent.sent_at, sent.delivered_at), (Some(at(second)), Some(at(second))), "{id}");
    }
    let failed = store.reader.message("a", "THREE").await.unwrap().unwrap().status;
    assert_eq!((failed.cause, failed.code), (Some(MessageCause::RefusedByServer.into()), Some(479)));
}

#[tokio::test]
async fn history_goes_by_age_and_by_number_the_oldest_first_and_what_waits_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let now = Timestamp::now();
    let put = async |sequence: u64, hours_ago: i64, over: bool| {
        let at = now - jiff::SignedDuration::from_hours(hours_ago);
        let message = json!({
            "id": sequence.to_string(), "session": "a", "sequence": sequence, "state": "Queued", "acceptedAt": at,
            "expiresAt": at, "to": "+15551234567", "content": {"type": "text", "text": "Hello"},
        });
        let recipient = Recipient::parse("+15551234567").unwrap().key();
        let accept = MessageChange::Accept { message: serde_json::from_value(message).unwrap(), recipient };
        let settled = Settled { state: MessageState::Sent, cause: None, code: None, at, by_server: true };
        let settle = MessageChange::Settle { session: "a".to_owned(), sequence, settled };
        let changes = [Some(accept), over.then_some(settle)];
        store.apply(changes.into_iter().flatten().map(Change::Message).collect()).await.unwrap();
    };
    // The first one waits; two are too old, and of the other four two are too many.
    put(1, 900, false).await;
    for (sequence, hours_ago) in [(2, 800), (3, 700), (4, 50), (5, 40), (6, 2), (7, 1)] {
        put(sequence, hours_ago, true).await;
    }
    let left = async || {
        let (page, _) = store.reader.page("a", None, 9).await.unwrap();
        page.into_iter().map(|message| message.status.sequence).collect::<Vec<_>>()
    };
    for (messages, stay) in [(99, vec![7, 6, 5, 4, 1]), (2, vec![7, 6, 1])] {
        let age = jiff::SignedDuration::from_hours(192);
        history::look(&store, history::History { age, messages }, now).await;
        assert_eq!(left().await, stay);
    }
    assert_eq!(store.reader.history().await.unwrap(), 2);

    // Looked at again and again: what is over later goes later.
    let history = history::History { age: jiff::SignedDuration::from_hours(192), messages: 2 };
    let pruning = history::prune(store.clone(), history, Duration::from_millis(10), Timestamp::now);
    let more = async {
        for (sequence, stay) in [(8, [8, 7, 1]), (9, [9, 8, 1])] {
            put(sequence, 0, true).await;
            while left().await != stay {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        () = pruning => {}
        done = tokio::time::timeout(Duration::from_secs(30), more) => done.expect("it is looked at again"),
    }
}

#[tokio::test]
async fn of_two_claims_of_one_key_the_first_counts_until_its_time_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let at = |second| Timestamp::from_second(second).unwrap();
    let claim = |message: &str, now: i64| {
        let claim = json!({"fingerprint": "f", "session": "a", "message": message, "expiresAt": at(now + 60)});
        Change::Claim { key: "k".to_owned(), claim: serde_json::from_value(claim).unwrap(), now: at(now) }
    };
    let counts = async |change| match store.apply(vec![change]).await.unwrap().pop() {
        Some(Told::Claim { claim, new }) => (claim.message, new),
        other => panic!("{other:?}"),
    };
    assert_eq!(counts(claim("ONE", 1000)).await, ("ONE".to_owned(), true));
    assert_eq!(counts(claim("TWO", 1059)).await, ("ONE".to_owned(), false));
    let looked_up = async |now| store.reader.claim("k", at(now)).await.unwrap().map(|claim| claim.message);
    assert_eq!((looked_up(1060).await, looked_up(1061).await), (Some("ONE".to_owned()), None));
    assert_eq!(counts(claim("THREE", 1061)).await, ("THREE".to_owned(), true));
}

#[tokio::test]
async fn a_page_ends_where_its_texts_are_long() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("bridge.db"), |_| ()).unwrap();
    let recipient = Recipient::parse("+15551234567").unwrap().key();
    for (sequence, length) in [(1, 5), (2, 5), (3, 200_000), (4, 5), (5, 5)] {
        let message = json!({
            "id": sequence.to_string(), "session": "a", "sequence": sequence, "state": "Queued",
            "acceptedAt": Timestamp::UNIX_EPOCH, "expiresAt": Timestamp::UNIX_EPOCH, "to": "+15551234567",
            "content": {"type": "text", "text": "x".repeat(length)},
        });
        let message = serde_json::from_value(message).unwrap();
        store.apply(vec![Change::Message(MessageChange::Accept { message, recipient })]).await.unwrap();
    }
    for (before, limit, found, more) in [
        (None, 9, vec![5, 4, 3], true),
        (Some(3), 9, vec![2, 1], false),
        (None, 2, vec![5, 4], true),
        (Some(3), 2, vec![2, 1], false),
        (Some(1), 9, vec![], false),
    ] {
        let (page, goes_on) = store.reader.page("a", before, limit).await.unwrap();
        let page: Vec<u64> = page.into_iter().map(|message| message.status.sequence).collect();
        assert_eq!((page, goes_on), (found, more), "{limit} before {before:?}");
    }
}
