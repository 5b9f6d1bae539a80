//! One task per session: it alone owns the session's state, and stores what the state machine makes of it before anything
//! follows from it.

use std::{
    future::pending,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use whatsapp_operator::bridge_api::{MessageCause, Session, SessionPhase, SessionReason, SessionSpec};

use super::{
    Shared,
    clock::{self, for_people},
    held_up,
    outboxes::Undecided,
    request::{MessageRequest, Request},
};
use crate::{
    backend::{ClientHandle, Outgoing},
    machine::{ClientEvent, Effect, Event, Generation, State, step},
    outbox::{self, Outbox, Waiting},
    store::{Change, StoreError, Told},
};

/// First wait before what could not be stored is stored again; doubles up to `STORE_RETRY_MAX`.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A disk that is full stays so until somebody comes; what they do has to show soon.
const STORE_RETRY_MAX: Duration = Duration::from_secs(8);

/// How many messages are accepted with one flush at most, so that what else happens to the session does not wait for long.
const TOGETHER: usize = 64;
/// While the store fails, the session's inputs wait in memory. When there are more than this, its client is stopped: what WhatsApp has
/// not delivered by then, WhatsApp keeps, and delivers when the session connects again.
pub(super) const MOST_INPUTS: usize = 1000;

// Boxed, because a channel reserves room for 32 of them per session.
pub(super) enum Input {
    Event(Box<Event>),
    Permit(OwnedSemaphorePermit),
    /// A client on a message.
    Message(Generation, outbox::Event),
    /// Changes of messages that the store did not take.
    Unwritten(Vec<Change>),
}

/// An event that has happened, or changes that follow from one, which the store has failed to write. Until they are written the session
/// takes no other event; changes of messages that come up meanwhile are added to those that are owed.
struct Unstored {
    /// Taken after the messages, because it may end those that wait.
    event: Option<Event>,
    messages: Owed,
    error: StoreError,
    wait: Duration,
    again: Instant,
}

/// What is owed to the store, and to those who wait for messages.
#[derive(Default)]
pub(super) struct Owed {
    /// Changes of messages.
    pub(super) changes: Vec<Change>,
    /// What follows from them.
    pub(super) effects: Vec<outbox::Effect>,
    /// Messages of which nobody knows whether the store has taken them: it was too slow to say.
    pub(super) undecided: Vec<Undecided>,
}

/// What is to be done once changes of messages are on the disk.
pub(super) enum Then {
    /// Nothing follows from them, so nothing waits for the disk.
    GoOn,
    /// The session waits for the disk, and then does this.
    CarryOut(Vec<outbox::Effect>),
}

impl Owed {
    /// These changes, and what follows from them.
    fn of(changes: Vec<Change>, effects: Vec<outbox::Effect>) -> Self {
        Self { changes, effects, undecided: Vec::new() }
    }
}

/// The task's own things, next to the state.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
    inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) loopback: mpsc::UnboundedSender<Input>,
    pub(super) client: Option<(Generation, ClientHandle)>,
    /// Held by the client that runs, until it is over.
    pub(super) one_client: Arc<Semaphore>,
    pub(super) waiting_for_permit: Option<AbortHandle>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    unstored: Option<Box<Unstored>>,
    /// How far the wall clock was set away from ours when the session was last stored.
    pub(super) step: SignedDuration,
    pub(super) outbox: Outbox,
    /// What the outbox tells of itself for all to count.
    held_up: held_up::Share,
    /// The last place that was given to a message.
    pub(super) last_sequence: u64,
    /// The message that was accepted last: often it is the next to be sent.
    pub(super) outgoing: Option<(u64, Outgoing)>,
    /// The message that is with the server.
    pub(super) flying: Option<Flying>,
    /// What is being written while the session goes on.
    pub(super) noting: Option<Noting>,
}

/// Changes of messages from which nothing follows, on their way to the disk.
pub(super) struct Noting {
    /// The changes.
    pub(super) changes: Vec<Change>,
    /// Ends when they are written, or cannot be.
    pub(super) written: JoinHandle<Result<Vec<Told>, StoreError>>,
}

/// Changes that could not be noted, and why.
pub(super) struct Unnoted {
    changes: Vec<Change>,
    error: StoreError,
}

impl Noting {
    /// Ends when they are written, or cannot be; never when there is nothing.
    async fn end(this: &mut Option<Self>) -> Result<(), Unnoted> {
        let Some(noting) = this.as_mut() else { return pending().await };
        let written = (&mut noting.written).await.unwrap_or(Err(StoreError::Closed));
        let changes = this.take().map(|noting| noting.changes).unwrap_or_default();
        written.map(drop).map_err(|error| Unnoted { changes, error })
    }
}

