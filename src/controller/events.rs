//! Kubernetes Events: they are queued here and written by one task, so that a slow API server delays no reconcile.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use super::long_events::publish;
use crate::platform::{
    backoff::{Backoff, spread},
    kubernetes::{CALL_TIMEOUT, call},
};

/// Events that may wait, as many as client-go lets wait; beyond it they are dropped and counted. The status says the same.
const QUEUE: usize = 1000;
/// Events that may wait among those that go first. More than there are reconciles at once, each of which waits for its own.
const QUEUE_FIRST: usize = 100;
/// kube's recorder keeps every Event of the last minutes, to count repetitions, and looks through all of them for each new
/// one. With thousands of instances that takes more memory and time than everything else here; a new one begins empty.
const REMEMBERED: usize = 256;

/// How soon an Event that goes first is tried again when the API server does not answer or has no time; it doubles up to
/// [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);

struct QueuedEvent {
    event: Event,
    about: ObjectReference,
    /// Told once the Event was written, or could not be.
    done: Option<oneshot::Sender<()>>,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<QueuedEvent>,
    first: mpsc::Sender<QueuedEvent>,
    dropped: Counter,
}

/// Writes the Events that were queued.
#[derive(Debug)]
pub struct EventWriter {
    queue: mpsc::Receiver<QueuedEvent>,
    first: mpsc::Receiver<QueuedEvent>,
    dropped: Counter,
}

impl Events {
    /// The two ends; `dropped` counts the Events that were not written.
    pub fn new(dropped: Counter) -> (Self, EventWriter) {
        let (queue, queued) = mpsc::channel(QUEUE);
        let (first, queued_first) = mpsc::channel(QUEUE_FIRST);
        let writer = EventWriter { queue: queued, first: queued_first, dropped: dropped.clone() };
        (Self { queue, first, dropped }, writer)
    }

    /// Has an Event written some time soon.
    pub fn tell(&self, event: Event, about: ObjectReference) {
        if self.queue.try_send(QueuedEvent { event, about, done: None }).is_err() {
            self.dropped.inc();
        }
    }

    /// Has an Event written ahead of all that came through [`tell`](Self::tell), and waits for that, no longer than `patience`.
    /// After that it may still be written.
    pub async fn tell_first(&self, event: Event, about: ObjectReference, patience: Duration) {
        let (done, ended) = oneshot::channel();
        let reason = event.reason.clone();
        let patience = tokio::time::Instant::now() + patience;
        let send = self.first.send(QueuedEvent { event, about, done: Some(done) });
        if !matches!(tokio::time::timeout_at(patience, send).await, Ok(Ok(()))) {
            self.dropped.inc();
            tracing::warn!(reason, "could not publish an Event: too many wait to be written");
        } else if tokio::time::timeout_at(patience, ended).await.is_err() {
            tracing::warn!(reason, "could not publish an Event in time; it is tried on");
        }
    }
}

impl EventWriter {
    /// Writes until the last [`Events`] is dropped. An Event that cannot be written is counted. Most are not tried again, since the
    /// status says the same. Those that go first are, as long as the reconcile waits for them: what they say stands nowhere else. They
    /// have a writer of their own, and so do not wait for a call that takes long either.
    pub async fn write(self, client: Client, reporter: Reporter) {
        let Self { queue, first, dropped } = self;
        tokio::join!(write_all(first, &client, &reporter, &dropped), write_all(queue, &client, &reporter, &dropped));
    }
}

