//! The command line of the verbs about messages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{InstanceName, Lifetime, Limit, MessageId};
use crate::bridge_api::is_idempotency_key;

pub(super) const SEND_HELP: &str = "\
The message is on the bridge's disk when the command ends, and reaches WhatsApp once: every message is sent with an
idempotency key, so a command that is repeated with the same --idempotency-key is the same message.
TEXT - reads the text from standard input, so that it stands in no history.

Examples:
  kubectl whatsapp send shop --to +4915112345678 \"Your order is on its way.\"
  kubectl whatsapp send shop --to +4915112345678 --wait \"Hello\"     until WhatsApp has it
  kubectl whatsapp send shop --to +4915112345678 --idempotency-key order-17 - < order-17.txt
  id=$(kubectl whatsapp send shop --to +4915112345678 -o name \"Hello\") && kubectl whatsapp cancel \"$id\"

Exit codes: 0 accepted (with --wait: sent), 1 refused or failed, 4 timed out (it still waits), 5 no device is linked.";

pub(super) const MESSAGES_HELP: &str = "\
Examples:
  kubectl whatsapp messages shop               the newest 50
  kubectl whatsapp messages shop -w            and what becomes of them, until Ctrl-C
  kubectl whatsapp messages shop -o wide       with what they say
  kubectl whatsapp messages shop -o json | jq -r '.messages[] | select(.status == \"failed\").cause'";

pub(super) const CANCEL_HELP: &str = "\
A message that was handed to WhatsApp, or is over, cannot be called back: exit code 1.

Example:
  kubectl whatsapp cancel 7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.3EB0C431D2F4A6B8907A";

/// How to reach the gateway, and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The gateway")]
pub struct GatewayFlags {
    /// Address of the gateway, for example https://whatsapp.example.com. When not given it is found by its Service, and
    /// reached through the API server as by kubectl port-forward.
    #[arg(long, value_name = "URL", env = "WHATSAPP_GATEWAY", hide_env_values = true)]
    pub gateway: Option<String>,
    /// Certificates to trust instead of the system's when the gateway speaks TLS; a PEM file.
    #[arg(long, value_name = "FILE")]
    pub gateway_ca: Option<PathBuf>,
    /// Call as this service account of the namespace, by a token for ten minutes. Needed where the kubeconfig signs in with a
    /// client certificate, which cannot be passed on.
    #[arg(long, value_name = "NAME")]
    pub as_service_account: Option<String>,
}

/// What the header of this name may hold; a line break out of a file, for example, could not be sent at all.
fn idempotency_key(text: &str) -> Result<String, String> {
    if is_idempotency_key(text) {
        Ok(text.to_owned())
    } else {
        Err("give 1 to 255 visible ASCII characters".to_owned())
    }
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The instance to send through.
    pub name: InstanceName,
    /// What to say, or - to read it from standard input.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
    /// Who is to get it: a phone number in international form.
    #[arg(long, value_name = "NUMBER")]
    pub to: String,
    /// Wait until WhatsApp's server has it, or it has ended otherwise; shows what it waits for meanwhile.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, for example 30s; 0 means forever.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: Limit,
    /// Names the message, so that repeating the command is the same message; a new name when not given.
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    pub idempotency_key: Option<String>,
    /// How long it may wait to be sent, for example 1h or 7d; 24h when not given.
    #[arg(long, value_name = "DURATION")]
    pub expires_in: Option<Lifetime>,
    /// The message as an object, or its id, instead of a line.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<MessageOutput>,
    /// How to reach the gateway.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Arguments of `messages`.
#[derive(Debug, Args)]
pub struct MessagesArgs {
    /// The instance.
    pub name: InstanceName,
    /// Go on and show what becomes of them.
    #[arg(short, long)]
    pub watch: bool,
    /// How many, the newest first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// A table with what they say, or the objects.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<MessagesOutput>,
    /// How to reach the gateway.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The message's id.
    #[arg(value_name = "ID")]
    pub id: MessageId,
    /// The message as an object, or its id, instead of a line.
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<MessageOutput>,
    /// How to reach the gateway.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// What `send -o` and `cancel -o` take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum MessageOutput {
    Json,
    Yaml,
    Name,
}

/// What `messages -o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum MessagesOutput {
    Wide,
    Json,
    Yaml,
}
