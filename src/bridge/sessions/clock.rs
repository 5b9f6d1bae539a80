//! The clock that sessions wait by: the wall clock of the process's start, carried on by the time since the machine started. So
//! a wall clock that is set back or forward keeps no session waiting and ends no ban early, and the time that a suspended
//! machine sleeps counts. What people read, and what is stored for the next process, follows the wall clock.

use std::{
    borrow::Cow,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, SignedDurationRound, Timestamp, Unit};
use whatsapp_operator::{bridge_api::Session, platform::lock};

use crate::{
    machine::{ClientEvent, Event, Kept, Parked},
    outbox::Settled,
    store::Stored,
};

/// Clocks that are kept in step by NTP differ by less; a difference beyond it is a clock that was set.
const STEP: SignedDuration = SignedDuration::from_secs(2);
/// How often those who wait look whether a clock was set or the machine was suspended: timers do not notice either.
const LOOK_EVERY: Duration = Duration::from_secs(15);

static START: LazyLock<(Duration, Timestamp)> = LazyLock::new(|| (uptime(), Timestamp::now()));

/// Time since the machine started, suspension included. This clock cannot be set.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Elsewhere than on Linux, time since the first call: a bridge for trying things out.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static FIRST: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    FIRST.elapsed()
}

/// The time that sessions go by.
pub fn now() -> Timestamp {
    let (started, at) = *START;
    let since = SignedDuration::try_from(uptime().saturating_sub(started)).unwrap_or(SignedDuration::ZERO);
    at.checked_add(since).unwrap_or(at)
}

/// How far the wall clock has been set away from ours, in whole seconds.
pub fn step() -> SignedDuration {
    step_between(Timestamp::now(), now())
}

/// A machine that has just started may have its clock set first, and a process may have started with it.
const SETTLES: Duration = Duration::from_secs(600);
/// A wall clock that was set and has not been set again for this long is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// What it is certainly later than, for what is deleted when its time is over, and cannot be brought back: a wall clock that is set far
/// ahead, be it for a moment, ends nothing early.
pub fn certain() -> Timestamp {
    /// How far the wall clock is from ours, and since when.
    static SET: Mutex<(SignedDuration, Option<Duration>)> = Mutex::new((SignedDuration::ZERO, None));
    let (step, uptime) = (step(), uptime());
    let mut set = lock(&SET);
    if (step - set.0).abs() >= STEP {
        *set = (step, Some(uptime));
    }
    let since = set.1.unwrap_or(START.0);
    certain_by(Timestamp::now(), now(), uptime.saturating_sub(START.0), uptime.saturating_sub(since))
}

/// The same, by these two clocks, of a process that has run for so long and whose wall clock was not set for so long.
fn certain_by(wall: Timestamp, ours: Timestamp, started: Duration, unset: Duration) -> Timestamp {
    if started < SETTLES {
        Timestamp::MIN
    } else if unset >= BELIEVED {
        wall
    } else {
        wall.min(ours)
    }
}

/// Whether the wall clock was set since it was that far away from ours.
pub fn was_set_since(known: SignedDuration) -> bool {
    (step() - known).abs() >= STEP
}

/// Until a moment of [`now`]; for ever without one.
pub async fn sleep_until(at: Option<Timestamp>) {
    sleep_while(at, || true).await;
}

/// Until a moment of [`now`], or until the wall clock is set away from where it is `known` to be. The caller has to
/// take up where the clock is then.
pub async fn sleep_until_or_set(at: Option<Timestamp>, known: SignedDuration) {
    sleep_while(at, || !was_set_since(known)).await;
}

async fn sleep_while(at: Option<Timestamp>, nothing_else: impl Fn() -> bool) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        let wait = Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO);
        if wait.is_zero() || !nothing_else() {
            return;
        }
        tokio::time::sleep(wait.min(LOOK_EVERY)).await;
    }
}

/// A time of ours as the wall clock has it.
pub fn to_wall(at: Timestamp, step: SignedDuration) -> Timestamp {
    at.saturating_add(step).unwrap_or(at)
}

/// A time of the wall clock as sessions go by it.
pub fn to_ours(at: Timestamp, step: SignedDuration) -> Timestamp {
    at.saturating_sub(step).unwrap_or(at)
}

/// What happened, with the times that WhatsApp says as sessions go by them.
pub fn event_in_our_time(event: Event, step: SignedDuration) -> Event {
    let Event::Client(client, ClientEvent::Restricted(Some(mut found))) = event else { return event };
    found.expires_at = found.expires_at.map(|at| to_ours(at, step));
    Event::Client(client, ClientEvent::Restricted(Some(found)))
}

/// A session with its times as the wall clock has them now.
pub fn for_people(session: Session) -> Session {
    shifted(session, step())
}

/// How a message was settled, by the wall clock; the server's own time is that already.
pub fn by_the_wall(settled: Settled, step: SignedDuration) -> Settled {
    if settled.by_server { settled } else { Settled { at: to_wall(settled.at, step), ..settled } }
}

/// What is kept of a session, for a process that starts with the wall clock as it is now.
pub fn for_disk(kept: &Kept, step: SignedDuration) -> Cow<'_, Kept> {
    if step.is_zero() {
        return Cow::Borrowed(kept);
    }
    let mut kept = kept.clone();
    let Kept { parked, restriction, last_disconnect, outdated, .. } = &mut kept;
    let times = [
        if let Parked::Banned(at) | Parked::Barred { again: at, .. } = parked { Some(at) } else { None },
        restriction.as_mut().and_then(|restriction| restriction.expires_at.as_mut()),
        last_disconnect.as_mut().map(|last| &mut last.at),
        outdated.as_mut().and_then(|outdated| outdated.again.as_mut()),
    ];
    for time in times.into_iter().flatten() {
        *time = to_wall(*time, step);
    }
    Cow::Owned(kept)
}

