//! What each event does to the facts.

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::{
    bridge_api::{LastDisconnect, Restriction, RestrictionKind, SessionReason, SessionSpec},
    model::Sensitive,
};

use super::{
    ClientEvent, Effect, End, Event, Generation,
    state::{Client, Permit, Rest, Shown, Stage, State, Window, later},
};

/// `status.lastActiveAt` may be written at most this often.
const ACTIVITY_GRAIN: SignedDuration = SignedDuration::from_mins(15);
/// A connection that held this long counts as stable; WhatsApp's own web client uses the same 30 s.
const STABLE: SignedDuration = SignedDuration::from_secs(30);
/// After a refusal for too many tries, the wait starts at this many doublings: half a minute.
const TOO_MANY: u32 = 5;
/// A login that is refused for good is confirmed after this many doublings: eight seconds.
const CONFIRMED: u32 = 3;
/// Nothing was sent or received for this long: twice the grain in which it is noted.
const QUIET: SignedDuration = SignedDuration::from_mins(30);
/// How long a login that is due waits for a quiet moment.
const WAIT_FOR_QUIET: SignedDuration = SignedDuration::from_hours(24);
/// WhatsApp gives codes for this long: one for 60 s and five for 20 s each.
const WINDOW: std::time::Duration = std::time::Duration::from_secs(160);
/// The library announces the end of a window by itself; this much later we end it in its place.
const WINDOW_GRACE: std::time::Duration = std::time::Duration::from_secs(5);
/// A ban without a length would be over at once, and every login during it counts against the account.
const UNTIMED_BAN: std::time::Duration = std::time::Duration::from_secs(900);
/// Accounts that were banned in one moment must not all come back in one moment: that is what they were banned for. Each
/// waits up to a tenth of the ban longer, within these bounds.
const BAN_SPREAD: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_secs(2), std::time::Duration::from_secs(300));
/// A restriction without an end would last until WhatsApp speaks of it again, which it may never do.
const UNTIMED_RESTRICTION: std::time::Duration = std::time::Duration::from_secs(600);
/// How long the deletion of a session whose account is locked or banned waits before the device is tried to be unlinked again. Up to a
/// tenth less, so that sessions that were refused in one moment do not come back in one moment.
const UNLINK_BARRED: std::time::Duration = std::time::Duration::from_secs(3600);
/// A pause that the server wants before the next pairing code is believed up to this length.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// WhatsApp gives no time for the passkey; this long a person may look for it.
const PASSKEY: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn apply(state: &mut State, event: Event, now: Timestamp, effects: &mut Vec<Effect>) {
    match event {
        Event::Put(spec) => {
            let shown = state.kept.spec.shows_online();
            put(state, spec, now);
            if let Client::Live(generation) = state.client
                && state.kept.spec.shows_online() != shown
            {
                effects.push(Effect::ShowOnline(generation, !shown));
            }
        }
        Event::Delete { unlink } => delete(state, unlink, now),
        Event::Tick => tick(state, now),
        Event::PermitGranted => {
            if state.permit == Permit::Requested {
                state.permit = Permit::Held;
            } else {
                effects.push(Effect::ReleasePermit);
            }
        }
        Event::Client(generation, event) => client(state, generation, event, now),
        Event::ClientEnded(generation, end) => ended(state, generation, end, now),
        Event::Erased => erased(state, effects),
        Event::EraseFailed => {
            state.erasing = false;
            state.erase_at = Some(later(now, state.timings.retry));
        }
    }
}

