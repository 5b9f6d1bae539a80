use super::*;
use whatsapp_operator::{bridge_api::SessionSpec, model::Sensitive};

fn kept(phone: &str) -> Kept {
    Kept { phone_number: Some(Sensitive::new(phone)), paired: true, ..Kept::new(SessionSpec::default()) }
}

async fn saved(store: &Store, id: &str, kept: &Kept) -> Result<(), StoreError> {
    store.apply(vec![Change::save(id, kept)?]).await
}

#[tokio::test]
async fn what_was_saved_is_there_after_reopening_and_what_was_removed_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, found) = Store::open(&path).unwrap();
    assert!(found.is_empty());
    saved(&store, "a", &kept("+15550001")).await.unwrap();
    saved(&store, "a", &kept("+15550002")).await.unwrap();
    saved(&store, "b", &kept("+15550003")).await.unwrap();
    store.apply(vec![Change::remove("b")]).await.unwrap();
    let (_store, found) = Store::open(&path).unwrap();
    let found: Vec<_> = found.into_iter().map(|stored| (stored.id, stored.kept)).collect();
    assert_eq!(found, [("a".to_owned(), kept("+15550002"))]);
}

#[tokio::test]
async fn a_store_that_fails_does_not_work_until_a_write_would_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path).unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("ALTER TABLE sessions RENAME TO elsewhere").unwrap();
    assert!(store.works().await, "nobody has needed it");
    assert!(saved(&store, "a", &kept("+15550001")).await.is_err());
    assert!(!store.works().await);
    raw.execute_batch("ALTER TABLE elsewhere RENAME TO sessions").unwrap();
    assert!(store.works().await);
    assert!(!store.failing.load(Ordering::Relaxed));
    let (_store, found) = Store::open(&path).unwrap();
    assert!(found.is_empty());
}

#[test]
fn a_later_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::TooNew { found: 9, .. })));
}

#[tokio::test]
async fn an_unreadable_row_is_skipped_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path).unwrap();
    saved(&store, "good", &kept("+15550001")).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute("INSERT INTO sessions VALUES ('bad', '{')", []).unwrap();
    let (_store, found) = Store::open(&path).unwrap();
    assert_eq!(found.len(), 1);
    let rows: i64 = raw.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn changes_of_one_write_are_made_together_and_a_bad_one_is_left_out_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    let (store, _) = Store::open(&path).unwrap();
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
    let (_store, found) = Store::open(&path).unwrap();
    assert_eq!(found.into_iter().map(|stored| stored.id).collect::<Vec<_>>(), ["good"]);
}

#[tokio::test]
async fn a_full_disk_is_called_so_and_tolerated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bridge.db");
    drop(Store::open(&path).unwrap());
    let mut connection = Connection::open(&path).unwrap();
    layout::prepare(&mut connection).unwrap();
    connection.execute_batch("PRAGMA max_page_count = 4").unwrap();
    let store = Store::write_to(connection).unwrap();
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
    let (store, _) = Store::open(&path).unwrap();
    let long = kept(&"5".repeat(30_000));
    for turn in 0..400 {
        let changes = (0..8).map(|id| Change::save(&format!("{turn}-{id}"), &long).unwrap()).collect();
        store.apply(changes).await.unwrap();
    }
    let log = path.with_extension("db-wal").metadata().unwrap().len();
    assert!(log < 2 * 1024 * 1024, "{log}");
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for() {
    let (queue, _never_read) = mpsc::channel(1);
    let store = Store { queue, failing: Arc::default() };
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
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        let layout: i64 = raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(layout, layout::LAYOUT);
    }
}
