//! What can go wrong, each in one sentence that says what to do, and the exit code it ends with.

mod api_server;

use std::io;

use thiserror::Error;

pub use self::api_server::{Attempt, Target, explain, explain_status, unreachable_server};
pub use crate::platform::kubernetes::root_cause;

/// Why a verb failed.
#[derive(Debug, Error)]
pub enum PluginError {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No usable kubeconfig.
    #[error("cannot tell which cluster to use: {0}; set KUBECONFIG, or choose with --kubeconfig and --context")]
    Kubeconfig(String),
    /// The kubeconfig's credential plugin gives no credentials.
    #[error("cannot sign in by context \"{context}\": {cause}")]
    CredentialPlugin {
        /// Kubeconfig context in use.
        context: String,
        /// What it did, what it said, and how to get it.
        cause: String,
    },
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::PluginError;

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
        let help = crate::plugin::args::Args::command().render_help().to_string();
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
