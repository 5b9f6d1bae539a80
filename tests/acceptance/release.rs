//! What `make release` makes, with a throw-away key: the command of docs/install.md accepts it, and nothing that was changed.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::chart::ROOT;
use crate::support::program::profile_dir;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn release(out: &Path, key: &Path) {
    let mut command = Command::new(format!("{ROOT}/.ci/release"));
    // Images need buildah, which not every machine has; the command is the same for all files.
    command.arg(out).arg(profile_dir()).env("RELEASE_KEY", key).env("WITHOUT_IMAGES", "1");
    run(&mut command);
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())).collect()
}

/// The command as it stands in the docs.
fn verify(dir: &Path) -> bool {
    let docs = fs::read_to_string(format!("{ROOT}/docs/install.md")).unwrap();
    let command =
        docs.lines().find(|line| line.starts_with("openssl pkeyutl -verify")).expect("the command is in the docs");
    Command::new("bash").args(["-c", command]).current_dir(dir).output().unwrap().status.success()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The lines of a file that tell a user to run this.
fn told(file: &str, command: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("{ROOT}/{file}")).unwrap();
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
    lines.filter(|line| line.starts_with(command)).map(str::to_owned).collect()
}

/// The bridge's licence wants its source to be offered, and the image's label says which that is.
#[test]
fn an_image_is_not_built_without_the_commit_that_it_is_of() {
    let dockerfile = fs::read_to_string(format!("{ROOT}/Dockerfile")).unwrap();
    let check = dockerfile.lines().find_map(|line| line.strip_prefix("RUN case")).expect("the check of REVISION");
    let accepted = |revision: &str| {
        let output =
            Command::new("sh").args(["-c", &format!("case{check}")]).env("REVISION", revision).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for without in ["", "unknown"] {
        let (built, said) = accepted(without);
        assert!(!built && said.contains("--build-arg REVISION=$(git rev-parse HEAD)"), "{without:?}: {said}");
    }
    assert!(accepted("0ccad59").0);
    // It comes before everything that takes long, and who reads the docs knows.
    assert!(dockerfile.find("RUN case").unwrap() < dockerfile.find("cargo build").unwrap());
    for file in ["Dockerfile", "docs/install.md"] {
        let told = told(file, "docker build");
        assert_eq!(told.len(), 2, "{file}: {told:?}");
        assert!(told.iter().all(|one| one.contains("--build-arg REVISION=$(git rev-parse HEAD)")), "{file}: {told:?}");
    }
    // What is sent to the build leaves out what a test of a cluster has left: a token of an administrator.
    let ignored = fs::read_to_string(format!("{ROOT}/.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/tests/cluster/.work"));
}

/// A program that holds the path of its checkout is another one in every folder.
#[test]
fn what_is_given_to_others_is_built_without_the_paths_of_the_machine() {
    let mut make = Command::new("make");
    let make = make.args(["--dry-run", "images", "release", "HELM=/bin/true"]).current_dir(ROOT);
    let output = run(make.env("CARGO_HOME", "/home/somebody/.cargo").env_remove("MAKEFLAGS").env_remove("MAKELEVEL"));
    let said = String::from_utf8_lossy(&output.stdout);
    let builds: Vec<&str> = said.lines().filter(|line| line.contains("cargo build")).collect();
    assert_eq!(builds.len(), 4, "{said}");
    // By the path without symbolic links, as make knows it, and with a separator that no path holds, as a space would be.
    let here = fs::canonicalize(ROOT).unwrap().display().to_string();
    let separated =
        format!(r#"--remap-path-prefix={here}=/"$'\x1f'"--remap-path-prefix=${{CARGO_HOME:-$HOME/.cargo}}=/cargo""#);
    for build in &builds {
        assert!(build.contains(&separated), "{separated}\n{build}");
    }
    // What is packed is what was built so.
    assert_eq!(said.matches(" target/shipped/release").count(), 2, "{said}");
    let dockerfile = fs::read_to_string(format!("{ROOT}/Dockerfile")).unwrap();
    assert!(dockerfile.contains("--remap-path-prefix=/src=/ --remap-path-prefix=/usr/local/cargo=/cargo"));
}

#[test]
fn a_release_is_the_same_bytes_twice_and_one_command_tells_whether_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (key, one, two) = (dir.path().join("key"), dir.path().join("one"), dir.path().join("two"));
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key));
    release(&one, &key);
    release(&two, &key);
    let made = files(&one);
    assert!(made == files(&two), "the same commit gives other bytes");
    let version = env!("CARGO_PKG_VERSION");
    let chart = format!("whatsapp-operator-{version}.tgz");
    for name in [&chart, "crds.yaml", "whatsapp.krew.yaml", "whatsapp-bridge.cdx.json", "provenance.intoto.jsonl"] {
        assert!(made.contains_key(name), "{name}: {:?}", made.keys());
    }

    // The Krew manifest knows the archive that is there.
    let manifest: Value = serde_saphyr::from_slice(&made["whatsapp.krew.yaml"]).unwrap();
    let platform = &manifest["spec"]["platforms"][0];
    let archive = platform["uri"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(platform["sha256"], sha256(&made[archive]));
    let listed = run(Command::new("tar").arg("-tzf").arg(one.join(archive)));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("./kubectl-whatsapp\n"));

    // The statement is about every file there was, and signed as a whole with its type.
    let envelope: Value = serde_json::from_slice(&made["provenance.intoto.jsonl"]).unwrap();
    let statement = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let (signed, signature) = (dir.path().join("signed"), dir.path().join("signature"));
    let kind = envelope["payloadType"].as_str().unwrap();
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len());
    fs::write(&signed, [head.as_bytes(), &statement].concat()).unwrap();
    fs::write(&signature, STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap()).unwrap();
    let mut check = Command::new("openssl");
    check.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(one.join("release.pub"));
    run(check.arg("-in").arg(&signed).arg("-sigfile").arg(&signature));
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    for subject in subjects {
        assert_eq!(subject["digest"]["sha256"], sha256(&made[subject["name"].as_str().unwrap()]), "{subject}");
    }
    // All but the statement itself, the sums, their signature and the key.
    assert_eq!(subjects.len(), made.len() - 4, "{:?}", made.keys());

    assert!(verify(&one));
    for name in [chart.as_str(), "SHA256SUMS", "crds.yaml"] {
        fs::write(one.join(name), [&made[name][..], b"\n"].concat()).unwrap();
        assert!(!verify(&one), "{name} was changed, and that is not noticed");
        fs::write(one.join(name), &made[name]).unwrap();
    }
    // Another key's signature over the very same files.
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key));
    release(&two, &key);
    fs::copy(two.join("SHA256SUMS.sig"), one.join("SHA256SUMS.sig")).unwrap();
    assert!(!verify(&one), "signed by somebody else, and that is not noticed");
}
