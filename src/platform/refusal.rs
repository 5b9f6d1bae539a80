//! What a refusal by the API server means.
//!
//! Different refusals share a status. What tells them apart then is the form of the message, which Kubernetes fixes in
//! `apimachinery/pkg/api/errors`, `apiserver/pkg/endpoints/handlers/responsewriters` and `apiserver/pkg/admission/plugin`. A policy
//! chooses its own words, and its own status, so a message is read from its beginning: nothing that a policy says later in it
//! can pass for another refusal.

use kube::core::Status;

/// Why the API server refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// It does not accept the credentials (401).
    Unauthenticated,
    /// The authorizer does not grant this verb (403).
    RightMissing {
        /// The RBAC verb that is missing.
        verb: &'a str,
    },
    /// A webhook, a ValidatingAdmissionPolicy or another admission plug-in refused (403, or the status of its choice).
    ByPolicy {
        /// Its sentence, without the words that the API server puts in front.
        words: &'a str,
    },
    /// The namespace is being deleted (403).
    NamespaceTerminating,
    /// A ResourceQuota is used up (403).
    QuotaExceeded,
    /// It serves no such resource: the definition is not installed (404).
    NoSuchKind,
    /// There is no such namespace (404).
    NoSuchNamespace,
    /// There is no such object (404).
    NoSuchObject {
        /// The object's name.
        name: &'a str,
    },
    /// The object was changed or replaced meanwhile, or there is one of this name already (409).
    Conflict,
    /// What was asked for lies further back than it remembers (410).
    TooOld,
    /// The request is too large (413).
    TooLarge,
    /// The schema, or a rule in it, does not take the object (400, 422).
    Invalid,
    /// It has too much to do (429).
    Busy {
        /// Seconds to wait; 0 when it did not say.
        retry_after: u32,
    },
    /// A webhook that has to be asked did not answer (500).
    WebhookAway,
    /// It did not finish in time, and may have done what was asked (504).
    TimedOut,
    /// It failed in another way.
    Failed {
        /// Seconds to wait; 0 when it did not say.
        retry_after: u32,
    },
}

/// Reads a refusal.
pub fn refusal(status: &Status) -> Refusal<'_> {
    let details = status.details.as_ref();
    let retry_after = details.map_or(0, |details| details.retry_after_seconds);
    // A policy may refuse with any status, but only one of these is for good.
    let for_good = (400..500).contains(&status.code) && status.code != 429;
    if let Some(words) = policy_words(&status.message).filter(|_| for_good) {
        return Refusal::ByPolicy { words };
    }
    match status.code {
        401 => Refusal::Unauthenticated,
        403 => forbidden(status),
        404 => match details.map_or(("", ""), |details| (details.kind.as_str(), details.name.as_str())) {
            ("namespaces", _) => Refusal::NoSuchNamespace,
            // A missing object is named; a missing resource is not.
            (_, "") => Refusal::NoSuchKind,
            (_, name) => Refusal::NoSuchObject { name },
        },
        409 => Refusal::Conflict,
        410 => Refusal::TooOld,
        413 => Refusal::TooLarge,
        400 | 422 => Refusal::Invalid,
        429 => Refusal::Busy { retry_after },
        500 if status.message.contains("failed calling webhook") => Refusal::WebhookAway,
        504 => Refusal::TimedOut,
        _ => Refusal::Failed { retry_after },
    }
}

fn forbidden(status: &Status) -> Refusal<'_> {
    if let Some(verb) = missing_verb(&status.message) {
        return Refusal::RightMissing { verb };
    }
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    if causes.any(|cause| cause.reason == "NamespaceTerminating") {
        return Refusal::NamespaceTerminating;
    }
    if reason_given(&status.message).is_some_and(|words| words.starts_with("exceeded quota: ")) {
        return Refusal::QuotaExceeded;
    }
    Refusal::ByPolicy { words: &status.message }
}

/// What follows `RESOURCE is forbidden: ` or `RESOURCE "NAME" is forbidden: `, or for a path `forbidden: `.
fn reason_given(message: &str) -> Option<&str> {
    if let Some(reason) = message.strip_prefix("forbidden: ") {
        return Some(reason);
    }
    let (_, after) = message.split_once(' ')?;
    let after = if after.starts_with('"') { after_quoted(after)?.strip_prefix(' ')? } else { after };
    after.strip_prefix("is forbidden: ")
}

/// The verb in `User "NAME" cannot VERB resource …` or `… path …`, the authorizer's own form.
fn missing_verb(message: &str) -> Option<&str> {
    let after = after_quoted(reason_given(message)?.strip_prefix("User ")?)?;
    let (verb, after) = after.strip_prefix(" cannot ")?.split_once(' ')?;
    (after.starts_with("resource ") || after.starts_with("path ")).then_some(verb)
}

