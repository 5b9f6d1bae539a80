//! The process is about to end, or the session to be another's: it keeps what its client says last.

use super::{
    clock,
    session::{Actor, Ended, Input},
};
use crate::machine::{Event, step};

impl Actor {
    /// Ends the client, and stores what it says until then.
    pub(super) async fn close(&mut self) -> Ended {
        self.noted().await;
        if let Some(unstored) = self.unstored.take() {
            if !unstored.messages.changes.is_empty()
                && let Err(error) = self.shared.store.apply(unstored.messages.changes).await
            {
                tracing::error!(session = self.state.id(), %error, "what became of messages is lost");
            }
            if let Some(event) = unstored.event {
                self.keep(event).await;
            }
        }
        let Some((generation, client)) = self.client.take() else { return Ended::Over };
        client.stop();
        while let Some(input) = self.inputs.recv().await {
            let Input::Event(event) = input else { continue };
            match *event {
                Event::ClientEnded(ended, _) if ended == generation => break,
                // The last words of a client count: a device linked now is linked after the restart.
                event @ Event::Client(..) => self.keep(event).await,
                _ => {}
            }
        }
        Ended::Over
    }

    async fn keep(&mut self, event: Event) {
        let (next, _) = step(&self.state, event, clock::now());
        if let Err(error) = self.store(&next, false).await {
            tracing::error!(session = next.id(), %error, "the session's last change is lost");
        }
        self.state = next;
    }
}
