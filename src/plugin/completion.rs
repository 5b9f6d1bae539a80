//! `completion` prints scripts; the hidden `__complete` answers kubectl's completion of `kubectl whatsapp ...`.
//!
//! kubectl runs an executable `kubectl_complete-whatsapp` with the words typed so far, the last one unfinished (KEP-2379),
//! and expects cobra's answer: one candidate per line, a tab and a description if there is one, last a line with a colon
//! and a number that tells the shell what else to do.

use std::time::Duration;

use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::Shell;
use kube::ResourceExt;
use reqwest::Method;

use super::{
    PROGRAM,
    args::{Args, CompletionTarget, Global},
    client::{Cluster, contexts},
    error::PluginError,
    gateway::Gateway,
    message_args::GatewayFlags,
    output,
};

const SCRIPT: &str = include_str!("kubectl_complete-whatsapp");

/// Cobra's ShellCompDirectiveNoFileComp: do not offer file names.
const NO_FILES: &str = ":4";
/// Cobra's ShellCompDirectiveDefault: offer file names when there are no candidates.
const FILES: &str = ":0";

/// Prints the completion script of a shell.
///
/// # Errors
/// When standard output is gone.
pub fn script(target: CompletionTarget) -> Result<(), PluginError> {
    let shell = match target {
        CompletionTarget::Kubectl => return Ok(output::text(SCRIPT)?),
        CompletionTarget::Bash => Shell::Bash,
        CompletionTarget::Zsh => Shell::Zsh,
        CompletionTarget::Fish => Shell::Fish,
        CompletionTarget::PowerShell => Shell::PowerShell,
        CompletionTarget::Elvish => Shell::Elvish,
    };
    Ok(output::text(&generated(shell))?)
}

fn generated(shell: Shell) -> String {
    // The generators mix up names when the usage has a space ("kubectl whatsapp"), and they offer hidden verbs. So they
    // get a command with the program's own name and the verbs people may use.
    let root = Args::command();
    let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut shown =
        Command::new(PROGRAM).version(env!("CARGO_PKG_VERSION")).args(root.get_arguments().cloned()).subcommands(verbs);
    shown = shown.disable_help_subcommand(true);
    // clap_complete 4.6 names bash's states in two ways when the program's name has a dash, and then finds none of them.
    let name = if shell == Shell::Bash { PROGRAM.replace('-', "_") } else { PROGRAM.to_owned() };
    // Into memory first: they panic when the reader goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, name.as_str(), &mut script);
    let script = String::from_utf8_lossy(&script);
    script.lines().map(|line| registered(line, &name) + "\n").collect()
}

/// The line that tells bash which program the script is for, with the program's real name.
fn registered(line: &str, name: &str) -> String {
    match line.strip_suffix(name) {
        Some(registration) if line.trim_start().starts_with("complete ") => format!("{registration}{PROGRAM}"),
        _ => line.to_owned(),
    }
}

/// Answers kubectl's completion. A cluster that does not answer offers nothing: there is no place for an error.
///
/// # Errors
/// When standard output is gone.
pub async fn answer(words: &[String]) -> Result<(), PluginError> {
    let (unfinished, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let global = global_flags(before);
    let (candidates, directive) = match wanted(&Args::command(), before, unfinished) {
        Wanted::These(candidates) => (candidates, NO_FILES),
        Wanted::Instances => (instances(&global).await, NO_FILES),
        Wanted::Messages => (messages(&global, before).await, NO_FILES),
        Wanted::Namespaces => (namespaces(&global).await, NO_FILES),
        Wanted::Contexts => (contexts(&global), NO_FILES),
        Wanted::Files => (Vec::new(), FILES),
    };
    let mut text = String::new();
    for candidate in candidates.iter().filter(|candidate| candidate.starts_with(unfinished)) {
        text.push_str(candidate);
        text.push('\n');
    }
    Ok(output::text(&format!("{text}{directive}\n"))?)
}

/// What could come next.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    These(Vec<String>),
    Instances,
    Messages,
    Namespaces,
    Contexts,
    Files,
}

