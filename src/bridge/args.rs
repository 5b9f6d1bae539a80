//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use whatsapp_operator::platform::{https::address, telemetry::LogFormat, trace::export::Export};

/// Runs WhatsApp Web sessions for whatsapp-operator and offers them over HTTP.
///
/// Every flag can be given as an environment variable instead: --data-dir as WHATSAPP_BRIDGE_DATA_DIR, and so on. A flag
/// wins over its variable.
#[derive(Debug, Parser)]
#[command(name = "whatsapp-bridge", version, after_help = EXAMPLES)]
pub struct Args {
    /// Where the API listens; a port alone is all addresses of IPv4 and IPv6
    #[arg(long, env = "WHATSAPP_BRIDGE_LISTEN", value_name = "ADDRESS", default_value = ":8080", value_parser = address)]
    pub listen: SocketAddr,

    /// Where /healthz, /readyz and /metrics are served, without a token
    #[arg(long, env = "WHATSAPP_BRIDGE_ADMIN_LISTEN", value_name = "ADDRESS", default_value = ":8081", value_parser = address)]
    pub admin_listen: SocketAddr,

    /// Where keys and sessions are kept; one process at a time
    #[arg(
        long,
        env = "WHATSAPP_BRIDGE_DATA_DIR",
        value_name = "DIRECTORY",
        default_value = "/var/lib/whatsapp-bridge"
    )]
    pub data_dir: PathBuf,

    /// Which shard this is, for example NAMESPACE/POD: noted in the data directory, and a directory of another shard is refused.
    /// So a copy that is restored beside its running original does not connect with the same keys
    #[arg(long, env = "WHATSAPP_BRIDGE_PLACE", value_name = "NAME")]
    pub place: Option<String>,

    /// Take over a data directory that belongs to another shard, which is stopped for good, or that was restored from a copy; and give
    /// instances that were created anew (same namespace, name and owner) the sessions that they had. All sessions make new Signal sessions
    /// with their recipients, so leave it out again afterwards
    #[arg(long, env = "WHATSAPP_BRIDGE_ADOPT_DATA")]
    pub adopt_data: bool,

    /// File with the token callers must show, or with several, one a line, of which any will do; read again when it changes
    #[arg(long, env = "WHATSAPP_BRIDGE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,

    /// Certificate chain (PEM) to serve the API over TLS
    #[arg(long, env = "WHATSAPP_BRIDGE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) of that certificate
    #[arg(long, env = "WHATSAPP_BRIDGE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How many sessions this bridge may hold
    #[arg(long, env = "WHATSAPP_BRIDGE_MAX_SESSIONS", value_name = "N", default_value_t = 1000)]
    pub max_sessions: usize,

    /// How many sessions may be in a pairing window at the same time; the others queue
    #[arg(long, env = "WHATSAPP_BRIDGE_MAX_PAIRINGS", value_name = "N", default_value_t = 200, value_parser = permits)]
    pub max_pairings: usize,

    /// Where the control group's memory files are (memory.max, memory.current, memory.stat): pairings wait while more than 80 %
    /// of the limit is in use
    #[arg(
        long,
        env = "WHATSAPP_BRIDGE_MEMORY_DIR",
        value_name = "DIRECTORY",
        default_value = "/sys/fs/cgroup",
        hide_short_help = true
    )]
    pub memory_dir: PathBuf,

    /// Time between two sessions that connect again after a start; when not given 50ms, and with more than 400 sessions as
    /// much less as it takes for the last one to begin within 20s
    #[arg(long, env = "WHATSAPP_BRIDGE_RESUME_INTERVAL", value_name = "TIME", value_parser = time)]
    pub resume_interval: Option<Duration>,

    /// How long a connection may take until its first code or its login
    #[arg(long, env = "WHATSAPP_BRIDGE_CONNECT_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = patience)]
    pub connect_timeout: Duration,

    /// How many messages may wait in one session
    #[arg(long, env = "WHATSAPP_BRIDGE_MAX_WAITING_PER_SESSION", value_name = "N", default_value_t = 10_000)]
    pub max_waiting_per_session: usize,

    /// How many messages may wait in all sessions
    #[arg(long, env = "WHATSAPP_BRIDGE_MAX_WAITING", value_name = "N", default_value_t = 200_000)]
    pub max_waiting: usize,

    /// How many days a message is remembered after it was over; for so long a recipient's phone that could not read it gets it again
    #[arg(long, env = "WHATSAPP_BRIDGE_HISTORY_DAYS", value_name = "DAYS", default_value_t = 8)]
    pub history_days: u32,

    /// How many messages that are over are remembered at most; those that were over first are forgotten first
    #[arg(long, env = "WHATSAPP_BRIDGE_HISTORY_MESSAGES", value_name = "N", default_value_t = 1_000_000)]
    pub history_messages: u64,

    /// Connect there instead of to WhatsApp, for instance to a relay
    #[arg(long, env = "WHATSAPP_BRIDGE_WHATSAPP_URL", value_name = "URL", value_parser = websocket)]
    pub whatsapp_url: Option<String>,

    /// Version of the web client to present, such as 2.3000.1026131876; asked from WhatsApp once a day when not given
    #[arg(long, env = "WHATSAPP_BRIDGE_WHATSAPP_VERSION", value_name = "VERSION", value_parser = version)]
    pub whatsapp_version: Option<(u32, u32, u32)>,

    /// Write the addresses to this file once they are known: {"http": URL, "admin": URL}
    #[arg(long, env = "WHATSAPP_BRIDGE_ANNOUNCE", value_name = "FILE")]
    pub announce: Option<PathBuf>,

    /// Where traces go
    #[command(flatten)]
    pub traces: Export,

    /// How long to go on answering after SIGTERM, while Kubernetes tells callers to go elsewhere
    #[arg(long, env = "WHATSAPP_BRIDGE_SHUTDOWN_DELAY", value_name = "TIME", default_value = "5s", value_parser = time)]
    pub shutdown_delay: Duration,

    /// How log lines look
    #[arg(long, env = "WHATSAPP_BRIDGE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: a level, or levels by module
    #[arg(long, env = "WHATSAPP_BRIDGE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

