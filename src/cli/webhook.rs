//! `whatsapp-operator webhook`, the flags it shares with `controller`, and `webhook-configuration`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr as _, time::Duration};

use clap::Args;
use jiff::SignedDuration;

use super::{
    ClusterArgs,
    process::ProcessArgs,
    values::{name, namespace},
};
use crate::{
    admission::{
        certificates::Lifetimes,
        configuration::{Parameters, Reach},
    },
    platform::{cluster_proxy::bare, https::address},
    rules::DEFAULT_LIMIT,
};

/// What the webhooks are told, in whichever process they run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Admission webhooks")]
pub struct WebhookArgs {
    /// Where to serve admission reviews (a port alone is all addresses of IPv4 and IPv6); "none" for a controller without
    /// them, which repairs what breaks a rule and refuses nothing
    #[arg(long = "webhook-listen", env = "WHATSAPP_OPERATOR_WEBHOOK_LISTEN", value_name = "ADDRESS",
          default_value = ":9443", value_parser = listen)]
    pub listen: Listen,

    /// How many instances an owner may have, unless spec.maxInstances of the WhatsAppOwner says otherwise
    #[arg(long, env = "WHATSAPP_OPERATOR_MAX_INSTANCES_PER_OWNER", value_name = "N", default_value_t = DEFAULT_LIMIT,
          value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub max_instances_per_owner: u32,

    /// DNS names and IP addresses the webhooks are reached by, for the certificate; the name of the Service
    /// "whatsapp-operator-webhook" when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_WEBHOOK_HOSTS", value_name = "A,B", value_delimiter = ',')]
    pub webhook_hosts: Vec<String>,

    /// Secret that certificate and authority are kept in, which all replicas share
    #[arg(long, env = "WHATSAPP_OPERATOR_WEBHOOK_SECRET", value_name = "NAME", default_value = "whatsapp-operator-webhook", value_parser = name)]
    pub webhook_secret: String,

    /// Namespace of the Secret; that of the Lease when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_WEBHOOK_SECRET_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub webhook_secret_namespace: Option<String>,

    /// Directory with tls.crt and tls.key kept by somebody else, for example cert-manager; the Secret is not used then
    #[arg(long, env = "WHATSAPP_OPERATOR_WEBHOOK_CERTIFICATE_DIR", value_name = "DIR")]
    pub webhook_certificate_dir: Option<PathBuf>,

    /// File with authorities, PEM: only clients with a certificate signed by one of them are answered, so choose one that
    /// signs for API servers alone; everybody is answered when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_WEBHOOK_CLIENT_CA", value_name = "FILE")]
    pub webhook_client_ca: Option<PathBuf>,

    /// Name of the Mutating- and ValidatingWebhookConfiguration that the leader writes the authority into; "" for none
    #[arg(
        long,
        env = "WHATSAPP_OPERATOR_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "whatsapp-operator"
    )]
    pub webhook_configuration: String,

    /// How long an authority lasts; it is replaced at two thirds
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = life, hide_short_help = true)]
    pub webhook_authority_life: Duration,

    /// How long a certificate lasts; it is replaced at two thirds
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = life, hide_short_help = true)]
    pub webhook_certificate_life: Duration,

    /// How long old and new authority are both trusted before and after the change
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = life, hide_short_help = true)]
    pub webhook_authority_overlap: Duration,
}

/// Where the webhooks are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// There.
    At(SocketAddr),
    /// Nowhere, because somebody said so.
    Nowhere,
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" { Ok(Listen::Nowhere) } else { address(text).map(Listen::At) }
}

impl WebhookArgs {
    /// How long certificates last.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            authority: self.webhook_authority_life,
            leaf: self.webhook_certificate_life,
            overlap: self.webhook_authority_overlap,
        }
    }

    /// Whom the certificate is for.
    pub fn hosts(&self, namespace: &str) -> Vec<String> {
        let given: Vec<_> =
            self.webhook_hosts.iter().filter(|host| !host.is_empty()).map(|host| bare(host).to_owned()).collect();
        if given.is_empty() { vec![format!("whatsapp-operator-webhook.{namespace}.svc")] } else { given }
    }
}

/// Arguments of `webhook`.
#[derive(Debug, Args)]
pub struct AloneArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Namespace of the Lease that decides which replica writes the configurations; the pod's when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,

    /// Name of that Lease
    #[arg(long, env = "WHATSAPP_OPERATOR_LEASE_NAME", value_name = "NAME", default_value = "whatsapp-operator-webhook", value_parser = name)]
    pub lease_name: String,

    /// What every long-running subcommand takes.
    #[command(flatten)]
    pub process: ProcessArgs,

    /// The webhooks.
    #[command(flatten)]
    pub webhook: WebhookArgs,
}

