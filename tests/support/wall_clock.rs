//! Clocks that a test sets, for one program.

use std::path::{Path, PathBuf};

use super::preload::{library, say};

/// The wall clock of the programs that are started with [`WallClock::environment`].
pub struct WallClock {
    library: PathBuf,
    wall: PathBuf,
    boot: PathBuf,
}

impl WallClock {
    /// A clock that is right; its files live in `dir`.
    pub fn new(dir: &Path) -> Self {
        let clock =
            Self { library: library("wall_clock", dir), wall: dir.join("wall_clock"), boot: dir.join("boot_clock") };
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
