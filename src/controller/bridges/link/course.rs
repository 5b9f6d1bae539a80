//! What follows when a connection to a shard ends: the pause before the next one, what is told of the shard, and whether its
//! sessions are listed again.

use std::time::{Duration, Instant};

use super::{credentials::is_about_the_secret, fault::Broken};
use crate::platform::{backoff::Backoff, kubernetes::CallError};

/// The first pause after a failure; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: how late a shard that is back may be noticed.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted this long held.
const STEADY: Duration = Duration::from_secs(2);
/// A restarted bridge resets each follower once, and a changed token forces one reconnect: these two are free of back-off.
const FREE_RESTARTS: u32 = 2;
/// A shard that was up may be gone this long (a restart) before its instances are told.
const PATIENCE: Duration = Duration::from_secs(3);
/// For so long the API server fails to read a bridge's Secret before instances are told.
const UNREAD: Duration = Duration::from_secs(30);

/// What is remembered from one connection to the next.
#[derive(Debug)]
pub(super) struct Course {
    pauses: Backoff,
    /// Connections in a row that neither failed nor held.
    hasty: u32,
    /// Since when the bridge has been failing.
    down_since: Option<Instant>,
    /// Since when the Secret could not be read.
    unread_since: Option<Instant>,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The shard was up.
    pub was_up: bool,
    /// From the attempt to connect until the end.
    pub lasted: Duration,
    /// The next connection can go on where this one ended.
    pub can_resume: bool,
}

/// What is told of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// Nothing is known of it for the moment.
    Unknown,
    /// It is down, by what ended the connection; `brief` when that may be over soon.
    Down { brief: bool },
    /// The Secret with its token cannot be read.
    CredentialsUnread,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// What is told, if anything changes.
    pub tell: Option<Tell>,
    /// Before the next connection.
    pub pause: Duration,
    /// The next connection begins with a list of all sessions.
    pub list_anew: bool,
}

impl Course {
    /// Before the first connection.
    pub(super) fn new() -> Self {
        Self { pauses: Backoff::new(FIRST_PAUSE, LAST_PAUSE), hasty: 0, down_since: None, unread_since: None }
    }

    /// What follows when a connection ends by `broken`.
    pub(super) fn broke(&mut self, broken: &Broken, ended: Ended, now: Instant) -> Next {
        if ended.was_up {
            self.down_since = None;
        }
        // Two processes behind one address, each of which knows nothing of the other's resume points, break every connection
        // at once: only one that held makes the next one cheap.
        if ended.lasted >= STEADY {
            self.pauses.reset();
            self.hasty = 0;
        }
        // A connection that ended by anything else had its Secret read.
        if !matches!(broken, Broken::Kubernetes(error) if is_about_the_secret(error)) {
            self.unread_since = None;
        }
        match broken {
            Broken::Kubernetes(error) => self.unread(error, now),
            Broken::Restart => self.restarted(),
            Broken::Credentials(_) => self.failed(false, ended, now),
            Broken::Bridge(error) => self.failed(error.may_be_brief(), ended, now),
        }
    }

    /// The API server did not give the Secret. One that is there and fails over this very Secret may do so for long, as when a key
    /// of its encryption is gone, and new instances of other bridges wait for this shard. So they are told after a while.
    fn unread(&mut self, error: &CallError, now: Instant) -> Next {
        let is_long = is_about_the_secret(error) && now - *self.unread_since.get_or_insert(now) >= UNREAD;
        Next { tell: is_long.then_some(Tell::CredentialsUnread), pause: self.pauses.pause(), list_anew: false }
    }

    fn restarted(&mut self) -> Next {
        self.hasty = self.hasty.saturating_add(1);
        let pause = if self.hasty > FREE_RESTARTS { self.pauses.pause() } else { Duration::ZERO };
        Next { tell: None, pause, list_anew: false }
    }

