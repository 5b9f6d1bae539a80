//! `whatsapp-operator gateway`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{
    ClusterArgs,
    process::ProcessArgs,
    values::{namespace, selector},
};
use crate::{
    platform::{https::address, trace::export::Export},
    rules::DEFAULT_LIMIT,
};

const EXAMPLES: &str = "\
Examples:
  # In a pod, behind something that speaks TLS to callers
  whatsapp-operator gateway --namespace shop

  # With TLS of its own; the files are read again when they change
  whatsapp-operator gateway --tls-certificate /tls/tls.crt --tls-key /tls/tls.key

  # On a laptop
  whatsapp-operator gateway --kubeconfig ./kubeconfig --listen 127.0.0.1:8000 --admin-listen 127.0.0.1:0

Every flag can be given as an environment variable (shown with it); the flag wins.";

/// Arguments of `gateway`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GatewayArgs {
    /// Which cluster. Its credentials are the gateway's own; what callers ask for is done with the callers' tokens.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Where to serve the API; a port alone is all addresses of IPv4 and IPv6
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_LISTEN", value_name = "ADDRESS", default_value = ":8000", value_parser = address)]
    pub listen: SocketAddr,

    /// Certificate chain, PEM; plain HTTP when not given, so put something that speaks TLS in front: tokens travel here
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// Where sessions are created and looked for when a request does not say; the namespace of the kubeconfig's context or
    /// of the pod when not given, or the first of --watch-namespaces if it is none of those
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub namespace: Option<String>,

    /// Only instances in these namespaces, separated by commas, as the operator has them; all when empty. Then the gateway's
    /// account needs no right on instances elsewhere
    #[arg(long, env = "WHATSAPP_OPERATOR_WATCH_NAMESPACES", value_name = "A,B", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Only WhatsAppBridges with these labels, as the operator has them, for example 'operator=blue'; all when empty. Every
    /// replica must have the same: together they decide which shard keeps an idempotency key
    #[arg(long, env = "WHATSAPP_OPERATOR_BRIDGE_SELECTOR", value_name = "K=V", value_parser = selector)]
    pub bridge_selector: Option<String>,

    /// Audiences that callers' tokens may be for, separated by commas; the API server's own when empty. The API server must
    /// take them too (its --api-audiences), since it gets the same tokens
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_AUDIENCES", value_name = "A,B", value_delimiter = ',')]
    pub audiences: Vec<String>,

    /// How many requests a second each caller may make, and twice as many at once; 0 for no limit
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_RATE_LIMIT", value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub rate_limit: u32,

    /// How many seconds requests about messages wait for a bridge that has just gone, as it does while it restarts; from then on they
    /// are refused at once. 0: at once
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_RESTART_WAIT", value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(0..=30))]
    pub restart_wait: u64,

    /// How many instances the dashboard says an owner may have before their first one, as the operator has it
    #[arg(long, env = "WHATSAPP_OPERATOR_MAX_INSTANCES_PER_OWNER", value_name = "N", default_value_t = DEFAULT_LIMIT,
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub max_instances_per_owner: u32,

    /// Origins whose web pages may call from a browser, separated by commas, for example https://shop.example.com; none when
    /// empty
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_CORS_ORIGINS", value_name = "A,B", value_delimiter = ',', value_parser = origin)]
    pub cors_origins: Vec<String>,

    /// Where people reach this gateway, for example https://whatsapp.example.com: linking links begin with it. When not given, they
    /// begin with the address at which whoever makes one reaches the dashboard
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,

    /// Where traces go.
    #[command(flatten)]
    pub traces: Export,

    /// Of the traces that begin here, the share that is sent, from 0 to 1. One that a caller began is sent when the caller says so
    #[arg(long, env = "WHATSAPP_OPERATOR_GATEWAY_OTLP_SHARE", value_name = "SHARE", default_value = "1", value_parser = share)]
    pub otlp_share: f64,

    /// What every long-running subcommand takes.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl GatewayArgs {
    /// The default namespace, when it was said.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }

    /// The labels that were said.
    pub fn bridge_selector(&self) -> Option<String> {
        self.bridge_selector.clone().filter(|selector| !selector.is_empty())
    }

    /// The audiences that were said.
    pub fn audiences(&self) -> Vec<String> {
        self.audiences.iter().filter(|audience| !audience.is_empty()).cloned().collect()
    }

    /// The address that was said.
    pub fn public_url(&self) -> Option<String> {
        self.public_url.clone().filter(|url| !url.is_empty())
    }

    /// The origins that were said.
    pub fn origins(&self) -> Vec<String> {
        self.cors_origins.iter().filter(|origin| !origin.is_empty()).cloned().collect()
    }
}

/// A scheme and a host, as browsers write it; or nothing. There is no `*`: whoever may call is said by name.
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    if text.is_empty() || host.is_some_and(|host| !host.is_empty() && host.bytes().all(fits)) {
        Ok(text.into())
    } else {
        Err("it must look like https://shop.example.com, in lower case and without a path".into())
    }
}

/// The same; a slash at its end does not matter.
fn public_url(text: &str) -> Result<String, String> {
    origin(text.strip_suffix('/').unwrap_or(text))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it must be a number from 0 to 1, such as 0.1".to_owned())
}

/// Arguments of `openapi`.
#[derive(Debug, Args)]
pub struct OpenapiArgs {
    /// Print the list of error codes as a page of the reference instead
    #[arg(long)]
    pub errors: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::GatewayArgs;
    use crate::cli::{Args, Command};

    fn parsed(flags: &[&str]) -> Result<GatewayArgs, String> {
        match Args::try_parse_from(["whatsapp-operator", "gateway"].iter().chain(flags)) {
            Ok(Args { command: Command::Gateway(args) }) => Ok(*args),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn nothing_needs_to_be_said() {
        let args = parsed(&[]).unwrap();
        assert_eq!((args.listen.port(), args.rate_limit, args.namespace()), (8000, 100, None));
        assert!(args.audiences().is_empty() && args.origins().is_empty() && args.tls_certificate.is_none());
        let args = parsed(&["--audiences=", "--cors-origins=https://a.example,http://localhost:3000", "--namespace="])
            .unwrap();
        assert_eq!((args.audiences().len(), args.origins().len(), args.namespace()), (0, 2, None));
        let url = |flag: &str| parsed(&[flag]).unwrap().public_url();
        assert_eq!(url("--public-url=https://a.example/").as_deref(), Some("https://a.example"));
        assert_eq!(url("--public-url="), None);
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_what_it_must_be() {
        for (flag, says) in [
            ("--listen=8000", "127.0.0.1:0"),
            ("--tls-key=a", "--tls-certificate"),
            ("--tls-certificate=a", "--tls-key"),
            ("--rate-limit=-1", "--rate-limit"),
            ("--cors-origins=*", "https://shop.example.com"),
            ("--cors-origins=https://a.example/path", "without a path"),
            ("--public-url=a.example", "https://"),
            ("--namespace=A_b", "lower case"),
            ("--otlp-share=2", "from 0 to 1"),
            ("--otlp-share=NaN", "from 0 to 1"),
        ] {
            let error = parsed(&[flag]).unwrap_err();
            assert!(error.contains(says), "{flag}: {error}");
        }
    }
}
