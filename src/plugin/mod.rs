//! `kubectl whatsapp`: what people do with instances from a terminal.
//!
//! [`args`] is the command line, [`client`] what talks to the API server and [`gateway`] to the gateway, one file per verb. What is shown
//! next ([`screen`]), whether a wait is over ([`wait`]) and how it looks ([`terminal`], [`output`]) are pure functions.
//! The plugin watches, it never polls; of an instance it changes only
//! `spec.desiredState`, `spec.primary` and the refresh annotation; of an owner only the limit.

pub mod args;
pub mod cancel;
pub mod client;
pub mod clock;
pub mod completion;
pub mod connect;
pub mod dashboard;
pub mod doctor;
pub mod doctor_args;
pub mod error;
#[cfg(test)]
mod fixtures;
pub mod gateway;
mod help;
pub mod link;
pub mod list;
pub mod message;
pub mod message_args;
pub mod messages;
pub mod offline;
pub mod output;
pub mod owners;
pub mod qr;
pub mod reference;
pub mod refresh;
pub mod screen;
pub mod send;
pub mod set_primary;
pub mod status;
pub mod terminal;
pub mod values;
pub mod wait;

pub use args::Args;
pub use error::PluginError;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::platform::arguments;
use args::Verb;
use client::Cluster;

/// What kubectl looks for when it is asked for `whatsapp`.
pub const PROGRAM: &str = "kubectl-whatsapp";

/// The plugin as a program: the command line of this process, the words on standard error, the exit code.
pub fn program() -> ExitCode {
    let args = match arguments::parse::<Args>() {
        Ok(args) => args,
        Err(error) => {
            // Help goes to standard output with 0, a wrong line to standard error with 2. A closed pipe is no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Only fails when one is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(PluginError::from(error)),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(sentence) = error.sentence() {
        let _ = writeln!(io::stderr(), "{sentence}");
    }
    ExitCode::from(error.exit_code())
}

/// Does what the command line says.
///
/// # Errors
/// See [`PluginError`]; its exit code is documented in `--help`.
pub async fn run(args: Args) -> Result<(), PluginError> {
    let global = &args.global;
    match &args.verb {
        Verb::Qr(args) => qr::run(&Cluster::open(global)?, args).await,
        Verb::Link(args) => link::run(&Cluster::open(global)?, args).await,
        Verb::List(args) => list::run(&Cluster::open(global)?, args).await,
        Verb::Status(args) => status::run(&Cluster::open(global)?, args).await,
        Verb::Refresh(args) => refresh::run(&Cluster::open(global)?, args).await,
        Verb::Connect(args) => connect::run(&Cluster::open(global)?, args).await,
        Verb::Disconnect(args) => offline::disconnect(&Cluster::open(global)?, args).await,
        Verb::Unlink(args) => offline::unlink(&Cluster::open(global)?, args).await,
        Verb::SetPrimary(args) => set_primary::run(&Cluster::open(global)?, args).await,
        Verb::Send(args) => send::run(&Cluster::open(global)?, args).await,
        Verb::Messages(args) => messages::run(&Cluster::open(global)?, args).await,
        Verb::Cancel(args) => cancel::run(&Cluster::open(global)?, args).await,
        Verb::Dashboard(args) => dashboard::run(&Cluster::open(global)?, args).await,
        Verb::Owners(args) => owners::run(&Cluster::open(global)?, args).await,
        Verb::Owner(args::OwnerVerb::SetLimit { owner, limit }) => {
            owners::set_limit(&Cluster::open(global)?, owner, *limit).await
        }
        Verb::Doctor(args) => doctor::run(&Cluster::open(global)?, args).await,
        Verb::Completion { shell } => completion::script(*shell),
        Verb::Version => Ok(output::line(&format!("kubectl-whatsapp {}", env!("CARGO_PKG_VERSION")))?),
        Verb::Reference => Ok(output::text(&reference::markdown())?),
        Verb::Complete { words } => completion::answer(words).await,
    }
}
