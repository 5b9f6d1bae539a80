//! What can go wrong, each in one sentence that says what to do, and the exit code it ends with.

use std::{error::Error as StdError, io};

use kube::core::Status;
use thiserror::Error;

use crate::platform::refusal::{Refusal, refusal};

/// Why a verb failed.
#[derive(Debug, Error)]
pub enum PluginError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No usable kubeconfig.
    #[error("cannot tell which cluster to use: {0}; set KUBECONFIG, or choose with --kubeconfig and --context")]
    Kubeconfig(String),
    /// No such instance.
    #[error(
        "there is no WhatsAppInstance \"{name}\" in namespace \"{namespace}\"; list them with `kubectl whatsapp list -A`"
    )]
    NotFound {
        /// Name asked for.
        name: String,
        /// Namespace it was looked for in.
        namespace: String,
    },
    /// The custom resource is not installed.
    #[error(
        "the cluster of context \"{context}\" does not know WhatsAppInstances; install the operator, or its definitions with `whatsapp-operator crd | kubectl apply --server-side -f -`"
    )]
    NotInstalled {
        /// Kubeconfig context in use.
        context: String,
    },
    /// RBAC says no.
    #[error(
        "you may not {verb} whatsappinstances.whatsapp-operator.dev in {scope}; ask for a role with verb \"{verb}\" on it (kubectl auth can-i {verb} whatsappinstances.whatsapp-operator.dev)"
    )]
    Forbidden {
        /// RBAC verb that is missing.
        verb: &'static str,
        /// Namespace, or every namespace.
        scope: String,
    },
    /// The API server does not know who asks.
    #[error("the API server {server} does not accept the credentials of context \"{context}\"; log in again")]
    Unauthorized {
        /// Kubeconfig context in use.
        context: String,
        /// Its API server.
        server: String,
    },
    /// No connection, or no answer.
    #[error(
        "cannot reach the API server {server} of context \"{context}\" ({cause}); check that it runs, or choose another with --context"
    )]
    Unreachable {
        /// Kubeconfig context in use.
        context: String,
        /// Its API server.
        server: String,
        /// The innermost cause.
        cause: String,
    },
    /// The API server answered with a refusal of its own.
    #[error("the API server refused to {verb} the instance: {message}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// The server's words.
        message: String,
    },
    /// The object does not fit this program's idea of it.
    #[error("WhatsAppInstance \"{name}\" does not read as one ({cause}); this plugin is version {version}, compare it with the operator's", version = env!("CARGO_PKG_VERSION"))]
    Unreadable {
        /// The object.
        name: String,
        /// What did not fit.
        cause: String,
    },
    /// The pairing window passed.
    #[error("the pairing window passed and its code no longer works; open a new one with `{command}`")]
    PairingExpired {
        /// What opens a new one.
        command: String,
    },
    /// The gateway is not found.
    #[error("cannot find the gateway: {0}; give its address with --gateway URL, or set WHATSAPP_GATEWAY")]
    NoGateway(String),
    /// The gateway does not answer.
    #[error(
        "cannot reach the gateway at {place} ({cause}); check that it runs, or give its address with --gateway URL"
    )]
    GatewayUnreachable {
        /// Where it was looked for.
        place: String,
        /// The innermost cause.
        cause: String,
    },
    /// The gateway answered with a refusal.
    #[error("the gateway refused: {message} ({code}, request {request})")]
    GatewayRefused {
        /// Which of the closed list.
        code: String,
        /// Its words.
        message: String,
        /// The request's id, for the gateway's log.
        request: String,
        /// Whether the same may succeed later.
        retryable: bool,
    },
    /// A phone is needed.
    #[error("{0}")]
    NeedsPairing(String),
    /// The instance reached a state that what was asked for cannot follow from.
    #[error("{0}")]
    Ended(String),
    /// It took longer than the limit given.
    #[error("gave up after {after}s: {last}")]
    TimedOut {
        /// The limit in seconds.
        after: u64,
        /// Where things stood.
        last: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The code is too long for a QR code.
    #[error("the code of \"{name}\" cannot be drawn as a QR code; look at it with -o raw")]
    Undrawable {
        /// The instance.
        name: String,
    },
    /// The result could not be written as JSON or YAML.
    #[error("cannot write the result as {format}: {cause}")]
    Unprintable {
        /// JSON or YAML.
        format: &'static str,
        /// Why.
        cause: String,
    },
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl PluginError {
    /// The exit code documented in `--help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::PairingExpired { .. } => 3,
            Self::TimedOut { .. } => 4,
            Self::NeedsPairing(_) => 5,
            Self::Interrupted => 130,
            // The reader had enough (`| head`): nothing failed.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }

    /// What to print on standard error, if anything.
    pub fn sentence(&self) -> Option<String> {
        // Who interrupts knows that it was interrupted.
        let silent = matches!(self.exit_code(), 0 | 130);
        (!silent).then(|| format!("error: {self}"))
    }

    /// Whether trying again later can help: the connection broke, as opposed to the server saying no.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::GatewayUnreachable { .. })
            || matches!(self, Self::GatewayRefused { retryable: true, .. })
    }

    /// Whether another pod of the gateway, or a new token for it, may help.
    pub fn wants_another_gateway(&self) -> bool {
        matches!(self, Self::GatewayUnreachable { .. })
            || matches!(self, Self::GatewayRefused { code, .. } if code == "Unauthorized")
    }
}

/// Where requests go; for error messages.
#[derive(Debug, Clone)]
pub struct Target {
    /// Kubeconfig context in use.
    pub context: String,
    /// Address of its API server.
    pub server: String,
}

/// What was tried, in RBAC's words.
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

/// The innermost error: "connection refused" says more than "service error".
pub fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::{Status, response::StatusDetails};

    use super::{Attempt, PluginError, Target, explain_status};

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

    #[test]
    fn a_reader_that_had_enough_is_not_an_error() {
        let closed = PluginError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((closed.exit_code(), closed.sentence()), (0, None));
        assert_eq!(PluginError::Interrupted.sentence(), None);
        let full = PluginError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit_code(), 1);
        assert!(full.sentence().unwrap().starts_with("error: cannot write to standard output"));
    }

    #[test]
    fn exit_codes_are_those_in_the_help() {
        use clap::CommandFactory;
        let help = super::super::args::Args::command().render_help().to_string();
        let expired = PluginError::PairingExpired { command: "a".into() };
        let late = PluginError::TimedOut { after: 1, last: String::new() };
        let phone = PluginError::NeedsPairing(String::new());
        for (error, words) in [
            (expired, "pairing window passed"),
            (late, "timed out"),
            (phone, "has to be paired"),
            (PluginError::Interrupted, "interrupted"),
        ] {
            let line =
                help.lines().find(|line| line.trim_start().starts_with(&format!("{} ", error.exit_code()))).unwrap();
            assert!(line.contains(words), "{line}");
        }
    }
}
