//! The command line of `doctor`.

use std::path::PathBuf;

use clap::Args;

/// What `doctor --help` adds.
pub const DOCTOR_HELP: &str = "\
It only reads, but for one dry run: an instance that is created and not kept, to see whether the webhooks answer the API
server. The whole cluster is looked at; instances of your namespace are named first. What you may not read is named and left
out. Codes, tokens, phone numbers, names of people and message text are taken out of the file; read it before you send it to
anybody all the same.

Examples:
  kubectl whatsapp doctor                       say what is wrong, and what to do about it
  kubectl whatsapp doctor --file doctor.md      and keep what was seen for whoever maintains it

Exit codes: 0 nothing is wrong, 1 something is.";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also write everything that was seen to this file, as Markdown: versions, conditions, events, metrics, logs.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Lines of each pod's log to keep in the file; 0 for none.
    #[arg(long, value_name = "LINES", default_value = "300")]
    pub log_lines: u32,
}
