//! One task per session: it alone owns the session's state, and carries out what the state machine asks for.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
};
use whatsapp_operator::bridge_api::{Session, SessionPhase, SessionReason, SessionSpec};

use super::client;
use crate::{
    backend::{Backend, ClientHandle, EventSink, Refused, commands},
    data::DataDir,
    feed::Board,
    keys::KeyStore,
    machine::{ClientEvent, Effect, Event, Generation, Start, State, step},
    metrics::Metrics,
    store::{Store, StoreError},
};

/// A store that fails is tried again; nothing else happens to the session meanwhile.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What all sessions share.
pub struct Shared {
    /// Runs the clients.
    pub backend: Arc<dyn Backend>,
    /// Where everything is kept.
    pub data: DataDir,
    /// What they need to be who they are.
    pub keys: Arc<dyn KeyStore>,
    /// Remembers the sessions.
    pub store: Store,
    /// Shows them.
    pub board: Board,
    /// The pairing permits.
    pub permits: Arc<Semaphore>,
    /// Counts.
    pub metrics: Metrics,
}

/// What a session can be told.
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
    /// Close the client and end; the session stays as it is on the disk.
    Close,
}

// Boxed, because a channel reserves room for 32 of them per session.
enum Input {
    Event(Box<Event>),
    Permit(OwnedSemaphorePermit),
}

