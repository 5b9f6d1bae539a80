//! `simulated-whatsapp`: see the library.

use clap::Parser as _;
use simulated_whatsapp::cli::Cli;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulated-whatsapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}
