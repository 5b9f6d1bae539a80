//! A session's messages: the outbox's writes are made, then its effects carried out.

use jiff::Timestamp;
use tokio::time::Instant;
use whatsapp_operator::bridge_api::{
    Message, MessageState, MessageStatus, RestrictionKind, SessionPhase, SessionReason, WaitsFor,
};

use super::{
    clock,
    refusal::Refusal,
    request::{MessageRequest, Wait},
    session::{Actor, Flying, Input, Then},
};
use crate::{
    backend::{Delivery, Outgoing, Refused},
    machine::{Generation, MessageNews, Receipt, State},
    outbox::{Effect, Event, Link, Obstacle, Recipient, Write},
    store::{Change, MessageChange},
};

impl Actor {
    pub(super) async fn answer_message(&mut self, request: MessageRequest) {
        match request {
            MessageRequest::Accept(asked) => self.accept(vec![asked]).await,
            MessageRequest::CallBack(id, answer) => {
                let _ = answer.send(self.call_back(&id).await);
            }
            MessageRequest::Waits(sequences, answer) => {
                let _ = answer.send(sequences.into_iter().map(|sequence| self.wait(sequence)).collect());
            }
        }
    }

    pub(super) fn describe(&self, message: &mut Message) {
        if let Some(wait) = self.wait(message.status.sequence) {
            waits(&mut message.status, wait);
        }
    }

    /// What a message waits for, by the wall clock.
    fn wait(&self, sequence: u64) -> Option<Wait> {
        let (why, estimate) = self.outbox.waits(sequence, clock::now())?;
        Some((why, clock::to_wall(estimate, self.step)))
    }

    async fn call_back(&mut self, id: &str) -> Result<Option<Message>, Refusal> {
        if let Some(error) = self.failing() {
            return Err(error.into());
        }
        let Some(message) = self.shared.store.reader.message(self.state.id(), id).await? else { return Ok(None) };
        if message.status.state == MessageState::Cancelled {
            return Ok(Some(message));
        }
        if !self.outbox.can_be_called_back(message.status.sequence) {
            return Err(Refusal::TooLate);
        }
        self.message_event(Event::CallBack(message.status.sequence)).await;
        self.noted().await;
        match self.failing() {
            Some(error) => Err(error.into()),
            None => Ok(self.shared.store.reader.message(self.state.id(), id).await?),
        }
    }

    /// Takes up what has become of the session: whether messages can be handed over, and how fast.
    pub(super) async fn follow_session(&mut self) {
        let link = link(&self.state, clock::now());
        if link != self.outbox.link() {
            if link.is_timelocked() {
                self.recall().await;
            }
            self.message_event(Event::Link(link)).await;
        }
        let pace = self.state.kept.spec.sending;
        if pace != self.outbox.pace() {
            self.message_event(Event::Pace(pace)).await;
        }
    }

    /// Finds out which of those who wait for a message have got one before.
    async fn recall(&mut self) {
        if self.outbox.len() > 0 {
            // Without an answer they count as unknown, and wait.
            let known = self.shared.store.reader.known(self.state.id()).await.unwrap_or_default();
            self.outbox.mark_known(&known);
        }
    }

    /// Takes what happened to messages; what the store does not take now it gets later, before anything follows from it.
    pub(super) async fn message_event(&mut self, event: Event) {
        let was = self.outbox.is_unacknowledged();
        let (writes, effects) = self.outbox.step(event, clock::now());
        // What is taken back may be handed over anew, and that must not be overtaken.
        let waits = !effects.is_empty() || writes.iter().any(|write| matches!(write, Write::TakeBack(_)));
        let changes: Vec<Change> = writes.into_iter().map(|write| self.change(write)).collect();
        self.write(changes, if waits { Then::CarryOut(effects) } else { Then::GoOn }).await;
        if self.outbox.is_unacknowledged() != was {
            self.show();
        }
    }

    pub(super) fn change(&self, write: Write) -> Change {
        let session = self.state.id().to_owned();
        Change::Message(match write {
            Write::HandOver(sequence) => MessageChange::HandOver { session, sequence },
            Write::TakeBack(sequence) => MessageChange::TakeBack { session, sequence },
            Write::Settle(sequence, settled) => {
                let settled = clock::by_the_wall(settled, clock::step());
                MessageChange::Settle { session, sequence, settled }
            }
        })
    }

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
        self.flying = Some(Flying { id: outgoing.id.clone(), sequence, since: Some(Instant::now()) });
        let Some(handle) = self.client(client).cloned() else { return };
        let loopback = self.loopback.clone();
        tokio::spawn(async move {
            let event = match handle.send(outgoing).await {
                Ok(Delivery::HandedOver { keyed }) => Event::HandedOver { sequence, keyed },
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

    /// What the server or a recipient says of a message.
    pub(super) async fn news(&mut self, client: Generation, news: MessageNews) {
        match news {
            MessageNews::Answered { id, refused, at } => {
                let Some(flying) = self.flying.as_mut().filter(|flying| flying.id == id) else { return };
                let sequence = flying.sequence;
                let event = match refused {
                    Some(code) => Event::Refused { sequence, code },
                    None => {
                        if let Some(since) = flying.since.take() {
                            self.shared.metrics.acknowledged(since.elapsed());
                        }
                        Event::Acknowledged { sequence, at }
                    }
                };
                self.told_by(client, event).await;
            }
            MessageNews::Receipt { ids, receipt, at } => self.receipt(ids, receipt, at),
        }
    }

    /// An event by a client; one that is gone has nothing to say any more.
    pub(super) async fn told_by(&mut self, client: Generation, event: Event) {
        if self.outbox.link().client() != Some(client) {
            return;
        }
        let was = self.outbox.is_restricted();
        self.message_event(event).await;
        if self.outbox.is_restricted() && !was {
            self.recall().await;
            self.message_event(Event::Tick).await;
        }
    }

    /// Nothing waits for it: a receipt that gets lost in a crash costs the news, and what it says comes again with the next. What the
    /// store does not take it gets later, since the server has been told that the receipt arrived.
    fn receipt(&self, ids: Vec<String>, receipt: Receipt, at: Timestamp) {
        let session = self.state.id().to_owned();
        let change = |id| Change::Message(MessageChange::Receipt { session: session.clone(), id, receipt, at });
        let changes: Vec<Change> = ids.into_iter().map(change).collect();
        let (store, loopback) = (self.shared.store.clone(), self.loopback.clone());
        tokio::spawn(async move {
            if let Err(error) = store.apply(changes.clone()).await {
                tracing::warn!(session, %error, "a receipt could not be noted; trying again");
                let _ = loopback.send(Input::Unwritten(changes));
            }
        });
    }
}

/// Adds to a message what it waits for.
pub(super) fn waits(message: &mut MessageStatus, (why, estimate): Wait) {
    message.waits_for = Some(why.into());
    message.estimated_send_at = Some(estimate);
}

/// Whether messages can be handed to the server, and by which client.
fn link(state: &State, now: Timestamp) -> Link {
    let timelocked = state.kept.restriction.as_ref().is_some_and(|found| {
        found.kind == RestrictionKind::ReachoutTimelock && found.expires_at.is_none_or(|end| end > now)
    });
    match state.logged_in() {
        Some(client) => Link::Up { client, timelocked },
        None if state.phase() == SessionPhase::Banned
            || state.reason().is_some_and(SessionReason::is_about_the_account) =>
        {
            Link::Down(WaitsFor::Restriction)
        }
        None if !state.kept.paired => Link::Down(WaitsFor::Pairing),
        None => Link::Down(WaitsFor::Connection),
    }
}
