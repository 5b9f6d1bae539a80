//! The file system of an image, of programs that this machine cannot run.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::super::chart::ROOT;
use super::{
    elf::{AMD64, ARM64, Elf},
    refusal,
};
use crate::support::program::profile_dir;

const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

fn rootfs(image: &Path, program: &Path, sysroot: Option<&Path>) -> Command {
    let mut command = Command::new(format!("{ROOT}/.ci/rootfs"));
    command.arg(image).arg(program).env_remove("SYSROOT");
    if let Some(sysroot) = sysroot {
        command.env("SYSROOT", sysroot);
    }
    command
}

/// The paths of the loader and the libraries in an image.
fn libraries(image: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["lib", "lib64", "usr"].iter().map(|name| image.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(format!("/{}", path.strip_prefix(image).unwrap().display()));
            }
        }
    }
    found
}

fn arm64(needs: &[&str], file: &Path) {
    Elf { machine: ARM64, loader: None, needs, pages: 0x10000 }.write(file);
}

fn program(file: &Path) {
    let needs = ["libm.so.6", "libc.so.6"];
    Elf { machine: ARM64, loader: Some(LOADER), needs: &needs, pages: 0x10000 }.write(file);
}

/// A sysroot with what a program needs, what that needs, and namesakes of another architecture before it.
fn sysroot(dir: &Path) -> PathBuf {
    let sysroot = dir.join("sysroot");
    arm64(&[], &sysroot.join("lib/ld-linux-aarch64.so.1"));
    arm64(&["libc.so.6", "libgcc_s.so.1"], &sysroot.join("lib/aarch64-linux-gnu/libm.so.6"));
    arm64(&["ld-linux-aarch64.so.1"], &sysroot.join("usr/lib/aarch64-linux-gnu/libc.so.6"));
    arm64(&["libc.so.6"], &sysroot.join("lib/libgcc_s.so.1"));
    arm64(&[], &sysroot.join("lib/libunused.so.1"));
    for other in ["lib/aarch64-linux-gnu/libc.so.6", "lib64/libgcc_s.so.1"] {
        Elf { machine: AMD64, loader: None, needs: &[], pages: 0x1000 }.write(&sysroot.join(other));
    }
    sysroot
}

struct Prepared {
    dir: tempfile::TempDir,
    /// Where the image is to be.
    image: PathBuf,
    /// The program that it is for.
    operator: PathBuf,
    sysroot: PathBuf,
}

fn prepared() -> Prepared {
    let dir = tempfile::tempdir().unwrap();
    let (image, operator) = (dir.path().join("image"), dir.path().join("whatsapp-operator"));
    program(&operator);
    let sysroot = sysroot(dir.path());
    Prepared { dir, image, operator, sysroot }
}

#[test]
fn an_image_for_another_architecture_holds_what_its_programs_name() {
    let Prepared { dir, image, operator, sysroot } = prepared();
    assert_eq!(refusal(&mut rootfs(&image, &operator, Some(&sysroot))), None);
    let expected =
        [LOADER, "/lib/aarch64-linux-gnu/libm.so.6", "/usr/lib/aarch64-linux-gnu/libc.so.6", "/lib/libgcc_s.so.1"];
    assert_eq!(libraries(&image), expected.map(str::to_owned).into());
    for name in &expected {
        let (there, here) = (fs::read(image.join(&name[1..])).unwrap(), fs::read(sysroot.join(&name[1..])).unwrap());
        assert_eq!(there, here, "{name}");
    }
    assert_eq!(fs::read(image.join("whatsapp-operator")).unwrap(), fs::read(&operator).unwrap());
    assert_eq!(fs::read_link(image.join("kubectl-whatsapp")).unwrap(), Path::new("whatsapp-operator"));

    assert!(!image.join("var/lib/dpkg/status.d/libc6").exists(), "a sysroot without packages has none to note");

    // A static program needs nothing, and no sysroot.
    Elf { machine: ARM64, loader: None, needs: &[], pages: 0x10000 }.write(&operator);
    assert_eq!(refusal(&mut rootfs(&image, &operator, Some(dir.path()))), None);
    assert_eq!(libraries(&image), BTreeSet::new());
}

