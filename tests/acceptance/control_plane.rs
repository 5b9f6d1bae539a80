//! The control plane that every other test stands on: several at once, and nothing left behind however we end.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::support::{
    control_plane::{ControlPlane, Error, Options, room},
    world::{SOON, client},
};

/// Waits until the condition holds; looking at processes and files is all that can be done from outside.
fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not {what} within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn alive(pid: u32) -> bool {
    // A container's first process may never collect the orphans it inherits: a zombie is gone, though `kill -0` finds it.
    let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    !zombie && Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// `tether` with these arguments, its rope in our hand.
fn tether(arguments: &[&str]) -> Child {
    Command::new(room().join("tether"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_run_side_by_side_and_leave_nothing() {
    let options = Options::default();
    let (one, two) = tokio::join!(ControlPlane::start(&options), ControlPlane::start(&options));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.url(), two.url());
    assert_eq!(one.audit_log(), None, "recorded only when asked");

    let maps: Api<ConfigMap> = Api::namespaced(client(&one.kubeconfig()).await, "default");
    maps.create(&PostParams::default(), &config_map("only-in-one")).await.unwrap();
    let others: Api<ConfigMap> = Api::namespaced(client(&two.kubeconfig()).await, "default");
    assert!(others.get_opt("only-in-one").await.unwrap().is_none(), "they share nothing");

    let pids: Vec<u32> = [one.pids(), two.pids()].concat();
    let dirs = [one.kubeconfig(), two.kubeconfig()].map(|file| file.parent().unwrap().to_owned());
    assert!(pids.iter().all(|pid| alive(*pid)));
    drop((one, two));
    assert!(!pids.iter().any(|pid| alive(*pid)), "stopped when dropped");
    assert!(!dirs.iter().any(|dir| dir.exists()), "their directories are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_have_no_rights_and_writes_are_recorded() {
    let alice = "alice@example.com";
    let options = Options { audit: true, users: vec![alice.to_owned()], ..Options::default() };
    let plane = ControlPlane::start(&options).await.unwrap();

    let hers: Api<ConfigMap> = Api::namespaced(client(&plane.kubeconfig_of(alice)).await, "default");
    let refusal = hers.create(&PostParams::default(), &config_map("refused")).await.unwrap_err();
    assert!(refusal.to_string().contains(alice), "RBAC knows her by her name: {refusal}");

    let maps: Api<ConfigMap> = Api::namespaced(client(&plane.kubeconfig()).await, "default");
    maps.create(&PostParams::default(), &config_map("recorded")).await.unwrap();
    let kubectl = plane.kubectl().unwrap_or_else(|| "kubectl".into());
    let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig().display());
    let output =
        Command::new(kubectl).args([&kubeconfig, "get", "configmap", "recorded", "-o", "name"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "configmap/recorded\n", "{output:?}");

    let log = fs::read_to_string(plane.audit_log().unwrap()).unwrap();
    let answers: Vec<(Value, Value)> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["verb"] == "create" && event["objectRef"]["resource"] == "configmaps")
        .filter(|event| event["objectRef"]["namespace"] == "default")
        .map(|event| (event["user"]["username"].clone(), event["responseStatus"]["code"].clone()))
        .collect();
    assert_eq!(answers, [(json!(alice), json!(403)), (json!("admin"), json!(201))]);
    assert!(!log.contains(plane.token()), "no token in the audit log");
}

/// Where `a_parent_to_be_killed` writes what it has started.
const REPORT: &str = "CONTROL_PLANE_TEST_REPORT";

/// Not a test: the process that the next test kills, which is this program run once more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test that kills it"]
async fn a_parent_to_be_killed() {
    let Some(report) = std::env::var_os(REPORT).map(PathBuf::from) else { return };
    let plane = ControlPlane::start(&Options::default()).await.unwrap();
    let part = report.with_extension("part");
    fs::write(&part, json!({"pids": plane.pids(), "kubeconfig": plane.kubeconfig()}).to_string()).unwrap();
    fs::rename(part, report).unwrap();
    // Whatever was started in the background ignores SIGINT, and so does all that it starts; asking for it takes that back.
    tokio::signal::ctrl_c().await.unwrap();
    std::process::exit(130); // at once, as the signal itself would
}

#[test]
fn a_killed_or_interrupted_parent_takes_the_control_plane_along() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let report = dir.path().join(name);
        let parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "control_plane::a_parent_to_be_killed", "--ignored"])
            .env(REPORT, &report)
            .process_group(0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        (parent, report)
    };
    // Ctrl-C reaches the whole process group, hence the tethers too; kill -9 reaches one process.
    for (signal, mut parent, report) in [("-KILL", start("killed")), ("-INT", start("interrupted"))]
        .map(|(signal, (parent, report))| (signal, parent, report))
    {
        let deadline = Instant::now() + SOON * 4;
        while !report.exists() {
            assert_eq!(parent.try_wait().unwrap(), None, "the parent ended before its control plane was up");
            assert!(Instant::now() < deadline, "the parent has no control plane");
            std::thread::sleep(Duration::from_millis(20));
        }
        let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
        let pids: [u32; 2] = serde_json::from_value(report["pids"].clone()).unwrap();
        let plane = Path::new(report["kubeconfig"].as_str().unwrap()).parent().unwrap();
        assert!(pids.iter().all(|pid| alive(*pid)) && plane.exists());

        let target = if signal == "-INT" { format!("-{}", parent.id()) } else { parent.id().to_string() };
        assert!(Command::new("kill").args([signal, "--", &target]).status().unwrap().success());
        parent.wait().unwrap();
        until("gone", || !pids.iter().any(|pid| alive(*pid)) && !plane.exists());
    }
}

