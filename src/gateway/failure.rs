//! A refusal on its way to the caller, and what refusals of the API server become.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kube::core::Status;

use super::code::Code;
use crate::{
    platform::{
        kubernetes::CallError,
        refusal::{Refusal, policy_words, refusal},
    },
    rules::Denial,
};

/// What a caller without a token is asked for.
const CHALLENGE: &str = r#"Bearer realm="whatsapp-operator", error="invalid_token""#;

/// A refusal. The body is written where the request's id is known, at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which of the closed list.
    pub code: Code,
    /// One sentence: what is wrong and what to do. It quotes no token, code or phone number.
    pub message: String,
    /// Seconds to wait; the list's own figure when not given.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A refusal in words of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: code.entry().retry_after }
    }

    /// The same, with when to come back.
    #[must_use]
    pub fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// The API server does not accept the token.
    pub fn unauthorized() -> Self {
        Self::new(
            Code::Unauthorized,
            "the API server does not accept the bearer token: it is missing, unknown, expired, or made for another audience; get one, for example with kubectl create token",
        )
    }

    /// One request too many, until that time has passed.
    pub fn rate_limited(wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        Self::new(Code::RateLimited, format!("too many requests; try again in {seconds} s")).after(seconds)
    }

    /// A page of another site made the request.
    pub fn cross_site() -> Self {
        Self::new(
            Code::CrossSite,
            "the request was made by a page of another site, or the browser does not say by which; use the dashboard, or send the token as a bearer token. \
             A proxy in front of the dashboard has to pass on the header Host as the browser sent it, with its port, or to say it in X-Forwarded-Host",
        )
    }

    /// There is no such session, or the caller may not see it: the answer is the same.
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "there is no such session, or you may not see it; list yours with GET /api/v1/sessions/list/",
        )
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::new(Code::of_reason(denial.reason).unwrap_or(Code::Invalid), denial.message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.entry().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// What was asked of the API server.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The RBAC verb.
    pub verb: &'static str,
    /// The caller has not seen the object yet, so it must not learn whether it is there.
    pub hidden: bool,
}

/// What a call to the API server with the caller's token came to.
pub fn of_call(error: &CallError, asked: Asked) -> Failure {
    match error {
        CallError::Slow { .. } => timed_out(),
        CallError::Api { source, .. } => match &**source {
            kube::Error::Api(status) => of_status(status, asked),
            kube::Error::SerdeError(_) => Failure::new(
                Code::Internal,
                "the session is stored in a form that this version of the gateway cannot read; have an administrator compare its version with the operator's",
            ),
            _ => unavailable(),
        },
    }
}

fn timed_out() -> Failure {
    Failure::new(
        Code::Timeout,
        "the API server did not answer in time; look at what became of the request, then try again",
    )
}

fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "the API server does not answer the gateway; try again in a moment")
}

/// What a refusal by the API server becomes. Refusals by the operator's own webhook keep their reason and their sentence.
fn of_status(status: &Status, asked: Asked) -> Failure {
    if let Some(code) = Code::of_reason(&status.reason).filter(|code| *code != Code::Timeout || status.code == 504) {
        return Failure::new(code, policy_words(&status.message).unwrap_or(&status.message));
    }
    let later = |failure: Failure, seconds: u32| if seconds > 0 { failure.after(seconds.into()) } else { failure };
    match refusal(status) {
        Refusal::Unauthenticated => Failure::unauthorized(),
        Refusal::RightMissing { .. } if asked.hidden => Failure::not_found(),
        Refusal::RightMissing { .. } => not_allowed(asked.verb),
        Refusal::ByPolicy { words } => Failure::new(Code::Refused, words),
        Refusal::NamespaceTerminating => {
            Failure::new(Code::Terminating, "the namespace is being deleted; choose another")
        }
        Refusal::QuotaExceeded => Failure::new(
            Code::QuotaExceeded,
            "a ResourceQuota of the namespace is used up; delete something, or have an administrator raise it",
        ),
        Refusal::NoSuchKind => Failure::new(
            Code::NotInstalled,
            "the API server does not know WhatsAppInstances; have an administrator install them with whatsapp-operator crd",
        ),
        Refusal::NoSuchNamespace => {
            Failure::new(Code::NotFound, "there is no such namespace; choose another, or leave namespace out")
        }
        Refusal::NoSuchObject { .. } => Failure::not_found(),
        Refusal::Conflict => {
            Failure::new(Code::Conflict, "the session was changed or replaced meanwhile; look at it, then try again")
        }
        Refusal::TooLarge => {
            Failure::new(Code::TooLarge, "the session would be larger than the API server takes; send less")
        }
        Refusal::Invalid => Failure::new(Code::Invalid, invalid(status)),
        Refusal::Busy { retry_after } => later(
            Failure::new(Code::Unavailable, "the API server has too much to do; try again in a moment"),
            retry_after,
        ),
        Refusal::WebhookAway => Failure::new(
            Code::AdmissionUnavailable,
            "the operator's admission webhook does not answer, and without it nothing may be written; try again in a moment",
        ),
        Refusal::TimedOut => timed_out(),
        Refusal::TooOld => unavailable(),
        Refusal::Failed { retry_after } => later(unavailable(), retry_after),
    }
}

fn not_allowed(verb: &str) -> Failure {
    Failure::new(
        Code::NotAllowed,
        format!(
            "you may not {verb} whatsappinstances.whatsapp-operator.dev here; have an administrator grant the verb {verb}"
        ),
    )
}

