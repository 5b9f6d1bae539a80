//! One task per session: it alone owns the session's state, and stores what the state machine makes of it before anything
//! follows from it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};
use whatsapp_operator::bridge_api::{Session, SessionPhase, SessionReason, SessionSpec};

use super::{
    Shared,
    clock::{self, for_people},
};
use crate::{
    backend::ClientHandle,
    machine::{Effect, Event, Generation, State, step},
    store::{Change, StoreError},
};

/// First wait before what could not be stored is stored again; doubles up to `STORE_RETRY_MAX`.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A disk that is full stays so until somebody comes; what they do has to show soon.
const STORE_RETRY_MAX: Duration = Duration::from_secs(8);

/// What a session can be asked for.
pub enum Request {
    /// The wanted state; answered when it is on the disk, with `None` when the session is being deleted.
    Put(Box<SessionSpec>, oneshot::Sender<Result<Option<Session>, StoreError>>),
    /// Delete it; answered when that is on the disk.
    Delete {
        /// Whether the device is to be removed from the account first.
        unlink: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Session, StoreError>>,
    },
}

// Boxed, because a channel reserves room for 32 of them per session.
pub(super) enum Input {
    Event(Box<Event>),
    Permit(OwnedSemaphorePermit),
}

/// An event that cannot be refused, because what it says has happened, and that the store would not take. Nothing else
/// happens to the session until it does.
struct Unstored {
    event: Event,
    error: StoreError,
    wait: Duration,
    again: Instant,
}

/// The task's own things, next to the state.
pub struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
    inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) loopback: mpsc::UnboundedSender<Input>,
    pub(super) client: Option<(Generation, ClientHandle)>,
    pub(super) waiting_for_permit: Option<AbortHandle>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    unstored: Option<Box<Unstored>>,
}

impl Actor {
    /// A session's task; `state` must be stored already.
    pub fn new(shared: Arc<Shared>, state: State) -> Self {
        let (loopback, inputs) = mpsc::unbounded_channel();
        Self { shared, state, inputs, loopback, client: None, waiting_for_permit: None, permit: None, unstored: None }
    }

    /// Runs until the session is deleted or the process closes.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let shared = Arc::clone(&self.shared);
        // Whatever is wanted of a fresh or restored session starts by itself.
        self.take(Event::Tick).await;
        loop {
            let again = self.unstored.as_ref().map(|unstored| unstored.again);
            tokio::select! {
                biased;
                () = shared.closing.cancelled() => return self.close().await,
                request = requests.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return self.close().await,
                },
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.store_again().await,
                Some(input) = self.inputs.recv(), if again.is_none() => match input {
                    Input::Event(event) => self.take(*event).await,
                    Input::Permit(permit) => self.granted(permit).await,
                },
                () = sleep_until(self.state.wake_at()), if again.is_none() => self.take(Event::Tick).await,
            }
            if self.state.is_gone() {
                self.shared.feed.sessions.remove(self.state.id());
                return;
            }
        }
    }

    /// Answers a request; with the error of the store while it fails, because nothing may overtake what happened before.
    async fn answer(&mut self, request: Request) {
        let failing = self.unstored.as_ref().map(|unstored| unstored.error.clone());
        match request {
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
                let _ = answer.send(stored.map(|()| for_people(self.state.view())));
            }
        }
    }

    async fn put(&mut self, spec: SessionSpec) -> Result<Option<Session>, StoreError> {
        if self.state.is_deleting() {
            return Ok(None);
        }
        self.try_take(Event::Put(spec)).await?;
        Ok(Some(for_people(self.state.view())))
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
            self.unstored = Some(Box::new(Unstored { event, error, wait, again: Instant::now() + wait }));
        }
    }

    async fn store_again(&mut self) {
        if let Some(unstored) = self.unstored.take() {
            self.take_after(unstored.event, (unstored.wait * 2).min(STORE_RETRY_MAX)).await;
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
            && let Ok(permit) = Arc::clone(&self.shared.permits).try_acquire_owned()
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
        if !self.state.is_transient() && !self.state.is_gone() {
            self.shared.feed.sessions.show(for_people(self.state.view()));
        }
        Ok(())
    }

    async fn store(&self, next: &State, forget: bool) -> Result<(), StoreError> {
        let change = if forget {
            Change::remove(next.id())
        } else if next.kept == self.state.kept {
            return Ok(());
        } else {
            Change::save(next.id(), &next.kept)?
        };
        self.shared.store.apply(vec![change]).await
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
        if let Some(unstored) = self.unstored.take() {
            self.keep(unstored.event).await;
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

async fn sleep_until(at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            let wait = Duration::try_from(at.duration_since(clock::now())).unwrap_or(Duration::ZERO);
            tokio::time::sleep(wait).await;
        }
    }
}
