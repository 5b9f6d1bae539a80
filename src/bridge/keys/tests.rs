use std::{
    fs,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use diesel::{SqliteConnection, connection::SimpleConnection as _};
use tokio::sync::oneshot;
use wacore::store::traits::TcTokenEntry;
use whatsapp_operator::model::Sensitive;

use super::{
    KeyStore, Keys, KeysError, Lease, Linked, LostKeys, SentMessages,
    file::KeyFile,
    files::KeyFiles,
    script::NothingSent,
    sent::{READINGS, Sent},
};
use crate::data::DataDir;

const KEY: [u8; 32] = [7; 32];
const NEVER: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

/// The file of keys of session `a`, which has sent nothing.
fn file(path: PathBuf, rest: Duration) -> Arc<KeyFile> {
    Arc::new(KeyFile::new(path, rest, Sent::new("a", Arc::new(NothingSent))))
}

/// A lease on a file that is there for it alone.
async fn leased(file: &Arc<KeyFile>) -> Box<dyn Lease> {
    let mut access = file.take_over().await.unwrap();
    Box::new(file.lease(&mut access))
}

/// Waits until the file is closed.
async fn closed(file: &KeyFile) {
    let closing = async {
        while file.access.lock().await.store.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closing).await.unwrap();
}

#[tokio::test]
async fn an_unused_file_is_closed_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = file(path.clone(), Duration::ZERO);
    let lease = leased(&file).await;
    let keys = lease.keys();
    keys.put_identity("alice", KEY).await.unwrap();
    closed(&file).await;
    assert!(!path.with_extension("db-wal").exists(), "a closed file needs no log of changes");
    assert_eq!(keys.load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn a_used_file_stays_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = file(path.clone(), NEVER);
    let lease = leased(&file).await;
    lease.keys().put_identity("alice", KEY).await.unwrap();
    assert!(file.access.lock().await.store.is_some());
    assert!(path.with_extension("db-wal").exists());
}

#[tokio::test]
async fn what_is_left_of_a_client_that_is_over_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path().join("keys.db"), NEVER);
    let lease = leased(&file).await;
    let left = lease.keys();
    left.put_identity("alice", KEY).await.unwrap();
    lease.close().await;
    assert!(file.access.lock().await.store.is_none());
    assert!(left.put_identity("alice", [8; 32]).await.is_err());
    assert!(left.exists().await.is_err());
    assert_eq!(leased(&file).await.keys().load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn a_client_that_is_dropped_lets_go_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path().join("keys.db"), NEVER);
    let lease = leased(&file).await;
    let keys = lease.keys();
    keys.put_identity("alice", KEY).await.unwrap();
    drop(lease);
    closed(&file).await;
    assert!(keys.load_identity("alice").await.is_err());
}

#[tokio::test]
async fn the_next_lease_fences_off_a_client_that_lives_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path().join("keys.db"), NEVER);
    let former = leased(&file).await;
    let left = former.keys();
    left.put_identity("alice", KEY).await.unwrap();
    // Nobody closed or dropped the former lease.
    let next = leased(&file).await;
    assert!(left.put_identity("alice", [8; 32]).await.is_err());
    let keys = next.keys();
    assert_eq!(keys.load_identity("alice").await.unwrap(), Some(KEY));
    // Nor does its end take the keys from the one that has them now.
    drop(former);
    keys.put_identity("alice", [9; 32]).await.unwrap();
}