async fn write_all(mut queue: mpsc::Receiver<QueuedEvent>, client: &Client, reporter: &Reporter, dropped: &Counter) {
    loop {
        let recorder = Recorder::new(client.clone(), reporter.clone());
        for _ in 0..REMEMBERED {
            let Some(QueuedEvent { event, about, done }) = queue.recv().await else { return };
            let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
            loop {
                let publish = publish(&recorder, client, reporter, &event, &about);
                let Err(error) = call("publish an Event", CALL_TIMEOUT, publish).await else { break };
                let is_waited_for = done.as_ref().is_some_and(|done| !done.is_closed());
                if error.is_trouble() && is_waited_for {
                    tokio::time::sleep(spread(backoff.pause())).await;
                    continue;
                }
                dropped.inc();
                tracing::warn!(%error, reason = event.reason, "could not publish an Event");
                break;
            }
            // The reconcile may have stopped waiting.
            let _ = done.map(|done| done.send(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, http::StatusCode, response::IntoResponse};
    use serde_json::Value;
    use tokio::{sync::Notify, time::timeout};

    use super::*;
    use crate::{controller::decide::notices, platform::lock};

    fn event() -> Event {
        (&notices::gave_up(true)).into()
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectReference::default() }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_holds_nobody_up() {
        let dropped = Counter::default();
        let (events, writer) = Events::new(dropped.clone());
        for _ in 0..QUEUE + 3 {
            events.tell(event(), ObjectReference::default());
        }
        assert_eq!((dropped.get(), writer.queue.len()), (3, QUEUE));
    }

    #[tokio::test]
    async fn what_goes_first_waits_for_nothing_that_came_before() {
        // An API server that never answers for the Events about "slow".
        let (written, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (noted, told) = (Arc::clone(&written), Arc::clone(&asked));
        let answer = move |Json(event): Json<Value>| async move {
            let name = event["regarding"]["name"].as_str().unwrap_or_default().to_owned();
            told.notify_one();
            if name == "slow" {
                std::future::pending::<()>().await;
            }
            lock(&noted).push(name);
            (StatusCode::CREATED, Json(event)).into_response()
        };
        let client = Client::new(Router::new().fallback(answer), "ns");
        let dropped = Counter::default();
        let (events, writer) = Events::new(dropped.clone());
        for _ in 0..QUEUE + 3 {
            events.tell(event(), about("slow"));
        }
        assert_eq!(dropped.get(), 3);
        tokio::spawn(writer.write(client, Reporter { controller: "test".into(), instance: None }));
        asked.notified().await;
        // Sooner than the call that hangs ends.
        let first = events.tell_first(event(), about("first"), CALL_TIMEOUT * 6);
        timeout(CALL_TIMEOUT / 2, first).await.expect("it is written at once");
        assert_eq!((lock(&written).as_slice(), dropped.get()), (["first".to_owned()].as_slice(), 3));
    }

    #[tokio::test]
    async fn what_should_go_first_and_finds_no_room_is_counted() {
        let dropped = Counter::default();
        let (events, writer) = Events::new(dropped.clone());
        for _ in 0..QUEUE_FIRST {
            events.tell_first(event(), about("one"), Duration::ZERO).await;
        }
        assert_eq!(dropped.get(), 0, "they wait to be written");
        events.tell_first(event(), about("one"), Duration::ZERO).await;
        assert_eq!(dropped.get(), 1);
        drop(writer);
        events.tell_first(event(), about("one"), Duration::ZERO).await;
        assert_eq!(dropped.get(), 2, "there is no writer any more");
    }

    #[tokio::test]
    async fn what_goes_first_is_tried_again_while_the_api_server_has_no_time() {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let answer = move |Json(event): Json<Value>| async move {
            let mut asked = lock(&count);
            *asked += 1;
            if *asked < 3 { StatusCode::TOO_MANY_REQUESTS.into_response() } else { Json(event).into_response() }
        };
        let client = Client::new(Router::new().fallback(answer), "ns");
        let dropped = Counter::default();
        let (events, writer) = Events::new(dropped.clone());
        tokio::spawn(writer.write(client, Reporter { controller: "test".into(), instance: None }));
        events.tell_first(event(), about("one"), CALL_TIMEOUT).await;
        assert_eq!((*lock(&asked), dropped.get()), (3, 0));
    }

    #[tokio::test]
    async fn what_the_api_server_refuses_is_counted() {
        let client = Client::new(Router::new().fallback(|| async { StatusCode::FORBIDDEN }), "ns");
        let dropped = Counter::default();
        let (events, writer) = Events::new(dropped.clone());
        tokio::spawn(writer.write(client, Reporter { controller: "test".into(), instance: None }));
        events.tell_first(event(), about("one"), CALL_TIMEOUT).await;
        assert_eq!(dropped.get(), 1);
    }
}