/// A message that the client was given to send.
pub(super) struct Flying {
    /// Its id at WhatsApp.
    pub(super) id: String,
    /// Its place among the session's messages.
    pub(super) sequence: u64,
    /// When the client got it; none once it is acknowledged.
    pub(super) since: Option<Instant>,
}

impl Actor {
    /// A session's task; `state` must be stored already, and `waiting` is what waits in it, the last sequence given out with it.
    pub fn new(shared: Arc<Shared>, state: State, (waiting, last_sequence): (Vec<Waiting>, u64)) -> Self {
        let (loopback, inputs) = mpsc::unbounded_channel();
        // Only spreads pauses; any number will do.
        let held_up = shared.outboxes.held_up.share();
        let outbox = Outbox::new(waiting, state.kept.spec.sending, RandomState::new().hash_one(state.id()));
        Self {
            shared,
            state,
            inputs,
            loopback,
            client: None,
            one_client: Arc::new(Semaphore::new(1)),
            waiting_for_permit: None,
            permit: None,
            unstored: None,
            step: clock::step(),
            outbox,
            held_up,
            last_sequence,
            outgoing: None,
            flying: None,
            noting: None,
        }
    }

    /// Runs until the session is deleted or the process closes.
    pub async fn run(mut self, requests: &mut mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        // Whatever is wanted of a fresh or restored session starts by itself.
        self.take(Event::Tick).await;
        loop {
            self.held_up.becomes(self.outbox.held_up(clock::now()));
            let again = self.unstored.as_ref().map(|unstored| unstored.again);
            // Unbiased on purpose: a caller that sends requests without pause must not starve the session's own events.
            tokio::select! {
                () = shared.closing.cancelled() => return self.close().await,
                request = requests.recv() => match request {
                    Some(request) if !shared.closing.is_cancelled() => self.answer_all(request, requests).await,
                    _ => return self.close().await,
                },
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.store_again().await,
                Err(unnoted) = Noting::end(&mut self.noting) => self.owe_unnoted(unnoted),
                Some(input) = self.inputs.recv(), if again.is_none() => self.hear(input).await,
                () = clock::sleep_until_or_set(self.state.wake_at(), self.step), if again.is_none() => self.take(Event::Tick).await,
                () = clock::sleep_until(self.outbox.wake_at(clock::now())), if again.is_none() => {
                    self.message_event(outbox::Event::Tick).await;
                }
            }
            if self.unstored.is_none() {
                self.follow_session().await;
            }
            if self.state.is_gone() {
                self.shared.feed.sessions.remove(self.state.id());
                return;
            }
        }
    }

    async fn hear(&mut self, input: Input) {
        match input {
            Input::Event(event) => match *event {
                Event::Client(client, ClientEvent::Message(news)) => self.news(client, news).await,
                Event::Client(client, ClientEvent::Restricted(None)) => {
                    self.take(*event).await;
                    self.told_by(client, outbox::Event::Unrestricted).await;
                }
                event => self.take(event).await,
            },
            Input::Permit(permit) => self.granted(permit).await,
            Input::Message(client, event) => self.told_by(client, event).await,
            Input::Unwritten(changes) => self.write(changes, Then::CarryOut(Vec::new())).await,
        }
    }

    /// The error of the store, while it fails.
    pub(super) fn failing(&self) -> Option<StoreError> {
        self.unstored.as_ref().map(|unstored| unstored.error.clone())
    }

    /// Writes changes of messages: now, or behind what the store has failed to write before. What follows from them is done once they are
    /// on the disk.
    pub(super) async fn write(&mut self, changes: Vec<Change>, then: Then) {
        if changes.is_empty() && matches!(then, Then::GoOn) {
            return;
        }
        if matches!(then, Then::GoOn) {
            // One note at a time, and it may fail.
            self.noted().await;
        }
        if let Some(error) = self.failing() {
            let effects = if let Then::CarryOut(effects) = then { effects } else { Vec::new() };
            return self.owe(Owed::of(changes, effects), error);
        }
        match then {
            // What is written later is written after them.
            Then::GoOn => {
                let written = tokio::spawn(self.shared.store.begin(changes.clone()).await);
                self.noting = Some(Noting { changes, written });
            }
            Then::CarryOut(effects) => {
                if !changes.is_empty()
                    && let Err(error) = self.shared.store.apply(changes.clone()).await
                {
                    // Earlier changes must be written first, so wait for the note that is under way.
                    self.noted().await;
                    return self.owe(Owed::of(changes, effects), error);
                }
                self.carry_out_messages(effects).await;
            }
        }
    }