fn wanted(root: &Command, before: &[String], unfinished: &str) -> Wanted {
    let mut command = root;
    let mut positionals = 0;
    let mut open: Option<&Arg> = None;
    for word in before {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open = if word.contains('=') { None } else { flag(root, command, word).filter(|arg| takes_value(arg)) };
        } else if let Some(verb) = command.find_subcommand(word) {
            command = verb;
        } else {
            positionals += 1;
        }
    }
    if let Some(arg) = open {
        return value(arg);
    }
    if unfinished.starts_with('-') {
        let inherited = root.get_arguments().filter(|arg| arg.is_global_set());
        let own = command.get_arguments().filter(|arg| !arg.is_global_set());
        let long = |arg: &Arg| {
            arg.get_long().filter(|_| !arg.is_hide_set()).map(|long| described(&format!("--{long}"), arg.get_help()))
        };
        return Wanted::These(own.chain(inherited).filter_map(long).collect());
    }
    if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        return Wanted::These(shown.map(|verb| described(verb.get_name(), verb.get_about())).collect());
    }
    match command.get_positionals().nth(positionals) {
        Some(arg) if arg.get_id() == "name" => Wanted::Instances,
        Some(arg) if arg.get_id() == "id" => Wanted::Messages,
        Some(arg) => value(arg),
        None => Wanted::These(Vec::new()),
    }
}

fn flag<'a>(root: &'a Command, command: &'a Command, word: &str) -> Option<&'a Arg> {
    let is_it = |arg: &&Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
    };
    command.get_arguments().find(is_it).or_else(|| root.get_arguments().find(is_it))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn value(arg: &Arg) -> Wanted {
    match arg.get_id().as_str() {
        "namespace" => Wanted::Namespaces,
        "context" => Wanted::Contexts,
        "kubeconfig" | "gateway_ca" => Wanted::Files,
        _ => Wanted::These(arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()),
    }
}

fn described(name: &str, help: Option<&clap::builder::StyledStr>) -> String {
    match help.map(ToString::to_string).as_deref().and_then(|help| help.lines().next()) {
        Some(help) => format!("{name}\t{help}"),
        None => name.to_owned(),
    }
}

/// The flags that say which cluster, out of a line that need not be complete.
fn global_flags(words: &[String]) -> Global {
    let mut line = vec!["kubectl-whatsapp".to_owned()];
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let known = ["-n", "--namespace", "--context", "--kubeconfig", "--as", "--as-group"];
        let (flag, joined) =
            word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value.to_owned())));
        if known.contains(&flag)
            && let Some(value) = joined.or_else(|| rest.next().cloned())
        {
            line.push(format!("{}={value}", if flag == "-n" { "--namespace" } else { flag }));
        }
    }
    line.extend(["--request-timeout=3s".to_owned(), "version".to_owned()]);
    Args::try_parse_from(line).map(|args| args.global).unwrap_or_default()
}

async fn instances(global: &Global) -> Vec<String> {
    let Ok(cluster) = Cluster::open(global) else { return Vec::new() };
    let found = cluster.list(false, None, None).await.unwrap_or_default();
    let phase =
        |data: &serde_json::Value| data.pointer("/status/phase").and_then(|phase| phase.as_str().map(str::to_owned));
    found
        .iter()
        .map(|object| match phase(&object.data) {
            Some(phase) => format!("{}\t{phase}", object.name_any()),
            None => object.name_any(),
        })
        .collect()
}

/// Messages that wait, of the first instances: what can still be called back.
async fn messages(global: &Global, words: &[String]) -> Vec<String> {
    const INSTANCES: usize = 5;
    let flag = |name: &str| {
        words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(name)? {
            "" => words.get(at + 1).cloned(),
            joined => joined.strip_prefix('=').map(str::to_owned),
        })
    };
    let flags = GatewayFlags {
        gateway: flag("--gateway").or_else(|| std::env::var("WHATSAPP_GATEWAY").ok()),
        gateway_ca: flag("--gateway-ca").map(Into::into),
        as_service_account: flag("--as-service-account"),
    };
    let Ok(cluster) = Cluster::open(global) else { return Vec::new() };
    let Ok(gateway) = Gateway::open(&cluster, &flags).await else { return Vec::new() };
    let instances = cluster.list(false, None, None).await.unwrap_or_default();
    let mut found = Vec::new();
    for session in instances.iter().filter_map(ResourceExt::uid).take(INSTANCES) {
        let Ok(request) = gateway.request(Method::GET, &["messages", "list", ""], &[("session_id", &session)]) else {
            continue;
        };
        let page = gateway.ask(request, Duration::ZERO).await.map(|answer| answer.data).unwrap_or_default();
        let messages = page["messages"].as_array().into_iter().flatten().filter(|one| one["status"] == "queued");
        found.extend(
            messages.filter_map(|one| Some(format!("{}\tto {}", one["id"].as_str()?, one["recipient"].as_str()?))),
        );
    }
    found
}

