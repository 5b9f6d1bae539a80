//! The command line of every program: flags first, then environment variables, then defaults.

use clap::{Command, Parser, builder::Resettable};

/// Parses the command line of this process. An environment variable that is set to nothing counts as not set: a template,
/// such as a chart's, cannot leave one out.
///
/// # Errors
/// For a line that is wrong, and for `--help` and `--version`: see [`clap::Error::exit`].
pub fn parse<P: Parser>() -> Result<P, clap::Error> {
    P::from_arg_matches(&without_empty_variables(P::command()).try_get_matches()?)
}

/// Has the command take no value out of a variable that is set to nothing.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_empty =
            argument.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if is_empty { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}
