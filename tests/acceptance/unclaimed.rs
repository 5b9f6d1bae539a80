//! The commands of docs/troubleshooting.md for sessions that no instance claims: whatever fails, nothing is called unclaimed and
//! nothing is deleted. Kubernetes and the bridge are scripts here; what is tried is the page's own shell.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use super::chart::ROOT;

/// The bridge has the sessions `claimed` and `stray`.
const CURL: &str = r#"
[ "${BRIDGE-}" != away ] || { echo 'connection refused' >&2; exit 7; }
case "$*" in *DELETE*) echo "$*" >>deleted ;; *) echo '{"items":[{"id":"claimed"},{"id":"stray"}]}' ;; esac"#;
/// The cluster has the instance of the first one.
const KUBECTL: &str = r#"
case "${CLUSTER-}" in
away) echo 'forbidden' >&2; exit 1 ;;
empty) ;;
*) echo claimed ;;
esac"#;
/// As far as the page uses it, for machines without it.
const JQ: &str = r#"grep -o '"id":"[^"]*"' | cut -d '"' -f 4"#;

/// The one block of the page that is marked as bash.
fn commands() -> String {
    let page = fs::read_to_string(format!("{ROOT}/docs/troubleshooting.md")).unwrap();
    let blocks: Vec<&str> = page.split("```bash\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(blocks.len(), 1, "the page has one block of commands that are tried");
    blocks[0].to_owned()
}

/// What the page's commands and `more` print, and whether the last of them succeeded.
fn run(dir: &Path, more: &str, (name, value): (&str, &str)) -> (String, bool) {
    let bridge = r#"SHARD_URL=https://shard; bridge() { curl "$@"; }"#;
    let script = format!("{bridge}\n{}\n{more}", commands());
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir)
        .env("PATH", path)
        .env(name, value)
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stdout).trim().to_owned(), output.status.success())
}

#[test]
fn commands_that_fail_call_no_session_unclaimed_and_delete_none() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("curl", CURL), ("kubectl", KUBECTL), ("jq", JQ)] {
        let file = dir.path().join(name);
        fs::write(&file, format!("#!/usr/bin/env bash\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |more: &str, weather| run(dir.path(), more, weather);
    let deleted = || fs::read_to_string(dir.path().join("deleted")).unwrap_or_default();
    for weather in [("CLUSTER", "away"), ("CLUSTER", "empty"), ("BRIDGE", "away")] {
        assert_eq!(run("", weather), (String::new(), false), "{weather:?}");
        for id in ["stray", "claimed", ""] {
            assert_eq!(run(&format!("forget {id}"), weather), (String::new(), false), "{weather:?}");
        }
    }
    let well = ("CLUSTER", "there");
    assert_eq!(run("", well), ("stray".to_owned(), true));
    for id in ["claimed", "", "stra", ".*"] {
        assert!(!run(&format!("forget '{id}'"), well).1, "{id:?}");
    }
    assert_eq!(deleted(), "");
    assert!(run("forget stray", well).1);
    assert_eq!(deleted(), "--request DELETE https://shard/v1/sessions/stray?unlink=true\n");
}
