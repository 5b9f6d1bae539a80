//! The command line of `kubectl whatsapp`, parsed once into types that cannot hold a bad value.

use std::{path::PathBuf, str::FromStr};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use super::values::{InstanceName, Lifetime, Limit};
use super::{
    doctor_args::{DOCTOR_HELP, DoctorArgs},
    help::{COMPLETION_HELP, DASHBOARD_HELP, EXIT_CODES, LINK_HELP, QR_HELP},
    message_args::{CANCEL_HELP, CancelArgs, GatewayFlags, MESSAGES_HELP, MessagesArgs, SEND_HELP, SendArgs},
};

/// Pair, list, connect and disconnect WhatsAppInstances, and send messages through them.
#[derive(Debug, Parser)]
#[command(name = "kubectl-whatsapp", bin_name = "kubectl whatsapp", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Args {
    /// Flags every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The flags that mean what they mean in kubectl.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Flags as in kubectl")]
pub struct Global {
    /// Namespace of the instances; the kubeconfig context's when not given.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig to use; its current one when not given.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig file; $KUBECONFIG, then ~/.kube/config when not given.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// User to impersonate.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to impersonate; may be given several times. Needs --as.
    #[arg(long, global = true, value_name = "GROUP")]
    pub as_group: Vec<String>,
    /// How long one request to the API server may take, for example 10s or 1m; 0 means no limit. Watching has its own
    /// limit, --timeout.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s")]
    pub request_timeout: Limit,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Draw the QR code (or pairing code) to scan, live, until the phone has scanned it.
    #[command(after_help = QR_HELP)]
    Qr(QrArgs),
    /// Make an address at which the person with the phone links it, without an account of the cluster.
    #[command(after_help = LINK_HELP)]
    Link(LinkArgs),
    /// List instances.
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show one instance: what it is, where it stands, what to do next.
    Status(StatusArgs),
    /// Ask for a new pairing window.
    Refresh(ActArgs),
    /// Bring an instance online; one that ended by itself is started again.
    Connect(ActArgs),
    /// Take an instance offline; its device stays linked.
    Disconnect(ActArgs),
    /// Remove an instance's device from its WhatsApp account; the instance stays, and connecting it again needs a scan.
    Unlink(ActArgs),
    /// Make an instance its owner's primary one, which apps send through by default. It must be connected.
    SetPrimary(ActArgs),
    /// Send a message through an instance, by the gateway.
    #[command(after_help = SEND_HELP)]
    Send(SendArgs),
    /// List the messages of an instance, newest first.
    #[command(after_help = MESSAGES_HELP)]
    Messages(MessagesArgs),
    /// Call a message back that was not handed to WhatsApp yet.
    #[command(after_help = CANCEL_HELP)]
    Cancel(CancelArgs),
    /// Open the dashboard in a browser, signed in.
    #[command(after_help = DASHBOARD_HELP)]
    Dashboard(DashboardArgs),
    /// List owners: how many instances they have, may have, and which is primary.
    Owners(OwnersArgs),
    /// Change what holds for one owner.
    #[command(subcommand)]
    Owner(OwnerVerb),
    /// Say what is wrong with the installation, and collect what a maintainer needs in one file without secrets.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print a completion script.
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell, or kubectl for completion of `kubectl whatsapp`.
        shell: CompletionTarget,
    },
    /// Print the version of this program.
    Version,
    /// Print this reference as Markdown.
    #[command(hide = true)]
    Reference,
    /// Answer kubectl's completion (KEP-2379).
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words after `kubectl whatsapp`, the last one unfinished.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
        words: Vec<String>,
    },
}

/// The verbs of `owner`.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum OwnerVerb {
    /// Set how many instances an owner may have. More lets those in that wait; fewer stops none that runs.
    SetLimit {
        /// The owner, as written in spec.owner of the instances.
        #[arg(value_parser = owner)]
        owner: String,
        /// How many, 0 to 10000, or "default" for the operator's own limit.
        #[arg(allow_hyphen_values = true)]
        limit: OwnerLimit,
    },
}

/// How many instances; the operator's default when none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerLimit(pub Option<u32>);

