//! `whatsapp-operator rbac`: the rights of a process that is controller and webhooks in one, and of the gateway, which is
//! another.

use std::io::{self, Write as _};

use super::{RunError, bridge};
use crate::{
    admission,
    cli::rbac::RbacArgs,
    controller, gateway,
    platform::{lease, rbac},
};

/// Everything the operator may need, each right once.
fn rights() -> Vec<rbac::Right> {
    [controller::RIGHTS, admission::RIGHTS, bridge::RIGHTS, lease::RIGHTS].concat()
}

/// Prints the roles and bindings, or the table.
///
/// # Errors
/// When they cannot be written.
pub fn rbac(args: &RbacArgs) -> Result<(), RunError> {
    let text = if args.table { page() } else { manifests(args)? };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|source| RunError::Write { path: "standard output".to_owned(), source })
}

fn manifests(args: &RbacArgs) -> Result<String, RunError> {
    let note = "# Written by `make generate` from what the code says it needs: whatsapp-operator rbac\n";
    let operator = rbac::manifests(&rights(), &args.account()).map_err(RunError::Yaml)?;
    let gateway = rbac::manifests(gateway::RIGHTS, &args.gateway_account()).map_err(RunError::Yaml)?;
    Ok(format!("{note}{operator}---\n{gateway}"))
}

fn page() -> String {
    format!(
        "<!-- Written by `make generate` from `whatsapp-operator rbac --table`; do not edit. -->\n\n# Rights the operator needs\n\n\
         For one process that is controller and webhooks, and for the gateway, which has an account of its own; [examples/rbac.yaml](../../examples/rbac.yaml) \
         grants exactly these, and tests run the programs with them.\n\
         The bridge needs none.\n\n## Controller\n\n{}\n## Webhooks\n\n{}\n## Bridge of the installation\n\n{}\n## Leader election, for both\n\n{}\n## Gateway\n\n{}",
        rbac::table(controller::RIGHTS),
        rbac::table(admission::RIGHTS),
        rbac::table(bridge::RIGHTS),
        rbac::table(lease::RIGHTS),
        rbac::table(gateway::RIGHTS),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Args, Command};

    fn args(flags: &[&str]) -> RbacArgs {
        match Args::try_parse_from(["whatsapp-operator", "rbac"].iter().chain(flags)).map(|args| args.command) {
            Ok(Command::Rbac(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_committed_table_and_roles_are_up_to_date() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let read = |path: &str| std::fs::read_to_string(format!("{root}{path}")).unwrap_or_default();
        assert!(read("docs/reference/rbac.md") == page(), "docs/reference/rbac.md is out of date: run `make generate`");
        let yaml = manifests(&args(&[])).unwrap();
        for path in ["examples/rbac.yaml", "charts/whatsapp-operator/files/rbac.yaml"] {
            assert!(read(path) == yaml, "{path} is out of date: run `make generate`");
        }
    }
}
