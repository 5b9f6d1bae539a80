//! When an object that was deleted is created again.
//!
//! An uninstallation deletes objects and ends the programs that keep them, in an order of its own. A program that created a
//! deleted object again at once would leave one behind that is never deleted; so it waits for as long as its own end may take.

use std::time::{Duration, Instant};

/// How long an object that was deleted stays away before it is created again. Meanwhile what was read last is used.
const GRACE: Duration = Duration::from_secs(60);

/// What a process knows of an object that it keeps.
#[derive(Debug, Default)]
pub struct Anew {
    was_there: bool,
    gone: Option<Instant>,
}

impl Anew {
    /// The same for the Secret `name`, said in the log: how long to leave it, if it is to be left.
    pub fn puts_off(&mut self, name: &str, is_there: bool) -> Option<Duration> {
        let wait = self.wait(is_there, Instant::now());
        if wait.is_zero() {
            return None;
        }
        tracing::warn!(secret = name, wait_ms = wait.as_millis(), "was deleted; it is made anew after a while");
        Some(wait)
    }

    /// How long not to make it. One that this process has never seen is made at once: that is an installation.
    fn wait(&mut self, is_there: bool, now: Instant) -> Duration {
        self.was_there |= is_there;
        self.gone = (self.was_there && !is_there).then(|| self.gone.unwrap_or(now));
        self.gone.map_or(Duration::ZERO, |since| GRACE.saturating_sub(now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_is_waited_for() {
        let (mut anew, now) = (Anew::default(), Instant::now());
        assert_eq!(anew.wait(false, now), Duration::ZERO, "an installation");
        assert_eq!(anew.wait(true, now), Duration::ZERO);
        assert_eq!(anew.wait(false, now), GRACE, "an uninstallation, perhaps");
        assert_eq!(anew.wait(false, now + GRACE / 2), GRACE / 2);
        assert_eq!(anew.wait(false, now + GRACE), Duration::ZERO, "none, after all");
        assert_eq!(anew.wait(true, now + GRACE), Duration::ZERO);
        assert_eq!(anew.wait(false, now + GRACE * 2), GRACE, "each time anew");
    }
}
