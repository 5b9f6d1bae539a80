//! Death of one program at a chosen moment: before the n-th of its calls that leave a trace, from now on.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{preload::library, program::Program};

/// Counts the calls of one program, and may end it.
pub struct Death {
    library: PathBuf,
    state: PathBuf,
    file: File,
}

impl Death {
    /// None, for now; its files live in `dir`.
    pub fn new(dir: &Path) -> Self {
        let library = library("death", dir);
        let state = dir.join("death");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&state).unwrap();
        let death = Self { library, state, file };
        death.never();
        death
    }

    /// The program, which may die of this from its next start on.
    pub fn threatens(&self, program: Program, name: &str) -> Program {
        let environment = [("LD_PRELOAD", &self.library), ("DEATH", &self.state)];
        let program = environment.into_iter().fold(program, |program, (name, value)| program.env(name, value));
        program.env("DEATH_OF", name)
    }

    /// It dies before the n-th call from now.
    pub fn at(&self, calls: i64) {
        self.file.write_all_at(&calls.to_ne_bytes(), 0).unwrap();
    }

    /// It lives.
    pub fn never(&self) {
        self.at(0);
    }

    /// How many calls are left.
    pub fn left(&self) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        i64::from_ne_bytes(bytes)
    }
}