fn put(state: &mut State, spec: SessionSpec, now: Timestamp) {
    if state.is_deleting() {
        return;
    }
    let old = std::mem::replace(&mut state.kept.spec, spec);
    let new = &state.kept.spec;
    // No name asks for nothing: whoever forgot the last one does not want another window.
    let opens = !new.pairing.window.is_empty() && new.pairing.window != old.pairing.window;
    let pairs_otherwise = !state.kept.paired
        && (new.pairing.method != old.pairing.method || new.pairing.phone_number != old.pairing.phone_number);
    let refresh = |spec: &SessionSpec| (spec.pairing.auto_refresh, spec.pairing.refresh_until);
    let refresh_turned = refresh(new) != refresh(&old);
    let wish = |spec: &SessionSpec| (spec.wants_online(), spec.wants_unlinked());
    let turned = (wish(new) != wish(&old)).then_some(new.wants_online());
    let unlinks = new.wants_unlinked();
    // Linking a device again is for whoever wishes it: what became of the one before is over.
    let starts_over = unlinks != old.wants_unlinked();

    if opens || pairs_otherwise {
        state.window = None;
    }
    if pairs_otherwise {
        // What the server refused was a code for that number.
        state.refused_until = None;
    }
    if opens {
        state.kept.windows_passed = 0;
        state.failures = 0;
        if state.kept.rest != Rest::None {
            state.kept.rest = Rest::None;
            state.reason = None;
        }
    }
    if starts_over && !state.kept.paired {
        (state.kept.rest, state.reason, state.kept.windows_passed) = (Rest::None, None, 0);
    }
    match turned {
        // A client that is logged in can ask at once; one on its way is waited for.
        Some(false) if unlinks && state.kept.paired => {
            state.reason = None;
            let ready = state.stage == Stage::Connected;
            go_offline(state);
            state.stage = state.unlinking(ready, now);
        }
        Some(false) => {
            // Going off and on again is the way to try once more after another client took over.
            if matches!(state.kept.rest, Rest::Replaced | Rest::Outdated | Rest::Banned(_) | Rest::Barred { .. }) {
                state.kept.rest = Rest::None;
            }
            if state.kept.rest != Rest::LoggedOut {
                state.reason = None;
            }
            go(state, now);
        }
        Some(true) => go(state, now),
        None if opens => match state.stage {
            Stage::Awaiting { .. } | Stage::Passkey { .. } => restart_window(state, now),
            Stage::Permit | Stage::Turn { .. } | Stage::Opening { .. } | Stage::Linking { .. } => {}
            Stage::Connecting { .. } | Stage::Connected | Stage::Stopped => {}
            Stage::Unlinking { .. } | Stage::UnlinkLater { .. } => {}
            _ => go(state, now),
        },
        None if pairs_otherwise => {
            if state.stage.is_pairing() {
                restart_window(state, now);
            }
        }
        None => {
            if refresh_turned && matches!(state.stage, Stage::Expired { .. }) {
                state.stage = state.expired(now);
            }
        }
    }
}

/// Nothing is shown of a session that is being unlinked, nor waited for.
fn go_offline(state: &mut State) {
    if matches!(state.kept.rest, Rest::Replaced | Rest::Outdated | Rest::Banned(_) | Rest::Barred { .. }) {
        state.kept.rest = Rest::None;
    }
    (state.shown, state.window, state.connected_at, state.was_connected) = (None, None, None, false);
}

fn restart_window(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.renew = state.client != Client::None;
    state.stage = Stage::Opening { by: later(now, state.timings.connect) };
}

/// Sets out for what is wanted.
fn go(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.window = None;
    state.connected_at = None;
    state.stage = state.aim(now);
    if state.stage == Stage::Stopped {
        state.was_connected = false;
    }
    // A client that runs already belongs to a stage that was left: the new one gets its own.
    if state.client != Client::None && matches!(state.stage, Stage::Opening { .. } | Stage::Connecting { .. }) {
        state.renew = true;
    }
}

fn delete(state: &mut State, unlink: bool, now: Timestamp) {
    match &mut state.stage {
        Stage::Gone => return,
        Stage::Erasing { unlink: wanted } => return *wanted &= unlink,
        _ => {}
    }
    if !unlink || !state.kept.paired {
        return erase_and_go(state, unlink);
    }
    if state.kept.rest == Rest::Unlinking {
        return;
    }
    let ready = state.stage == Stage::Connected;
    unlink_first(state, ready, now);
}

fn unlink_first(state: &mut State, ready: bool, now: Timestamp) {
    state.kept.rest = Rest::Unlinking;
    state.shown = None;
    state.stage = state.unlinking(ready, now);
}

