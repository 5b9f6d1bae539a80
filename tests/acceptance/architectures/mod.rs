//! Images and releases for amd64 and arm64, without a cross compiler: what the scripts make of programs that are only looked at.

pub mod elf;
pub mod index;
mod libraries;
mod programs;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

/// What a command says on failure, if it fails.
pub fn refusal(command: &mut Command) -> Option<String> {
    let Output { status, stderr, .. } = command.output().unwrap();
    (!status.success()).then(|| String::from_utf8_lossy(&stderr).into_owned())
}

/// A script in place of a program that this machine may not have.
pub fn script(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("#!/usr/bin/env bash\nset -euo pipefail\n{text}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The search path, with a folder before all others.
pub fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}
