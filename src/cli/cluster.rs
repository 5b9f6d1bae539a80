//! Which cluster: what every subcommand takes that talks to an API server.

use std::path::PathBuf;

use clap::Args;

use crate::platform::kubernetes::Cluster;

/// Where the API server is found, and with whose credentials.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Kubeconfig file; KUBECONFIG, ~/.kube/config or the pod's service account when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; its current one when not given
    #[arg(long, env = "WHATSAPP_OPERATOR_CONTEXT", value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// Which cluster. A variable that is set to nothing, as templates do, says nothing.
    pub fn choice(&self) -> Cluster {
        Cluster {
            kubeconfig: self.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
            context: self.context.clone().filter(|context| !context.is_empty()),
        }
    }
}