fn erase_and_go(state: &mut State, unlink: bool) {
    state.kept.rest = Rest::Erasing;
    state.kept.keys_doomed = true;
    state.shown = None;
    state.connected_at = None;
    state.stage = Stage::Erasing { unlink };
}

fn erased(state: &mut State, effects: &mut Vec<Effect>) {
    state.erasing = false;
    state.erase_at = None;
    state.kept.keys_doomed = false;
    if matches!(state.stage, Stage::Erasing { .. }) {
        state.stage = Stage::Gone;
        effects.push(Effect::Forget);
    }
}

fn tick(state: &mut State, now: Timestamp) {
    let due = |at: Timestamp| at <= now;
    if state.erase_at.is_some_and(due) {
        state.erase_at = None;
    }
    if state.kept.restriction.as_ref().and_then(|restriction| restriction.expires_at).is_some_and(due) {
        state.kept.restriction = None;
    }
    match state.stage {
        Stage::Turn { at } if due(at) => go(state, now),
        Stage::OpeningLater { at } if due(at) => state.stage = Stage::Permit,
        Stage::Expired { reopen: Some(at) } if due(at) => {
            state.kept.rest = Rest::None;
            state.stage = Stage::Permit;
        }
        Stage::Awaiting { by } | Stage::Passkey { by } if due(by) => window_passed(state, now),
        Stage::Opening { by } | Stage::Linking { by } | Stage::Connecting { by } | Stage::Unlinking { by, .. }
            if due(by) =>
        {
            failed(state, SessionReason::ServerNotAnswering, now);
        }
        Stage::Connected if state.log_in_anew_at.is_some_and(due) => log_in_anew(state, now),
        Stage::Later { at } if due(at) => {
            state.stage = Stage::Connecting { by: later(now, state.timings.connect) };
        }
        Stage::UnlinkLater { at } if due(at) => {
            state.stage = Stage::Unlinking { by: later(now, state.timings.connect), ready: false, asked: false };
        }
        // A try that is refused too ends as the one before it did.
        Stage::Ended { again: Some(at) } if due(at) => {
            state.kept.rest = Rest::None;
            go(state, now);
        }
        Stage::Banned { until } if due(until) => {
            state.kept.rest = Rest::None;
            state.kept.restriction = None;
            go(state, now);
        }
        _ => {}
    }
}

/// A login that is planned and not needed yet: it waits for a quiet moment, but not for ever.
fn log_in_anew(state: &mut State, now: Timestamp) {
    let quiet = state.last_active_at.is_none_or(|last| now.duration_since(last) >= QUIET);
    let due_since = state.connected_at.map(|since| later(since, state.timings.log_in_anew));
    if !quiet && due_since.is_some_and(|due| now.duration_since(due) < WAIT_FOR_QUIET) {
        state.log_in_anew_at = now.checked_add(ACTIVITY_GRAIN).ok();
        return;
    }
    (state.renew, state.connected_at) = (true, None);
    state.stage = Stage::Connecting { by: later(now, state.timings.connect) };
}

fn window_passed(state: &mut State, now: Timestamp) {
    state.shown = None;
    state.window = None;
    forget_reason(state);
    state.failures = 0;
    state.kept.rest = Rest::Expired;
    state.kept.windows_passed = state.kept.windows_passed.saturating_add(1);
    state.stage = state.expired(now);
}

