//! Reviews in, answers out, within the time and memory allowed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use k8s_openapi::{api::authentication::v1::UserInfo, jiff::Timestamp};
use kube::{Client, core::Status};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AdmissionMetrics, LedgerError, Ledgers, MUTATE_INSTANCES, Malformed, VALIDATE_INSTANCES, VALIDATE_OWNERS, access,
    mutate::mutate,
    review::{Decision, Request, answer, parse},
    validate::{RequestedChange, check_owner, requested_change},
};
use crate::{
    api::conditions::reason,
    model::NamespaceScope,
    platform::kubernetes::CallError,
    rules::{Denial, assign::not_assignable, ledger::SlotRequestKind, primary::takeover_warning},
};

/// A review holds an instance twice at most, each a few kilobytes and up to 256 KiB of annotations.
const LARGEST_REVIEW: usize = 1 << 20;
/// Bodies read at once; with the limit above, the memory that callers can make us use.
const READ_AT_ONCE: usize = 64;
/// A body is here at once, unless the machine is badly overloaded: then better late than never.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);
/// The API server waits 5 s (`timeoutSeconds`); a refusal that says why is better than silence.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(4);
/// What answers reviews.
pub struct Admission {
    client: Client,
    ledgers: Ledgers,
    /// The namespaces whose instances the controller of this process looks after, once it leads; none without one.
    scope: Option<NamespaceScope>,
    reading: Semaphore,
    metrics: AdmissionMetrics,
}

impl Admission {
    /// Answers by the given ledgers; `client` asks RBAC. `scope` is that of the controller in this process, if there is one.
    pub fn new(client: Client, ledgers: Ledgers, scope: Option<NamespaceScope>, metrics: AdmissionMetrics) -> Self {
        Self { client, ledgers, scope, reading: Semaphore::new(READ_AT_ONCE), metrics }
    }

    /// From body to answer, counted.
    async fn review(
        &self,
        webhook: &'static str,
        body: Body,
        decide: impl AsyncFnOnce(Instant, Request) -> (String, Decision),
    ) -> Response {
        let arrived = Instant::now();
        let (said, response) = match read(self, body).await {
            Ok(request) => {
                let (uid, decision) = decide(arrived, request).await;
                let said = decision.denial.as_ref().map_or("allowed", |denial| denial.reason);
                (said, Json(answer(uid, decision)).into_response())
            }
            Err(malformed) => {
                tracing::warn!(webhook, %malformed, "not a review");
                ("malformed", (StatusCode::BAD_REQUEST, malformed.to_string()).into_response())
            }
        };
        self.metrics.answered(webhook, said, arrived.elapsed());
        response
    }

    async fn validate(&self, request: Request, arrived: Instant) -> Decision {
        let change = match requested_change(&request, Timestamp::now()) {
            Ok(Some(change)) => change,
            Ok(None) => return Decision::default().noting("decided-by", "none"),
            Err((rule, denial)) => return Decision::refuse(rule, denial),
        };
        // Of all that was sent only this is kept while others have their turn on the ledger.
        let Request { dry_run, user_info, .. } = request;
        let left = REVIEW_TIMEOUT.saturating_sub(arrived.elapsed());
        match timeout(left, self.ask(user_info, dry_run, &change, arrived)).await {
            Ok(decision) => decision.noting("dry-run", dry_run.to_string()),
            Err(_) => Decision::refuse("timeout", too_slow()),
        }
    }

