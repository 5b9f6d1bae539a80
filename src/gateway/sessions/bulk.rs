//! `POST bulk/`: the same of many sessions, each as if it had been asked for alone.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::act::Change;
use crate::{
    gateway::{
        answer::{self, Success},
        caller::Caller,
        code::Code,
        failure::Failure,
        input::{Fields, Parameters, body},
        instances,
        state::{Gateway, Shared},
    },
    platform::{lock, trace},
};

/// Sessions of one request at most: as many as a table of the dashboard shows at a time.
const MOST: usize = 200;
/// Requests to the API server that one such request makes at a time.
const AT_ONCE: usize = 16;
/// What has not been begun after this time is not begun.
const LIMIT: Duration = Duration::from_secs(20);
/// What has not ended after this time is not waited for: the dashboard gives up after 40 s, many proxies after a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// What is asked of many sessions.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"action": "disconnect", "session_ids": ["7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10"]}))]
#[allow(dead_code)] // read field by field, so that each refusal names its own
pub struct Bulk {
    /// What is to be done, as by the operation of that name.
    action: Action,
    /// The sessions, each once: ids or session_ids, or names of objects in the namespace.
    #[schema(min_items = 1, max_items = 200)]
    session_ids: Vec<String>,
}

/// What can be asked of many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Action {
    /// Bring them online.
    Connect,
    /// Take them offline.
    Disconnect,
    /// Remove their devices from their accounts.
    Unlink,
    /// Ask for new codes.
    RefreshQr,
    /// Delete them.
    Delete,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub struct Outcomes {
    /// One for each session, in the order in which they were given.
    outcomes: Vec<Outcome>,
}

/// What came of it for one session.
#[derive(Serialize, ToSchema)]
struct Outcome {
    /// The session, as it was given.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    session_id: String,
    /// Whether it was asked for; the session's own status tells what becomes of it.
    #[schema(example = true)]
    done: bool,
    /// Why it was not.
    #[schema(example = json!(null))]
    error: Option<OutcomeError>,
}

/// Why something was not asked of a session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OutcomeError {
    /// Of the closed list of codes.
    #[schema(example = "NotFound")]
    code: &'static str,
    /// One sentence for people.
    message: String,
    /// Whether it may succeed later.
    retryable: bool,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
}

/// Do the same with many sessions
///
/// Each is looked up and changed as the caller, as if it had been asked for alone, and has an outcome of its own; a failure of one
/// does not keep the others from being done. Nothing is waited for: `done` means that the change is made, and the session's
/// status tells what becomes of it. Counts as so many requests against the rate limit.
#[utoipa::path(
    post, path = "/api/v1/sessions/bulk/", operation_id = "bulk", tag = "sessions",
    params(("namespace" = Option<String>, Query, min_length = 1, max_length = 63, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description = "Namespace of objects' names; the gateway's default when not given.")),
    request_body(content = Bulk, example = json!({"action": "disconnect", "session_ids": ["7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10"]})),
    responses((status = 200, description = "What came of it for each.", body = Success<Outcomes>)),
)]
pub async fn bulk(
    State(gateway): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    let namespace = parameters.namespace()?.map(str::to_owned);
    let (action, ids) = wanted(body(&headers, content).await?.as_deref())?;
    // One is counted by now.
    gateway.rate.charge(&caller.user, ids.len() - 1, Instant::now()).map_err(Failure::rate_limited)?;
    let all = async move {
        let (began, asked, namespace) = (Instant::now(), Mutex::default(), namespace.as_deref());
        let outcomes = ids.into_iter().map(|id| outcome(&gateway, &caller, action, id, namespace, began, &asked));
        stream::iter(outcomes).buffered(AT_ONCE).collect().await
    };
    // A caller who is gone meanwhile does not leave it half done.
    let all = tokio::spawn(trace::within(trace::current(), all));
    let outcomes = all.await.map_err(|_| Failure::new(Code::Internal, "the gateway failed; look at each session"))?;
    Ok(answer::with(StatusCode::OK, Outcomes { outcomes }))
}

