//! What `make release` makes for two architectures, with a throw-away key: the command of docs/install.md accepts it, and nothing
//! that was changed.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    architectures::{
        elf::{AMD64, ARM64, Elf},
        index::{self, sha256},
        path_with, script,
    },
    chart::ROOT,
};

/// In place of buildah, which not every machine has: an image whose one layer is its program, for the platform that was asked for.
const BUILDAH: &str = r#"root=$4
last=${!#}
mkdir -p "$root"
if [ "$7" = build ]; then
    while [ "$1" != --platform ]; do shift; done
    echo "${2#linux/}" >"$root/architecture"
    cp "$last"/whatsapp-* "$root/layer"
    exit
fi
image=${last#oci-archive:}
blobs=$root/archive/blobs/sha256
rm -rf "$root/archive"
mkdir -p "$blobs"
blob() { # file; prints what refers to it
    local hash size
    hash=$(sha256sum "$1" | cut -d ' ' -f 1) size=$(wc -c <"$1")
    cp "$1" "$blobs/$hash"
    echo "\"digest\":\"sha256:$hash\",\"size\":$size"
}
echo "{\"architecture\":\"$(cat "$root/architecture")\",\"os\":\"linux\"}" >"$root/config"
echo "{\"config\":{$(blob "$root/config")},\"layers\":[{$(blob "$root/layer")}]}" >"$root/manifest"
echo "{\"manifests\":[{$(blob "$root/manifest"),\"annotations\":{\"org.opencontainers.image.ref.name\":\"${image#*:}\"}}]}" >"$root/archive/index.json"
tar -C "$root/archive" -cf "${image%%:*}" ."#;

/// Folders with the programs of each architecture, and one with the tools that take the place of others.
fn prepare(dir: &Path) {
    for (architecture, machine) in [("amd64", AMD64), ("arm64", ARM64)] {
        for program in ["whatsapp-operator", "whatsapp-bridge", "kubectl-whatsapp"] {
            let elf = Elf { machine, loader: None, needs: &[], pages: 0x10000 };
            elf.write(&dir.join(architecture).join(program));
        }
    }
    script(&dir.join("tools/buildah"), BUILDAH);
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn release(dir: &Path, out: &Path, key: &Path) {
    let mut command = Command::new(format!("{ROOT}/.ci/release"));
    command.arg(out).args([dir.join("amd64"), dir.join("arm64")]).env("RELEASE_KEY", key);
    run(command.env("PATH", path_with(&dir.join("tools"))));
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
    assert!(dockerfile.find("RUN case").unwrap() < dockerfile.find("RUN export ARCHITECTURES").unwrap());
    for file in ["Dockerfile", "docs/install.md"] {
        let told = told(file, "docker build");
        assert_eq!(told.len(), 2, "{file}: {told:?}");
        assert!(told.iter().all(|one| one.contains("--build-arg REVISION=$(git rev-parse HEAD)")), "{file}: {told:?}");
    }
    // What is sent to the build leaves out what a test of a cluster has left: a token of an administrator.
    let ignored = fs::read_to_string(format!("{ROOT}/.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/tests/cluster/.work"));
}

#[test]
fn a_release_is_the_same_bytes_twice_and_one_command_tells_whether_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (key, one, two) = (dir.path().join("key"), dir.path().join("one"), dir.path().join("two"));
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key));
    prepare(dir.path());
    release(dir.path(), &one, &key);
    release(dir.path(), &two, &key);
    let made = files(&one);
    assert!(made == files(&two), "the same commit gives other bytes");
    let version = env!("CARGO_PKG_VERSION");
    let chart = format!("whatsapp-operator-{version}.tgz");
    for name in [&chart, "crds.yaml", "whatsapp.krew.yaml", "whatsapp-bridge.cdx.json", "provenance.intoto.jsonl"] {
        assert!(made.contains_key(name), "{name}: {:?}", made.keys());
    }

    // The Krew manifest knows the archives that are there, and each holds the plugin of its architecture.
    let manifest: Value = serde_saphyr::from_slice(&made["whatsapp.krew.yaml"]).unwrap();
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    for (architecture, platform) in ["amd64", "arm64"].iter().zip(platforms) {
        assert_eq!(platform["selector"]["matchLabels"], json!({"os": "linux", "arch": architecture}));
        let archive = platform["uri"].as_str().unwrap().rsplit('/').next().unwrap();
        assert_eq!(platform["sha256"], sha256(&made[archive]));
        let plugin = run(Command::new("tar").arg("-xzOf").arg(one.join(archive)).arg("./kubectl-whatsapp"));
        assert_eq!(plugin.stdout, fs::read(dir.path().join(architecture).join("kubectl-whatsapp")).unwrap());
    }
    assert_eq!(platforms.len(), 2, "{manifest}");

    // What an installation is told to run is the digest under which every node finds the programs of its own architecture.
    let digests: Value = serde_saphyr::from_slice(&made["digests.yaml"]).unwrap();
    for (image, told) in [("operator", &digests["image"]), ("bridge", &digests["bridge"]["image"])] {
        let (name, digest, found) = index::read(&one.join(format!("{image}.tar")));
        assert_eq!(name, format!("localhost/whatsapp-operator/whatsapp-{image}:{version}"));
        assert_eq!(told["digest"], digest);
        let of = |architecture: &str| {
            let program = dir.path().join(architecture).join(format!("whatsapp-{image}"));
            (architecture.to_owned(), fs::read(program).unwrap())
        };
        assert_eq!(found, [of("amd64"), of("arm64")]);
    }

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
    let parameters = &statement["predicate"]["buildDefinition"]["externalParameters"];
    assert_eq!(*parameters, json!({"version": version, "architectures": ["amd64", "arm64"]}));
    let subjects = statement["subject"].as_array().unwrap();
    for subject in subjects {
        assert_eq!(subject["digest"]["sha256"], sha256(&made[subject["name"].as_str().unwrap()]), "{subject}");
    }
    // All but the statement itself, the sums, their signature and the key.
    assert_eq!(subjects.len(), made.len() - 4, "{:?}", made.keys());

    assert!(verify(&one));
    for name in [chart.as_str(), "SHA256SUMS", "crds.yaml", "operator.tar"] {
        fs::write(one.join(name), [&made[name][..], b"\n"].concat()).unwrap();
        assert!(!verify(&one), "{name} was changed, and that is not noticed");
        fs::write(one.join(name), &made[name]).unwrap();
    }
    // Another key's signature over the very same files.
    run(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key));
    release(dir.path(), &two, &key);
    fs::copy(two.join("SHA256SUMS.sig"), one.join("SHA256SUMS.sig")).unwrap();
    assert!(!verify(&one), "signed by somebody else, and that is not noticed");
}