    /// Waits until what was noted is on the disk, or is owed.
    pub(super) async fn noted(&mut self) {
        if self.noting.is_some()
            && let Err(unnoted) = Noting::end(&mut self.noting).await
        {
            self.owe_unnoted(unnoted);
        }
    }

    fn owe_unnoted(&mut self, Unnoted { changes, error }: Unnoted) {
        self.owe(Owed::of(changes, Vec::new()), error);
    }

    /// Answers a request, and those that have come meanwhile; messages that are to be accepted are taken together.
    async fn answer_all(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut asked = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Message(MessageRequest::Accept(one)) => asked.push(one),
                other => {
                    // In the order in which they came.
                    self.accept(asked).await;
                    return self.answer(other).await;
                }
            }
            next = if asked.len() < TOGETHER { requests.try_recv().ok() } else { None };
        }
        self.accept(asked).await;
    }

    /// Answers a request; with the error of the store while it fails, because nothing may overtake what happened before.
    async fn answer(&mut self, request: Request) {
        let failing = self.failing();
        match request {
            Request::Message(request) => self.answer_message(request).await,
            #[cfg(test)]
            Request::Panic => std::panic::panic_any("a test asked for it"),
            Request::Put(spec, answer) => {
                let _ = answer.send(match failing {
                    Some(error) => Err(error),
                    None => self.put(*spec).await,
                });
            }
            Request::Delete { unlink, answer } => {
                let stored = match failing {
                    Some(error) => Err(error),
                    None => self.try_take(Event::Delete { unlink }).await,
                };
                let _ = answer.send(stored.map(|()| self.view()));
            }
        }
    }

    async fn put(&mut self, spec: SessionSpec) -> Result<Option<Session>, StoreError> {
        if self.state.is_deleting() {
            return Ok(None);
        }
        self.try_take(Event::Put(spec)).await?;
        Ok(Some(self.view()))
    }

    /// A permit that was asked for before, and not wanted any more, may arrive late: one is enough, and the one held must
    /// not be given back for it.
    pub(super) async fn granted(&mut self, permit: OwnedSemaphorePermit) {
        if self.permit.is_none() {
            self.permit = Some(permit);
            self.take(Event::PermitGranted).await;
        }
    }

    /// Takes an event that cannot be refused: what it says has happened. What the store does not take now it gets later.
    pub(super) async fn take(&mut self, event: Event) {
        self.take_after(event, STORE_RETRY).await;
    }

    async fn take_after(&mut self, event: Event, wait: Duration) {
        if let Err(error) = self.try_take(event.clone()).await {
            tracing::error!(session = self.state.id(), %error, "the session cannot be stored; trying again");
            let again = Instant::now() + wait;
            // One at a time is taken: there is none before it.
            match &mut self.unstored {
                Some(unstored) => unstored.event = Some(event),
                none => {
                    let unstored = Unstored { event: Some(event), messages: Owed::default(), error, wait, again };
                    *none = Some(Box::new(unstored));
                }
            }
        }
    }

    /// The store would not take these changes of messages: it gets them later.
    pub(super) fn owe(&mut self, owed: Owed, error: StoreError) {
        if owed.changes.is_empty() && owed.effects.is_empty() && owed.undecided.is_empty() {
            return;
        }
        tracing::error!(session = self.state.id(), %error, "what became of messages cannot be stored; trying again");
        match &mut self.unstored {
            // Two in a row, when an answer to a request failed as well.
            Some(unstored) => {
                unstored.messages.changes.extend(owed.changes);
                unstored.messages.effects.extend(owed.effects);
                unstored.messages.undecided.extend(owed.undecided);
            }
            none => {
                let again = Instant::now() + STORE_RETRY;
                *none = Some(Box::new(Unstored { event: None, messages: owed, error, wait: STORE_RETRY, again }));
            }
        }
    }

    async fn store_again(&mut self) {
        let Some(unstored) = self.unstored.take() else { return };
        let wait = (unstored.wait * 2).min(STORE_RETRY_MAX);
        self.settle_owed(unstored.messages).await;
        if let Some(event) = unstored.event {
            if self.unstored.is_none() {
                self.take_after(event, wait).await;
            } else if let Some(still) = &mut self.unstored {
                still.event = Some(event);
            }
        }
        if let Some(unstored) = &mut self.unstored {
            unstored.wait = wait;
            unstored.again = Instant::now() + wait;
            self.bound_inputs();
        }
    }

    /// Stops the client when too many of its events wait for the store. Its end waits behind them, and the state machine then connects
    /// anew.
    fn bound_inputs(&self) {
        if self.inputs.len() > MOST_INPUTS
            && let Some((_, client)) = &self.client
        {
            tracing::warn!(
                session = self.state.id(),
                "too much waits for the store; disconnecting from WhatsApp until it can be written"
            );
            client.stop();
        }
    }

    /// Stores what the event changes, then carries out what follows from it. On an error nothing has changed.
    async fn try_take(&mut self, event: Event) -> Result<(), StoreError> {
        if let Event::ClientEnded(generation, _) = &event
            && self.client.as_ref().is_some_and(|(running, _)| running == generation)
        {
            self.client = None;
        }
        let (next, effects) = step(&self.state, event, clock::now());
        let was = (self.state.phase(), self.state.reason());
        self.store(&next, effects.contains(&Effect::Forget)).await?;
        self.state = next;
        if effects.contains(&Effect::RequestPermit)
            && let Ok(permit) = self.shared.permits.try_acquire()
        {
            // Given at once: nobody has to see the session queue.
            self.permit = Some(permit);
            for effect in effects.into_iter().filter(|effect| *effect != Effect::RequestPermit) {
                self.carry_out(effect);
            }
            // The event itself is stored, and must not be taken twice when this one is not.
            Box::pin(self.take(Event::PermitGranted)).await;
            return Ok(());
        }
        for effect in effects {
            self.carry_out(effect);
        }
        self.note(was);
        self.show();
        Ok(())
    }

    /// Tells everybody how the session is now.
    pub(super) fn show(&self) {
        if !self.state.is_transient() && !self.state.is_gone() {
            self.shared.feed.sessions.show(self.view());
        }
    }

    /// The session as callers see it.
    fn view(&self) -> Session {
        let mut view = for_people(self.state.view());
        if view.phase == SessionPhase::Connected && self.outbox.is_unacknowledged() {
            view.reason = Some(SessionReason::MessagesNotAcknowledged.into());
        }
        view
    }

    async fn store(&mut self, next: &State, forget: bool) -> Result<(), StoreError> {
        let set = clock::was_set_since(self.step);
        let step = if set { clock::step() } else { self.step };
        if !forget && next.kept == self.state.kept && !set {
            return Ok(());
        }
        let (change, cause) = if forget {
            (Change::remove(next.id()), Some(MessageCause::SessionDeleted))
        } else {
            // What waits was accepted for the session's account as it was; nobody gets it from another.
            let changed = next.is_another_account_than(&self.state).then_some(MessageCause::AccountChanged);
            (Change::save(next.id(), &clock::for_disk(&next.kept, step))?, changed)
        };
        let mut changes = vec![change];
        changes.extend(cause.map(|cause| Change::abandon(next.id(), cause)));
        // What becomes of messages now would be told of those that are settled as well.
        self.noted().await;
        if let Some(error) = self.failing() {
            return Err(error);
        }
        self.shared.store.apply(changes).await?;
        if cause.is_some() {
            self.outbox.clear();
            (self.outgoing, self.flying) = (None, None);
        }
        self.step = step;
        Ok(())
    }

    fn note(&self, was: (SessionPhase, Option<SessionReason>)) {
        let (phase, reason) = (self.state.phase(), self.state.reason());
        if (phase, reason) == was {
            return;
        }
        let said = reason.map(SessionReason::as_str);
        tracing::info!(session = self.state.id(), ?phase, reason = said, "session changed");
        if phase == was.0 {
            return;
        }
        match (was.0, phase) {
            (SessionPhase::Linking, SessionPhase::Connected) => self.shared.metrics.paired(),
            (SessionPhase::Connected, SessionPhase::Reconnecting) => self.shared.metrics.reconnecting(),
            (_, SessionPhase::PairingExpired) => self.shared.metrics.window_passed(),
            _ => {}
        }
    }

    async fn close(mut self) {
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
        let Some((generation, client)) = self.client.take() else { return };
        client.stop();
        while let Some(input) = self.inputs.recv().await {
            let Input::Event(event) = input else { continue };
            match *event {
                Event::ClientEnded(ended, _) if ended == generation => return,
                // The last words of a client count: a device linked now is linked after the restart.
                event @ Event::Client(..) => self.keep(event).await,
                _ => {}
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

/// Also when the task panics: a client does not outlive the task that listens to it.
impl Drop for Actor {
    fn drop(&mut self) {
        if let Some((_, client)) = &self.client {
            client.stop();
        }
        if let Some(waiting) = &self.waiting_for_permit {
            waiting.abort();
        }
    }
}
