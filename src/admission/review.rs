//! The envelope: from bytes to a request, from a decision to an answer.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::{
    DynamicObject, Status,
    admission::{AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND, Operation},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use thiserror::Error;

use crate::rules::Denial;

/// What is read of an `AdmissionReview`. A review is mostly what no rule asks for (`managedFields` above all); a field that
/// is not named here is skipped without being kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

/// A request as admission sees it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names the answer.
    #[serde(default)]
    pub uid: String,
    /// What is done to the object.
    pub operation: Operation,
    /// The object's name; empty when the server is still to make it up.
    #[serde(default)]
    pub name: String,
    /// The object's namespace, if it has one.
    pub namespace: Option<String>,
    /// Set when only a part of the object is written, such as `status`.
    pub sub_resource: Option<String>,
    /// Nothing is to be changed anywhere.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks.
    pub user_info: UserInfo,
    /// The object as it would be; none on delete.
    pub object: Option<Reviewed>,
    /// The object as it is; none on create.
    pub old_object: Option<Reviewed>,
}

/// What is read of an object under review: any object, however odd, since the schema is asked only later.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reviewed {
    pub metadata: ReviewedMeta,
    pub spec: Value,
    pub status: Value,
}

/// What is read of its metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReviewedMeta {
    pub name: Option<String>,
    pub namespace: Option<String>,
    /// Present from the moment the object is being deleted.
    pub deletion_timestamp: Option<IgnoredAny>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub finalizers: Option<Vec<String>>,
}

/// Why a body is no review. The sentences quote nothing of it: it may hold secrets.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON, or not of a review's shape.
    #[error(
        "the body is not an AdmissionReview (line {line}, column {column}); send what a Kubernetes API server sends"
    )]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A review of a version not spoken here.
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1; list v1 in admissionReviewVersions")]
    Version,
    /// A review that asks nothing.
    #[error("the AdmissionReview has no request with a uid; send what a Kubernetes API server sends")]
    NoRequest,
    /// More than any review of ours can be.
    #[error("the body is larger than {limit} bytes; shorten the object's annotations")]
    TooLarge {
        /// How much is read.
        limit: usize,
    },
    /// It did not come in time.
    #[error("the body did not arrive in time; send the review again")]
    TooSlow,
}

/// The request in a body.
///
/// # Errors
/// When it is none.
pub fn parse(body: &[u8]) -> Result<Request, Malformed> {
    // serde_json stops at 128 levels, which bounds the stack.
    let review: Review =
        serde_json::from_slice(body).map_err(|error| Malformed::Json { line: error.line(), column: error.column() })?;
    if review.api_version != META_API_VERSION_V1 || review.kind != META_KIND {
        return Err(Malformed::Version);
    }
    review.request.filter(|request| !request.uid.is_empty()).ok_or(Malformed::NoRequest)
}

/// What was decided, and by which rules.
#[derive(Debug, Default)]
pub struct Decision {
    /// The refusal, if it is one.
    pub denial: Option<Denial>,
    /// JSON patch operations.
    pub patch: Vec<Value>,
    /// Shown to the requester.
    pub warnings: Vec<String>,
    /// For the audit log: which rule said what.
    pub audit: BTreeMap<&'static str, String>,
}

impl Decision {
    /// A refusal by `rule`.
    pub fn refuse(rule: &'static str, denial: Denial) -> Self {
        let audit = BTreeMap::from([("decided-by", rule.to_owned()), ("reason", denial.reason.to_owned())]);
        Self { denial: Some(denial), audit, ..Self::default() }
    }

    /// The same with another line for the audit log.
    #[must_use]
    pub fn noting(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.audit.insert(key, value.into());
        self
    }
}

/// The answer that says `decision` to the request `uid`.
pub fn answer(uid: String, decision: Decision) -> AdmissionReview<DynamicObject> {
    let mut response = AdmissionResponse::invalid("");
    response.uid = uid;
    response.allowed = decision.denial.is_none();
    response.result = match decision.denial {
        None => Status::default(),
        Some(denial) => Status { code: denial.code, ..Status::failure(&denial.message, denial.reason) },
    };
    response.warnings = (!decision.warnings.is_empty()).then_some(decision.warnings);
    response.audit_annotations = decision.audit.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    if !decision.patch.is_empty()
        && let Ok(patch) = serde_json::from_value(Value::Array(decision.patch))
        && let Ok(patched) = response.clone().with_patch(patch)
    {
        response = patched;
    }
    response.into_review()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Decision, Malformed, answer, parse};
    use crate::{admission::testing, rules::Denial};

    #[test]
    fn what_is_no_review_is_malformed() {
        let json = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert!(matches!(json(""), Malformed::Json { .. }));
        assert!(matches!(json("[]"), Malformed::Json { .. }));
        assert!(matches!(json(&"[".repeat(1_000_000)), Malformed::Json { .. }));
        assert_eq!(json(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#), Malformed::NoRequest);
        let review = testing::create("alice", "a", json!({"name": "A"}));
        for (at, value, error) in [
            ("/apiVersion", json!("admission.k8s.io/v2"), Malformed::Version),
            ("/kind", json!("Pod"), Malformed::Version),
            ("/request/uid", json!(""), Malformed::NoRequest),
        ] {
            let mut review = review.clone();
            *review.pointer_mut(at).unwrap() = value;
            assert_eq!(parse(review.to_string().as_bytes()).unwrap_err(), error);
        }
    }

    #[test]
    fn the_sentence_quotes_nothing_of_the_body() {
        let mut review = testing::create("alice", "a", json!({"name": "A"}));
        review["request"]["operation"] = json!("+15551234567");
        assert!(!parse(review.to_string().as_bytes()).unwrap_err().to_string().contains("555"));
    }

    #[test]
    fn a_refusal_carries_code_reason_sentence_and_rule() {
        let decision = Decision::refuse("limit", Denial::new("LimitExceeded", 403, "no more"));
        let review = serde_json::to_value(answer("7".into(), decision)).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        let response = &review["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("7"), &json!(false)));
        assert_eq!(response["status"]["code"], 403);
        assert_eq!(
            (&response["status"]["reason"], &response["status"]["message"]),
            (&json!("LimitExceeded"), &json!("no more"))
        );
        assert_eq!(response["auditAnnotations"]["decided-by"], "limit");
        assert_eq!(review.get("request"), None::<&Value>);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&body);
        }

        #[test]
        fn a_truncated_review_is_malformed(cut in 0.0..1.0_f64) {
            let review = testing::create("alice", "a", json!({"name": "A"})).to_string();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let cut = (review.len() as f64 * cut) as usize;
            prop_assert!(parse(&review.as_bytes()[..cut]).is_err());
        }
    }
}
