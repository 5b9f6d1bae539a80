use std::sync::Arc;

use super::{
    sessions::ROOM,
    topic::{Heard, Topic},
    *,
};
use crate::machine::{Kept, State, Timings};
use jiff::Timestamp;
use whatsapp_operator::{
    bridge_api::{Event, Session, SessionSpec},
    model::Sensitive,
};

fn session(id: &str, name: &str) -> Session {
    let kept = Kept { push_name: Some(Sensitive::new(name)), ..Kept::new(SessionSpec::default()) };
    State::new(id.to_owned(), kept, Timestamp::UNIX_EPOCH, Timings::default(), 1, Timestamp::UNIX_EPOCH).view()
}

#[tokio::test]
async fn a_cursor_resumes_without_loss_or_repetition() {
    let sessions = Feed::new("run").sessions;
    sessions.show(session("a", "1"));
    let cursor = sessions.list().cursor;
    sessions.show(session("a", "2"));
    sessions.show(session("a", "2"));
    sessions.remove("a");
    let mut subscription = sessions.subscribe(Some(cursor));
    let (first, event) = sessions.next(&mut subscription).await.unwrap();
    assert_eq!((first.to_string().as_str(), event.name()), ("run-2", "session"));
    let (second, event) = sessions.next(&mut subscription).await.unwrap();
    assert_eq!((second.to_string().as_str(), event.name()), ("run-3", "deleted"));
    let mut again = sessions.subscribe(Some(first));
    assert_eq!(sessions.next(&mut again).await.unwrap(), (second, event));
}

#[tokio::test]
async fn a_cursor_of_another_process_or_of_the_future_is_reset() {
    let sessions = Feed::new("run").sessions;
    sessions.show(session("a", "1"));
    for cursor in ["other-0", "run-9"] {
        let mut subscription = sessions.subscribe(cursor.parse().ok());
        let (at, event) = sessions.next(&mut subscription).await.unwrap();
        assert_eq!((at.to_string().as_str(), event), ("run-1", Event::Reset));
    }
}

#[tokio::test]
async fn a_reader_that_fell_behind_is_reset_once() {
    let sessions = Feed::new("run").sessions;
    sessions.show(session("a", "start"));
    let mut subscription = sessions.subscribe(None);
    for turn in 0..=ROOM {
        sessions.show(session("a", &turn.to_string()));
    }
    assert_eq!(sessions.next(&mut subscription).await.unwrap().1, Event::Reset);
    sessions.remove("a");
    assert_eq!(sessions.next(&mut subscription).await.unwrap().1.name(), "deleted");
}

#[tokio::test]
async fn a_burst_in_one_topic_does_not_reset_another() {
    let feed = Feed::new("run");
    let others = Topic::<(), u32>::new(&Arc::from("run"), 8, ());
    feed.sessions.show(session("a", "1"));
    let (cursor, other) = (feed.sessions.list().cursor, others.read(|()| ()).1);
    feed.sessions.show(session("a", "2"));
    for event in 0..100_000 {
        others.change(|()| Some(event));
    }
    let mut subscription = feed.sessions.subscribe(Some(cursor));
    assert_eq!(feed.sessions.next(&mut subscription).await.unwrap().1.name(), "session");
    let mut subscription = others.subscribe(Some(other));
    assert_eq!(others.next(&mut subscription).await.unwrap().1, Heard::Missed);
}