/// The task's own things, next to the state.
pub struct Actor {
    shared: Arc<Shared>,
    state: State,
    inputs: mpsc::UnboundedReceiver<Input>,
    loopback: mpsc::UnboundedSender<Input>,
    client: Option<(Generation, ClientHandle)>,
    waiting_for_permit: Option<AbortHandle>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Actor {
    /// A session's task; `state` must be stored already.
    pub fn new(shared: Arc<Shared>, state: State) -> Self {
        let (loopback, inputs) = mpsc::unbounded_channel();
        Self { shared, state, inputs, loopback, client: None, waiting_for_permit: None, permit: None }
    }

    /// Runs until the session is deleted or closed.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        // Whatever is wanted of a fresh or restored session starts by itself.
        self.take(Event::Tick).await;
        loop {
            let wake = sleep_until(self.state.wake_at());
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Put(spec, answer)) => {
                        let _ = answer.send(self.put(*spec).await);
                    }
                    Some(Request::Delete { unlink, answer }) => {
                        let stored = self.try_take(Event::Delete { unlink }).await;
                        let _ = answer.send(stored.map(|()| self.state.view()));
                    }
                    Some(Request::Close) | None => return self.close().await,
                },
                Some(input) = self.inputs.recv() => match input {
                    Input::Event(event) => self.take(*event).await,
                    Input::Permit(permit) => self.granted(permit).await,
                },
                () = wake => self.take(Event::Tick).await,
            }
            if self.state.is_gone() {
                self.shared.board.remove(self.state.id());
                return;
            }
        }
    }

    async fn put(&mut self, spec: SessionSpec) -> Result<Option<Session>, StoreError> {
        if self.state.is_deleting() {
            return Ok(None);
        }
        self.try_take(Event::Put(spec)).await?;
        Ok(Some(self.state.view()))
    }

    /// A permit that was asked for before, and not wanted any more, may arrive late: one is enough, and the one held must
    /// not be given back for it.
    pub(super) async fn granted(&mut self, permit: OwnedSemaphorePermit) {
        if self.permit.is_none() {
            self.permit = Some(permit);
            self.take(Event::PermitGranted).await;
        }
    }

    /// Takes an event that cannot be refused: what it says has happened. Waits for the store if need be.
    pub(super) async fn take(&mut self, event: Event) {
        while let Err(error) = self.try_take(event.clone()).await {
            tracing::error!(session = self.state.id(), %error, "the session cannot be stored; trying again");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    /// Stores what the event changes, then carries out what follows from it. On an error nothing has changed.
    async fn try_take(&mut self, event: Event) -> Result<(), StoreError> {
        if let Event::ClientEnded(generation, _) = &event
            && self.client.as_ref().is_some_and(|(running, _)| running == generation)
        {
            self.client = None;
        }
        let (next, effects) = step(&self.state, event, Timestamp::now());
        let was = (self.state.phase(), self.state.reason());
        if effects.contains(&Effect::Forget) {
            self.shared.store.remove(next.id()).await?;
        } else if next.kept != self.state.kept {
            self.shared.store.save(next.id(), &next.kept).await?;
        }
        self.state = next;
        if effects.contains(&Effect::RequestPermit)
            && let Ok(permit) = Arc::clone(&self.shared.permits).try_acquire_owned()
        {
            // Given at once: nobody has to see the session queue.
            self.permit = Some(permit);
            for effect in effects.into_iter().filter(|effect| *effect != Effect::RequestPermit) {
                self.carry_out(effect);
            }
            return Box::pin(self.try_take(Event::PermitGranted)).await;
        }
        for effect in effects {
            self.carry_out(effect);
        }
        self.note(was);
        if !self.state.is_transient() && !self.state.is_gone() {
            self.shared.board.show(self.state.view());
        }
        Ok(())
    }

    fn note(&self, was: (SessionPhase, Option<SessionReason>)) {
        let (phase, reason) = (self.state.phase(), self.state.reason());
        if (phase, reason) == was {
            return;
        }
        tracing::info!(
            session = self.state.id(),
            ?phase,
            reason = reason.map(SessionReason::as_str),
            "session changed"
        );
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

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start(start) => self.start(start),
            Effect::Stop(generation) => {
                if let Some(client) = self.client(generation) {
                    client.stop();
                }
            }
            Effect::Unlink(generation) => self.unlink(generation),
            Effect::RequestPermit => {
                let (permits, loopback) = (Arc::clone(&self.shared.permits), self.loopback.clone());
                let waiting = tokio::spawn(async move {
                    if let Ok(permit) = permits.acquire_owned().await {
                        let _ = loopback.send(Input::Permit(permit));
                    }
                });
                self.waiting_for_permit = Some(waiting.abort_handle());
            }
            Effect::ReleasePermit => {
                self.permit = None;
                if let Some(waiting) = self.waiting_for_permit.take() {
                    waiting.abort();
                }
            }
            Effect::Erase => {
                let (shared, loopback) = (Arc::clone(&self.shared), self.loopback.clone());
                let id = self.state.id().to_owned();
                tokio::spawn(async move {
                    let event = match shared.keys.erase(&id).await {
                        Ok(()) => Event::Erased,
                        Err(error) => {
                            tracing::error!(session = id, %error, "trying again");
                            Event::EraseFailed
                        }
                    };
                    let _ = loopback.send(Input::Event(Box::new(event)));
                });
            }
            Effect::Forget => {}
        }
    }

    /// The client, unless it is gone: then it has sent its end, which says enough.
    fn client(&self, generation: Generation) -> Option<&ClientHandle> {
        self.client.as_ref().filter(|(running, _)| *running == generation).map(|(_, client)| client)
    }

    fn unlink(&self, generation: Generation) {
        let Some(client) = self.client(generation).cloned() else { return };
        let loopback = self.loopback.clone();
        tokio::spawn(async move {
            let unlinked = match client.unlink().await {
                Ok(()) => Ok(()),
                // Its end comes by itself.
                Err(Refused::Over) => return,
                Err(Refused::ByServer) => Err(SessionReason::ServerRefused),
                Err(Refused::NotAnswered) => Err(SessionReason::ServerNotAnswering),
                Err(Refused::Busy | Refused::NotLoggedIn) => Err(SessionReason::ConnectionLost),
            };
            let _ = loopback.send(Input::Event(Box::new(Event::Client(generation, ClientEvent::Unlinked(unlinked)))));
        });
    }

    fn start(&mut self, start: Start) {
        let generation = start.generation;
        let (handle, commands) = commands();
        self.client = Some((generation, handle.clone()));
        let (shared, loopback) = (Arc::clone(&self.shared), self.loopback.clone());
        let listener = loopback.clone();
        let events = EventSink::to(move |event| {
            let _ = listener.send(Input::Event(Box::new(Event::Client(generation, event))));
        });
        let id = self.state.id().to_owned();
        tokio::spawn(async move {
            let end = client::run(&shared, &id, start, (handle, commands), events).await;
            let _ = loopback.send(Input::Event(Box::new(Event::ClientEnded(generation, end))));
        });
    }

    async fn close(mut self) {
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
        let (next, _) = step(&self.state, event, Timestamp::now());
        if next.kept != self.state.kept
            && let Err(error) = self.shared.store.save(next.id(), &next.kept).await
        {
            tracing::error!(session = next.id(), %error, "the session's last change is lost");
        }
        self.state = next;
    }
}

async fn sleep_until(at: Option<Timestamp>) {
    match at {
        None => std::future::pending().await,
        Some(at) => {
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            tokio::time::sleep(wait).await;
        }
    }
}
