//! Notices a server that does not answer any more.
//!
//! The library pings only while no other question is open, and believes in a connection as long as bytes arrive. After one
//! frame that cannot be decrypted, bytes arrive for ever and none of them can be read; after one question that stays without
//! answer, nothing is asked any more. So the bridge asks by itself, and counts answers.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use wacore::iq::keepalive::KeepaliveSpec;
use whatsapp_rust::{Client, request::IqError};

use super::{EventSink, transport::ConnectionRecorder};
use crate::machine::ClientEvent;

/// How often it is looked at whether a login makes progress.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// For how long progress lengthens a login: a server that keeps sending and never completes the login is of no use. The library
/// itself waits up to 180 s for the account's state.
const LONGEST_LOGIN: Duration = Duration::from_secs(300);
/// From one answer to the next question. With [`NOTHING`], a connection that leads nowhere is noticed within 25 s.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A question is open, and for this long nothing at all came: the server is gone.
const NOTHING: Duration = Duration::from_secs(15);
/// Something comes, but no answer. A server answers in order, behind all it had to deliver before; this is longer than the
/// library gives any answer.
const NO_ANSWER: Duration = Duration::from_secs(75);

/// Until the server is to be given up. While the login is under way, tells of progress.
pub async fn watch(recorder: &ConnectionRecorder, client: &Client, events: &EventSink) {
    login(recorder, client, events).await;
    while !recorder.is_silent() && answers(recorder, client).await {
        sleep(PING_EVERY).await;
    }
    recorder.give_up();
}

/// Until the login is through, or nothing comes any more.
async fn login(recorder: &ConnectionRecorder, client: &Client, events: &EventSink) {
    let began = Instant::now();
    let mut told = None;
    while !recorder.is_logged_in() && !recorder.is_silent() {
        sleep(LOOK_EVERY).await;
        let quiet_for = recorder.heard_at().map(|at| at.elapsed());
        if is_asked(quiet_for, recorder.waits_for_scan(), client.is_logged_in()) {
            // The answer counts as anything that arrives.
            let _ = timeout(LOOK_EVERY, client.execute(KeepaliveSpec::with_timeout(LOOK_EVERY))).await;
        }
        let heard = recorder.heard_at();
        if heard > told && began.elapsed() < LONGEST_LOGIN {
            told = heard;
            events.tell(ClientEvent::Progress);
        }
    }
}

/// Whether the server is asked during a login whether it is there. While a code is shown there is nothing to hear, and the library's own
/// pings go by the wall clock: when that is set back there are none. Nor is there after the server has let the client in, where it does
/// not say that the backlog is delivered: the library waits for that for a minute. Before, one that answers and lets nobody in is no use.
fn is_asked(quiet_for: Option<Duration>, waits_for_scan: bool, is_let_in: bool) -> bool {
    (waits_for_scan || is_let_in) && quiet_for.is_some_and(|time| time >= PING_EVERY)
}

/// Asks the server something it always answers.
async fn answers(recorder: &ConnectionRecorder, client: &Client) -> bool {
    let asked = Instant::now();
    let nothing = async {
        loop {
            let heard = recorder.heard_at().map_or(asked, |heard| heard.max(asked));
            if heard.elapsed() >= NOTHING {
                return;
            }
            sleep_until(heard + NOTHING).await;
        }
    };
    tokio::select! {
        // What is wrong with the connection itself ends the client, which is reported by the one who runs it.
        answer = client.execute(KeepaliveSpec::with_timeout(NO_ANSWER)) => !matches!(answer, Err(IqError::Timeout)),
        () = nothing => false,
        // The library counts from the moment at which the question is out.
        () = sleep(NO_ANSWER) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_during_a_login_where_there_may_be_nothing_to_hear() {
        let long = Some(PING_EVERY);
        assert!(is_asked(long, true, false), "a code is shown");
        assert!(is_asked(long, false, true), "the end of the backlog is not said");
        assert!(!is_asked(long, false, false));
        for quiet_for in [None, Some(PING_EVERY / 2)] {
            assert!(!is_asked(quiet_for, true, true));
        }
    }
}
