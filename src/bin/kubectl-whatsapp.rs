//! `kubectl whatsapp`, the kubectl plugin. Everything is in the library's `plugin` room.

use std::process::ExitCode;

fn main() -> ExitCode {
    whatsapp_operator::plugin::program()
}
