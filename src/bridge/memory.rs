//! Memory: before the process is killed for want of it, no further pairing begins.
//!
//! A session that is being linked takes several times what one that is connected does, and can wait; connected ones go on. What
//! counts is what the kernel holds against the limit of the control group (v2, or v1 where a node still has that), less what it
//! would give back by itself.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{fs, time::sleep};

use crate::permits::Permits;

/// A burst of pairings takes some tens of megabytes a second.
const LOOK: Duration = Duration::from_millis(500);
/// Parts of the limit, in percent: from here on no pairing begins.
const SHORT: u32 = 80;
/// And below this they begin again: less, so that one that ends does not make room for one that begins at once.
const ENOUGH: u32 = 70;

/// How full the memory is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    limit: u64,
    held: u64,
}

impl Use {
    /// Whether pairings are to wait, when they do already (`waiting`) or not.
    fn is_short(self, waiting: bool) -> bool {
        let part = if waiting { ENOUGH } else { SHORT };
        u128::from(self.held) * 100 > u128::from(self.limit) * u128::from(part)
    }
}

/// Where limit, use and statistics are, and what of them the kernel would give back: of version 2, and of version 1.
const FILES: [[&str; 4]; 2] = [
    ["memory.max", "memory.current", "memory.stat", "inactive_file "],
    ["memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file "],
];
/// Version 1 has no word for no limit, but the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// What the files say; nothing where there is no limit, or no such file.
async fn read(cgroup: &Path) -> Option<Use> {
    let file = async |name: &str| fs::read_to_string(cgroup.join(name)).await.ok();
    for [limit, current, stat, cached] in FILES {
        let Some(limit) = file(limit).await else { continue };
        let limit = limit.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)?;
        let current: u64 = file(current).await?.trim().parse().ok()?;
        let stat = file(stat).await?;
        let cached = stat.lines().find_map(|line| line.strip_prefix(cached))?;
        return Some(Use { limit, held: current.saturating_sub(cached.trim().parse().ok()?) });
    }
    None
}

/// Closes the pairing windows' `permits` while memory is short, for ever. Windows that are open stay open.
pub async fn watch(cgroup: PathBuf, permits: Arc<Permits>) {
    let mut short = false;
    loop {
        // Where there is no limit nothing is short.
        let found = read(&cgroup).await;
        let now = found.is_some_and(|found| found.is_short(short));
        if now != short {
            short = now;
            permits.set_open(!short);
            let (held, limit) = found.map_or((0, 0), |found| (found.held >> 20, found.limit >> 20));
            if short {
                tracing::warn!(held_mb = held, limit_mb = limit, "memory is short: pairings wait until there is more");
            } else {
                tracing::info!(held_mb = held, limit_mb = limit, "there is memory again: pairings begin");
            }
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn write(cgroup: &Path, limit: &str, current: u64, cached: u64) {
        std::fs::write(cgroup.join("memory.max"), format!("{limit}\n")).unwrap();
        std::fs::write(cgroup.join("memory.stat"), format!("anon 1\ninactive_file {cached}\nslab 2\n")).unwrap();
        std::fs::write(cgroup.join("memory.current"), format!("{current}\n")).unwrap();
    }

    #[tokio::test]
    async fn what_the_kernel_would_give_back_does_not_count_and_no_limit_is_none() {
        let cgroup = tempfile::tempdir().unwrap();
        assert_eq!(read(cgroup.path()).await, None);
        write(cgroup.path(), "max", 5, 0);
        assert_eq!(read(cgroup.path()).await, None);
        write(cgroup.path(), "1000", 900, 300);
        assert_eq!(read(cgroup.path()).await, Some(Use { limit: 1000, held: 600 }));
        let old = tempfile::tempdir().unwrap();
        std::fs::create_dir(old.path().join("memory")).unwrap();
        let file = |name: &str, text: &str| std::fs::write(old.path().join("memory").join(name), text).unwrap();
        file("memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
        file("memory.usage_in_bytes", "500\n");
        file("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(read(old.path()).await, None);
        file("memory.limit_in_bytes", "1000\n");
        assert_eq!(read(old.path()).await, Some(Use { limit: 1000, held: 400 }));
        let full = |held| Use { limit: 1000, held };
        assert!(!full(800).is_short(false) && full(801).is_short(false));
        assert!(!full(700).is_short(true) && full(701).is_short(true));
    }

    #[tokio::test]
    async fn pairings_wait_while_memory_is_short() {
        let cgroup = tempfile::tempdir().unwrap();
        write(cgroup.path(), "1000", 900, 0);
        let permits = Arc::new(Permits::new(5));
        let watching = tokio::spawn(watch(cgroup.path().to_owned(), Arc::clone(&permits)));
        let until = async |wanted: bool| {
            let reached = async {
                while permits.try_acquire().is_ok() != wanted {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(Duration::from_secs(30), reached).await.unwrap();
        };
        until(false).await;
        write(cgroup.path(), "1000", 500, 0);
        until(true).await;
        watching.abort();
    }
}
