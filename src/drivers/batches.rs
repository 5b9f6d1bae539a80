//! Messages that are handed to a bridge at the same moment travel in one request, and so are on its disk after one flush.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{OnceCell, oneshot},
    time::timeout,
};

use crate::{
    bridge_api::{
        BridgeClient, BridgeError, Capability, Content, LONGEST_BATCH, MOST_IN_BATCH, Message, MessageSpec, Submission,
    },
    platform::{
        lock,
        trace::{self, Trace},
    },
};

/// Requests that may be under way before messages wait to travel together: while one is written to the disk, the next is
/// read. A message that is alone never waits.
const UNDER_WAY: usize = 2;
/// How long a caller waits for the answer, as for that to a request of their own.
const LIMIT: Duration = Duration::from_secs(10);
/// A batch gets no more texts after this many bytes: every byte may take six in JSON, and each message has fields around it.
const TEXTS: usize = LONGEST_BATCH / 8;

/// What came of a message: as it is, and whether it is new.
type Accepted = Result<(Message, bool), BridgeError>;

/// One shard's messages on their way.
#[derive(Debug)]
pub struct Batches {
    client: BridgeClient,
    queue: Mutex<Queue>,
    /// Whether the bridge takes batches, once it was asked.
    able: OnceCell<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    submission: Submission,
    answer: oneshot::Sender<Accepted>,
}

/// One of the requests that may be under way. When it ends, the next batch takes its turn.
struct Flight(Arc<Batches>);

impl Drop for Flight {
    fn drop(&mut self) {
        let next = self.0.next();
        // Without a runtime the process is ending, and the callers that wait end with it.
        if !next.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(Arc::clone(&self.0).hand_over(next));
        }
    }
}

impl Batches {
    /// Those of the shard that this client reaches.
    pub fn new(client: BridgeClient) -> Arc<Self> {
        Arc::new(Self { client, queue: Mutex::default(), able: OnceCell::new() })
    }

