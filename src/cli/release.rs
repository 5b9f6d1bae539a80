//! `whatsapp-operator release-instances`.

use clap::Args;

use super::{
    ClusterArgs,
    values::{name, namespace},
};

/// Arguments of `release-instances`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # Once no operator runs any more; instances, bridges' volumes and links stay\n  whatsapp-operator release-instances"
)]
pub struct ReleaseArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Only instances in these namespaces, separated by commas; all when empty
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Namespace of the operators' Lease, if one may still be ending: this waits for the Lease, holds it meanwhile, and deletes
    /// it at the end
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,

    /// Name of that Lease
    #[arg(long, value_name = "NAME", default_value = "whatsapp-operator", value_parser = name)]
    pub lease_name: String,

    /// Name of a WhatsAppBridge to delete too, if an operator made it
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub default_bridge: Option<String>,
}
