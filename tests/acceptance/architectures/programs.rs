//! How the programs of a release are built, told by a cargo that only notes what it is asked.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::super::chart::ROOT;
use super::{path_with, refusal, script};

/// A checkout with the script in it, on a machine of amd64 with compilers that do nothing.
struct Checkout {
    dir: tempfile::TempDir,
}

impl Checkout {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let checkout = Self { dir };
        fs::create_dir_all(checkout.folder().join(".ci")).unwrap();
        for name in ["programs", "architectures"] {
            fs::copy(format!("{ROOT}/.ci/{name}"), checkout.folder().join(".ci").join(name)).unwrap();
        }
        symlink(checkout.folder(), checkout.dir.path().join("link")).unwrap();
        let tools = checkout.tools();
        script(&tools.join("uname"), "echo x86_64");
        script(&tools.join("rustc"), &format!("[[ $* != *aarch64* ]] || echo {}", tools.display()));
        script(&tools.join("aarch64-linux-gnu-gcc"), "exit 0");
        let noted = r#"printf '%s\n' "$*" "$CARGO_ENCODED_RUSTFLAGS" "${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER-}" >>"$NOTES"
while [ $# -gt 0 ]; do
    case $1 in
    --target-dir) into=$2 ;;
    --target) into+=/$2/release && mkdir -p "$into" ;;
    --bin) echo "for $into" >"$into/$2" ;;
    esac
    shift
done"#;
        script(&tools.join("cargo"), noted);
        checkout
    }

    /// With a space in its name; people have such folders.
    fn folder(&self) -> PathBuf {
        self.dir.path().join("a checkout")
    }

    fn tools(&self) -> PathBuf {
        self.dir.path().join("tools")
    }

    fn build(&self, architectures: &str, programs: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("link/.ci/programs"));
        command.args(programs).env("ARCHITECTURES", architectures).env("CARGO_HOME", "/home/somebody/.cargo");
        command.env_remove("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
        command.env("PATH", path_with(&self.tools())).env("NOTES", self.notes());
        command
    }

    fn notes(&self) -> PathBuf {
        self.dir.path().join("notes")
    }
}

/// The commands that cargo was given, its flags, and the linker for arm64.
fn noted(file: &Path) -> Vec<[String; 3]> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.chunks_exact(3).map(|one| [one[0].clone(), one[1].clone(), one[2].clone()]).collect()
}

/// A program that holds the path of its checkout is another one in every folder.
#[test]
fn what_is_given_to_others_is_built_for_each_architecture_without_the_paths_of_the_machine() {
    let checkout = Checkout::new();
    let programs = ["whatsapp-operator", "kubectl-whatsapp", "whatsapp-bridge"];
    assert_eq!(refusal(&mut checkout.build("amd64 arm64", &programs)), None);
    // By the path without symbolic links, as cargo knows it, and with a separator that no path holds, as a space would be.
    let here = fs::canonicalize(checkout.folder()).unwrap().display().to_string();
    let flags = format!("--remap-path-prefix={here}=/\x1f--remap-path-prefix=/home/somebody/.cargo=/cargo");
    let build = |triple: &str, rest: &str, linker: &str| {
        let command = format!("build --locked --release --target-dir target/shipped --target {triple} {rest}");
        [command, flags.clone(), linker.to_owned()]
    };
    // The operator and the plugin are built without the bridge's feature: what that links is not for them.
    let (own, others) = ("--bin whatsapp-operator --bin kubectl-whatsapp", "--features bridge --bin whatsapp-bridge");
    let expected = vec![
        build("x86_64-unknown-linux-gnu", own, ""),
        build("x86_64-unknown-linux-gnu", others, ""),
        build("aarch64-unknown-linux-gnu", own, "aarch64-linux-gnu-gcc"),
        build("aarch64-unknown-linux-gnu", others, "aarch64-linux-gnu-gcc"),
    ];
    assert_eq!(noted(&checkout.notes()), expected);
    for (architecture, triple) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        for program in programs {
            let built = fs::read_to_string(checkout.folder().join("target/shipped").join(architecture).join(program));
            assert!(built.unwrap().contains(triple), "{architecture} {program}");
        }
    }
}