    /// Hands a message over, alone or with others.
    pub async fn send(self: &Arc<Self>, session: &str, id: &str, message: &MessageSpec) -> Accepted {
        let waits = {
            let mut queue = lock(&self.queue);
            if queue.under_way < UNDER_WAY {
                queue.under_way += 1;
                None
            } else {
                let (answer, answered) = oneshot::channel();
                let submission = Submission {
                    session: session.to_owned(),
                    id: id.to_owned(),
                    message: message.clone(),
                    traceparent: trace::current().map(|trace| trace.header()),
                };
                queue.waiting.push_back(Waiting { submission, answer });
                Some(answered)
            }
        };
        match waits {
            None => {
                // Dropped also when the caller goes away before there is an answer.
                let _flight = Flight(Arc::clone(self));
                self.client.put_message(session, id, message).await
            }
            // What waits longer than that is not handed over any more.
            Some(answered) => match timeout(LIMIT, answered).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(_)) | Err(_) => Err(BridgeError::TimedOut),
            },
        }
    }

    /// The next batch. When nothing waits, one request fewer is under way.
    fn next(&self) -> Vec<Waiting> {
        let mut queue = lock(&self.queue);
        let (mut batch, mut texts) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            let Content::Text { text } = &next.submission.message.content;
            texts += text.reveal().len();
            if batch.len() == MOST_IN_BATCH || (texts > TEXTS && !batch.is_empty()) {
                break;
            }
            batch.extend(queue.waiting.pop_front());
        }
        if batch.is_empty() {
            queue.under_way -= 1;
        }
        batch
    }

    async fn hand_over(self: Arc<Self>, batch: Vec<Waiting>) {
        let _flight = Flight(Arc::clone(&self));
        // A caller that has stopped waiting may send the message again, so it is not handed over now.
        let batch = batch.into_iter().filter(|one| !one.answer.is_closed());
        let (submissions, answers): (Vec<_>, Vec<_>) = batch.map(|one| (one.submission, one.answer)).unzip();
        for (answer, result) in answers.into_iter().zip(self.results(submissions).await) {
            let _ = answer.send(result);
        }
    }

    async fn results(&self, submissions: Vec<Submission>) -> Vec<Accepted> {
        if submissions.len() > 1 && self.is_able().await {
            let asked = submissions.len();
            return match self.client.put_messages(submissions).await {
                Ok(results) => results,
                Err(error) => vec![Err(error); asked],
            };
        }
        // This task runs for several callers: each message goes on under the trace that it came with.
        let alone = |one: Submission| async move {
            let trace = one.traceparent.as_deref().and_then(Trace::parse);
            trace::within(trace, self.client.put_message(&one.session, &one.id, &one.message)).await
        };
        join_all(submissions.into_iter().map(alone)).await
    }

    /// Whether the bridge takes batches. Without an answer it counts as one that does not, and is asked again.
    async fn is_able(&self) -> bool {
        let asked = self.able.get_or_try_init(|| async {
            Ok::<_, BridgeError>(self.client.info().await?.capabilities.include(Capability::MessageBatches))
        });
        asked.await.is_ok_and(|able| *able)
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        extract::{Path, State},
        http::{HeaderMap, StatusCode},
        routing::{get, post, put},
    };
    use serde_json::{Value, json};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::model::Sensitive;

    /// A bridge that notes who came in which request and under which trace, and answers a request once it may.
    struct Bridge {
        able: bool,
        may_answer: Semaphore,
        requests: Mutex<Vec<Vec<String>>>,
        traces: Mutex<Vec<Option<Trace>>>,
    }

    impl Bridge {
        async fn note(&self, ids: Vec<String>) {
            lock(&self.requests).push(ids);
            self.may_answer.acquire().await.unwrap().forget();
        }

        fn noted(&self) -> Vec<Vec<String>> {
            lock(&self.requests).clone()
        }
    }

    fn message(id: &str) -> Value {
        let at = "2026-11-29T06:00:00Z";
        json!({"id": id, "session": "s", "sequence": 1, "state": "Queued", "acceptedAt": at, "expiresAt": at, "to": "+1", "content": {"type": "text", "text": "Hi"}})
    }

    fn outcome(id: &str) -> Value {
        match id {
            "gone" => json!({"status": 404, "error": {"code": "NotFound", "message": "no"}}),
            "busy" => json!({"status": 504}),
            "known" => json!({"status": 200, "message": message(id)}),
            _ => json!({"status": 201, "message": message(id)}),
        }
    }

    type Shared = Arc<Bridge>;

    async fn bridge(able: bool) -> (Shared, Arc<Batches>) {
        let bridge = Arc::new(Bridge {
            able,
            may_answer: Semaphore::new(0),
            requests: Mutex::default(),
            traces: Mutex::default(),
        });
        let info = |State(bridge): State<Shared>| async move {
            let able = if bridge.able { json!(["messages", "messageBatches"]) } else { json!(["messages"]) };
            Json(json!({"version": "test", "capabilities": able}))
        };
        let one = |State(bridge): State<Shared>, Path(id): Path<String>, headers: HeaderMap| async move {
            lock(&bridge.traces).push(Trace::of(&headers));
            bridge.note(vec![id.clone()]).await;
            (StatusCode::CREATED, Json(message(&id)))
        };
        let several = |State(bridge): State<Shared>, Json(batch): Json<Value>| async move {
            let ids = batch["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned());
            let ids: Vec<String> = ids.collect();
            let answers: Vec<Value> = ids.iter().map(|id| outcome(id)).collect();
            bridge.note(ids).await;
            Json(json!({ "items": answers }))
        };
        let routes = Router::new()
            .route("/v1/info", get(info))
            .route("/v1/sessions/s/messages/{id}", put(one))
            .route("/v1/messages/batch", post(several))
            .with_state(Arc::clone(&bridge));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (bridge, Batches::new(BridgeClient::new(&url, Sensitive::new("token"), None).unwrap()))
    }

    fn send(batches: &Arc<Batches>, id: &'static str) -> tokio::task::JoinHandle<Accepted> {
        let spec = serde_json::from_value(json!({"to": "+1", "content": {"type": "text", "text": "Hi"}})).unwrap();
        let batches = Arc::clone(batches);
        tokio::spawn(async move { batches.send("s", id, &spec).await })
    }

    async fn until(what: impl Fn() -> bool) {
        let seen = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), seen).await.unwrap();
    }

    /// Two requests that are under way, and these behind them.
    async fn behind_two(
        bridge: &Shared,
        batches: &Arc<Batches>,
        ids: &[&'static str],
    ) -> Vec<tokio::task::JoinHandle<Accepted>> {
        let mut sent = vec![send(batches, "first"), send(batches, "second")];
        until(|| bridge.noted().len() == 2).await;
        for (n, id) in ids.iter().enumerate() {
            sent.push(send(batches, id));
            until(|| lock(&batches.queue).waiting.len() == n + 1).await;
        }
        sent
    }

    #[tokio::test]
    async fn what_comes_while_two_are_under_way_travels_together_and_each_has_its_own_answer() {
        let (bridge, batches) = bridge(true).await;
        let sent = behind_two(&bridge, &batches, &["a", "gone", "busy", "known"]).await;
        bridge.may_answer.add_permits(3);
        let mut answers = Vec::new();
        for one in sent {
            answers.push(one.await.unwrap().map(|(message, new)| (message.status.id, new)));
        }
        let accepted = |id: &str, new| Ok((id.to_owned(), new));
        assert_eq!(
            answers,
            [
                accepted("first", true),
                accepted("second", true),
                accepted("a", true),
                Err(BridgeError::NotFound),
                Err(BridgeError::TimedOut),
                accepted("known", false)
            ]
        );
        assert_eq!(bridge.noted()[2], ["a", "gone", "busy", "known"]);
        assert_eq!(lock(&batches.queue).under_way, 0);
        // A message that is alone again travels alone.
        bridge.may_answer.add_permits(1);
        assert!(send(&batches, "later").await.unwrap().is_ok());
        assert_eq!(bridge.noted()[3], ["later"]);
    }

    #[tokio::test]
    async fn a_bridge_of_a_release_before_gets_them_one_by_one() {
        let (bridge, batches) = bridge(false).await;
        let sent = behind_two(&bridge, &batches, &["a", "b"]).await;
        bridge.may_answer.add_permits(4);
        for one in sent {
            assert!(one.await.unwrap().is_ok());
        }
        assert!(bridge.noted().iter().all(|request| request.len() == 1) && bridge.noted().len() == 4);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_handed_over() {
        let (bridge, batches) = bridge(true).await;
        let mut sent = behind_two(&bridge, &batches, &["left", "b", "c"]).await;
        let left = sent.remove(2);
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        // One of the two goes away too, and makes room for those who wait.
        sent.remove(0).abort();
        until(|| bridge.noted().len() == 3).await;
        bridge.may_answer.add_permits(3);
        for one in sent {
            assert!(one.await.unwrap().is_ok());
        }
        assert_eq!(bridge.noted()[2..], [vec!["b".to_owned(), "c".to_owned()]]);
    }

    #[tokio::test]
    async fn a_message_that_waits_alone_goes_on_under_its_own_trace() {
        let (bridge, batches) = bridge(true).await;
        let (mut sent, mine) = (behind_two(&bridge, &batches, &[]).await, Trace::begin());
        let spec = serde_json::from_value(json!({"to": "+1", "content": {"type": "text", "text": "Hi"}})).unwrap();
        let waiting = Arc::clone(&batches);
        let send = async move { waiting.send("s", "third", &spec).await };
        sent.push(tokio::spawn(trace::within(Some(mine), send)));
        until(|| lock(&batches.queue).waiting.len() == 1).await;
        bridge.may_answer.add_permits(3);
        for one in sent {
            assert!(one.await.unwrap().is_ok());
        }
        let traces = lock(&bridge.traces).clone();
        assert_eq!(
            traces.iter().map(|trace| trace.map(|trace| trace.id())).collect::<Vec<_>>(),
            [None, None, Some(mine.id())]
        );
    }
}
