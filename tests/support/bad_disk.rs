//! A disk that takes nothing, for some files of one program.

use std::path::{Path, PathBuf};

use super::preload::{library, say};

/// No room is left.
pub const FULL: i32 = 28;
/// It may only be read.
pub const READ_ONLY: i32 = 30;

/// The disk of the programs that are started with [`BadDisk::environment`].
pub struct BadDisk {
    library: PathBuf,
    state: PathBuf,
}

impl BadDisk {
    /// A good disk, for now; its files live in `dir`.
    pub fn new(dir: &Path) -> Self {
        let disk = Self { library: library("bad_disk", dir), state: dir.join("bad_disk") };
        disk.is_good();
        disk
    }

    /// What a program needs so that its writes to files with `part` in their path may fail.
    pub fn environment<'a>(&'a self, part: &'a Path) -> [(&'static str, &'a Path); 3] {
        [("LD_PRELOAD", &self.library), ("BAD_DISK", &self.state), ("BAD_DISK_FILES", part)]
    }

    /// From now on writes fail with this error number.
    pub fn fails(&self, error: i32) {
        say(&self.state, error.into());
    }

    /// From now on writes are taken.
    pub fn is_good(&self) {
        self.fails(0);
    }
}