    async fn ask(&self, user: UserInfo, dry_run: bool, change: &RequestedChange, arrived: Instant) -> Decision {
        // Before anything of the owner's is looked at: a refusal must not tell what is in the ledger.
        if let Some(kind) = change.of_another() {
            match access::may_assign_owner(&self.client, user, &change.key.namespace).await {
                Ok(true) => {}
                Ok(false) => return Decision::refuse("assign-owner", not_assignable(kind, &change.key.namespace)),
                Err(error) => {
                    tracing::warn!(%error, "ask whether the requester may assign an owner");
                    return Decision::refuse("assign-owner", access_unknown(&error));
                }
            }
        }
        let mut decision = Decision::default().noting("decided-by", "none");
        if let Some(wanted) = &change.slot_request {
            decision = match self.ledgers.reserve(&change.owner, wanted, dry_run, arrived).await {
                Ok(Ok(())) => decision.noting("decided-by", "ledger"),
                Ok(Err(denial)) => return Decision::refuse("ledger", denial),
                Err(error) => {
                    tracing::warn!(%error, "reserve in the owner's ledger");
                    return Decision::refuse("ledger", unasked(&error));
                }
            };
        }
        if change.wishes
            && let Some(owner) = self.ledgers.glance(&change.owner)
        {
            let current = owner.status.as_ref().and_then(|status| status.primary.as_ref());
            let visible = change.is_owner || current.is_some_and(|current| current.namespace == change.key.namespace);
            let at_once = change.slot_request.as_ref().is_none_or(|wanted| wanted.kind == SlotRequestKind::Name);
            decision.warnings.extend(takeover_warning(&change.key, current, visible, at_once));
        }
        decision
    }
}

/// Why the ledger could not be asked, for the requester.
fn unasked(error: &LedgerError) -> Denial {
    match error {
        LedgerError::Foreign(name) => foreign(name),
        LedgerError::Late => busy(),
        LedgerError::Call(call) if call.is_unanswered() => unavailable(),
        LedgerError::Call(call) => refused(call),
    }
}

/// The API server answered the operator, and trying again changes nothing. What it said is passed on: it may be a policy of the
/// cluster.
fn refused(call: &CallError) -> Denial {
    let todo = if call.is(Status::is_forbidden) {
        "have an administrator check the ClusterRole of its webhook, and the cluster's policies for WhatsAppOwners"
    } else {
        "have an administrator see to it"
    };
    let message = format!("the rules cannot be checked, since the API server refuses the operator ({call}); {todo}");
    Denial::new("LedgerUnavailable", 503, message)
}

/// Why it is not known whether the requester may name this owner.
fn access_unknown(error: &CallError) -> Denial {
    let message = if error.is(Status::is_forbidden) {
        "whether you may assign owners cannot be checked, since the operator may not create SubjectAccessReviews; have an administrator check the ClusterRole of its webhook"
    } else {
        "whether you may assign owners cannot be checked now, since the API server does not answer the operator's SubjectAccessReview; try again in a moment"
    };
    Denial::new("AccessUnknown", 503, message)
}

fn busy() -> Denial {
    Denial::new("LedgerUnavailable", 503, "the owner's ledger is too busy; try again in a moment")
}

/// The review as a whole took too long, which need not be the fault of others who want the same ledger.
fn too_slow() -> Denial {
    let message = format!(
        "the rules could not be checked within {} s: the API server answers the operator slowly, or many requests for this owner came \
         at once; try again in a moment",
        REVIEW_TIMEOUT.as_secs()
    );
    Denial::new("LedgerUnavailable", 503, message)
}

fn unavailable() -> Denial {
    Denial::new(
        "LedgerUnavailable",
        503,
        "the rules cannot be checked now, since the API server does not answer the operator; try again in a moment",
    )
}

fn foreign(name: &str) -> Denial {
    Denial::new(
        reason::OWNER_OBJECT_FOREIGN,
        409,
        format!(
            "WhatsAppOwner {name:?} belongs to another owner than its name calls for; have an administrator delete it"
        ),
    )
}

/// The webhooks' routes.
pub fn router(admission: Arc<Admission>) -> Router {
    Router::new()
        .route(MUTATE_INSTANCES, post(mutate_instance))
        .route(VALIDATE_INSTANCES, post(validate_instance))
        .route(VALIDATE_OWNERS, post(validate_owner))
        .with_state(admission)
}

