//! A session's messages: the outbox's writes are made, then its effects carried out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::bridge_api::{
    Content, LONGEST_TEXT, Message, MessageSpec, MessageState, MessageStatus, RestrictionKind, SessionPhase, WaitsFor,
};

use super::{
    clock,
    refusal::Refusal,
    request::{MessageRequest, NewMessage, Wait},
    session::{Actor, Input},
};
use crate::{
    backend::{Delivery, Outgoing, Refused},
    machine::{Generation, MessageNews, Receipt, State},
    outbox::{Effect, Event, Link, Obstacle, Recipient, Waiting, Write},
    store::{Change, MessageChange, Told},
};

/// How long a message may be handed over when its caller does not say.
const DEFAULT_EXPIRY: SignedDuration = SignedDuration::from_hours(24);
/// The longest time it may wait.
const LONGEST_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Checks what a caller wants to send.
pub fn check(id: &str, spec: MessageSpec) -> Result<NewMessage, Refusal> {
    let good =
        (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !good {
        return Err(Refusal::BadMessageId);
    }
    let recipient = Recipient::parse(spec.to.reveal())?;
    let Content::Text { text } = &spec.content;
    let length = text.reveal().chars().count();
    if text.reveal().trim().is_empty() || length > LONGEST_TEXT {
        return Err(Refusal::BadText { length });
    }
    let now = Timestamp::now();
    if spec.expires_at.is_some_and(|at| at <= now || at.duration_since(now) > LONGEST_EXPIRY) {
        return Err(Refusal::BadExpiry);
    }
    Ok(NewMessage { id: id.to_owned(), spec, recipient })
}

impl Actor {
    pub(super) async fn answer_message(&mut self, request: MessageRequest) {
        match request {
            MessageRequest::Accept(message, answer) => {
                let _ = answer.send(self.accept(*message).await);
            }
            MessageRequest::CallBack(id, answer) => {
                let _ = answer.send(self.call_back(&id).await);
            }
            MessageRequest::Waits(sequences, answer) => {
                let _ = answer.send(sequences.into_iter().map(|sequence| self.wait(sequence)).collect());
            }
        }
    }

    async fn accept(&mut self, new: NewMessage) -> Result<(Message, bool), Refusal> {
        if let Some(error) = self.failing() {
            return Err(error.into());
        }
        // A repetition is answered whatever has become of the session.
        if let Some(before) = self.shared.store.reader.message(self.state.id(), &new.id).await? {
            let mut before = same(before, &new)?;
            self.adopt(&before, &new).await;
            self.describe(&mut before);
            return Ok((before, false));
        }
        if self.state.is_deleting() {
            return Err(Refusal::Deleting);
        }
        if !self.state.kept.paired {
            return Err(Refusal::NotPaired);
        }
        let (now, wall) = (clock::now(), Timestamp::now());
        let expires_at =
            new.spec.expires_at.unwrap_or_else(|| wall.saturating_add(DEFAULT_EXPIRY).unwrap_or(Timestamp::MAX));
        let estimate = self.outbox.estimate(now);
        let place = self.shared.outboxes.enter(self.outbox.len())?;
        let too_late = estimate.duration_since(now) - expires_at.duration_since(wall);
        if too_late > SignedDuration::ZERO {
            return Err(Refusal::TooMuchWaits { retry_after: Duration::try_from(too_late).unwrap_or_default() });
        }
        let recipient = new.recipient.key();
        let known = self.outbox.is_restricted() && self.shared.store.reader.knows(self.state.id(), recipient).await?;
        let sequence = self.last_sequence + 1;
        let message = Message {
            status: MessageStatus {
                id: new.id.clone(),
                session: self.state.id().to_owned(),
                sequence,
                state: MessageState::Queued.into(),
                waits_for: None,
                cause: None,
                code: None,
                accepted_at: wall,
                expires_at,
                estimated_send_at: None,
                sent_at: None,
                delivered_at: None,
                companion_delivered_at: None,
                read_at: None,
                ended_at: None,
            },
            to: new.spec.to.clone(),
            content: new.spec.content.clone(),
        };
        let waiting = Waiting {
            sequence,
            recipient,
            known,
            expires_at: clock::to_ours(expires_at, clock::step()),
            handed_over: false,
        };
        // Not given out again, whatever comes of it: a disk that is slow may still take it.
        self.last_sequence = sequence;
        let (writes, effects) = self.outbox.step(Event::Accepted(waiting), now);
        let own = |write: &Write| matches!(write, Write::HandOver(of) | Write::Settle(of, _) if *of == sequence);
        let mut changes = vec![Change::Message(MessageChange::Accept { message: Box::new(message), recipient })];
        changes.extend(writes.iter().map(|write| self.change(*write)));
        let told = match self.shared.store.apply(changes).await {
            Ok(told) => told,
            Err(error) => {
                self.outbox.withdraw(sequence);
                // What else came due in this moment has happened all the same.
                let others = writes.iter().filter(|write| !own(write)).map(|write| self.change(*write)).collect();
                self.owe(others, Vec::new(), error.clone());
                return Err(error.into());
            }
        };
        place.keep();
        self.outgoing =
            Some((sequence, Outgoing { id: new.id, to: new.recipient, content: new.spec.content, fresh: false }));
        self.carry_out_messages(effects).await;
        let message = told.into_iter().find_map(|told| match told {
            Told::Message { message, .. } if message.status.sequence == sequence => Some(*message),
            Told::Message { .. } | Told::Claim { .. } => None,
        });
        let mut message = message.ok_or(Refusal::Closing)?;
        self.describe(&mut message);
        Ok((message, true))
    }

    /// A message that a slow disk took after its caller was told that it did not: now it counts.
    async fn adopt(&mut self, message: &Message, new: &NewMessage) {
        let status = &message.status;
        if status.state == MessageState::Queued && !self.outbox.holds(status.sequence) && !self.state.is_deleting() {
            self.shared.outboxes.found(1);
            let expires_at = clock::to_ours(status.expires_at, clock::step());
            let (sequence, recipient) = (status.sequence, new.recipient.key());
            let waiting = Waiting { sequence, recipient, known: false, expires_at, handed_over: true };
            self.message_event(Event::Accepted(waiting)).await;
        }
    }

    fn describe(&self, message: &mut Message) {
        if let Some(wait) = self.wait(message.status.sequence) {
            waits(&mut message.status, wait);
        }
    }

    /// What a message waits for, by the wall clock.
    fn wait(&self, sequence: u64) -> Option<Wait> {
        let (why, estimate) = self.outbox.waits(sequence, clock::now())?;
        Some((why, estimate.map(|at| clock::to_wall(at, self.step))))
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
        match self.failing() {
            Some(error) => Err(error.into()),
            None => Ok(self.shared.store.reader.message(self.state.id(), id).await?),
        }
    }

    /// Takes up what has become of the session: whether messages can be handed over, and how fast.
    pub(super) async fn follow_session(&mut self) {
        let link = link(&self.state, clock::now());
        if link != self.outbox.link() {
            let newly_locked = matches!(link, Link::Up { timelocked: true, .. });
            if newly_locked && self.outbox.len() > 0 {
                // Without an answer they count as unknown, and wait.
                let known = self.shared.store.reader.known(self.state.id()).await.unwrap_or_default();
                self.outbox.knows(&known);
            }
            self.message_event(Event::Link(link)).await;
        }
        let pace = self.state.kept.spec.sending;
        if pace != self.outbox.pace() {
            self.message_event(Event::Pace(pace)).await;
        }
    }

    /// Takes what happened to messages; what the store does not take now it gets later, before anything follows from it.
    pub(super) async fn message_event(&mut self, event: Event) {
        let (writes, effects) = self.outbox.step(event, clock::now());
        let changes = writes.into_iter().map(|write| self.change(write)).collect();
        self.write_messages(changes, effects).await;
    }

    pub(super) async fn write_messages(&mut self, changes: Vec<Change>, effects: Vec<Effect>) {
        if !changes.is_empty() {
            let settled = changes.iter().filter(|change| change.settles()).count();
            if let Err(error) = self.shared.store.apply(changes.clone()).await {
                return self.owe(changes, effects, error);
            }
            self.shared.outboxes.leave(settled);
        }
        self.carry_out_messages(effects).await;
    }

    fn change(&self, write: Write) -> Change {
        let session = self.state.id().to_owned();
        Change::Message(match write {
            Write::HandOver(sequence) => MessageChange::HandOver { session, sequence },
            Write::Settle(sequence, mut settled) => {
                // The server's own time is the wall's already.
                if settled.at <= clock::now() {
                    settled.at = clock::to_wall(settled.at, clock::step());
                }
                MessageChange::Settle { session, sequence, settled }
            }
        })
    }

    async fn carry_out_messages(&mut self, effects: Vec<Effect>) {
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
                Err(error) => {
                    tracing::error!(session = self.state.id(), %error, "a message that waits cannot be read; trying again");
                    return self.hindered(client, sequence, Obstacle::Connection);
                }
            },
        };
        let Some(outgoing) = outgoing else { return self.hindered(client, sequence, Obstacle::Unsendable) };
        self.flying = Some((outgoing.id.clone(), sequence));
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
                let Some(sequence) = self.flying.as_ref().filter(|(of, _)| *of == id).map(|(_, sequence)| *sequence)
                else {
                    return;
                };
                let event = match refused {
                    Some(code) => Event::Refused { sequence, code },
                    None => Event::Acknowledged { sequence, at },
                };
                self.told_by(client, event).await;
            }
            MessageNews::Receipt { ids, receipt, at } => self.receipt(ids, receipt, at),
        }
    }

    /// An event by a client; one that is gone has nothing to say any more.
    pub(super) async fn told_by(&mut self, client: Generation, event: Event) {
        if matches!(self.outbox.link(), Link::Up { client: live, .. } if live == client) {
            self.message_event(event).await;
        }
    }

    /// Nothing waits for it: a receipt that gets lost in a crash costs the news, and what it says comes again with the next.
    fn receipt(&self, ids: Vec<String>, receipt: Receipt, at: Timestamp) {
        let session = self.state.id().to_owned();
        let change = |id| Change::Message(MessageChange::Receipt { session: session.clone(), id, receipt, at });
        let changes: Vec<Change> = ids.into_iter().map(change).collect();
        let store = self.shared.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.apply(changes).await {
                tracing::warn!(session, %error, "a receipt could not be noted");
            }
        });
    }
}

/// Adds to a message what it waits for.
pub(super) fn waits(message: &mut MessageStatus, (why, estimate): Wait) {
    message.waits_for = Some(why.into());
    message.estimated_send_at = estimate;
}

/// Whether messages can be handed to the server, and by which client.
fn link(state: &State, now: Timestamp) -> Link {
    let timelocked = state.kept.restriction.as_ref().is_some_and(|found| {
        found.kind == RestrictionKind::ReachoutTimelock && found.expires_at.is_none_or(|end| end > now)
    });
    match state.logged_in() {
        Some(client) => Link::Up { client, timelocked },
        None if state.phase() == SessionPhase::Banned => Link::Down(WaitsFor::Restriction),
        None if !state.kept.paired => Link::Down(WaitsFor::Pairing),
        None => Link::Down(WaitsFor::Connection),
    }
}

/// The message that was accepted before under this id, if it is the same.
fn same(before: Message, new: &NewMessage) -> Result<Message, Refusal> {
    let recipient = Recipient::parse(before.to.reveal());
    if recipient.as_ref() == Ok(&new.recipient) && before.content == new.spec.content {
        Ok(before)
    } else {
        Err(Refusal::OtherMessage)
    }
}
