//! The flags of every subcommand that keeps running: its admin address, its announcement, its log.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::controller::address;
use crate::platform::telemetry::LogFormat;

/// What every long-running subcommand takes.
#[derive(Args, Clone, Debug)]
pub struct ProcessArgs {
    /// Where to serve /healthz, /readyz and /metrics
    #[arg(long, env = "WHATSAPP_OPERATOR_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080", value_parser = address)]
    pub admin_listen: SocketAddr,

    /// Write the addresses listened on to this file as JSON, once
    #[arg(long, env = "WHATSAPP_OPERATOR_ANNOUNCE", value_name = "FILE")]
    pub announce: Option<PathBuf>,

    /// Log level (error, warn, info, debug, trace) or directives
    #[arg(long, env = "WHATSAPP_OPERATOR_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, env = "WHATSAPP_OPERATOR_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}