/// Scanners of images look there for packages, since nothing else tells which C library this is.
#[test]
fn an_image_says_which_packages_its_libraries_are_of() {
    let Prepared { dir: _dir, image, operator, sysroot } = prepared();
    let files = [
        ("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n"),
        (
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nMaintainer: A <a@example.org>\nArchitecture: arm64\nMulti-Arch: same\n\
             Source: glibc\nVersion: 1:2.41-12+deb13u1\nDescription: C library\n",
        ),
        ("var/lib/dpkg/arch", "amd64\narm64\n"),
        ("var/lib/dpkg/info/format", "1\n"),
        // By the name of the folder before it moved below /usr.
        ("var/lib/dpkg/info/libc6:arm64.list", "/lib/aarch64-linux-gnu/libc.so.6\n"),
    ];
    for (name, text) in files {
        let file = sysroot.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    assert_eq!(refusal(&mut rootfs(&image, &operator, Some(&sysroot))), None);
    let noted = fs::read_to_string(image.join("var/lib/dpkg/status.d/libc6")).expect("Debian's dpkg is installed");
    assert!(noted.contains("Source: glibc\n") && noted.contains("Version: 1:2.41-12+deb13u1\n"), "{noted}");
    assert!(!image.join("var/lib/dpkg/status.d/libgcc-s1").exists(), "of no package there");
    assert_eq!(fs::read_to_string(image.join("etc/os-release")).unwrap(), files[0].1);

    let sbom = Command::new(format!("{ROOT}/.ci/sbom")).arg("operator").env("ROOTFS", &image).output().unwrap();
    let sbom: serde_json::Value = serde_json::from_slice(&sbom.stdout).unwrap();
    let parts = sbom["components"].as_array().unwrap();
    let c_library = parts.iter().find(|part| part["name"] == "libc6").unwrap();
    assert_eq!(c_library["version"], "1:2.41-12+deb13u1");
    assert_eq!(c_library["purl"], "pkg:deb/debian/libc6@1%3A2.41-12%2Bdeb13u1?arch=arm64&distro=debian-13");
    assert!(parts.iter().any(|part| part["name"] == "kube"), "and the crates");
}

#[test]
fn an_image_that_would_not_start_is_not_made() {
    let Prepared { dir, image, operator, sysroot } = prepared();
    let said = |sysroot: &Path| refusal(&mut rootfs(&image, &operator, Some(sysroot))).expect("refused");
    let without = said(&dir.path().join("empty"));
    assert!(without.contains(LOADER) && without.contains("install libc6:arm64"), "{without}");
    // A library that only another one names, and that is there for the other architecture alone.
    fs::remove_file(sysroot.join("lib/libgcc_s.so.1")).unwrap();
    let without = said(&sysroot);
    assert!(without.contains("libm.so.6 needs libgcc_s.so.1, and there is none for arm64"), "{without}");
    // Kernels of arm64 may have pages of 64 KiB.
    Elf { machine: ARM64, loader: None, needs: &["libc.so.6"], pages: 0x1000 }
        .write(&sysroot.join("lib/libgcc_s.so.1"));
    let small = said(&sysroot);
    assert!(small.contains("libgcc_s.so.1 is laid out for pages of 4096 bytes"), "{small}");
}

/// `ldd` runs the program, and so knows best; it can do that for this machine's own only.
#[test]
fn an_image_for_this_machine_holds_what_ldd_names() {
    let dir = tempfile::tempdir().unwrap();
    let (image, operator) = (dir.path().join("image"), profile_dir().join("whatsapp-operator"));
    assert_eq!(refusal(&mut rootfs(&image, &operator, None)), None);
    let ldd = Command::new("ldd").arg(&operator).output().unwrap();
    let ldd = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let named = ldd.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect();
    assert_eq!(libraries(&image), named, "{ldd}");

    // Libraries that know none of the versions that the program was linked with.
    let machine = if cfg!(target_arch = "aarch64") { ARM64 } else { AMD64 };
    let old = dir.path().join("old");
    for library in libraries(&image) {
        Elf { machine, loader: None, needs: &[], pages: 0x10000 }.write(&old.join(&library[1..]));
    }
    let later = refusal(&mut rootfs(&image, &operator, Some(&old))).expect("refused");
    assert!(later.contains("was linked with a later library than"), "{later}");
}
