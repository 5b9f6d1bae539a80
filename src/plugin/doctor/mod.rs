//! `doctor`: says in words what is wrong with an installation, and keeps what was seen in one file without secrets.
//!
//! [`collect`] asks the API server; [`seen`] is what it answered; [`checks`], [`redact`] and [`report`] are pure.

mod checks;
mod collect;
mod redact;
mod report;
mod seen;

use super::{client::Cluster, doctor_args::DoctorArgs, error::PluginError, output};
use checks::{Weight, findings};

/// Looks, says what is wrong, and writes the file.
///
/// # Errors
/// When something is wrong, when the file cannot be written, and when the API server cannot be reached.
pub async fn run(cluster: &Cluster, args: &DoctorArgs) -> Result<(), PluginError> {
    let keep = args.file.as_ref().map(|_| args.log_lines);
    let seen = collect::collect(cluster, keep).await?;
    let findings = findings(&seen);
    output::text(&report::words(&findings))?;
    if let Some(file) = &args.file {
        let written = tokio::fs::write(file, report::markdown(&seen, &findings)).await;
        written.map_err(|error| PluginError::Ended(format!("cannot write {}: {error}", file.display())))?;
        output::note(&format!("What was seen is in {}; read it before you send it to anybody.", file.display()))?;
    }
    if findings.iter().any(|finding| finding.weight == Weight::Wrong) {
        return Err(PluginError::Ended(report::verdict(&findings)));
    }
    Ok(output::line(&report::verdict(&findings))?)
}