/// A release takes half an hour to compile: what is missing is said before that.
#[test]
fn a_missing_cross_compiler_is_told_before_anything_is_built() {
    let checkout = Checkout::new();
    let said =
        |architectures: &str| refusal(&mut checkout.build(architectures, &["whatsapp-bridge"])).expect("refused");
    let with =
        ".ci/cross-tools arm64 (Debian or Ubuntu, as root), or build for this machine alone: ARCHITECTURES=amd64";
    script(&checkout.tools().join("aarch64-linux-gnu-gcc"), "exit 1");
    let compiler = said("amd64 arm64");
    assert!(compiler.contains("there is no aarch64-linux-gnu-gcc that links") && compiler.contains(with), "{compiler}");
    script(&checkout.tools().join("rustc"), "echo /nowhere");
    let target = said("amd64 arm64");
    assert!(target.contains("nothing for arm64 (aarch64-unknown-linux-gnu)") && target.contains(with), "{target}");
    let unknown = said("amd64 riscv64");
    assert!(unknown.contains("no architecture 'riscv64' here: say amd64 or arm64"), "{unknown}");
    assert!(!checkout.notes().exists());
    // This machine's own takes neither.
    assert_eq!(refusal(&mut checkout.build("amd64", &["whatsapp-bridge"])), None);
}

/// Images are for the machine at hand unless one says otherwise; a release for one architecture alone has to be asked for.
#[test]
fn a_release_is_for_both_architectures_unless_one_is_said() {
    let told = |goal: &str, architectures: Option<&str>| {
        let mut make = Command::new("make");
        make.args(["--dry-run", goal, "HELM=/bin/true"]).current_dir(ROOT);
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("ARCHITECTURES");
        make.args(architectures.map(|some| format!("ARCHITECTURES={some}")));
        String::from_utf8(make.output().unwrap().stdout).unwrap()
    };
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let both = "amd64 arm64";
    for (goal, given, meant) in [
        ("images", None, own),
        ("images", Some(both), both),
        ("release", None, both),
        ("release", Some("arm64"), "arm64"),
    ] {
        let said = told(goal, given);
        assert!(said.contains(&format!(r#"ARCHITECTURES="{meant}" .ci/programs whatsapp-operator"#)), "{said}");
        // What is packed is what was built so.
        let folders: Vec<String> = meant.split(' ').map(|one| format!("target/shipped/{one}")).collect();
        let packed = said.lines().find(|line| line.starts_with(&format!(".ci/{goal} target/"))).expect(&said);
        assert!(packed.ends_with(&folders.join(" ")), "{said}");
    }
}

/// `docker buildx build --platform` compiles on the machine's own platform; a builder that knows no platforms builds for that.
#[test]
fn the_dockerfile_compiles_for_the_platform_asked_for_and_emulates_none() {
    let dockerfile = fs::read_to_string(format!("{ROOT}/Dockerfile")).unwrap();
    let stages: Vec<&str> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    let [build, rest @ ..] = stages.as_slice() else { panic!("no stage") };
    // `linux` alone is this machine's, for whoever leaves the variable empty; an empty platform is refused.
    assert!(build.starts_with("FROM --platform=${BUILDPLATFORM:-linux} "), "{build}");
    assert!(rest.iter().all(|stage| stage.starts_with("FROM scratch AS ")), "{stages:?}");
    // A default in the Dockerfile would take precedence over what the builder says.
    let declared: Vec<&str> =
        dockerfile.lines().filter(|line| line.starts_with("ARG ") && line.contains("ARCH")).collect();
    assert_eq!(declared, ["ARG TARGETARCH"]);
    assert_eq!(dockerfile.matches("${TARGETARCH:-$(dpkg --print-architecture)}").count(), 2);
}