async fn mutate_instance(State(admission): State<Arc<Admission>>, body: Body) -> Response {
    admission
        .review("mutate", body, async |_, request| {
            let namespace = request.namespace.as_deref();
            let in_scope = admission.scope.as_ref().zip(namespace).is_some_and(|(scope, it)| scope.includes(it));
            let decision = mutate(&request, in_scope, Timestamp::now());
            (request.uid, decision)
        })
        .await
}

async fn validate_instance(State(admission): State<Arc<Admission>>, body: Body) -> Response {
    let validate = async |arrived, request: Request| (request.uid.clone(), admission.validate(request, arrived).await);
    Box::pin(admission.review("validate", body, validate)).await
}

async fn validate_owner(State(admission): State<Arc<Admission>>, body: Body) -> Response {
    admission
        .review("validate-owner", body, async |_, request| {
            let refuse = |(rule, denial)| Decision::refuse(rule, denial);
            let decision = check_owner(&request).map_or_else(refuse, |()| Decision::default());
            (request.uid, decision)
        })
        .await
}

async fn read(admission: &Admission, body: Body) -> Result<Request, Malformed> {
    // Waiting for its turn counts too: many slow bodies must not make everybody else wait longer than the API server does.
    let read = async {
        let _permit = admission.reading.acquire().await.map_err(|_| Malformed::TooSlow)?;
        let bytes = to_bytes(body, LARGEST_REVIEW).await;
        parse(&bytes.map_err(|_| Malformed::TooLarge { limit: LARGEST_REVIEW })?)
    };
    timeout(BODY_TIMEOUT, read).await.map_err(|_| Malformed::TooSlow)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing;

    fn said(code: u16, reason: &str, message: &str) -> String {
        let status = serde_json::json!({"code": code, "reason": reason, "message": message});
        let status: Status = serde_json::from_value(status).unwrap();
        let source = Box::new(kube::Error::Api(Box::new(status)));
        unasked(&LedgerError::Call(CallError::Api { doing: "create the owner's ledger", source })).message
    }

    #[test]
    fn only_an_api_server_that_does_not_answer_is_said_not_to() {
        let policy = "every object needs the label team";
        for (code, reason) in
            [(400, "BadRequest"), (403, "Forbidden"), (413, "RequestEntityTooLarge"), (500, "InternalError")]
        {
            let said = said(code, reason, policy);
            assert!(said.contains(policy) && said.contains("administrator"), "{said}");
            assert!(!said.contains("does not answer") && !said.contains("try again"), "{said}");
        }
        // What stands in an object that the definitions refuse is nobody's to read here.
        assert!(!said(422, "Invalid", "spec.owner: alice").contains("alice"));
        for (code, reason) in [(429, "TooManyRequests"), (503, "ServiceUnavailable"), (504, "Timeout")] {
            assert!(said(code, reason, "later").contains("does not answer"), "{code}");
        }
        let slow = CallError::Slow { doing: "write the owner's ledger", limit: REVIEW_TIMEOUT };
        assert!(unasked(&LedgerError::Call(slow)).message.contains("try again"));
    }

    #[tokio::test]
    async fn a_review_that_takes_too_long_does_not_blame_the_ledger_alone() {
        let hangs = Router::new().fallback(async || std::future::pending::<()>().await);
        let client = Client::new(hangs, "ns");
        let ledgers = Ledgers::new(client.clone(), NamespaceScope::All, None, 10);
        let admission = Admission::new(client, ledgers, None, AdmissionMetrics::default());
        let create = testing::create("alice", "a", serde_json::json!({"name": "A", "owner": "alice"}));
        // It came in so long ago that there is no time left.
        let arrived = Instant::now().checked_sub(REVIEW_TIMEOUT).unwrap();
        let decision = admission.validate(parse(create.to_string().as_bytes()).unwrap(), arrived).await;
        let denial = decision.denial.unwrap();
        assert_eq!((denial.reason, denial.code), ("LedgerUnavailable", 503));
        assert!(denial.message.contains("API server") && denial.message.contains("try again"), "{denial}");
    }
}