fn wanted(text: Option<&str>) -> Result<(Action, Vec<String>), Failure> {
    let fields = Fields::of(text, &["action", "session_ids"])?;
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let must = "field \"action\" must be connect, disconnect, unlink, refresh-qr or delete";
    let action = fields.required("action", (1, 20))?;
    let action = serde_json::from_value(action.into()).map_err(|_| invalid(must))?;
    let ids = fields.texts("session_ids", (1, MOST), (1, 253))?;
    let mut seen = HashSet::new();
    if !ids.iter().all(|id| seen.insert(id)) {
        return Err(invalid("field \"session_ids\" names a session twice; name each once"));
    }
    Ok((action, ids))
}

async fn outcome(
    gateway: &Gateway,
    caller: &Caller,
    action: Action,
    id: String,
    namespace: Option<&str>,
    began: Instant,
    asked: &Mutex<HashSet<String>>,
) -> Outcome {
    let caller = caller.about_another();
    let late = |message: &str| Err(Failure::new(Code::Timeout, message));
    let done = if began.elapsed() < LIMIT {
        let asking = ask(gateway, &caller, action, &id, namespace, asked);
        tokio::time::timeout_at(began + LONGEST, asking).await.unwrap_or_else(|_| {
            late("the API server did not answer in time; look at what became of it, then ask for it again")
        })
    } else {
        late("the sessions before it took too long, so nothing was tried; ask for it again")
    };
    let answer = done.as_ref().err().map_or("ok", |failure| failure.code.entry().word);
    tracing::info!(
        request = caller.story.id(),
        caller = caller.user,
        instance = caller.story.instance(),
        ?action,
        answer,
        "asked of one of many"
    );
    let error = done.err().map(|Failure { code, message, retry_after }| {
        let entry = code.entry();
        OutcomeError { code: entry.word, message, retryable: entry.retryable, retry_after }
    });
    Outcome { session_id: id, done: error.is_none(), error }
}

async fn ask(
    gateway: &Gateway,
    caller: &Caller,
    action: Action,
    id: &str,
    namespace: Option<&str>,
    asked: &Mutex<HashSet<String>>,
) -> Result<(), Failure> {
    let instance = instances::find(gateway, caller, id, namespace).await?;
    if !lock(asked).insert(instance.uid().unwrap_or_default()) {
        return Err(Failure::new(Code::Invalid, "another of session_ids names the same session; name each once"));
    }
    let change = match action {
        Action::Connect => Change::Connect,
        Action::Disconnect => Change::Disconnect,
        Action::Unlink => Change::Unlink,
        Action::RefreshQr => Change::RefreshQr,
        Action::Delete => return instances::delete(caller, &instance).await,
    };
    instances::change(caller, &instance, change.patch(&instance)?).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_strictly() {
        let said = |body: serde_json::Value| wanted(Some(&body.to_string())).err().map(|failure| failure.message);
        assert_eq!(
            wanted(Some(r#"{"action": "refresh-qr", "session_ids": ["b", "a"]}"#)).unwrap(),
            (Action::RefreshQr, vec!["b".to_owned(), "a".to_owned()])
        );
        for (body, says) in [
            (json!({"session_ids": ["a"]}), "field \"action\" is missing"),
            (json!({"action": "explode", "session_ids": ["a"]}), "must be connect, disconnect"),
            (json!({"action": "set-primary", "session_ids": ["a"]}), "must be connect, disconnect"),
            (json!({"action": "delete"}), "field \"session_ids\" is missing"),
            (json!({"action": "delete", "session_ids": []}), "must be a list of 1 to 200"),
            (json!({"action": "delete", "session_ids": vec!["a"; 201]}), "must be a list of 1 to 200"),
            (json!({"action": "delete", "session_ids": "a"}), "must be a list of 1 to 200"),
            (json!({"action": "delete", "session_ids": [7]}), "must be a list of 1 to 200"),
            (json!({"action": "delete", "session_ids": ["a", ""]}), "1 to 253 characters"),
            (json!({"action": "delete", "session_ids": ["a", "b", "a"]}), "names a session twice"),
        ] {
            let message = said(body.clone()).unwrap_or_else(|| panic!("{body} is taken"));
            assert!(message.contains(says), "{body}: {message}");
        }
    }
}