#[tokio::test]
async fn an_operation_nobody_waits_for_is_over_before_the_next_lease() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = file(path.clone(), NEVER);
    let former = file.lease(&mut file.take_over().await.unwrap());
    let keys = former.0.clone();
    // An operation that is under way on a thread and stays so.
    let (begun, beginning) = oneshot::channel();
    let (end, ended) = mpsc::channel::<()>();
    let writing = tokio::spawn(async move {
        let store = keys.open().await.unwrap();
        let slow = move |connection: &mut SqliteConnection| {
            begun.send(()).unwrap();
            ended.recv().unwrap_err();
            connection.batch_execute("DELETE FROM identities").unwrap();
            Ok(())
        };
        store.shared().run(slow).await
    });
    beginning.await.unwrap();
    writing.abort();
    let next = tokio::spawn(async move { leased(&file).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!next.is_finished(), "the operation of the former client is still under way");
    drop(end);
    let next = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
    let keys = next.keys();
    keys.put_identity("alice", KEY).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(keys.load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn what_a_killed_process_left_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = file(path.clone(), NEVER);
    let lease = leased(&file).await;
    lease.keys().put_identity("alice", KEY).await.unwrap();
    let left = directory.path().join("left.db");
    for extension in ["db", "db-wal"] {
        fs::copy(path.with_extension(extension), left.with_extension(extension)).unwrap();
    }
    let file = self::file(left, NEVER);
    assert_eq!(leased(&file).await.keys().load_identity("alice").await.unwrap(), Some(KEY));
}

#[tokio::test]
async fn what_was_sent_is_read_from_the_tables_and_not_for_ever() {
    struct Tables;
    #[async_trait::async_trait]
    impl SentMessages for Tables {
        async fn message(&self, session: &str, chat: &str, id: &str) -> Option<Vec<u8>> {
            (session == "a" && chat != "other" && id == "one").then(|| b"content".to_vec())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = Arc::new(KeyFile::new(path.clone(), NEVER, Sent::new("a", Arc::new(Tables))));
    let lease = leased(&file).await;
    let keys = lease.keys();
    let read = async |chat: &str, id: &str| keys.take_sent_message(chat, id).await.unwrap();
    assert_eq!((read("number", "two").await, read("other", "one").await), (None, None));
    // To a device that says each time that it asks for the first time.
    for _ in 0..READINGS {
        assert_eq!(read("number", "one").await.as_deref(), Some(&b"content"[..]));
        // As the library does each time.
        keys.store_sent_message("number", "one", b"content").await.unwrap();
    }
    assert_eq!(read("number", "one").await, None);
    assert!(read("lid", "one").await.is_some(), "counted by chat");
    // Another login begins no new count, and whoever has no right to the keys any more gets nothing.
    let next = leased(&file).await;
    assert!(keys.take_sent_message("lid", "one").await.is_err());
    assert_eq!(next.keys().take_sent_message("number", "one").await.unwrap(), None);
    // What was sent stands in one place.
    next.keys().put_identity("alice", KEY).await.unwrap();
    next.close().await;
    let count = |table: &str| -> i64 {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("identities"), count("sent_messages")), (1, 0));
}

#[tokio::test]
async fn tokens_are_as_they_were_last_written_and_only_for_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let file = file(path.clone(), NEVER);
    let lease = leased(&file).await;
    let keys = lease.keys();
    let token =
        |text: &str, sender_timestamp| TcTokenEntry { token: text.into(), token_timestamp: 1000, sender_timestamp };
    let kept = async |jid: &str| {
        let twice = [keys.get_tc_token(jid).await.unwrap(), keys.get_tc_token(jid).await.unwrap()];
        let [first, second] = twice.map(|entry| entry.map(|entry| (entry.token, entry.sender_timestamp)));
        assert_eq!(first, second);
        first
    };
    assert_eq!(kept("1").await, None);
    keys.put_tc_token("1", &token("one", None)).await.unwrap();
    assert_eq!(kept("1").await, Some((b"one".to_vec(), None)));
    keys.touch_tc_token_sender_timestamp("1", 2000).await.unwrap();
    assert_eq!(kept("1").await, Some((b"one".to_vec(), Some(2000))));
    keys.store_received_tc_token("1", b"two", 3000).await.unwrap();
    assert_eq!(kept("1").await, Some((b"two".to_vec(), Some(2000))));
    keys.put_tc_token("2", &token("old", None)).await.unwrap();
    assert!(kept("2").await.is_some());
    keys.delete_expired_tc_tokens(2000, 2000).await.unwrap();
    assert_eq!((kept("1").await.is_some(), kept("2").await), (true, None));
    keys.delete_tc_token("1").await.unwrap();
    assert_eq!(kept("1").await, None);

    keys.put_tc_token("3", &token("three", None)).await.unwrap();
    assert!(kept("3").await.is_some());
    let next = leased(&file).await;
    assert!(keys.get_tc_token("3").await.is_err());
    next.keys().delete_tc_token("3").await.unwrap();
    assert!(next.keys().get_tc_token("3").await.unwrap().is_none());
}

/// A data directory with keys in it.
struct Bench {
    directory: tempfile::TempDir,
    data: DataDir,
    files: KeyFiles,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::lock(directory.path()).unwrap();
        let files = KeyFiles::under(data.clone(), Arc::new(NothingSent), "first");
        Self { directory, data, files }
    }

    /// A session that has a Signal session with somebody.
    async fn writes(&self, session: &str) {
        if !self.path(session).exists() {
            self.links(session, "15550001").await;
        }
        let lease = self.files.lease(session, Some(&Linked { phone_number: None })).await.unwrap();
        lease.keys().put_session("alice", b"ratchet").await.unwrap();
        lease.close().await;
    }

    /// Whether the next bridge on this machine, under this start of it, has the Signal session. It is killed afterwards: its lease
    /// is dropped and not closed.
    async fn has_it(&self, session: &str, machine_start: &str) -> bool {
        let files = KeyFiles::under(self.data.clone(), Arc::new(NothingSent), machine_start);
        let lease = files.lease(session, Some(&Linked { phone_number: None })).await.unwrap();
        lease.keys().has_session("alice").await.unwrap()
    }

    fn path(&self, session: &str) -> PathBuf {
        self.directory.path().join("sessions").join(session).join("keys.db")
    }

    /// Session `session` linked to the account `number`, with its keys at rest.
    async fn links(&self, session: &str, number: &str) {
        let lease = self.files.lease(session, None).await.unwrap();
        let keys = lease.keys();
        keys.create().await.unwrap();
        let mut device = keys.load().await.unwrap().unwrap();
        device.pn = Some(format!("{number}:3@s.whatsapp.net").parse().unwrap());
        keys.save(&device).await.unwrap();
        lease.close().await;
    }

    async fn linked(&self, session: &str, number: &str) -> Result<Arc<dyn Keys>, KeysError> {
        let linked = Linked { phone_number: Some(Sensitive::new(number)) };
        Ok(self.files.lease(session, Some(&linked)).await?.keys())
    }

    async fn loses(&self, session: &str) -> LostKeys {
        match self.linked(session, "+15550001").await {
            Err(KeysError::Lost(lost)) => lost,
            other => panic!("not lost: {:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn keys_of_the_linked_device_are_given_out() {
    let bench = Bench::new();
    bench.links("a", "15550001").await;
    assert!(bench.linked("a", "+15550001").await.is_ok());
    assert!(bench.files.lease("a", Some(&Linked { phone_number: None })).await.is_ok());
    assert!(bench.files.bytes().await.unwrap() > 100_000);
}

/// A client that is told to stop gives up on its lease, and the thread that looks at the keys works on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_lease_that_was_given_up_does_not_meet_the_next_holder() {
    let bench = Bench::new();
    bench.links("a", "15550001").await;
    for number in 0..50 {
        let (from, to) = if number % 2 == 0 { ("a", "b") } else { ("b", "a") };
        // Polled once: its thread has begun by now, or begins later.
        let lease = bench.linked(from, "+15550001");
        assert!(futures::future::FutureExt::now_or_never(lease).is_none());
        bench.files.move_to(to, from).await.unwrap();
        assert!(bench.path(to).is_file() && !bench.path(from).parent().unwrap().exists(), "{number}");
    }
    assert!(bench.linked("a", "+15550001").await.is_ok());
}

#[tokio::test]
async fn lost_keys_are_told_apart() {
    let bench = Bench::new();
    assert_eq!(bench.loses("nothing").await, LostKeys::Missing);
    for session in
        ["deleted", "emptied", "garbage", "short", "truncated", "torn", "directory", "another", "foreign", "unlinked"]
    {
        bench.links(session, "15550001").await;
    }
    let whole = fs::read(bench.path("torn")).unwrap();
    fs::remove_file(bench.path("deleted")).unwrap();
    fs::write(bench.path("emptied"), "").unwrap();
    fs::write(bench.path("garbage"), "garbage ".repeat(9000)).unwrap();
    fs::write(bench.path("short"), "x").unwrap();
    fs::write(bench.path("truncated"), &whole[..whole.len() / 2]).unwrap();
    let (mut torn, page) = (whole.clone(), 4096);
    torn[page * 2..page * 6].fill(0x5a);
    fs::write(bench.path("torn"), torn).unwrap();
    fs::remove_file(bench.path("directory")).unwrap();
    fs::create_dir(bench.path("directory")).unwrap();
    fs::remove_file(bench.path("another")).unwrap();
    rusqlite::Connection::open(bench.path("another")).unwrap().execute_batch("CREATE TABLE device (x)").unwrap();
    bench.links("other", "15550002").await;
    fs::copy(bench.path("other"), bench.path("foreign")).unwrap();
    rusqlite::Connection::open(bench.path("unlinked")).unwrap().execute("UPDATE device SET pn = ''", []).unwrap();
    for (session, lost) in [
        ("deleted", LostKeys::Missing),
        ("emptied", LostKeys::Missing),
        ("unlinked", LostKeys::Missing),
        ("garbage", LostKeys::Unreadable),
        ("short", LostKeys::Unreadable),
        ("truncated", LostKeys::Unreadable),
        ("torn", LostKeys::Unreadable),
        ("directory", LostKeys::Unreadable),
        ("another", LostKeys::Unreadable),
        ("foreign", LostKeys::Foreign),
    ] {
        assert_eq!(bench.loses(session).await, lost, "{session}");
        // They are out of the way: whatever the session does next, it does not use them.
        assert_eq!(bench.loses(session).await, LostKeys::Missing, "{session}, asked again");
        if lost != LostKeys::Missing {
            let lease = bench.files.lease(session, None).await.unwrap();
            assert!(!lease.keys().exists().await.unwrap(), "{session}");
            lease.close().await;
        }
    }
    // And can be had back, until the session is deleted.
    let aside = bench.directory.path().join("lost").join("foreign");
    let found: Vec<_> = fs::read_dir(&aside).unwrap().map(|entry| entry.unwrap().path().join("keys.db")).collect();
    assert!(matches!(found.as_slice(), [keys] if keys.is_file()), "{found:?}");
    bench.files.erase("foreign", false).await.unwrap();
    assert!(aside.exists(), "a logout is not the end of the session");
    bench.files.erase("foreign", true).await.unwrap();
    assert!(!aside.exists());
}

#[tokio::test]
async fn a_session_that_is_not_linked_gets_new_keys_for_useless_ones() {
    let bench = Bench::new();
    for session in ["garbage", "directory"] {
        bench.links(session, "15550001").await;
    }
    fs::write(bench.path("garbage"), "garbage ".repeat(9000)).unwrap();
    fs::remove_file(bench.path("directory")).unwrap();
    fs::create_dir(bench.path("directory")).unwrap();
    for session in ["garbage", "directory"] {
        let lease = bench.files.lease(session, None).await.unwrap();
        assert!(!lease.keys().exists().await.unwrap(), "{session}");
    }
}

#[tokio::test]
async fn deleted_keys_are_gone_also_for_whoever_has_them() {
    let bench = Bench::new();
    bench.links("a", "15550001").await;
    let keys = bench.files.lease("a", None).await.unwrap();
    let left = keys.keys();
    left.put_identity("alice", KEY).await.unwrap();
    bench.files.erase("a", true).await.unwrap();
    assert!(left.put_identity("alice", KEY).await.is_err());
    assert!(!bench.path("a").parent().unwrap().exists());
    bench.files.erase("a", true).await.unwrap();
    assert_eq!(bench.loses("a").await, LostKeys::Missing);
}

#[tokio::test]
async fn signal_sessions_are_made_anew_only_when_the_machine_went_down_while_they_were_used() {
    let bench = Bench::new();
    bench.writes("a").await;
    assert!(bench.has_it("a", "second").await, "what was closed is on the disk");
    assert!(bench.has_it("a", "second").await, "what a killed process has written is there");
    assert!(!bench.has_it("a", "third").await, "what was not on the disk is lost with the machine");
    let lease = bench.files.lease("a", None).await.unwrap();
    assert!(lease.keys().load().await.unwrap().unwrap().pn.is_some(), "it is linked as before");
    lease.close().await;

    bench.writes("b").await;
    fs::write(bench.path("b").with_file_name("in-use"), [0xff, 0xfe]).unwrap();
    assert!(!bench.has_it("b", "first").await, "half a note is of no known start");
}

#[tokio::test]
async fn restored_keys_make_new_signal_sessions_once() {
    let bench = Bench::new();
    bench.writes("a").await;
    bench.files.restored().unwrap();
    assert!(!bench.has_it("a", "first").await);
    bench.writes("a").await;
    assert!(bench.has_it("a", "first").await);
}

#[tokio::test]
async fn a_lease_that_ends_late_leaves_the_note_of_the_next_one() {
    let bench = Bench::new();
    bench.writes("a").await;
    let former = bench.files.lease("a", None).await.unwrap();
    let next = bench.files.lease("a", None).await.unwrap();
    let noted = || fs::read_to_string(bench.path("a").with_file_name("in-use")).unwrap().trim_end().to_owned();
    former.close().await;
    assert_eq!(noted(), "first");
    next.close().await;
    assert_eq!(noted(), "no");
}