fn client(state: &mut State, generation: Generation, event: ClientEvent, now: Timestamp) {
    match (state.client, &event) {
        (Client::Live(live), _) if live == generation => {}
        // Told to stop while the phone was using the code: the device is linked all the same.
        (Client::Stopping(live), ClientEvent::Paired { phone_number }) if live == generation => {
            belongs_to(state, phone_number.as_ref());
            return linked_late(state, now);
        }
        _ => return,
    }
    match event {
        ClientEvent::Code { method, code, valid_for, of } => {
            if method == state.kept.spec.pairing.method.known().unwrap_or_default()
                && matches!(state.stage, Stage::Opening { .. } | Stage::Awaiting { .. })
            {
                let expires_at = later(now, valid_for);
                show(state, generation, Shown { method, code, expires_at, attempt: 1, of }, now);
            }
        }
        // The server's codes are used up before one was shown: it gave none that can be read.
        ClientEvent::WindowPassed if state.window.is_none() && matches!(state.stage, Stage::Opening { .. }) => {
            failed(state, SessionReason::PairingCodesUnusable, now);
        }
        ClientEvent::WindowPassed => {
            if state.stage.is_pairing() {
                window_passed(state, now);
            }
        }
        // No further code would work either: there is none until somebody asks for one.
        ClientEvent::PairingFailed(reason @ SessionReason::CoexistenceNotSupported) if !state.kept.paired => {
            if state.stage.is_pairing() {
                window_passed(state, now);
                state.stage = Stage::Expired { reopen: None };
                state.reason = Some(reason);
            }
        }
        ClientEvent::PairingFailed(reason) => {
            if !state.kept.paired && state.stage.is_pairing() {
                failed(state, reason, now);
            }
        }
        ClientEvent::NoCode { refused, pause } => {
            if !state.kept.paired && state.stage.is_pairing() {
                no_code(state, generation, refused, pause, now);
            }
        }
        ClientEvent::CodeStale { another } => {
            if matches!(state.stage, Stage::Awaiting { .. }) {
                code_stale(state, another, now);
            }
        }
        ClientEvent::PasskeyWanted => {
            if matches!(state.stage, Stage::Awaiting { .. } | Stage::Opening { .. }) {
                state.shown = None;
                state.stage = Stage::Passkey { by: later(now, PASSKEY) };
            }
        }
        ClientEvent::Paired { phone_number } => {
            belongs_to(state, phone_number.as_ref());
            state.kept.paired = true;
            state.kept.windows_passed = 0;
            if state.stage.is_pairing() {
                state.stage = Stage::Linking { by: later(now, state.timings.link) };
            }
        }
        ClientEvent::Connected { phone_number, push_name } => {
            belongs_to(state, phone_number.as_ref());
            state.kept.paired = true;
            state.kept.phone_number = phone_number.or(state.kept.phone_number.take());
            state.kept.push_name = push_name.or(state.kept.push_name.take());
            if let Stage::Unlinking { ready, .. } = &mut state.stage {
                *ready = true;
            } else {
                connected(state, now);
            }
        }
        ClientEvent::PushName(name) => state.kept.push_name = Some(name),
        ClientEvent::Traffic => {
            if state.last_active_at.is_none_or(|last| now.duration_since(last) >= ACTIVITY_GRAIN) {
                state.last_active_at = Some(now);
            }
        }
        ClientEvent::LoggedOut => logged_out(state, now),
        ClientEvent::Unauthorized => unauthorized(state, now),
        ClientEvent::Progress => progress(state, now),
        ClientEvent::Replaced => rest(state, Rest::Replaced, SessionReason::StreamReplaced, now),
        ClientEvent::Outdated(presented) => {
            state.note_outdated(presented, now);
            rest(state, Rest::Outdated, SessionReason::ClientOutdated, now);
        }
        ClientEvent::Barred(why) => barred(state, why, now),
        ClientEvent::Banned { code, for_ } => {
            let ban = if for_.is_zero() { UNTIMED_BAN } else { for_ };
            let until = later(now, ban);
            let spread = state.up_to((ban / 10).clamp(BAN_SPREAD.0, BAN_SPREAD.1));
            state.kept.restriction = Some(Restriction {
                kind: RestrictionKind::TemporaryBan.into(),
                code: Some(code),
                expires_at: Some(until),
            });
            rest(state, Rest::Banned(later(until, spread)), SessionReason::TemporaryBan, now);
        }
        ClientEvent::Restricted(None) => state.kept.restriction = None,
        ClientEvent::Restricted(Some(found)) => {
            // Told once more without an end, it is the same one: every refused message tells of it.
            let known = state.kept.restriction.take().filter(|known| known.kind == found.kind);
            let end = found.expires_at.or(known.and_then(|known| known.expires_at));
            let expires_at = end.or_else(|| Some(later(now, UNTIMED_RESTRICTION)));
            state.kept.restriction = Some(Restriction { expires_at, ..found });
        }
        ClientEvent::Unlinked(Ok(())) if matches!(state.stage, Stage::Unlinking { .. }) => logged_out(state, now),
        ClientEvent::Unlinked(Ok(())) | ClientEvent::Message(_) => {}
        ClientEvent::Unlinked(Err(reason)) => {
            if matches!(state.stage, Stage::Unlinking { .. }) {
                failed(state, reason, now);
            }
        }
    }
}

