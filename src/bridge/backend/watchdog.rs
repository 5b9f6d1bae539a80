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
/// For how long progress lengthens a login: a server that says something for ever and lets nobody in is no use. The library
/// itself waits up to 180 s for the account's state.
const LONGEST_LOGIN: Duration = Duration::from_secs(300);
/// From one answer to the next question. With [`NOTHING`], a connection that leads nowhere is noticed within 25 s.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A question is open, and for this long nothing at all came: nobody is there.
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
        if recorder.waits_for_scan() && recorder.heard_at().is_some_and(|at| at.elapsed() >= PING_EVERY) {
            // While a code is shown there is nothing to hear, and the library's own pings go by the wall clock: when that is
            // set back there are none. The answer counts as anything that arrives.
            let _ = timeout(LOOK_EVERY, client.execute(KeepaliveSpec::with_timeout(LOOK_EVERY))).await;
        }
        let heard = recorder.heard_at();
        if heard > told && began.elapsed() < LONGEST_LOGIN {
            told = heard;
            events.tell(ClientEvent::Progress);
        }
    }
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