const EXAMPLES: &str = "Examples:
  whatsapp-bridge --data-dir /data --token-file /etc/whatsapp-bridge/token
  whatsapp-bridge --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --announce /tmp/bridge.json \\
      --data-dir /tmp/bridge --token-file /tmp/token --log debug";

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time such as 50ms, 30s or 2m".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// A connection that may take no time at all is never made.
fn patience(text: &str) -> Result<Duration, String> {
    let patience = time(text)?;
    if patience < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(patience) }
}

fn permits(text: &str) -> Result<usize, String> {
    match text.parse() {
        // The upper end is what the semaphore behind it can count.
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("must be a number from 1 to 1000000".to_owned()),
    }
}

fn websocket(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("must be a ws:// or wss:// URL: {error}"))?;
    if matches!(url.scheme(), "ws" | "wss") && url.has_host() {
        // As parsed: without outer spaces, the scheme in lower case. The library takes it as it is.
        Ok(url.into())
    } else {
        Err("must be a ws:// or wss:// URL".to_owned())
    }
}

fn version(text: &str) -> Result<(u32, u32, u32), String> {
    let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([first, second, third]) => Ok((*first, *second, *third)),
        _ => Err("must be three numbers such as 2.3000.1026131876".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_was_sent_is_kept_for_phones_that_were_off_for_a_week() {
        assert!(Args::try_parse_from(["whatsapp-bridge", "--token-file", "t"]).unwrap().history_days > 7);
    }

    #[test]
    fn bad_values_are_refused_with_what_would_do() {
        let parse = |flag: &str, value: &str| {
            Args::try_parse_from(["whatsapp-bridge", "--token-file", "t", flag, value])
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(parse("--whatsapp-url", "http://x").unwrap_err().contains("must be a ws:// or wss:// URL"));
        let written = ["whatsapp-bridge", "--token-file", "t", "--whatsapp-url", " WS://127.0.0.1:1/ws "];
        assert_eq!(Args::try_parse_from(written).unwrap().whatsapp_url.as_deref(), Some("ws://127.0.0.1:1/ws"));
        assert!(parse("--whatsapp-version", "2.x").unwrap_err().contains("must be three numbers"));
        assert!(parse("--connect-timeout", "30").unwrap_err().contains("must be a time"));
        assert!(parse("--max-pairings", "0").unwrap_err().contains("from 1 to"));
        assert!(parse("--connect-timeout", "0s").unwrap_err().contains("must be at least 1s"));
        assert!(parse("--connect-timeout", "2m").is_ok());
    }
}
