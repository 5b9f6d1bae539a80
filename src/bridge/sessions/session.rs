//! One task per session: it alone owns the session's state, and stores what the state machine makes of it before anything
//! follows from it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use jiff::SignedDuration;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};
use whatsapp_operator::bridge_api::{Session, SessionSpec};

use super::{
    Shared, clock,
    crowd::Crowd,
    held_up,
    noting::Noting,
    owed::{Then, Unstored},
    request::{MessageRequest, Request},
};
use crate::{
    backend::{ClientHandle, Outgoing},
    machine::{ClientEvent, Event, Generation, State},
    outbox::{self, Outbox, RecipientKey, Waiting},
    store::{Change, StoreError},
};

/// How many messages are accepted with one flush at most, so that what else happens to the session does not wait for long.
const TOGETHER: usize = 64;

// Boxed, because a channel reserves room for 32 of them per session.
pub(super) enum Input {
    Event(Box<Event>),
    Permit(OwnedSemaphorePermit),
    /// A client on a message.
    Message(Generation, outbox::Event),
    /// The server has said who a recipient is, whom callers may have written in several ways.
    Recognized(RecipientKey),
    /// Changes of messages that the store did not take.
    Unwritten(Vec<Change>),
}

/// The task's own things, next to the state.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
    pub(super) inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) loopback: mpsc::UnboundedSender<Input>,
    pub(super) client: Option<(Generation, ClientHandle)>,
    /// Held by the client that runs, until it is over.
    pub(super) one_client: Arc<Semaphore>,
    pub(super) waiting_for_permit: Option<AbortHandle>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    pub(super) unstored: Option<Box<Unstored>>,
    /// How far the wall clock was set away from ours when the session was last stored.
    pub(super) step: SignedDuration,
    pub(super) outbox: Outbox,
    /// What the outbox tells of itself for all to count.
    held_up: held_up::Share,
    /// The last sequence that was given to a message.
    pub(super) last_sequence: u64,
    /// The message that was accepted last: often it is the next to be sent.
    pub(super) outgoing: Option<(u64, Outgoing)>,
    /// The messages that wait and that the server may have, by their ids at WhatsApp: the one that is with it, and those that came
    /// back from there without an answer.
    pub(super) handed: HashMap<String, Handed>,
    /// Whether too many inputs wait.
    pub(super) crowd: Crowd,
    /// What is being written while the session goes on.
    pub(super) noting: Option<Noting>,
    /// Which session it is to be given to, and where the answer goes.
    handing_over: Option<(String, oneshot::Sender<Result<bool, StoreError>>)>,
}

/// What follows when a session's task ends.
pub enum Ended {
    /// Nothing: the session is deleted, or another's by now, or the process closes.
    Over,
    /// It begins anew from what is stored. So many messages waited.
    Anew {
        /// How many.
        waiting: usize,
    },
}

/// A message that a client was given to send.
pub(super) struct Handed {
    /// Its sequence among the session's messages.
    pub(super) sequence: u64,
    /// When the client got it; none once it is acknowledged, and where that was before a restart.
    pub(super) since: Option<Instant>,
}

impl Actor {
    /// A session's task; `state` must be stored already, and `waiting` is what waits in it, the last sequence given out with it. All
    /// tasks of one session share `one_client`.
    pub fn new(
        shared: Arc<Shared>,
        state: State,
        (mut waiting, last_sequence): (Vec<Waiting>, u64),
        one_client: Arc<Semaphore>,
    ) -> Self {
        for message in &mut waiting {
            message.recipient = shared.people.person(message.recipient);
        }
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
            one_client,
            waiting_for_permit: None,
            permit: None,
            unstored: None,
            step: clock::step(),
            outbox,
            held_up,
            last_sequence,
            outgoing: None,
            handed: HashMap::new(),
            crowd: Crowd::default(),
            noting: None,
            handing_over: None,
        }
    }

    /// Runs until the session is deleted or handed over, or the process closes.
    pub async fn run(mut self, requests: &mut mpsc::Receiver<Request>) -> Ended {
        let shared = Arc::clone(&self.shared);
        self.recall_unanswered().await;
        // Whatever is wanted of a fresh or restored session starts by itself.
        self.take(Event::Tick).await;
        loop {
            self.held_up.set(self.outbox.held_up(clock::now()));
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
            self.bound_inputs();
            if self.unstored.is_none() {
                self.follow_session().await;
            }
            if self.state.is_gone() {
                self.shared.feed.sessions.remove(self.state.id());
                return Ended::Over;
            }
            if let Some((to, answer)) = self.handing_over.take() {
                return self.hand_over(&to, answer).await;
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
            Input::Recognized(person) => self.outbox.recognize(&self.shared.people.all_keys(person), person),
            Input::Unwritten(changes) => self.write(changes, Then::CarryOut(Vec::new())).await,
        }
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
            Request::HandOver { to, answer } => match failing {
                Some(error) => drop(answer.send(Err(error))),
                None if self.state.is_deleting() => drop(answer.send(Ok(false))),
                None => self.handing_over = Some((to, answer)),
            },
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
