//! `whatsapp-operator rbac`.

use clap::Args;

use super::values::{name, namespace};
use crate::platform::rbac::Account;

/// Arguments of `rbac`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  whatsapp-operator rbac --namespace whatsapp-system | kubectl apply -f -\n  whatsapp-operator rbac --table"
)]
pub struct RbacArgs {
    /// Namespace that the operator is installed in
    #[arg(long, value_name = "NAMESPACE", default_value = "whatsapp-system", value_parser = namespace)]
    pub namespace: String,

    /// Service account the rights are for; the roles and bindings get its name. The gateway's is NAME-gateway
    #[arg(long, value_name = "NAME", default_value = "whatsapp-operator", value_parser = name)]
    pub service_account: String,

    /// Only what it takes to look after instances in these namespaces, separated by commas: no right on instances elsewhere
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// Print a Markdown table with the reason for every right instead of YAML
    #[arg(long)]
    pub table: bool,
}

impl RbacArgs {
    /// Whom the rights are given to.
    pub fn account(&self) -> Account {
        self.named(self.service_account.clone())
    }

    /// Whom the gateway's rights are given to.
    pub fn gateway_account(&self) -> Account {
        self.named(format!("{}-gateway", self.service_account))
    }

    fn named(&self, name: String) -> Account {
        Account { name, namespace: self.namespace.clone(), watched: self.watch_namespaces.clone() }
    }
}