fn show(state: &mut State, generation: Generation, mut shown: Shown, now: Timestamp) {
    let fresh = Window { opened_by: generation, ends: later(now, WINDOW).max(shown.expires_at) };
    let window = *state.window.get_or_insert(fresh);
    if window.opened_by != generation {
        if window.ends <= now {
            return window_passed(state, now);
        }
        shown.expires_at = shown.expires_at.min(window.ends);
    }
    shown.attempt = match &state.shown {
        Some(before) if before.code == shown.code => before.attempt,
        Some(before) => before.attempt + 1,
        None => 1,
    };
    // The first code proves little: a server that gives one and hangs up would be asked again every second.
    if shown.attempt > 1 {
        state.failures = 0;
    }
    state.stage = Stage::Awaiting { by: later(shown.expires_at, WINDOW_GRACE) };
    state.shown = Some(shown.into());
    state.refused_until = None;
    forget_reason(state);
    state.distrust = 0;
}

/// No pairing code comes, or the server has refused what the phone made of the one that is shown.
fn no_code(
    state: &mut State,
    generation: Generation,
    refused: Option<SessionReason>,
    pause: Option<std::time::Duration>,
    now: Timestamp,
) {
    let Some(reason) = refused else {
        // A server that does not answer shows when the time is up, as it does without a pairing code.
        if state.shown.is_some() {
            failed(state, SessionReason::PairingFailed, now);
        }
        return;
    };
    // The server throttles codes by number, under more than one status, and each further question makes it worse.
    let pause = match pause {
        Some(asked) => {
            let asked = asked.min(LONGEST_PAUSE);
            asked + state.up_to(asked / 10)
        }
        None => state.back_off(state.timings.retry, state.timings.retry_max, TOO_MANY.saturating_add(state.failures)),
    };
    (state.refused_until, state.refused_for) = (Some(later(now, pause)), Some(reason));
    // It was asked for a code, so the window is open, and ends also when there never is one.
    state.window.get_or_insert(Window { opened_by: generation, ends: later(now, WINDOW) });
    failed(state, reason, now);
    // Also when that ended the window: nobody has let a code pass unused.
    state.reason = Some(reason);
}

/// The code is taken down. As many as the server makes stale, the window ends.
fn code_stale(state: &mut State, another: bool, now: Timestamp) {
    if !another || state.window.is_none_or(|window| window.ends <= now) {
        return window_passed(state, now);
    }
    state.shown = None;
    state.stage = Stage::Opening { by: later(now, state.timings.connect) };
}

/// The connection works. Why no device is linked is said until one is.
fn forget_reason(state: &mut State) {
    state.reason = state.reason.filter(|reason| reason.is_about_the_link());
}

/// Notes whose device is linked, where that was told.
fn belongs_to(state: &mut State, number: Option<&Sensitive>) {
    if let Some(number) = number {
        state.kept.account = Some(number.clone());
    }
}

/// The phone used the code of a client that was being stopped.
fn linked_late(state: &mut State, now: Timestamp) {
    match state.stage {
        Stage::Erasing { unlink: true } => {
            state.kept.paired = true;
            state.kept.keys_doomed = false;
            unlink_first(state, false, now);
        }
        _ if state.is_deleting() => {}
        _ => {
            state.kept.paired = true;
            state.kept.rest = Rest::None;
            go(state, now);
        }
    }
}

