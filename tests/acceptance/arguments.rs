//! The command lines of the programs themselves.

use std::process::Command;

use crate::support::program::profile_dir;

/// Runs a program to its end; its exit status and what it said.
fn run(program: &str, arguments: &[&str], variables: &[(String, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(profile_dir().join(program));
    command.args(arguments).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.envs(variables.iter().map(|(name, value)| (name, value))).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The variables that `--help` names.
fn variables(program: &str, subcommand: &[&str]) -> Vec<String> {
    let (status, help) = run(program, &[subcommand, &["--help"]].concat(), &[]);
    assert_eq!(status, Some(0), "{help}");
    let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    named.map(str::to_owned).collect()
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    // Each gets as far as to what it really lacks.
    for (program, subcommand, required, at_least, lacks) in [
        (
            "whatsapp-operator",
            &["controller"][..],
            &["--kubeconfig", "/nonexistent/config"][..],
            15,
            "/nonexistent/config",
        ),
        ("whatsapp-operator", &["webhook"], &["--kubeconfig", "/nonexistent/config"], 12, "/nonexistent/config"),
        ("whatsapp-operator", &["gateway"], &["--kubeconfig", "/nonexistent/config"], 12, "/nonexistent/config"),
        (
            "whatsapp-bridge",
            &[],
            &["--token-file", "/nonexistent/token", "--data-dir", "/dev/null/data"],
            12,
            "/dev/null/data",
        ),
    ] {
        let names = variables(program, subcommand);
        assert!(names.len() >= at_least, "{program} {subcommand:?}: {names:?}");
        // Ports of its own, so that it does not meet another that runs here.
        let ports: &[&str] = &["--admin-listen", "127.0.0.1:0"];
        let arguments = [subcommand, required, ports].concat();
        let one_by_one = names.iter().map(|name| vec![(name.clone(), "")]);
        let all = names.iter().map(|name| (name.clone(), "")).collect();
        for empty in one_by_one.chain([all]) {
            let (status, said) = run(program, &arguments, &empty);
            assert!(status != Some(2) && said.contains(lacks), "{program} with {empty:?}: {status:?} {said}");
        }
    }
}

#[test]
fn the_operator_is_the_plugin_when_it_is_called_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("kubectl-whatsapp");
    std::os::unix::fs::symlink(profile_dir().join("whatsapp-operator"), &link).unwrap();
    for arguments in [&["--help"][..], &["version"], &["qr"], &["completion", "bash"]] {
        let (own, called) = (run("kubectl-whatsapp", arguments, &[]), run(link.to_str().unwrap(), arguments, &[]));
        assert_eq!(own, called, "{arguments:?}");
        assert!(own.1.contains("whatsapp"), "{own:?}");
    }
    assert!(run("whatsapp-operator", &["--help"], &[]).1.contains("gateway"));
}

#[test]
fn a_password_in_a_collectors_address_is_refused_and_not_repeated() {
    for variable in [false, true] {
        let (flag, address) = ("--otlp-endpoint", "https://me:hunter2@collector.example");
        let given = [flag, address];
        let arguments = [&["gateway", "--kubeconfig", "/nonexistent/config"][..], if variable { &[] } else { &given }];
        let environment = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), address);
        let environment = if variable { vec![environment] } else { vec![] };
        let (status, said) = run("whatsapp-operator", &arguments.concat(), &environment);
        assert_eq!(status, Some(1));
        assert!(said.contains(flag) && said.contains("OTEL_EXPORTER_OTLP_HEADERS") && !said.contains("hunter2"));
    }
}