impl FromStr for OwnerLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(None));
        }
        let limit = text.parse().ok().filter(|limit| *limit <= 10_000);
        limit.map(|limit| Self(Some(limit))).ok_or_else(|| "give a number from 0 to 10000, or \"default\"".to_owned())
    }
}

fn owner(text: &str) -> Result<String, String> {
    if (1..=253).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err("an owner has 1 to 253 characters".to_owned())
    }
}

/// Arguments of `owners`.
#[derive(Debug, ClapArgs)]
pub struct OwnersArgs {
    /// The objects instead of a table.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectOutput>,
}

/// Arguments of `dashboard`.
#[derive(Debug, ClapArgs)]
pub struct DashboardArgs {
    /// Print the address and start no browser.
    #[arg(long)]
    pub no_open: bool,
    /// The port of this machine; a free one when not given.
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// How to reach the gateway.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Arguments of `qr`.
#[derive(Debug, ClapArgs)]
pub struct QrArgs {
    /// The instance.
    pub name: InstanceName,
    /// Ask for a new pairing window first; nothing happens to an instance that is connected.
    #[arg(long)]
    pub refresh: bool,
    /// Show one code and end, without waiting for the phone.
    #[arg(long)]
    pub once: bool,
    /// How to show the code: drawn with text, raw (the text inside, one line per code), or one svg image.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: QrOutput,
    /// Draw for a terminal with a light background; only matters where the drawing has no colours (pipe, NO_COLOR).
    #[arg(long)]
    pub invert: bool,
    /// Give up after this long, for example 5m; 0 means never.
    #[arg(long, value_name = "DURATION", default_value = "0")]
    pub timeout: Limit,
}

/// Arguments of `link`.
#[derive(Debug, ClapArgs)]
pub struct LinkArgs {
    /// The instance.
    pub name: InstanceName,
    /// How long the address works, 30s to 10m; ten minutes when not given.
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub expires_in: Lifetime,
    /// Take the address back instead.
    #[arg(long, conflicts_with_all = ["expires_in", "output"])]
    pub revoke: bool,
    /// The address and when it ends as an object, instead of the address.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectOutput>,
    /// How to reach the gateway.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Arguments of `list`.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// List the instances of every namespace.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only the instances of this owner.
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Only the instances with such labels, as in kubectl: team=sales, 'env in (test,dev)', '!legacy'.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// A table with more columns, the objects, or their names.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ListOutput>,
}

/// Arguments of `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// The instance.
    pub name: InstanceName,
    /// The object itself instead of the summary.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectOutput>,
}

/// Arguments of the verbs that change one instance.
#[derive(Debug, ClapArgs)]
pub struct ActArgs {
    /// The instance.
    pub name: InstanceName,
    /// Wait until it has come about: connected, disconnected, unlinked, primary, or a new code is there.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, for example 30s; 0 means forever.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: Limit,
}

/// What `qr -o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum QrOutput {
    Text,
    Raw,
    Svg,
}

/// What `list -o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ListOutput {
    Wide,
    Json,
    Yaml,
    Name,
}

/// What `status -o`, `owners -o` and `link -o` take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ObjectOutput {
    Json,
    Yaml,
}

/// What `completion` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CompletionTarget {
    Kubectl,
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Elvish,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, OwnerLimit, Verb};

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_limit_is_a_number_or_the_default() {
        let limit = |text: &str| text.parse::<OwnerLimit>().map(|limit| limit.0);
        assert_eq!((limit("0"), limit("10000"), limit("default")), (Ok(Some(0)), Ok(Some(10_000)), Ok(None)));
        for text in ["-1", "10001", "many", ""] {
            assert!(limit(text).unwrap_err().contains("10000"), "{text}");
        }
    }

    #[test]
    fn flags_may_stand_before_and_after_the_verb() {
        let args = Args::try_parse_from(["kubectl-whatsapp", "-n", "a", "ls", "-A", "--context", "c"]).unwrap();
        assert_eq!((args.global.namespace.as_deref(), args.global.context.as_deref()), (Some("a"), Some("c")));
        assert!(matches!(args.verb, Verb::List(list) if list.all_namespaces));
    }

    #[test]
    fn usage_is_written_as_people_type_it() {
        let error = Args::try_parse_from(["kubectl-whatsapp", "qr"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("Usage: kubectl whatsapp qr"), "{error}");
    }
}