fn connected(state: &mut State, now: Timestamp) {
    state.stage = Stage::Connected;
    state.shown = None;
    state.reason = None;
    state.failures = 0;
    state.distrust = 0;
    state.was_connected = true;
    state.connected_at = Some(now);
    state.last_active_at = Some(now);
    // Spread by a tenth: those that logged in together after a restart do not do so again a week later.
    let anew = state.timings.log_in_anew;
    state.log_in_anew_at = Some(later(now, state.back_off(anew, anew, 0)));
    state.kept.rest = Rest::None;
    state.kept.outdated = None;
    if state.kept.restriction.as_ref().is_some_and(|found| found.kind == RestrictionKind::TemporaryBan) {
        state.kept.restriction = None;
    }
}

/// The first time, nothing but a wait follows, and one more login that asks again: keys that were deleted for a mistake of
/// the server's are lost for good. Such a mistake may last for a moment, so the wait is some seconds. A device that was never linked
/// is only refused.
fn unauthorized(state: &mut State, now: Timestamp) {
    if state.kept.paired && state.unauthorized > 0 && !held(state, now) {
        return logged_out(state, now);
    }
    if state.kept.paired {
        state.failures = state.failures.max(CONFIRMED);
        failed(state, SessionReason::ServerRefused, now);
        state.unauthorized += 1;
    } else {
        failed(state, SessionReason::ServerRefused, now);
    }
}

/// The device is still linked, and its keys are as good as before once the account is.
fn barred(state: &mut State, why: SessionReason, now: Timestamp) {
    if !state.kept.paired {
        return failed(state, SessionReason::ServerRefused, now);
    }
    state.unauthorized = 0;
    let barred = state.barred(why, now);
    rest(state, barred, why, now);
}

/// Whether the connection that there is has held for long enough to be believed.
fn held(state: &State, now: Timestamp) -> bool {
    state.connected_at.is_some_and(|since| now.duration_since(since) >= STABLE)
}

/// A login takes as long as the server has something to say: a backlog of messages can take minutes.
fn progress(state: &mut State, now: Timestamp) {
    let until = later(now, state.timings.connect);
    if let Stage::Connecting { by } | Stage::Linking { by } | Stage::Unlinking { by, ready: false, .. } =
        &mut state.stage
    {
        *by = (*by).max(until);
    }
}

fn logged_out(state: &mut State, now: Timestamp) {
    state.unauthorized = 0;
    note_disconnect(state, SessionReason::LoggedOut, now);
    state.kept.paired = false;
    state.kept.phone_number = None;
    state.kept.push_name = None;
    state.kept.restriction = None;
    state.shown = None;
    if state.is_deleting() {
        return erase_and_go(state, false);
    }
    state.kept.keys_doomed = true;
    // Whoever did it, it is what was wished for.
    if state.kept.spec.wants_unlinked() {
        (state.stage, state.reason) = (Stage::Stopped, None);
        return;
    }
    state.kept.rest = Rest::LoggedOut;
    state.reason = Some(SessionReason::LoggedOut);
    state.stage = Stage::LoggedOut;
}

/// Without its keys a session is gone for good: no login can bring it back. It is linked anew as one that never was; the
/// reason stays until that is done. The keys that are of no use are replaced with the first client that starts.
fn keys_lost(state: &mut State, now: Timestamp) {
    note_disconnect(state, SessionReason::SessionLost, now);
    state.kept.paired = false;
    state.kept.phone_number = None;
    state.kept.push_name = None;
    state.kept.restriction = None;
    state.kept.windows_passed = 0;
    (state.failures, state.flaps, state.unauthorized) = (0, 0, 0);
    // There is nobody left who could have the device removed.
    if state.is_deleting() {
        return erase_and_go(state, false);
    }
    go(state, now);
    state.reason = Some(SessionReason::SessionLost);
}

