//! `kubectl whatsapp`, the kubectl plugin. Everything is in the library's `plugin` room.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use whatsapp_operator::{
    platform::arguments,
    plugin::{self, Args, PluginError},
};

fn main() -> ExitCode {
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
        Ok(runtime) => runtime.block_on(plugin::run(args)),
        Err(error) => Err(PluginError::from(error)),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(sentence) = error.sentence() {
        let _ = writeln!(io::stderr(), "{sentence}");
    }
    ExitCode::from(error.exit_code())
}
