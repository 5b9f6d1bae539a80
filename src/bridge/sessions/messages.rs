//! A session's messages: the outbox's writes are made, then its effects carried out.

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{
    Message, MessageState, MessageStatus, RestrictionKind, SessionPhase, SessionReason, WaitsFor,
};

use super::{
    clock,
    owed::Then,
    refusal::Refusal,
    request::{MessageRequest, Wait},
    session::Actor,
};
use crate::{
    machine::State,
    outbox::{Event, Reach, Write},
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
        let reach = reach(&self.state, clock::now());
        if reach != self.outbox.reach() {
            if reach.is_timelocked() {
                self.recall().await;
            }
            self.message_event(Event::Reach(reach)).await;
        }
        let pace = self.state.kept.spec.sending;
        if pace != self.outbox.pace() {
            self.message_event(Event::Pace(pace)).await;
        }
    }

    /// Finds out which of those who wait for a message have got one before.
    pub(super) async fn recall(&mut self) {
        if self.outbox.len() > 0 {
            // Without an answer they count as unknown, and wait.
            let mut known = self.shared.store.reader.known(self.state.id()).await.unwrap_or_default();
            known.extend(known.clone().into_iter().map(|key| self.shared.people.person(key)));
            self.outbox.mark_known(&known);
        }
    }

    /// Takes what happened to messages; what the store does not take now it gets later, before anything follows from it.
    pub(super) async fn message_event(&mut self, event: Event) {
        let was = self.outbox.is_unacknowledged();
        let (writes, effects) = self.outbox.step(event, clock::now());
        for write in &writes {
            if let Write::Settle(settled, _) = write {
                self.handed.retain(|_, handed| handed.sequence != *settled);
            }
        }
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
}

/// Adds to a message what it waits for.
pub(super) fn waits(message: &mut MessageStatus, (why, estimate): Wait) {
    message.waits_for = Some(why.into());
    message.estimated_send_at = Some(estimate);
}

/// Whether messages can be handed to the server, and by which client.
fn reach(state: &State, now: Timestamp) -> Reach {
    let timelocked = state.kept.restriction.as_ref().is_some_and(|found| {
        found.kind == RestrictionKind::ReachoutTimelock && found.expires_at.is_none_or(|end| end > now)
    });
    match state.logged_in() {
        Some(client) => Reach::Up { client, timelocked },
        None if state.phase() == SessionPhase::Banned
            || state.reason().is_some_and(SessionReason::is_about_the_account) =>
        {
            Reach::Down(WaitsFor::Restriction)
        }
        None if !state.kept.paired => Reach::Down(WaitsFor::Pairing),
        None => Reach::Down(WaitsFor::Connection),
    }
}