/// Into a state that this client cannot leave.
fn rest(state: &mut State, rest: Rest, reason: SessionReason, now: Timestamp) {
    note_disconnect(state, reason, now);
    if state.unlinks() {
        failed(state, reason, now);
        let end = match rest {
            // A person or a controller waits for the deletion to end.
            Rest::Barred { .. } if state.is_deleting() => {
                Some(later(now, UNLINK_BARRED - state.up_to(UNLINK_BARRED / 10)))
            }
            Rest::Barred { again, .. } => Some(again),
            _ => state.kept.banned_until(now),
        };
        if let (Stage::UnlinkLater { at }, Some(end)) = (&mut state.stage, end) {
            *at = end;
        }
        return;
    }
    state.kept.rest = rest;
    state.shown = None;
    state.reason = Some(reason);
    state.stage = match rest {
        Rest::Banned(until) => Stage::Banned { until },
        _ => Stage::Ended { again: state.tried_again_at(now) },
    };
}

fn ended(state: &mut State, generation: Generation, end: End, now: Timestamp) {
    match state.client {
        Client::Stopping(stopping) if stopping == generation => state.client = Client::None,
        // WhatsApp hangs up on a device it has just linked, and expects it to call again. The library does so by itself,
        // unless the hang-up was faster than our word that it may: then it is for us to do, at once and with nothing to tell.
        Client::Live(live) if live == generation && matches!(state.stage, Stage::Linking { .. }) => {
            state.client = Client::None;
            (state.stage, state.shown) = (Stage::Connecting { by: later(now, state.timings.connect) }, None);
        }
        Client::Live(live) if live == generation => {
            state.client = Client::None;
            let reason = match end {
                End::Failed(reason) => reason,
                End::KeysLost(_) => return keys_lost(state, now),
                // Nobody asked it to.
                End::Stopped => SessionReason::ConnectionLost,
            };
            failed(state, reason, now);
        }
        _ => {}
    }
}

/// The client is of no use any more, or will not be: try again later.
fn failed(state: &mut State, reason: SessionReason, now: Timestamp) {
    if held(state, now) {
        (state.flaps, state.unauthorized) = (0, 0);
    } else if state.connected_at.is_some() {
        state.flaps = state.flaps.saturating_add(1);
    }
    note_disconnect(state, reason, now);
    state.distrust = if reason == SessionReason::ServerNotTrusted { state.distrust + 1 } else { 0 };
    // A linked device first tries the short handshake with the certificate it remembers. When the server has a new one
    // that fails once, and rightly so; the full handshake that follows tells.
    let excused = state.kept.paired && state.distrust == 1;
    state.reason = Some(if excused { SessionReason::ConnectionLost } else { reason });
    // A login that does not hold counts like one that fails: accounts are banned for logging in again and again.
    let times = if excused { 0 } else { state.failures.max(state.flaps.saturating_sub(1)) };
    let times = if reason == SessionReason::TooManyRequests { times.max(TOO_MANY) } else { times };
    let wait = state.back_off(state.timings.retry, state.timings.retry_max, times);
    let at = match state.refused_until {
        Some(refused) if !state.kept.paired => later(now, wait).max(refused),
        _ => later(now, wait),
    };
    state.failures = state.failures.saturating_add(1);
    state.shown = None;
    // The few seconds that would be left of the window are not worth a connection.
    if !state.kept.paired && state.window.is_some_and(|window| window.ends <= later(at, WINDOW_GRACE)) {
        return window_passed(state, now);
    }
    state.stage = match state.stage {
        stage if stage.is_pairing() && !state.kept.paired => Stage::OpeningLater { at },
        stage if stage.is_pairing() => Stage::Later { at },
        Stage::Linking { .. } | Stage::Connecting { .. } | Stage::Connected => Stage::Later { at },
        Stage::Unlinking { .. } => Stage::UnlinkLater { at },
        other => other,
    };
}

fn note_disconnect(state: &mut State, reason: SessionReason, now: Timestamp) {
    if state.connected_at.take().is_some() {
        state.kept.last_disconnect = Some(LastDisconnect { reason: reason.into(), at: now });
    }
}