/// Which fields the schema does not take, and its rules, without the values: they could be phone numbers.
fn invalid(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let rules: Vec<String> = causes
        .filter(|cause| !cause.field.is_empty() && cause.field != "<nil>")
        .map(|cause| {
            let rule =
                cause.message.rsplit_once("\": ").map_or("it has a value that it must not have", |(_, rule)| rule);
            format!("{}: {rule}", cause.field)
        })
        .collect();
    if rules.is_empty() {
        return "the API server calls the session invalid; check the fields of the request".to_owned();
    }
    format!("the API server calls the session invalid: {}", rules.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GET: Asked = Asked { verb: "get", hidden: true };
    const PATCH: Asked = Asked { verb: "patch", hidden: false };

    fn of(status: Value, asked: Asked) -> (Code, String) {
        let status: Status = serde_json::from_value(status).unwrap();
        let failure = of_status(&status, asked);
        (failure.code, failure.message)
    }

    #[test]
    fn admission_keeps_its_reason_and_its_sentence() {
        let message = "admission webhook \"validate.whatsappinstances.whatsapp-operator.dev\" denied the request: maximum instances reached: 10";
        let (code, said) = of(json!({"code": 403, "reason": "LimitExceeded", "message": message}), PATCH);
        assert_eq!((code, said.as_str()), (Code::LimitExceeded, "maximum instances reached: 10"));
        let (code, _) = of(
            json!({"code": 500, "reason": "InternalError", "message": "Internal error occurred: failed calling webhook \"x\": deadline exceeded"}),
            PATCH,
        );
        assert_eq!(code, Code::AdmissionUnavailable);
        let (code, said) = of(
            json!({"code": 403, "reason": "Forbidden", "message": "admission webhook \"others\" denied the request: no"}),
            PATCH,
        );
        assert_eq!((code, said.as_str()), (Code::Refused, "no"));
        let message =
            "admission webhook \"freeze.example\" denied the request: sessions cannot be changed during the freeze";
        let (code, said) = of(json!({"code": 403, "reason": "Forbidden", "message": message}), GET);
        assert_eq!((code, said.as_str()), (Code::Refused, "sessions cannot be changed during the freeze"));
        for (status, reason, code) in
            [(409, "ChangeUnderWay", Code::ChangeUnderWay), (503, "LedgerUnavailable", Code::LedgerUnavailable)]
        {
            assert_eq!(of(json!({"code": status, "reason": reason, "message": "later"}), PATCH).0, code);
        }
    }

    #[test]
    fn a_policy_is_quoted_whatever_its_status_and_its_words() {
        // The last two would pass for the authorizer and for quota if they were not read from their beginning.
        for words in ["not on Sundays", r#"x is forbidden: User "m" cannot patch resource "y""#, "exceeded quota: 3"] {
            let policy = format!(
                r#"whatsappinstances.whatsapp-operator.dev "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {words}"#
            );
            let webhook = format!(r#"admission webhook "validate.kyverno.svc" denied the request: {words}"#);
            // What a policy has when its author chose none, and what Kyverno's webhook has.
            for (code, reason, message) in [(422, "Invalid", &policy), (400, "", &webhook), (403, "Forbidden", &policy)]
            {
                let causes = json!([{"message": message}]);
                let status = json!({"code": code, "reason": reason, "message": message, "details": {"name": "a", "causes": causes}});
                for asked in [GET, PATCH] {
                    let (found, said) = of(status.clone(), asked);
                    assert_eq!((found, said.as_str()), (Code::Refused, words), "{status}");
                }
            }
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_is_the_gateways_trouble() {
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        let error = CallError::Api { doing: "read", source: Box::new(kube::Error::SerdeError(source)) };
        assert_eq!(of_call(&error, GET).code, Code::Internal);
    }

    #[test]
    fn what_is_not_theirs_looks_like_nothing() {
        let rbac = json!({"code": 403, "reason": "Forbidden", "message": "whatsappinstances \"a\" is forbidden: User \"m\" cannot get resource \"whatsappinstances\""});
        let missing = json!({"code": 404, "reason": "NotFound", "message": "whatsappinstances \"a\" not found", "details": {"name": "a", "kind": "whatsappinstances"}});
        assert_eq!(of(rbac.clone(), GET), of(missing, GET));
        let (code, said) = of(rbac, PATCH);
        assert!(code == Code::NotAllowed && said.contains("verb patch"), "{said}");
    }

    #[test]
    fn quota_definitions_and_other_codes_are_told_apart() {
        for (status, code) in [
            (
                json!({"code": 403, "reason": "Forbidden", "message": "x is forbidden: exceeded quota: q"}),
                Code::QuotaExceeded,
            ),
            (
                json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource", "details": {}}),
                Code::NotInstalled,
            ),
            (
                json!({"code": 404, "reason": "NotFound", "message": "", "details": {"name": "ns", "kind": "namespaces"}}),
                Code::NotFound,
            ),
            (json!({"code": 401, "reason": "Unauthorized"}), Code::Unauthorized),
            (json!({"code": 409, "reason": "Conflict"}), Code::Conflict),
            (json!({"code": 429, "reason": "TooManyRequests"}), Code::Unavailable),
            (json!({"code": 504, "reason": "Timeout", "message": "late"}), Code::Timeout),
            (json!({"code": 503}), Code::Unavailable),
        ] {
            assert_eq!(of(status.clone(), PATCH).0, code, "{status}");
        }
    }

    #[test]
    fn an_invalid_object_is_told_by_field_and_rule_without_its_values() {
        let cause = json!({"reason": "FieldValueInvalid", "field": "spec.pairing", "message": "Invalid value: \"+15550001\": must be set"});
        let (code, said) = of(
            json!({"code": 422, "reason": "Invalid", "message": "Invalid value: \"+15550001\"", "details": {"causes": [cause]}}),
            PATCH,
        );
        assert_eq!(code, Code::Invalid);
        assert!(said.contains("spec.pairing: must be set") && !said.contains("555"), "{said}");
    }
}
