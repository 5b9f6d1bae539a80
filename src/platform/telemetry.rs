//! Logs: one line per change, text for people or JSON for machines, on stderr.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter makes no sense.
    #[error(
        "--log must be a level (error, warn, info, debug, trace) or directives such as 'info,whatsapp_operator=debug'"
    )]
    Filter,
    /// Something else already took the logs.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging at `filter`: a level for our own lines, or a list of directives.
///
/// # Errors
/// When the filter is malformed.
pub fn start(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(directives(filter)).map_err(|_| TelemetryError::Filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Codes for colours are for people at a terminal, and noise in a file.
    let coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Not by `init`, which would also take in what is logged through the `log` crate: the WhatsApp library logs codes and
    // phone numbers there.
    let started = match format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(lines.with_ansi(coloured).with_target(false).finish())
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(true);
            tracing::subscriber::set_global_default(lines.finish())
        }
    };
    started.map_err(|_| TelemetryError::Twice)
}

/// A bare level speaks for our own lines only. The HTTP libraries log whole bodies at their lower levels, and kube_client
/// an answer it cannot parse at `warn`: QR codes and tokens travel in those. What fails, we log ourselves.
fn directives(filter: &str) -> String {
    // A variable that is set to nothing would mean everything.
    let filter = Some(filter.trim()).filter(|filter| !filter.is_empty()).unwrap_or("info");
    let bare = !filter.contains(['=', ',']);
    let own = if bare {
        format!("warn,whatsapp_operator={filter},whatsapp_bridge={filter},kube_runtime=error")
    } else {
        filter.to_owned()
    };
    format!("{own},kube_client=off,hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,tower=warn,rustls=warn")
}

#[cfg(test)]
mod tests {
    use super::directives;
    use tracing_subscriber::EnvFilter;

    #[test]
    fn a_bare_level_is_for_our_own_lines_and_never_opens_the_libraries() {
        for filter in ["debug", "trace", "info,whatsapp_operator=debug"] {
            let text = EnvFilter::try_new(directives(filter)).unwrap().to_string();
            assert!(text.contains("kube_client=off") && text.contains("hyper=warn"), "{text}");
        }
        assert!(directives("debug").contains("whatsapp_operator=debug"));
        assert!(directives(" ").contains("whatsapp_operator=info"));
        assert!(EnvFilter::try_new(directives("loud=very")).is_err());
    }
}
