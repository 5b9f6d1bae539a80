//! The clock that sessions wait by: the wall clock of the process's start, carried on by the monotonic clock. A wall clock that
//! is set back or forward so keeps no session waiting and ends no ban early. What people read follows the wall clock.

use std::{sync::LazyLock, time::Instant};

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::bridge_api::Session;

/// Clocks that are kept in step by NTP differ by less; a difference beyond it is a clock that was set.
const STEP: SignedDuration = SignedDuration::from_secs(2);

static START: LazyLock<(Instant, Timestamp)> = LazyLock::new(|| (Instant::now(), Timestamp::now()));

/// The time that sessions go by.
pub fn now() -> Timestamp {
    let (started, at) = *START;
    SignedDuration::try_from(started.elapsed()).ok().and_then(|since| at.checked_add(since).ok()).unwrap_or(at)
}

/// A session with its times as the wall clock has them now.
pub fn for_people(session: Session) -> Session {
    shifted(session, step(Timestamp::now(), now()))
}

/// How far the wall clock has been set away from ours.
fn step(wall: Timestamp, ours: Timestamp) -> SignedDuration {
    let difference = wall.duration_since(ours);
    if difference.abs() < STEP { SignedDuration::ZERO } else { difference }
}

fn shifted(mut session: Session, by: SignedDuration) -> Session {
    if by.is_zero() {
        return session;
    }
    let Session { phase_since, connected_at, last_active_at, qr, pairing_code, restriction, last_disconnect, .. } =
        &mut session;
    let times = [
        Some(phase_since),
        connected_at.as_mut(),
        last_active_at.as_mut(),
        qr.as_mut().map(|qr| &mut qr.expires_at),
        pairing_code.as_mut().map(|code| &mut code.expires_at),
        restriction.as_mut().and_then(|restriction| restriction.expires_at.as_mut()),
        last_disconnect.as_mut().map(|last| &mut last.at),
    ];
    for time in times.into_iter().flatten() {
        *time = time.saturating_add(by).unwrap_or(*time);
    }
    session
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Kept, State, Timings};
    use whatsapp_operator::{
        bridge_api::{Qr, SessionSpec},
        model::Sensitive,
    };

    #[test]
    fn a_clock_that_was_set_moves_what_people_read_and_nothing_else() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        assert_eq!(step(ours + SignedDuration::from_millis(1500), ours), SignedDuration::ZERO);
        assert_eq!(step(ours - hour, ours), -hour);
        let state = State::new("a".to_owned(), Kept::new(SessionSpec::default()), ours, Timings::default(), 1, ours);
        let code = Qr {
            code: Sensitive::new("2@x"),
            expires_at: ours + SignedDuration::from_secs(60),
            attempt: 1,
            attempts: 6,
        };
        let session = Session { qr: Some(code), ..state.view() };
        assert_eq!(shifted(session.clone(), SignedDuration::ZERO), session);
        let shown = shifted(session, -hour);
        assert_eq!(shown.qr.unwrap().expires_at, ours + SignedDuration::from_secs(60) - hour);
        assert_eq!(shown.phase_since, ours - hour);
    }

    #[test]
    fn it_only_goes_forward() {
        let before = now();
        assert!(now() >= before);
        assert!(step(Timestamp::now(), now()).is_zero());
    }
}
