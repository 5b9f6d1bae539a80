//! Runs one client of a session, from the lease on its keys to its end.

use std::time::Duration;

use tokio::time::timeout;
use whatsapp_operator::bridge_api::SessionReason;

use super::Shared;
use crate::{
    backend::{ClientHandle, Commands, EventSink},
    keys::KeysError,
    machine::{End, Start},
};

/// A client that was told to stop and has not after this long is dropped. The library waits up to 5 s for each of two
/// things when it closes; what is left of a dropped client cannot use the keys any more.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
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
        let client = shared.backend.run(id, start, lease.keys(), commands, events);
        let overdue = async {
            handle.told_to_stop().await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            end = client => end,
            () = overdue => {
                tracing::warn!(session = id, "the client did not stop in time and is dropped");
                End::Stopped
            }
        }
    };
    if timeout(CLOSE_TIMEOUT, lease.close()).await.is_err() {
        tracing::warn!(session = id, "the session's keys are still being closed");
    }
    end
}

fn without_keys(id: &str, error: &KeysError) -> End {
    tracing::error!(session = id, %error, "the session's keys cannot be used");
    match error {
        KeysError::Lost(lost) => End::KeysLost(*lost),
        KeysError::InUse | KeysError::Disk { .. } | KeysError::Database(_) => {
            End::Failed(SessionReason::ConnectionLost)
        }
    }
}