#[tokio::test]
async fn wrong_assets_are_one_clear_sentence() {
    let options = Options { assets: Some("/nonexistent".into()), ..Options::default() };
    let Err(Error::Binaries(sentence)) = ControlPlane::start(&options).await else { panic!("started from nothing") };
    assert_eq!(
        sentence,
        "control plane: KUBEBUILDER_ASSETS is /nonexistent, where there is no etcd and no kube-apiserver: \
         correct it, or unset it to have them downloaded or built"
    );
}

#[tokio::test]
async fn a_program_that_ends_at_start_is_reported_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        let file = dir.path().join(name);
        fs::write(&file, "#!/bin/sh\necho this is not etcd >&2\nexit 3\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options = Options { assets: Some(dir.path().to_owned()), ..Options::default() };
    let Err(Error::NotReady(story)) = ControlPlane::start(&options).await else { panic!("a script is no etcd") };
    assert_eq!(story, "etcd ended at start (exit status: 3); the end of its log:\nthis is not etcd");
}

#[test]
fn the_tether_gives_the_exit_status_and_passes_sigterm_on() {
    let status = |child: &mut Child| {
        // Kept meanwhile: `wait` lets go of it, and then the command might be told to end first.
        let rope = child.stdin.take();
        let status = child.wait().unwrap().code();
        drop(rope);
        status
    };
    assert_eq!(status(&mut tether(&["--", "sh", "-c", "exit 7"])), Some(7));
    assert_eq!(status(&mut tether(&["--", "sh", "-c", "kill -9 $$"])), Some(128 + 9));
    assert_eq!(status(&mut tether(&["--", "/no/such/program"])), Some(127));

    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!("trap 'exit 5' TERM; : > {}; while :; do sleep 0.05; done", ready.display());
    let mut child = tether(&["--", "sh", "-c", &script]);
    until("ready", || ready.exists());
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(status(&mut child), Some(5));
}

#[test]
fn the_tether_ends_even_a_stubborn_command_and_its_children_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (data, stubborn, last) = (dir.path().join("data"), dir.path().join("stubborn"), dir.path().join("last"));
    let grandchild = dir.path().join("grandchild");
    fs::create_dir(&data).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();

    let script = format!("trap '' TERM; sleep 1000 & echo $! > {0}.part; mv {0}.part {0}; wait", grandchild.display());
    let mut first = tether(&["--grace", "1", "--pid-file", &path(&stubborn), "--", "sh", "-c", &script]);
    until("started", || grandchild.exists());
    // Ends when told to, and says whether the other one was still there.
    let script = format!(
        "trap 'kill -0 {} 2>&- && exit 9; exit 4' TERM; : > {}; while :; do sleep 0.05; done",
        pid_in(&stubborn).unwrap(),
        data.join("ready").display()
    );
    let mut second = tether(&[
        "--after",
        &path(&stubborn),
        "--remove",
        &path(&data),
        "--pid-file",
        &path(&last),
        "--",
        "sh",
        "-c",
        &script,
    ]);
    until("started", || data.join("ready").exists());

    // What the caller writes does not matter, only that the rope is still there.
    first.stdin.as_mut().unwrap().write_all(b"anything\n").unwrap();
    assert!([&stubborn, &last, &grandchild].iter().all(|file| alive(pid_in(file).unwrap())));
    drop((first.stdin.take(), second.stdin.take()));
    assert_eq!(first.wait().unwrap().code(), Some(128 + 9), "killed after the grace");
    assert_eq!(second.wait().unwrap().code(), Some(4), "told to end only after the other was gone");
    until("gone", || ![&stubborn, &last, &grandchild].iter().any(|file| alive(pid_in(file).unwrap())));
    assert!(!data.exists());
}
