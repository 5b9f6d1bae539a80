//! Several messages in one request.

use std::time::Duration;

use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use futures::future::join_all;
use tokio::time::{Instant, timeout};
use whatsapp_operator::{
    bridge_api::{BatchAnswer, MOST_IN_BATCH, MessageBatch, Outcome, Submission},
    platform::trace::{self, Trace},
};

use super::{Api, failure::Failure, guard::tell, messages::accept};

/// How long one message may hold up the answer about the others: a session that is busy for longer has trouble of its own.
const LIMIT: Duration = Duration::from_secs(3);

/// Accepts each message as if it had come alone. All are asked for before the first is answered, so that they are written
/// together.
pub(super) async fn put(State(api): State<Api>, body: Bytes) -> Result<Json<BatchAnswer>, Failure> {
    let MessageBatch { items } = serde_json::from_slice(&body)
        .map_err(|error| Failure::misfit(&error, "a batch of messages (items, each with session, id and message)"))?;
    if items.len() > MOST_IN_BATCH {
        return Err(Failure::Invalid(format!("items must be at most {MOST_IN_BATCH}")));
    }
    let items = join_all(items.into_iter().map(|one| outcome(&api, one))).await;
    Ok(Json(BatchAnswer { items }))
}

async fn outcome(api: &Api, Submission { session, id, message, traceparent }: Submission) -> Outcome {
    let began = Instant::now();
    let trace = traceparent.as_deref().and_then(Trace::parse).map(|caller| caller.step());
    let accepting = timeout(LIMIT, accept(api, &session, &id, message));
    let outcome = match trace::within(trace, accepting).await {
        Ok(Ok((status, message))) => Outcome { status: status.as_u16(), message: Some(message), error: None },
        Ok(Err(failure)) => {
            let (status, error) = failure.answer();
            Outcome { status: status.as_u16(), message: None, error: Some(error) }
        }
        Err(_) => Outcome { status: StatusCode::GATEWAY_TIMEOUT.as_u16(), message: None, error: None },
    };
    if let Some(trace) = trace {
        tell(trace, "POST", "/v1/messages/batch", outcome.status, began);
    }
    outcome
}