/// The sentence of a webhook (`admission webhook "NAME" denied the request: …`) or of a ValidatingAdmissionPolicy
/// (`… is forbidden: ValidatingAdmissionPolicy 'NAME' with binding 'NAME' denied request: …`).
pub fn policy_words(message: &str) -> Option<&str> {
    if let Some(after) = message.strip_prefix("admission webhook ") {
        let after = after_quoted(after)?.strip_prefix(" denied the request")?;
        // A webhook need not say why.
        return Some(after.strip_prefix(": ").unwrap_or(message));
    }
    let after = reason_given(message)?.strip_prefix("ValidatingAdmissionPolicy '")?;
    after.split_once("' denied request: ").map(|(_, words)| words)
}

/// What follows a string in Go's quotes.
fn after_quoted(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        let at = rest.find(['"', '\\'])?;
        if rest.get(at..)?.starts_with('"') {
            return rest.get(at + 1..);
        }
        rest = rest.get(at + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A refusal of this code, in these words.
    fn said(code: u16, message: &str) -> Status {
        serde_json::from_value(json!({"code": code, "message": message})).unwrap()
    }

    #[test]
    fn the_authorizer_is_known_by_its_form() {
        for (message, verb) in [
            (
                r#"whatsappinstances.whatsapp-operator.dev "shop" is forbidden: User "anna" cannot patch resource "whatsappinstances" in API group "whatsapp-operator.dev" in the namespace "team""#,
                "patch",
            ),
            (
                r#"whatsappinstances.whatsapp-operator.dev is forbidden: User "a \" cannot b" cannot list resource "whatsappinstances" in API group "whatsapp-operator.dev" at the cluster scope: RBAC: role not found"#,
                "list",
            ),
            (r#"forbidden: User "anna" cannot get path "/metrics""#, "get"),
        ] {
            assert_eq!(refusal(&said(403, message)), Refusal::RightMissing { verb }, "{message}");
        }
    }

    #[test]
    fn a_policy_speaks_for_itself_whatever_it_says_and_with_whatever_status() {
        let rbac = r#"x is forbidden: User "anna" cannot patch resource "y""#;
        for words in ["label team is missing", rbac, "denied the request: no", "exceeded quota: none"] {
            for message in [
                format!(r#"admission webhook "validate.kyverno.svc" denied the request: {words}"#),
                format!(
                    r#"whatsappinstances.whatsapp-operator.dev "shop" is forbidden: ValidatingAdmissionPolicy 'hours' with binding 'hours' denied request: {words}"#
                ),
                format!(
                    "whatsappinstances.whatsapp-operator.dev is forbidden: ValidatingAdmissionPolicy 'hours' denied request: {words}"
                ),
            ] {
                for code in [400, 401, 403, 404, 409, 413, 422] {
                    assert_eq!(refusal(&said(code, &message)), Refusal::ByPolicy { words }, "{code} {message}");
                }
            }
        }
        let silent = r#"admission webhook "x" denied the request without explanation"#;
        assert_eq!(refusal(&said(400, silent)), Refusal::ByPolicy { words: silent });
        // Another plug-in, whose form is not known.
        let other = r#"whatsappinstances.whatsapp-operator.dev "shop" is forbidden: not yet ready to handle request"#;
        assert_eq!(refusal(&said(403, other)), Refusal::ByPolicy { words: other });
        // It may succeed later.
        let busy = r#"admission webhook "x" denied the request: later"#;
        assert_eq!(refusal(&said(429, busy)), Refusal::Busy { retry_after: 0 });
        assert_eq!(refusal(&said(503, busy)), Refusal::Failed { retry_after: 0 });
    }

    #[test]
    fn the_same_status_means_different_things() {
        let of = |code: u16, message: &str, details: Value| -> Status {
            serde_json::from_value(json!({"code": code, "message": message, "details": details})).unwrap()
        };
        let quota = r#"x "a" is forbidden: exceeded quota: few, requested: 1, used: 3, limited: 3"#;
        let leaving =
            json!({"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace"}]});
        for (status, expected) in [
            (of(401, "Unauthorized", json!({})), Refusal::Unauthenticated),
            (of(403, quota, json!({})), Refusal::QuotaExceeded),
            (of(403, "x \"a\" is forbidden: unable to create new content", leaving), Refusal::NamespaceTerminating),
            (of(404, "404 page not found", json!({})), Refusal::NoSuchKind),
            (of(404, "", json!({"kind": "namespaces", "name": "team"})), Refusal::NoSuchNamespace),
            (of(404, "", json!({"kind": "pods", "name": "a"})), Refusal::NoSuchObject { name: "a" }),
            (of(409, "", json!({})), Refusal::Conflict),
            (of(410, "", json!({})), Refusal::TooOld),
            (of(413, "", json!({})), Refusal::TooLarge),
            (of(422, "", json!({})), Refusal::Invalid),
            (of(429, "", json!({"retryAfterSeconds": 3})), Refusal::Busy { retry_after: 3 }),
            (of(500, "Internal error occurred: failed calling webhook \"x\": no", json!({})), Refusal::WebhookAway),
            (of(500, "no", json!({})), Refusal::Failed { retry_after: 0 }),
            (of(504, "", json!({})), Refusal::TimedOut),
        ] {
            assert_eq!(refusal(&status), expected, "{status:?}");
        }
    }
}
