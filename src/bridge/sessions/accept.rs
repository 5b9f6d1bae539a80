//! Messages are accepted: all that are asked for at the moment are on the disk with one flush.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;
use whatsapp_operator::bridge_api::Message;

use super::{
    clock,
    new_message::{queued, same},
    outboxes::{QueueSlot, Undecided},
    owed::Owed,
    refusal::Refusal,
    request::{Asked, NewMessage},
    session::Actor,
};
use crate::{
    backend::Outgoing,
    outbox::{Effect, Event, Waiting},
    store::{Change, MessageChange, StoreError, Told},
};

/// How long a message may be handed over when its caller does not say.
const DEFAULT_EXPIRY: SignedDuration = SignedDuration::from_hours(24);

/// What was accepted in memory, and is being written.
struct Accepted {
    sequence: u64,
    new: NewMessage,
    slot: QueueSlot,
    answer: oneshot::Sender<Result<(Message, bool), Refusal>>,
}

/// What is to be written for the messages that are accepted, and done after that.
#[derive(Default)]
struct Batch {
    accepted: Vec<Accepted>,
    changes: Vec<Change>,
    /// What else came due meanwhile: it has happened, whether or not the messages can be written.
    others: Vec<Change>,
    effects: Vec<Effect>,
}

impl Actor {
    /// Accepts messages and answers each of those who asked.
    pub(super) async fn accept(&mut self, asked: Vec<Asked>) {
        let mut batch = Batch::default();
        for Asked { message, answer } in asked {
            let refusal = match self.take_in(&message, &mut batch).await {
                Ok((sequence, slot)) => {
                    batch.accepted.push(Accepted { sequence, new: *message, slot, answer });
                    continue;
                }
                Err(refusal) => refusal,
            };
            // A repetition is answered whatever has become of the session.
            let _ = answer.send(match self.accepted_before(&message).await {
                Ok(Some(before)) => Ok((before, false)),
                Ok(None) => Err(refusal),
                Err(otherwise) => Err(otherwise),
            });
        }
        if batch.accepted.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut batch.changes);
        let error = match self.shared.store.apply(changes).await {
            Ok(told) => return self.accepted(batch.accepted, batch.effects, told).await,
            Err(error) => error,
        };
        // Earlier changes must be written first, so wait for the note that is under way.
        self.noted().await;
        if matches!(error, StoreError::Slow(_)) {
            self.undecided(batch, &error);
        } else {
            self.not_accepted(batch.accepted, batch.others, batch.effects, &error);
        }
    }

    /// Takes a message into the outbox, if nothing speaks against it. What that makes is added to the batch.
    async fn take_in(&mut self, new: &NewMessage, batch: &mut Batch) -> Result<(u64, QueueSlot), Refusal> {
        if let Some(error) = self.failing() {
            return Err(error.into());
        }
        if self.state.is_deleting() {
            return Err(Refusal::Deleting);
        }
        if !self.state.kept.paired || self.state.kept.spec.wants_unlinked() {
            return Err(Refusal::NotPaired);
        }
        let (now, wall) = (clock::now(), Timestamp::now());
        let expires_at =
            new.spec.expires_at.unwrap_or_else(|| wall.saturating_add(DEFAULT_EXPIRY).unwrap_or(Timestamp::MAX));
        let estimate = self.outbox.estimate(now);
        let slot = self.shared.outboxes.enter(self.outbox.len())?;
        let too_late = estimate.duration_since(now) - expires_at.duration_since(wall);
        if too_late > SignedDuration::ZERO {
            return Err(Refusal::TooMuchWaits { retry_after: Duration::try_from(too_late).unwrap_or_default() });
        }
        let recipient = new.recipient.key();
        let (person, keys) = (self.shared.people.person(recipient), self.shared.people.all_keys(recipient));
        self.outbox.recognize(&keys, person);
        let known = self.outbox.is_restricted() && self.shared.store.reader.knows(self.state.id(), keys).await?;
        // Not given out again, whatever comes of it: a disk that is slow may still take it.
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let message = Box::new(queued(new, self.state.id(), sequence, wall, expires_at));
        let expires_at = clock::to_ours(expires_at, clock::step());
        let waiting = Waiting { sequence, recipient: person, known, expires_at, handed_over: false };
        let (writes, effects) = self.outbox.step(Event::Accepted(waiting), now);
        batch.changes.push(Change::Message(MessageChange::Accept { message, recipient }));
        for write in writes {
            let (of, change) = (write.sequence(), self.change(write));
            if of != sequence && batch.accepted.iter().all(|accepted| accepted.sequence != of) {
                batch.others.push(change.clone());
            }
            batch.changes.push(change);
        }
        batch.effects.extend(effects);
        Ok((sequence, slot))
    }

    /// Answers the callers of messages that are now on the disk, and sends what can be sent.
    async fn accepted(&mut self, accepted: Vec<Accepted>, mut effects: Vec<Effect>, told: Vec<Told>) {
        let (mut answers, mut repeated) = (Vec::new(), false);
        for Accepted { sequence, new, slot, answer } in accepted {
            // Under the id of each there is one message by now: this one, or one that was there before.
            let found = told.iter().find_map(|told| match told {
                Told::Message { message, changed, .. }
                    if message.status.id == new.id && *changed == (message.status.sequence == sequence) =>
                {
                    Some((**message).clone())
                }
                Told::Message { .. } | Told::Claim { .. } => None,
            });
            match found {
                Some(message) if message.status.sequence == sequence => {
                    slot.keep();
                    self.keep_at_hand(sequence, &new, &effects);
                    self.shared.message_traces.begin(&message.status, new.trace);
                    answers.push((answer, Ok((message, true))));
                }
                Some(before) => {
                    repeated = true;
                    self.outbox.withdraw(sequence);
                    effects.retain(|effect| !effect.sends(sequence));
                    answers.push((answer, same(before, &new).map(|before| (before, false))));
                }
                None => answers.push((answer, Err(Refusal::Closing))),
            }
        }
        self.carry_out_messages(effects).await;
        for (answer, accepted) in answers {
            let _ = answer.send(accepted.map(|(mut message, new)| {
                self.describe(&mut message);
                (message, new)
            }));
        }
        if repeated {
            // What was not new may have stood before what waits.
            self.message_event(Event::Tick).await;
        }
    }

    /// Answers the callers of messages that could not be written: nothing has come of them.
    fn not_accepted(
        &mut self,
        accepted: Vec<Accepted>,
        others: Vec<Change>,
        mut effects: Vec<Effect>,
        error: &StoreError,
    ) {
        for Accepted { sequence, answer, .. } in accepted {
            self.outbox.withdraw(sequence);
            effects.retain(|effect| !effect.sends(sequence));
            let _ = answer.send(Err(error.clone().into()));
        }
        self.owe(Owed { changes: others, effects, ..Owed::default() }, error.clone());
    }

    /// The disk takes its time, and may have them yet. Who asked is told so, and may ask again; the session does nothing else
    /// until it is known.
    fn undecided(&mut self, batch: Batch, error: &StoreError) {
        let Batch { accepted, others, effects, .. } = batch;
        let mut undecided = Vec::new();
        for Accepted { sequence, slot, answer, .. } in accepted {
            undecided.push(Undecided { sequence, slot });
            let _ = answer.send(Err(error.clone().into()));
        }
        self.owe(Owed { changes: others, effects, undecided }, error.clone());
    }

    /// Often the message that was accepted last is the next to be sent; it need not be read for that.
    fn keep_at_hand(&mut self, sequence: u64, new: &NewMessage, effects: &[Effect]) {
        let sent = |of: u64| effects.iter().any(|effect| effect.sends(of));
        if self.outgoing.as_ref().is_none_or(|(kept, _)| !sent(*kept)) {
            let (id, to, content) = (new.id.clone(), new.recipient.clone(), new.spec.content.clone());
            self.outgoing = Some((sequence, Outgoing { id, to, content, fresh: false }));
        }
    }

    /// The message that was accepted before under this id.
    async fn accepted_before(&self, new: &NewMessage) -> Result<Option<Message>, Refusal> {
        if let Some(error) = self.failing() {
            return Err(error.into());
        }
        let reader = &self.shared.store.reader;
        let before = reader.accepted(self.state.id(), &new.id, new.recipient.key(), &new.spec).await?;
        let Some(before) = before else { return Ok(None) };
        let mut before = same(before, new)?;
        self.describe(&mut before);
        Ok(Some(before))
    }
}
