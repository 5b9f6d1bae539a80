//! The flags of every subcommand that keeps running: its admin address, its announcement, its log.

use std::{net::SocketAddr, path::PathBuf, str::FromStr as _, time::Duration};

use clap::Args;
use jiff::SignedDuration;

use crate::platform::{https::address, telemetry::LogFormat};

/// What every long-running subcommand takes.
#[derive(Args, Clone, Debug)]
pub struct ProcessArgs {
    /// Where to serve /healthz, /readyz and /metrics; a port alone is all addresses of IPv4 and IPv6
    #[arg(long, env = "WHATSAPP_OPERATOR_ADMIN_LISTEN", value_name = "ADDRESS", default_value = ":8080", value_parser = address)]
    pub admin_listen: SocketAddr,

    /// Write the addresses listened on to this file as JSON, once
    #[arg(long, env = "WHATSAPP_OPERATOR_ANNOUNCE", value_name = "FILE")]
    pub announce: Option<PathBuf>,

    /// How long to go on answering after SIGTERM, while Kubernetes tells callers to go elsewhere
    #[arg(long, env = "WHATSAPP_OPERATOR_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s", value_parser = delay)]
    pub shutdown_delay: Duration,

    /// Log level (error, warn, info, debug, trace) or directives
    #[arg(long, env = "WHATSAPP_OPERATOR_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, env = "WHATSAPP_OPERATOR_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Longer than a pod is given to end, by default, would only have it killed.
fn delay(text: &str) -> Result<Duration, String> {
    let duration = SignedDuration::from_str(text).ok().and_then(|duration| Duration::try_from(duration).ok());
    let fits = duration.filter(|duration| duration.as_secs() <= 600);
    fits.ok_or_else(|| "it must be a duration such as 0s, 500ms or 5s, and at most 10m".into())
}
