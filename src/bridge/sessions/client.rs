//! Runs one client of a session, from the lease on its keys to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use whatsapp_operator::bridge_api::SessionReason;

use super::Shared;
use crate::{
    backend::{ClientHandle, Commands, EventSink},
    keys::KeysError,
    machine::{ClientEvent, End, Start},
};

/// A client that was told to stop and has not after this long is dropped. The library waits up to 5 s for each of two
/// things when it closes; what is left of a dropped client cannot use the keys any more.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for one that has neither linked a device nor logged in: it has nothing to bring to an end, and the library does
/// not hear that it is to stop while it waits for a server that does not answer.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// Closing the keys writes a small file.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a client until it is over, and drops it when it does not stop in time after it was told to.
pub(super) async fn run(
    shared: &Shared,
    id: &str,
    start: Start,
    (handle, commands): (ClientHandle, Commands),
    events: EventSink,
) -> End {
    let lease = tokio::select! {
        lease = shared.keys.lease(id, start.linked.as_ref()) => lease,
        () = handle.told_to_stop() => return End::Stopped,
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => return without_keys(id, &error),
    };
    let end = {
        let _runs = shared.running.note(id, &handle);
        let begun = Arc::new(AtomicBool::new(false));
        let client = shared.backend.run(id, start, lease.keys(), commands, noting(&begun, events));
        let overdue = async {
            handle.told_to_stop().await;
            tokio::time::sleep(GIVE_UP_TIMEOUT).await;
            if begun.load(Ordering::Relaxed) {
                tokio::time::sleep(STOP_TIMEOUT.saturating_sub(GIVE_UP_TIMEOUT)).await;
            }
        };
        tokio::select! {
            end = client => end,
            () = overdue => {
                tracing::info!(session = id, "the client did not stop in time and is dropped");
                End::Stopped
            }
        }
    };
    if timeout(CLOSE_TIMEOUT, lease.close()).await.is_err() {
        tracing::warn!(session = id, "the session's keys are still being closed");
    }
    end
}

/// Passes the client's events on, and notes in `begun` that there is something to bring to an end.
fn noting(begun: &Arc<AtomicBool>, events: EventSink) -> EventSink {
    let begun = Arc::clone(begun);
    EventSink::to(move |event| {
        if matches!(event, ClientEvent::Paired { .. } | ClientEvent::Connected { .. }) {
            begun.store(true, Ordering::Relaxed);
        }
        events.tell(event);
    })
}

fn without_keys(id: &str, error: &KeysError) -> End {
    tracing::error!(session = id, %error, "the session's keys cannot be used");
    match error {
        KeysError::Lost(lost) => End::KeysLost(*lost),
        KeysError::InUse | KeysError::Disk { .. } | KeysError::Database { .. } => {
            End::Failed(SessionReason::ConnectionLost)
        }
    }
}
