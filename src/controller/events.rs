//! Kubernetes Events: whoever has something to tell leaves it here, one task writes it when the API server has time.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

use crate::platform::kubernetes::{CALL_TIMEOUT, describe};

/// Events that may wait, as many as client-go lets wait; beyond it they are dropped and counted. The status says the same.
const QUEUE: usize = 1000;
/// kube's recorder keeps every Event of the last minutes, to count repetitions, and looks through all of them for each new
/// one. With thousands of instances that takes more memory and time than everything else here; a new one begins empty.
const REMEMBERED: usize = 256;

struct Told {
    event: Event,
    about: ObjectReference,
    written: Option<oneshot::Sender<()>>,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Told>,
    dropped: Counter,
}

/// Writes the Events that were told.
#[derive(Debug)]
pub struct Scribe(mpsc::Receiver<Told>);

impl Events {
    /// The two ends; `dropped` counts what was told in vain.
    pub fn new(dropped: Counter) -> (Self, Scribe) {
        let (queue, told) = mpsc::channel(QUEUE);
        (Self { queue, dropped }, Scribe(told))
    }

    /// Has an Event written some time soon.
    pub fn tell(&self, event: Event, about: ObjectReference) {
        if self.queue.try_send(Told { event, about, written: None }).is_err() {
            self.dropped.inc();
        }
    }

    /// Has an Event written before anything else is done, if that is possible at all.
    pub async fn tell_first(&self, event: Event, about: ObjectReference, patience: Duration) {
        let (written, done) = oneshot::channel();
        let told = async {
            let _ = self.queue.send(Told { event, about, written: Some(written) }).await;
            let _ = done.await;
        };
        if tokio::time::timeout(patience, told).await.is_err() {
            tracing::warn!("could not publish an Event in time");
        }
    }
}

impl Scribe {
    /// Writes until nobody can tell anything any more. An Event that cannot be written is not tried again: whoever must act
    /// reads the same in the status.
    pub async fn write(mut self, client: Client, reporter: Reporter) {
        loop {
            let recorder = Recorder::new(client.clone(), reporter.clone());
            for _ in 0..REMEMBERED {
                let Some(Told { event, about, written }) = self.0.recv().await else { return };
                match tokio::time::timeout(CALL_TIMEOUT, recorder.publish(&event, &about)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(error = describe(&error), reason = event.reason, "could not publish an Event");
                    }
                    Err(_) => tracing::warn!(reason = event.reason, "could not publish an Event in time"),
                }
                // Whoever waited may have lost patience.
                let _ = written.map(|written| written.send(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::decide::notices;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_holds_nobody_up() {
        let dropped = Counter::default();
        let (events, scribe) = Events::new(dropped.clone());
        for _ in 0..QUEUE + 3 {
            events.tell((&notices::gave_up(true)).into(), ObjectReference::default());
        }
        assert_eq!((dropped.get(), scribe.0.len()), (3, QUEUE));
    }
}
