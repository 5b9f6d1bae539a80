//! The plugin's error for a refusal by the API server, or for its silence.

use kube::core::Status;

use super::PluginError;
use crate::platform::{
    kubernetes::root_cause,
    refusal::{Refusal, refusal},
};

/// Where requests go; for error messages.
#[derive(Debug, Clone)]
pub struct Target {
    /// Kubeconfig context in use.
    pub context: String,
    /// Address of its API server.
    pub server: String,
}

/// What was asked of the API server.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// RBAC verb.
    pub verb: &'static str,
    /// Namespace, or none for all.
    pub namespace: Option<&'a str>,
    /// The object, when it is about one.
    pub name: Option<&'a str>,
}

/// Turns an API error into a sentence.
pub fn explain(error: &kube::Error, target: &Target, attempt: Attempt<'_>) -> PluginError {
    match error {
        kube::Error::Api(status) => explain_status(status, target, attempt),
        kube::Error::SerdeError(cause) => {
            PluginError::Unreadable { name: attempt.name.unwrap_or("(list)").to_owned(), cause: cause.to_string() }
        }
        other => unreachable_server(target, root_cause(other)),
    }
}

/// Turns the API server's refusal into a sentence.
pub fn explain_status(status: &Status, target: &Target, attempt: Attempt<'_>) -> PluginError {
    match refusal(status) {
        Refusal::Unauthenticated => {
            PluginError::Unauthorized { context: target.context.clone(), server: target.server.clone() }
        }
        // Another right than that one, to impersonate for example, is named by the server's own words.
        Refusal::RightMissing { verb } if verb == attempt.verb => PluginError::Forbidden {
            verb: attempt.verb,
            scope: attempt.namespace.map_or_else(|| "all namespaces".to_owned(), |ns| format!("namespace \"{ns}\"")),
        },
        Refusal::NoSuchObject { name } if attempt.name == Some(name) => {
            PluginError::NotFound { name: name.to_owned(), namespace: attempt.namespace.unwrap_or_default().to_owned() }
        }
        Refusal::NoSuchKind => PluginError::NotInstalled { context: target.context.clone() },
        Refusal::RightMissing { .. }
        | Refusal::ByPolicy { .. }
        | Refusal::NamespaceTerminating
        | Refusal::QuotaExceeded
        | Refusal::NoSuchNamespace
        | Refusal::NoSuchObject { .. }
        | Refusal::Conflict
        | Refusal::TooOld
        | Refusal::TooLarge
        | Refusal::Invalid
        | Refusal::Busy { .. }
        | Refusal::WebhookAway
        | Refusal::TimedOut
        | Refusal::Failed { .. } => PluginError::Refused { verb: attempt.verb, message: status.message.clone() },
    }
}

/// The sentence for a server that does not answer.
pub fn unreachable_server(target: &Target, cause: String) -> PluginError {
    PluginError::Unreachable { context: target.context.clone(), server: target.server.clone(), cause }
}

#[cfg(test)]
mod tests {
    use kube::core::{Status, response::StatusDetails};

    use super::{Attempt, Target, explain_status};

    fn sentence(code: u16, named: &str, attempt: Attempt<'_>) -> String {
        told(code, "must be connected to be set as primary", named, attempt)
    }

    fn told(code: u16, message: &str, named: &str, attempt: Attempt<'_>) -> String {
        let target = Target { context: "kind".into(), server: "https://127.0.0.1:6443/".into() };
        let details: StatusDetails = serde_json::from_value(serde_json::json!({ "name": named })).unwrap();
        let status = Status::failure(message, "Invalid").with_code(code).with_details(details);
        explain_status(&status, &target, attempt).to_string()
    }

    const GET: Attempt<'_> = Attempt { verb: "get", namespace: Some("team"), name: Some("shop") };
    const LIST: Attempt<'_> = Attempt { verb: "list", namespace: None, name: None };

    #[test]
    fn a_missing_instance_says_how_to_list_them() {
        let text = sentence(404, "shop", GET);
        assert!(text.contains("\"shop\" in namespace \"team\"") && text.contains("kubectl whatsapp list"), "{text}");
    }

    #[test]
    fn a_missing_definition_says_how_to_install_it() {
        for text in [sentence(404, "", GET), sentence(404, "", LIST)] {
            assert!(text.contains("\"kind\"") && text.contains("whatsapp-operator crd"), "{text}");
        }
    }

    #[test]
    fn a_refusal_names_verb_resource_and_place() {
        let forbidden = |verb: &str, place: &str| {
            format!(
                "whatsappinstances.whatsapp-operator.dev \"shop\" is forbidden: User \"anna\" cannot {verb} resource \"whatsappinstances\" in API group \"whatsapp-operator.dev\" {place}"
            )
        };
        let patch = Attempt { verb: "patch", ..GET };
        let text = told(403, &forbidden("patch", "in the namespace \"team\""), "shop", patch);
        assert!(text.contains("may not patch whatsappinstances.whatsapp-operator.dev in namespace \"team\""), "{text}");
        let text = told(403, &forbidden("list", "at the cluster scope"), "", LIST);
        assert!(text.contains("list whatsappinstances.whatsapp-operator.dev in all namespaces"), "{text}");
    }

    #[test]
    fn who_else_refuses_speaks_for_itself() {
        let patch = Attempt { verb: "patch", ..GET };
        for words in [
            "admission webhook \"validate.kyverno.svc\" denied the request: label team is missing",
            // It may say what it likes.
            "admission webhook \"x\" denied the request: it is forbidden: User \"anna\" cannot patch resource \"y\"",
            "whatsappinstances.whatsapp-operator.dev \"shop\" is forbidden: ValidatingAdmissionPolicy 'hours' with binding 'hours' denied request: not on Sundays",
            "whatsappinstances.whatsapp-operator.dev \"shop\" is forbidden: exceeded quota: few, requested: 1, used: 3, limited: 3",
            "whatsappinstances.whatsapp-operator.dev \"shop\" is forbidden: ValidatingAdmissionPolicy 'hours' denied request: x is forbidden: User \"anna\" cannot patch resource \"y\"",
            // Another right than the one that would be told.
            "users \"bob\" is forbidden: User \"anna\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ] {
            let text = told(403, words, "shop", patch);
            assert!(text.ends_with(words) && !text.contains("ask for a role"), "{text}");
        }
    }

    #[test]
    fn the_servers_own_words_come_through() {
        assert!(sentence(422, "shop", GET).ends_with("must be connected to be set as primary"));
        assert!(
            sentence(401, "", GET)
                .contains("https://127.0.0.1:6443/ does not accept the credentials of context \"kind\"")
        );
    }
}