    fn failed(&mut self, brief: bool, ended: Ended, now: Instant) -> Next {
        let first = *self.down_since.get_or_insert(now);
        let patient = brief && ended.can_resume && now - first < PATIENCE;
        Next {
            tell: Some(if patient { Tell::Unknown } else { Tell::Down { brief } }),
            pause: self.pauses.pause_up_to(if patient { PATIENCE / 3 } else { LAST_PAUSE }),
            list_anew: !brief,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::{bridge_api::BridgeError, platform::kubernetes::CALL_TIMEOUT};

    const AT_ONCE: Ended = Ended { was_up: false, lasted: Duration::ZERO, can_resume: true };
    const HELD: Ended = Ended { was_up: true, lasted: STEADY, can_resume: true };

    fn unread() -> Broken {
        Broken::Kubernetes(CallError::Slow { doing: "read", limit: CALL_TIMEOUT })
    }

    fn away() -> Broken {
        let status = serde_json::json!({"code": 503, "reason": "no", "message": "no"});
        let status: Status = serde_json::from_value(status).unwrap();
        Broken::Kubernetes(CallError::Api { doing: "read", source: Box::new(kube::Error::Api(Box::new(status))) })
    }

    fn broken() -> Broken {
        Broken::Bridge(BridgeError::TimedOut)
    }

    /// What is told when connections end like this, each so many seconds after the first.
    fn told(ends: &[(u64, Broken, Ended)]) -> Vec<Option<Tell>> {
        let (mut course, start) = (Course::new(), Instant::now());
        let tell = |(at, broken, ended): &(u64, Broken, Ended)| {
            course.broke(broken, *ended, start + Duration::from_secs(*at)).tell
        };
        ends.iter().map(tell).collect()
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_told_after_a_while_in_which_nothing_else_happened() {
        let unread_at = |at| (at, unread(), AT_ONCE);
        assert_eq!(told(&[unread_at(0), unread_at(29), unread_at(30)]), [None, None, Some(Tell::CredentialsUnread)]);
        // In between it was read: the bridge failed, or was there, or had something else to say.
        for between in [(1, broken(), AT_ONCE), (1, broken(), HELD), (1, Broken::Restart, HELD), (1, away(), AT_ONCE)] {
            let told = told(&[unread_at(0), between, unread_at(3600), unread_at(3629)]);
            assert_eq!((told[2], told[3]), (None, None));
        }
        assert_eq!(told(&[(0, away(), AT_ONCE), (3600, away(), AT_ONCE)]), [None, None]);
    }

    #[test]
    fn a_shard_that_was_up_may_be_gone_for_a_moment() {
        let (unknown, down) = (Some(Tell::Unknown), Some(Tell::Down { brief: true }));
        let ends = [(0, broken(), HELD), (2, broken(), AT_ONCE), (3, broken(), AT_ONCE), (9, broken(), HELD)];
        assert_eq!(told(&ends), [unknown, unknown, down, unknown]);
        let fresh = Ended { can_resume: false, ..AT_ONCE };
        assert_eq!(told(&[(0, broken(), fresh)]), [down], "of one that was never up nothing is expected");
        let refused = Broken::Bridge(BridgeError::Unauthorized);
        let next = Course::new().broke(&refused, HELD, Instant::now());
        assert_eq!((next.tell, next.list_anew), (Some(Tell::Down { brief: false }), true));
    }

    #[test]
    fn pauses_grow_until_a_connection_holds_and_two_restarts_are_free() {
        let (mut course, now) = (Course::new(), Instant::now());
        let mut pause = |broken, ended| course.broke(&broken, ended, now).pause.as_millis();
        let restarts = [(); 4].map(|()| pause(Broken::Restart, AT_ONCE));
        assert_eq!(restarts, [0, 0, 250, 500]);
        assert_eq!([pause(Broken::Restart, HELD), pause(Broken::Restart, HELD)], [0, 0]);
        // Short while a restart is expected to be over soon, longer then.
        assert_eq!([(); 4].map(|()| pause(broken(), AT_ONCE)), [250, 500, 1000, 1000]);
        let fresh = Ended { can_resume: false, ..AT_ONCE };
        assert_eq!([(); 4].map(|()| pause(broken(), fresh)), [1000, 2000, 4000, 5000]);
        assert_eq!(pause(unread(), AT_ONCE), 5000);
    }
}
