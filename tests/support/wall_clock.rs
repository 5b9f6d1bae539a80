//! Clocks that a test sets, for one program.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::control_plane::room;

/// The wall clock of the programs that are started with [`WallClock::environment`].
pub struct WallClock {
    library: PathBuf,
    wall: PathBuf,
    boot: PathBuf,
}

impl WallClock {
    /// A clock that is right; its files live in `dir`. Needs the C compiler that SQLite was built with.
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let (library, source) = (dir.join("wall_clock.so"), room().join("../support/wall_clock.c"));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(built.expect("a C compiler").success(), "wall_clock.c is compiled");
        let clock = Self { library, wall: dir.join("wall_clock"), boot: dir.join("boot_clock") };
        // Files of an earlier run may be there.
        clock.suspend(0);
        clock
    }

    /// What a program needs to go by it.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        [("LD_PRELOAD", &self.library), ("WALL_CLOCK", &self.wall), ("BOOT_CLOCK", &self.boot)]
    }

    /// Sets it so many seconds away from the right time, at once.
    pub fn set(&self, seconds: i64) {
        say(&self.wall, seconds);
    }

    /// As if the machine had been suspended for so many seconds: both clocks went on, and no timer did.
    pub fn suspend(&self, seconds: i64) {
        say(&self.boot, seconds);
        say(&self.wall, seconds);
    }
}

/// Says an offset at once: whoever reads it finds the old one or the new one.
fn say(file: &Path, seconds: i64) {
    let next = file.with_extension("next");
    std::fs::write(&next, seconds.to_string()).unwrap();
    std::fs::rename(&next, file).unwrap();
}
