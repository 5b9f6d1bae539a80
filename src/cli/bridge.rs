//! What the operator is told of the bridge that it is installed with.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{values::name, webhook::life};
use crate::platform::cluster_proxy::bare;

/// The bridge that the operator is installed with: what it makes and keeps for it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Bridge of the installation")]
pub struct BridgeArgs {
    /// Secret to keep a bridge's token in: the operator makes the token, changes it when asked, and says beside it which
    /// tokens the bridge must accept (key accepted); "" for none
    #[arg(long, env = "WHATSAPP_OPERATOR_BRIDGE_TOKEN_SECRET", value_name = "NAME", default_value = "", value_parser = optional)]
    pub bridge_token_secret: String,

    /// Secret to keep a certificate for the bridge's shards in: the operator makes and renews it, and says beside the token
    /// whom to trust; "" for none
    #[arg(long, env = "WHATSAPP_OPERATOR_BRIDGE_TLS_SECRET", value_name = "NAME", default_value = "", value_parser = optional)]
    pub bridge_tls_secret: String,

    /// DNS names of the shards, for that certificate
    #[arg(long, env = "WHATSAPP_OPERATOR_BRIDGE_HOSTS", value_name = "A,B", value_delimiter = ',')]
    pub bridge_hosts: Vec<String>,

    /// File with a WhatsAppBridge (YAML) that the leader makes and keeps as it stands there; read again when it changes
    #[arg(long, env = "WHATSAPP_OPERATOR_DEFAULT_BRIDGE", value_name = "FILE")]
    pub default_bridge: Option<PathBuf>,

    /// How long a new token takes at most to reach every bridge before callers show it; the old one goes after three times as
    /// long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = life, hide_short_help = true)]
    pub bridge_token_overlap: Duration,
}

impl BridgeArgs {
    /// The Secret of the token, when one is to be kept.
    pub fn token_secret(&self) -> Option<&str> {
        Some(self.bridge_token_secret.as_str()).filter(|name| !name.is_empty())
    }

    /// The Secret of the certificate and whom it is for, when one is to be kept.
    pub fn certificate(&self) -> Option<(&str, Vec<String>)> {
        let hosts: Vec<_> =
            self.bridge_hosts.iter().filter(|host| !host.is_empty()).map(|host| bare(host).to_owned()).collect();
        (!self.bridge_tls_secret.is_empty() && !hosts.is_empty()).then_some((self.bridge_tls_secret.as_str(), hosts))
    }
}

/// A name, or nothing.
fn optional(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { name(text) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::BridgeArgs;
    use crate::cli::{Args, Command};

    fn parsed(flags: &[&str]) -> Result<BridgeArgs, String> {
        match Args::try_parse_from(["whatsapp-operator", "controller"].iter().chain(flags)) {
            Ok(Args { command: Command::Controller(args) }) => Ok(args.bridge),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn nothing_is_kept_unless_it_is_asked_for() {
        let args = parsed(&["--bridge-hosts="]).unwrap();
        assert!(args.token_secret().is_none() && args.certificate().is_none() && args.default_bridge.is_none());
        let args = parsed(&["--bridge-token-secret=t", "--bridge-tls-secret=c", "--bridge-hosts=*.a,b"]).unwrap();
        assert_eq!(args.token_secret(), Some("t"));
        assert_eq!(args.certificate(), Some(("c", vec!["*.a".to_owned(), "b".to_owned()])));
        assert!(parsed(&["--bridge-token-secret=A_B"]).unwrap_err().contains("lower case"));
    }
}