/// A session that was read from the disk, with its times as sessions go by them: what is kept of it, and until when its messages may be
/// handed over.
pub fn from_disk(stored: Stored) -> Stored {
    in_our_time(stored, step())
}

fn in_our_time(mut stored: Stored, step: SignedDuration) -> Stored {
    stored.kept = for_disk(&stored.kept, -step).into_owned();
    for waiting in &mut stored.waiting {
        waiting.expires_at = to_ours(waiting.expires_at, step);
    }
    stored
}

fn step_between(wall: Timestamp, ours: Timestamp) -> SignedDuration {
    let difference = wall.duration_since(ours);
    if difference.abs() < STEP {
        return SignedDuration::ZERO;
    }
    difference.round(SignedDurationRound::new().smallest(Unit::Second)).unwrap_or(difference)
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
        *time = to_wall(*time, by);
    }
    session
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::{State, Timings},
        outbox::{Recipient, Waiting},
    };
    use whatsapp_operator::{
        bridge_api::{MessageState, Qr, SessionReason, SessionSpec},
        model::Sensitive,
    };

    #[test]
    fn a_clock_that_was_set_moves_what_people_read_and_nothing_else() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        assert_eq!(step_between(ours + SignedDuration::from_millis(1500), ours), SignedDuration::ZERO);
        assert_eq!(step_between(ours + SignedDuration::from_millis(3_600_004), ours), hour);
        assert_eq!(step_between(ours - hour, ours), -hour);
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
    fn a_ban_is_stored_by_the_wall_clock_that_the_next_process_starts_with() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let kept = Kept { parked: Parked::Banned(ours + hour), ..Kept::new(SessionSpec::default()) };
        assert_eq!(*for_disk(&kept, SignedDuration::ZERO), kept);
        assert_eq!(for_disk(&kept, -hour).parked, Parked::Banned(ours));
        let barred = |again| Parked::Barred { why: SessionReason::AccountBanned, again };
        let kept = Kept { parked: barred(ours + hour), ..kept };
        assert_eq!(for_disk(&kept, -hour).parked, barred(ours));
    }

    #[test]
    fn what_is_read_while_the_wall_clock_is_set_goes_by_our_time() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let recipient = Recipient::parse("+15550001").unwrap().key();
        for step in [-hour, SignedDuration::ZERO, hour] {
            let kept = Kept { parked: Parked::Banned(ours + step), ..Kept::new(SessionSpec::default()) };
            let waiting = Waiting { sequence: 1, recipient, known: false, expires_at: ours + step, handed_over: false };
            let stored = Stored { id: "a".to_owned(), kept, waiting: vec![waiting], last_sequence: 1 };
            let read = in_our_time(stored, step);
            assert_eq!((read.kept.parked, read.waiting[0].expires_at), (Parked::Banned(ours), ours));
        }
    }

    #[test]
    fn the_time_of_whatsapps_server_is_the_walls_whichever_way_the_clock_was_set() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        for step in [-hour, SignedDuration::ZERO, hour] {
            let at = |at, by_server| {
                let settled = Settled { state: MessageState::Sent, cause: None, code: None, at, by_server };
                by_the_wall(settled, step).at
            };
            assert_eq!(at(ours + step, true), ours + step);
            assert_eq!(at(ours, false), ours + step);
        }
    }

    #[test]
    fn a_restriction_ends_when_whatsapp_says_however_far_the_clock_was_set() {
        let (ours, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let ends = |expires_at| {
            let restriction = serde_json::json!({"kind": "ReachoutTimelock", "expiresAt": expires_at});
            Event::Client(1, ClientEvent::Restricted(Some(serde_json::from_value(restriction).unwrap())))
        };
        for step in [-hour, SignedDuration::ZERO, hour] {
            assert_eq!(event_in_our_time(ends(ours + step), step), ends(ours));
        }
        assert_eq!(event_in_our_time(Event::Tick, hour), Event::Tick);
    }

    #[test]
    fn what_cannot_be_brought_back_is_over_when_it_is_so_without_a_doubt() {
        let (hour, minute) = (SignedDuration::from_hours(1), Duration::from_secs(60));
        let ours = Timestamp::from_second(1_800_000_000).unwrap();
        for (ahead, started, unset, certain) in [
            (hour, 9 * minute, 9 * minute, Timestamp::MIN),
            (hour, 11 * minute, minute, ours),
            (-hour, 11 * minute, minute, ours - hour),
            (hour, 3000 * minute, 23 * 60 * minute, ours),
            (hour, 3000 * minute, 25 * 60 * minute, ours + hour),
        ] {
            assert_eq!(certain_by(ours + ahead, ours, started, unset), certain, "{ahead} {started:?} {unset:?}");
        }
    }

    #[tokio::test]
    async fn it_only_goes_forward_and_a_clock_that_was_set_ends_a_wait() {
        let before = now();
        assert!(now() >= before);
        assert!(step().is_zero());
        // Known to be an hour away, it was set since.
        let hour = SignedDuration::from_hours(1);
        sleep_until_or_set(Some(now() + hour), hour).await;
    }
}
