//! The process is about to end, or the session to be another's: it keeps what its client says last.

use super::{
    clock,
    session::{Actor, Ended, Input},
};
use crate::{
    machine::{ClientEvent, Event, Generation, MessageNews, step},
    store::Change,
};

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
        let client = self.client.take().map(|(generation, client)| {
            client.stop();
            generation
        });
        let receipts = self.last_words(client).await;
        if !receipts.is_empty()
            && let Err(error) = self.shared.store.apply(receipts).await
        {
            tracing::error!(session = self.state.id(), %error, "the last receipts are lost");
        }
        Ended::Over
    }

    /// Takes what has come in already, and what a client that runs says until it ends. The last words of a client count: a device linked
    /// now is linked after the restart, and the server, told that a receipt arrived, does not send it again. What is said of messages otherwise
    /// is found out anew.
    async fn last_words(&mut self, mut client: Option<Generation>) -> Vec<Change> {
        let mut receipts = Vec::new();
        loop {
            let input = if client.is_some() { self.inputs.recv().await } else { self.inputs.try_recv().ok() };
            match input {
                None => return receipts,
                Some(Input::Unwritten(changes)) => receipts.extend(changes),
                Some(Input::Event(event)) => match *event {
                    Event::ClientEnded(ended, _) if Some(ended) == client => client = None,
                    Event::Client(_, ClientEvent::Message(MessageNews::Receipt { ids, receipt, at })) => {
                        receipts.extend(self.changes_of(ids, receipt, at));
                    }
                    event @ Event::Client(..) => self.keep(event).await,
                    _ => {}
                },
                Some(Input::Permit(_) | Input::Message(..) | Input::Recognized(_)) => {}
            }
        }
    }

    async fn keep(&mut self, event: Event) {
        let (next, _) = step(&self.state, event, clock::now());
        if let Err(error) = self.store(&next, false).await {
            tracing::error!(session = next.id(), %error, "the session's last change is lost");
        }
        self.state = next;
    }
}
