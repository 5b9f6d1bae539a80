//! Small C libraries that stand between one program and the system: what they do is said in files that they read.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::control_plane::room;

/// Compiles `name`.c of this folder to a library in `dir`. Needs the C compiler that SQLite was built with.
pub fn library(name: &str, dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let (library, source) = (dir.join(format!("{name}.so")), room().join(format!("../support/{name}.c")));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(built.expect("a C compiler").success(), "{name}.c is compiled");
    library
}

/// Says a number at once: whoever reads the file finds the old one or the new one.
pub fn say(file: &Path, number: i64) {
    let next = file.with_extension("next");
    std::fs::write(&next, number.to_string()).unwrap();
    std::fs::rename(&next, file).unwrap();
}
