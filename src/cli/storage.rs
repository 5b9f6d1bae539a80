//! `whatsapp-operator migrate-storage`.

use clap::Args;

use super::ClusterArgs;

/// Arguments of `migrate-storage`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # Is there anything to do? Exit status 1 when there is\n  whatsapp-operator migrate-storage --check\n\n  # Do it. Nothing that anybody reads changes, and it may be run at any time, also twice\n  whatsapp-operator migrate-storage"
)]
pub struct StorageArgs {
    /// Only say which definitions may have objects that are stored in an old version; write nothing
    #[arg(long)]
    pub check: bool,

    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
