//! `whatsapp-operator`: install the TLS provider, parse, dispatch, exit code.

use std::process::ExitCode;

use whatsapp_operator::{
    cli::{Args, Command},
    platform::arguments,
    run,
};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Args = arguments::parse().unwrap_or_else(|error| error.exit());
    // kube and reqwest share it; it fails only when it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match args.command {
        Command::Controller(args) => run::controller(&args).await,
        Command::Webhook(args) => run::webhook(&args).await,
        Command::Gateway(args) => run::gateway(&args).await,
        Command::Openapi(args) => run::openapi(&args),
        Command::WebhookConfiguration(args) => run::webhook_configuration(&args),
        Command::Crd(args) => run::crds(args.dir.as_deref()),
        Command::Rbac(args) => run::rbac(&args),
        Command::ReleaseInstances(args) => run::release_instances(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatsapp-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