/// Arguments of `webhook-configuration`.
#[derive(Debug, Args)]
pub struct ConfigurationArgs {
    /// Name of both objects
    #[arg(long, value_name = "NAME", default_value = "whatsapp-operator", value_parser = name)]
    pub name: String,

    /// Service of the webhooks, as NAMESPACE/NAME or NAMESPACE/NAME:PORT
    #[arg(long, value_name = "SERVICE", required_unless_present = "url", conflicts_with = "url", value_parser = service)]
    pub service: Option<Reach>,

    /// https address of the webhooks, when the API server does not reach Services
    #[arg(long, value_name = "URL", value_parser = url)]
    pub url: Option<Reach>,

    /// File with the authorities to trust, PEM; the leader fills them in when not given
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl ConfigurationArgs {
    /// What to make.
    pub fn parameters(&self, ca_bundle: Option<Vec<u8>>) -> Option<Parameters> {
        let reach = self.service.clone().or_else(|| self.url.clone())?;
        Some(Parameters { name: self.name.clone(), reach, ca_bundle, namespaces: None })
    }
}

fn service(text: &str) -> Result<Reach, String> {
    let parse = || {
        let (place, port) = text.split_once(':').unwrap_or((text, "443"));
        let (space, service) = place.split_once('/')?;
        let port = port.parse().ok()?;
        (!space.is_empty() && namespace(space).is_ok() && name(service).is_ok()).then(|| Reach::Service {
            namespace: space.to_owned(),
            name: service.to_owned(),
            port,
        })
    };
    parse().ok_or_else(|| "it must look like whatsapp/whatsapp-operator-webhook:443".into())
}

fn url(text: &str) -> Result<Reach, String> {
    let fits = text.starts_with("https://") && !text.contains(['?', '#', '@']);
    if fits { Ok(Reach::Url(text.to_owned())) } else { Err("it must look like https://127.0.0.1:9443".into()) }
}

/// How long something lasts.
pub(super) fn life(text: &str) -> Result<Duration, String> {
    let must = || "it must be a duration such as 90s, 1h or 168h, and at least 1s".to_owned();
    let duration = SignedDuration::from_str(text).ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|life| *life >= Duration::from_secs(1) && life.as_secs() <= 100 * 366 * 86_400).ok_or_else(must)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Listen;
    use crate::{
        admission::configuration::Reach,
        cli::{Args, Command},
    };

    fn parse(flags: &[&str]) -> Result<Command, String> {
        Args::try_parse_from(["whatsapp-operator"].iter().chain(flags))
            .map(|args| args.command)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_controller_serves_webhooks_unless_told_not_to() {
        let Ok(Command::Controller(args)) = parse(&["controller", "--webhook-listen", "127.0.0.1:0"]) else { panic!() };
        assert_eq!(args.webhook.listen, Listen::At("127.0.0.1:0".parse().unwrap()));
        assert_eq!(args.webhook.max_instances_per_owner, 10);
        assert_eq!(args.webhook.hosts("whatsapp"), ["whatsapp-operator-webhook.whatsapp.svc"]);
        assert_eq!(args.webhook.lifetimes(), crate::admission::certificates::Lifetimes::default());
        let Ok(Command::Controller(args)) = parse(&["controller"]) else { panic!() };
        assert_eq!(args.webhook.listen, Listen::At("[::]:9443".parse().unwrap()));
        let Ok(Command::Controller(args)) = parse(&["controller", "--webhook-listen=none"]) else { panic!() };
        assert_eq!(args.webhook.listen, Listen::Nowhere);
    }

    #[test]
    fn a_configuration_says_how_to_reach_the_webhooks() {
        let reach = |flags: &[&str]| match parse(flags)? {
            Command::WebhookConfiguration(args) => Ok(args.parameters(None).unwrap().reach),
            other => Err(format!("{other:?}")),
        };
        let by = |flag, value| reach(&["webhook-configuration", flag, value]);
        assert_eq!(by("--url", "https://127.0.0.1:1"), Ok(Reach::Url("https://127.0.0.1:1".into())));
        let service = Reach::Service { namespace: "a".into(), name: "b".into(), port: 443 };
        assert_eq!(by("--service", "a/b"), Ok(service));
        for (flag, value) in [("--service", "b"), ("--service", "a/b:x"), ("--url", "http://127.0.0.1:1")] {
            assert!(by(flag, value).unwrap_err().contains("must look like"), "{flag} {value}");
        }
        assert!(reach(&["webhook-configuration"]).is_err());
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_what_it_must_be() {
        for (flag, value) in [
            ("--webhook-listen", "9443"),
            ("--max-instances-per-owner", "-1"),
            ("--webhook-certificate-life", "0s"),
            ("--webhook-secret", "A_B"),
        ] {
            let error = parse(&["webhook", &format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(flag), "{flag}={value}: {error}");
        }
    }
}
