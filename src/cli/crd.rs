//! `whatsapp-operator crd`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `crd`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  whatsapp-operator crd | kubectl apply --server-side -f -\n  whatsapp-operator crd --dir crds"
)]
pub struct CrdArgs {
    /// Write one file per definition, named NAME.yaml, into this directory instead of printing
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
