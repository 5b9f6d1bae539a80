//! `whatsapp-operator controller`.

use clap::{ArgAction, Args};
use jiff::SignedDuration;

use super::{
    ClusterArgs,
    bridge::BridgeArgs,
    process::ProcessArgs,
    values::{duration, name, namespace, selector},
    webhook::WebhookArgs,
};
use crate::controller::Settings;

const EXAMPLES: &str = "\
Examples:
  # In a pod, or with the current context of the kubeconfig
  whatsapp-operator controller

  # On a laptop, one namespace, no election, ports of its own
  whatsapp-operator controller --kubeconfig ./kubeconfig --watch-namespaces team-a \\
      --leader-elect=false --admin-listen 127.0.0.1:0 --announce /tmp/operator.json

  # Two operators on one cluster, each for its own bridges: both need a selector
  whatsapp-operator controller --bridge-selector operator=green
  whatsapp-operator controller --bridge-selector operator=blue --lease-name whatsapp-operator-blue

Every flag can be given as an environment variable (shown with it); the flag wins.";

/// Arguments of `controller`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ControllerArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Only instances in these namespaces, separated by commas; all when empty. Sessions that no instance claims are
    /// then counted only together with --bridge-selector, which says that the bridges serve nobody else
    #[arg(long, env = "WHATSAPP_OPERATOR_WATCH_NAMESPACES", value_name = "A,B", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Only WhatsAppBridges with these labels, for example 'operator=blue', and instances that are on them or ask for them;
    /// all when empty, but for those that another installation in the cluster has made
    #[arg(long, env = "WHATSAPP_OPERATOR_BRIDGE_SELECTOR", value_name = "K=V", value_parser = selector)]
    pub bridge_selector: Option<String>,

    /// Namespace of the Lease; the pod's namespace, else "default", when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,

    /// Name of the Lease: operators of the same name take turns
    #[arg(long, env = "WHATSAPP_OPERATOR_LEASE_NAME", value_name = "NAME", default_value = "whatsapp-operator", value_parser = name)]
    pub lease_name: String,

    /// Reconcile only while holding the Lease; required with more than one replica
    #[arg(long, env = "WHATSAPP_OPERATOR_LEADER_ELECT", value_name = "BOOL", default_value_t = true,
          action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,

    /// How long a deletion waits for its bridge to unlink the device before it gives up with a Warning Event
    #[arg(long, env = "WHATSAPP_OPERATOR_DELETION_DEADLINE", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub deletion_deadline: SignedDuration,

    /// What every long-running subcommand takes.
    #[command(flatten)]
    pub process: ProcessArgs,

    /// The webhooks.
    #[command(flatten)]
    pub webhook: WebhookArgs,

    /// The bridge of the installation.
    #[command(flatten)]
    pub bridge: BridgeArgs,
}

impl ControllerArgs {
    /// What the controller of the installation in this namespace is told.
    pub fn settings(&self, installation: String) -> Settings {
        let namespaces = self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        Settings {
            namespaces,
            bridge_selector: self.bridge_selector.clone().filter(|selector| !selector.is_empty()),
            installation,
            deletion_deadline: self.deletion_deadline,
            max_instances_per_owner: self.webhook.max_instances_per_owner,
        }
    }

    /// Where the Lease is, when that was said.
    pub fn lease_namespace(&self) -> Option<&str> {
        self.lease_namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    fn parsed(flags: &[&str]) -> Result<ControllerArgs, String> {
        let argv = ["whatsapp-operator", "controller"].iter().chain(flags);
        match crate::cli::Args::try_parse_from(argv) {
            Ok(crate::cli::Args { command: crate::cli::Command::Controller(args) }) => Ok(*args),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        crate::cli::Args::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let args = parsed(&[
            "--watch-namespaces",
            "a,b",
            "--bridge-selector",
            "x=y",
            "--deletion-deadline",
            "90s",
            "--leader-elect=false",
        ]);
        let args = args.unwrap();
        assert_eq!(args.settings("here".into()).namespaces, ["a", "b"]);
        assert_eq!(args.settings("here".into()).bridge_selector.as_deref(), Some("x=y"));
        assert_eq!(args.settings("here".into()).deletion_deadline, SignedDuration::from_secs(90));
        assert!(!args.leader_elect);
        let plain = parsed(&[]).unwrap();
        assert!(plain.settings("here".into()).namespaces.is_empty() && plain.leader_elect);
        assert_eq!(plain.settings("here".into()).deletion_deadline, SignedDuration::from_mins(10));
    }

    #[test]
    fn what_is_set_to_nothing_is_not_set() {
        let args = parsed(&["--context=", "--lease-namespace=", "--bridge-selector="]).unwrap();
        assert_eq!((args.cluster.choice().context, args.lease_namespace()), (None, None));
        assert_eq!(args.settings("here".into()).bridge_selector, None);
    }

    #[test]
    fn a_bad_value_is_refused_with_the_flag_and_what_it_must_be() {
        for (flag, value, says) in [
            ("--watch-namespaces", "A_b", "lower case"),
            ("--bridge-selector", "nonsense", "key=value"),
            ("--deletion-deadline", "soon", "10m"),
            ("--deletion-deadline", "-5m", "10m"),
            ("--admin-listen", "localhost", "127.0.0.1:0"),
            ("--lease-name", "", "lower case"),
            ("--log-format", "xml", "json"),
        ] {
            let error = parsed(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(flag) && error.contains(says), "{flag}={value}: {error}");
        }
    }
}