async fn namespaces(global: &Global) -> Vec<String> {
    match Cluster::open(global) {
        Ok(cluster) => cluster.namespaces().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::plugin::args::Verb;

    use super::{Args, Wanted, global_flags, wanted};

    fn after(line: &str, unfinished: &str) -> Wanted {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        wanted(&Args::command(), &words, unfinished)
    }

    fn names(wanted: Wanted) -> Vec<String> {
        let Wanted::These(candidates) = wanted else { panic!("{wanted:?}") };
        candidates.iter().map(|candidate| candidate.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_bash_script_knows_every_verb_it_recognises_and_no_hidden_one() {
        let script = super::generated(clap_complete::Shell::Bash);
        let states: Vec<&str> =
            script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"')).collect();
        assert!(states.len() > 8, "{states:?}");
        for state in states.iter().filter(|state| !state.is_empty()) {
            assert!(script.lines().any(|line| line.trim() == format!("{state})")), "{state}");
        }
        assert!(!script.contains("__complete"));
    }

    #[test]
    fn verbs_come_first_and_hidden_ones_never() {
        let verbs = names(after("-n team", ""));
        assert!(verbs.contains(&"qr".into()) && verbs.contains(&"list".into()), "{verbs:?}");
        assert!(!verbs.contains(&"__complete".into()) && !verbs.contains(&"reference".into()), "{verbs:?}");
    }

    #[test]
    fn verbs_that_take_a_name_offer_instances_once() {
        for verb in ["qr", "status", "refresh", "connect --wait", "disconnect", "-n team --context=c qr -o raw"] {
            assert_eq!(after(verb, ""), Wanted::Instances, "{verb}");
        }
        assert_eq!(after("cancel", ""), Wanted::Messages);
        assert_eq!(after("send --to +15550001", ""), Wanted::Instances);
        assert_eq!(names(after("qr shop", "")), Vec::<String>::new());
        assert_eq!(names(after("list", "")), Vec::<String>::new());
    }

    #[test]
    fn values_belong_to_their_flag() {
        assert_eq!(names(after("ls -o", "")), ["wide", "json", "yaml", "name"]);
        assert_eq!(names(after("qr shop -o", "")), ["text", "raw", "svg"]);
        assert_eq!(after("qr -n", ""), Wanted::Namespaces);
        assert_eq!(after("--context", ""), Wanted::Contexts);
        assert_eq!(after("list --kubeconfig", ""), Wanted::Files);
        assert!(names(after("completion", "")).contains(&"kubectl".into()));
    }

    #[test]
    fn the_script_keeps_flags_from_being_read_as_its_own() {
        let called = super::SCRIPT.lines().last().unwrap().replace("\"$@\"", "-n team qr --ref");
        let line: Vec<&str> = called.split_whitespace().skip(1).collect();
        let super::Args { verb: Verb::Complete { words }, global } = Args::try_parse_from(line).unwrap() else {
            panic!()
        };
        assert_eq!((words.join(" ").as_str(), global.namespace), ("-n team qr --ref", None));
    }

    #[test]
    fn flags_are_the_verbs_own_and_the_global_ones() {
        let flags = names(after("qr shop", "--"));
        assert!(flags.contains(&"--refresh".into()) && flags.contains(&"--namespace".into()), "{flags:?}");
        assert!(!flags.contains(&"--all-namespaces".into()), "{flags:?}");
    }

    #[test]
    fn the_cluster_is_read_from_an_unfinished_line() {
        let words: Vec<String> = ["qr", "--bogus", "-n", "team", "--context=c", "--as", "x"].map(str::to_owned).into();
        let global = global_flags(&words);
        assert_eq!(global.namespace.as_deref(), Some("team"));
        assert_eq!((global.context.as_deref(), global.as_user.as_deref()), (Some("c"), Some("x")));
        assert!(global.request_timeout.0.is_some());
        assert_eq!(global_flags(&["-n".to_owned()]).namespace, None);
    }
}
