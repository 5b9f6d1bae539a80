//! `whatsapp-operator`: install the TLS provider, parse, dispatch, exit code. Called by the name of the kubectl plugin, it is
//! that: most of both is the same code, and the image has it once.

use std::{env, path::Path, process::ExitCode};

use whatsapp_operator::{
    cli::{Args, Command},
    platform::arguments,
    plugin, run,
};

fn main() -> ExitCode {
    let called = env::args_os().next();
    if called.is_some_and(|path| Path::new(&path).file_stem().is_some_and(|name| name == plugin::PROGRAM)) {
        return plugin::program();
    }
    operator()
}

#[tokio::main]
async fn operator() -> ExitCode {
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
        Command::MigrateStorage(args) => run::migrate_storage(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatsapp-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
