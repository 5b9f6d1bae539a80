//! Messages are handed to the client, and it tells what became of them.

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    clock,
    session::{Actor, Handed, Input},
};
use crate::{
    backend::{Delivery, Outgoing, Refused},
    machine::{Generation, MessageNews, Receipt},
    outbox::{Effect, Event, Obstacle, Recipient},
    store::{Change, MessageChange},
};

/// How many messages of one receipt are noted with one flush at most: all other sessions wait for as long as that takes.
const NOTED_TOGETHER: usize = 256;

impl Actor {
    pub(super) async fn carry_out_messages(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { client, sequence, fresh } => self.send(client, sequence, fresh).await,
                Effect::Suspect(client) => {
                    tracing::warn!(
                        session = self.state.id(),
                        "the server acknowledges no message any more; connecting anew"
                    );
                    if let Some(client) = self.client(client) {
                        client.give_up();
                    }
                }
            }
        }
    }

    async fn send(&mut self, client: Generation, sequence: u64, fresh: bool) {
        self.outbox.handing_over(sequence, clock::now());
        let kept = self.outgoing.take().filter(|(of, _)| *of == sequence).map(|(_, outgoing)| outgoing);
        let outgoing = match kept {
            Some(outgoing) => Some(Outgoing { fresh, ..outgoing }),
            None => match self.shared.store.reader.message_at(self.state.id(), sequence).await {
                Ok(Some(message)) => Recipient::parse(message.to.reveal()).ok().map(|to| Outgoing {
                    id: message.status.id,
                    to,
                    content: message.content,
                    fresh,
                }),
                Ok(None) => None,
                Err(error) if error.is_unreadable() => {
                    tracing::error!(session = self.state.id(), sequence, %error, "a message that waits cannot be read; it fails");
                    None
                }
                Err(error) => {
                    tracing::error!(session = self.state.id(), %error, "a message that waits cannot be read; trying again");
                    return self.hindered(client, sequence, Obstacle::Connection);
                }
            },
        };
        let Some(outgoing) = outgoing else { return self.hindered(client, sequence, Obstacle::Unsendable) };
        self.handed.insert(outgoing.id.clone(), Handed { sequence, since: Some(Instant::now()) });
        let Some(handle) = self.client(client).cloned() else { return };
        let (loopback, people) = (self.loopback.clone(), self.shared.people.clone());
        tokio::spawn(async move {
            let written = outgoing.to.key();
            let event = match handle.send(outgoing).await {
                Ok(Delivery::HandedOver { keyed, identity }) => {
                    let person = people.recognize(written, identity);
                    let _ = loopback.send(Input::Recognized(person));
                    Event::HandedOver { sequence, keyed }
                }
                Ok(Delivery::Hindered(why)) => Event::NotHandedOver { sequence, why },
                // Its end comes by itself, and the next client sends it again.
                Err(Refused::Over) => return,
                Err(_) => Event::NotHandedOver { sequence, why: Obstacle::Connection },
            };
            let _ = loopback.send(Input::Message(client, event));
        });
    }

    fn hindered(&self, client: Generation, sequence: u64, why: Obstacle) {
        let _ = self.loopback.send(Input::Message(client, Event::NotHandedOver { sequence, why }));
    }

    /// Finds out which messages the process before had handed over without an answer. Those of which the recipient's phone has told since
    /// are settled, before they could be sent again.
    pub(super) async fn recall_unanswered(&mut self) {
        if !self.outbox.has_unanswered() {
            return;
        }
        let found = match self.shared.store.reader.unanswered(self.state.id()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(session = self.state.id(), %error, "cannot read which messages were handed over; they go out again under the same ids");
                return;
            }
        };
        for (id, sequence, arrived_at) in found {
            self.handed.insert(id, Handed { sequence, since: None });
            if let Some(at) = arrived_at {
                self.message_event(Event::Arrived { sequence, at }).await;
            }
        }
    }

    /// What the server or a recipient says of a message.
    pub(super) async fn news(&mut self, client: Generation, news: MessageNews) {
        match news {
            MessageNews::Answered { id, refused, at } => {
                let Some(handed) = self.handed.get_mut(&id) else { return };
                let sequence = handed.sequence;
                let event = match refused {
                    Some(code) => Event::Refused { sequence, code },
                    None => {
                        if let Some(since) = handed.since.take() {
                            self.shared.metrics.acknowledged(since.elapsed());
                        }
                        Event::Acknowledged { sequence, at }
                    }
                };
                self.told_by(client, event).await;
            }
            MessageNews::Receipt { ids, receipt, at } => {
                // An acknowledgement can be lost. What the phone has is not sent again, and what waits behind it goes on.
                let handed = ids.iter().filter_map(|id| self.handed.get(id)).filter(|_| receipt.is_proof());
                let arrived: Vec<u64> = handed.map(|handed| handed.sequence).collect();
                for ids in ids.chunks(NOTED_TOGETHER) {
                    self.receipt(ids.to_vec(), receipt, at).await;
                }
                for sequence in arrived {
                    self.message_event(Event::Arrived { sequence, at }).await;
                }
            }
        }
    }

    /// An event by a client; one that is gone has nothing to say any more.
    pub(super) async fn told_by(&mut self, client: Generation, event: Event) {
        if self.outbox.reach().client() != Some(client) {
            return;
        }
        let was = self.outbox.is_restricted();
        self.message_event(event).await;
        if self.outbox.is_restricted() && !was {
            self.recall().await;
            self.message_event(Event::Tick).await;
        }
    }

    /// Nothing waits for the disk: a receipt that gets lost in a crash costs the news, and what it says comes again with the next. What the
    /// store does not take it gets later, since the server has been told that the receipt arrived.
    async fn receipt(&self, ids: Vec<String>, receipt: Receipt, at: Timestamp) {
        let changes = self.changes_of(ids, receipt, at);
        let (session, loopback) = (self.state.id().to_owned(), self.loopback.clone());
        // Asked for here, not in the task: tasks that are spawned in a row need not start in that order, and a receipt that a message was
        // read, written first, would leave nothing to be told of its delivery.
        let written = self.shared.store.begin(changes.clone()).await;
        tokio::spawn(async move {
            if let Err(error) = written.await {
                tracing::warn!(session, %error, "a receipt could not be noted; trying again");
                let _ = loopback.send(Input::Unwritten(changes));
            }
        });
    }

    pub(super) fn changes_of(&self, ids: Vec<String>, receipt: Receipt, at: Timestamp) -> Vec<Change> {
        let session = self.state.id();
        let change = |id| Change::Message(MessageChange::Receipt { session: session.to_owned(), id, receipt, at });
        ids.into_iter().map(change).collect()
    }
}
