//! `whatsapp-operator release-instances`.

use std::path::PathBuf;

use clap::Args;

use super::values::{name, namespace};
use crate::platform::kubernetes::Cluster;

/// Arguments of `release-instances`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # Once no operator runs any more; instances, bridges' volumes and links stay\n  whatsapp-operator release-instances"
)]
pub struct ReleaseArgs {
    /// Kubeconfig file; KUBECONFIG, ~/.kube/config or the pod's service account when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; its current one when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

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

impl ReleaseArgs {
    /// Which cluster. A variable that is set to nothing, as templates do, says nothing.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone().filter(|context| !context.is_empty()),
        }
    }
}
