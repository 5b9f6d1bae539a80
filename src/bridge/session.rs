//! One task per session: it alone owns the session's state, and carries out what the state machine asks for.

#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
};
use whatsapp_operator::bridge_api::{Session, SessionPhase, SessionReason, SessionSpec};

use crate::{
    backend::{Backend, News, Order},
    events::Board,
    machine::{Effect, End, Event, Generation, Start, State, step},
    metrics::Metrics,
    store::{Store, StoreError},
};

/// A client that was told to stop and has not after this long is dropped. The library waits up to 5 s for each of two
/// things when it closes.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// A store that fails is tried again; nothing else happens to the session meanwhile.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What all sessions share.
pub struct Shared {
    /// Runs the clients.
    pub backend: Arc<dyn Backend>,
    /// Remembers the sessions.
    pub store: Store,
    /// Shows them.
    pub board: Board,
    /// The pairing places.
    pub places: Arc<Semaphore>,
    /// Counts.
    pub metrics: Metrics,
}

/// What a session can be told.
pub enum Command {
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
    Place(OwnedSemaphorePermit),
}

/// The task's own things, next to the state.
pub struct Actor {
    shared: Arc<Shared>,
    state: State,
    inputs: mpsc::UnboundedReceiver<Input>,
    loopback: mpsc::UnboundedSender<Input>,
    orders: Option<(Generation, mpsc::Sender<Order>)>,
    waiting_for_place: Option<AbortHandle>,
    place: Option<OwnedSemaphorePermit>,
}

impl Actor {
    /// A session's task; `state` must be stored already.
    pub fn new(shared: Arc<Shared>, state: State) -> Self {
        let (loopback, inputs) = mpsc::unbounded_channel();
        Self { shared, state, inputs, loopback, orders: None, waiting_for_place: None, place: None }
    }

    /// Runs until the session is deleted or closed.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        // Whatever is wanted of a fresh or restored session starts by itself.
        self.take(Event::Tick).await;
        loop {
            let wake = sleep_until(self.state.wake_at());
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Put(spec, answer)) => {
                        let _ = answer.send(self.put(*spec).await);
                    }
                    Some(Command::Delete { unlink, answer }) => {
                        let stored = self.try_take(Event::Delete { unlink }).await;
                        let _ = answer.send(stored.map(|()| self.state.view()));
                    }
                    Some(Command::Close) | None => return self.close().await,
                },
                Some(input) = self.inputs.recv() => match input {
                    Input::Event(event) => self.take(*event).await,
                    Input::Place(permit) => self.granted(permit).await,
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
    async fn granted(&mut self, permit: OwnedSemaphorePermit) {
        if self.place.is_none() {
            self.place = Some(permit);
            self.take(Event::PlaceGranted).await;
        }
    }

    /// Takes an event that cannot be refused: what it says has happened. Waits for the store if need be.
    async fn take(&mut self, event: Event) {
        while let Err(error) = self.try_take(event.clone()).await {
            tracing::error!(session = self.state.id(), %error, "the session cannot be stored; trying again");
            tokio::time::sleep(STORE_RETRY).await;
        }
    }

    /// Stores what the event changes, then carries out what follows from it. On an error nothing has changed.
    async fn try_take(&mut self, event: Event) -> Result<(), StoreError> {
        if let Event::ClientEnded(generation, _) = &event
            && self.orders.as_ref().is_some_and(|(running, _)| running == generation)
        {
            self.orders = None;
        }
        let (next, effects) = step(&self.state, event, Timestamp::now());
        let was = (self.state.phase(), self.state.reason());
        if effects.contains(&Effect::Forget) {
            self.shared.store.remove(next.id()).await?;
        } else if next.kept != self.state.kept {
            self.shared.store.save(next.id(), &next.kept).await?;
        }
        self.state = next;
        if effects.contains(&Effect::RequestPlace)
            && let Ok(permit) = Arc::clone(&self.shared.places).try_acquire_owned()
        {
            // Given at once: nobody has to see the session queue.
            self.place = Some(permit);
            for effect in effects.into_iter().filter(|effect| *effect != Effect::RequestPlace) {
                self.carry_out(effect);
            }
            return Box::pin(self.try_take(Event::PlaceGranted)).await;
        }
        for effect in effects {
            self.carry_out(effect);
        }
        self.note(was);
        if !self.state.is_settling() && !self.state.is_gone() {
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
            Effect::Stop(generation) => self.order(generation, Order::Stop),
            Effect::Unlink(generation) => self.order(generation, Order::Unlink),
            Effect::RequestPlace => {
                let (places, loopback) = (Arc::clone(&self.shared.places), self.loopback.clone());
                let waiting = tokio::spawn(async move {
                    if let Ok(permit) = places.acquire_owned().await {
                        let _ = loopback.send(Input::Place(permit));
                    }
                });
                self.waiting_for_place = Some(waiting.abort_handle());
            }
            Effect::ReleasePlace => {
                self.place = None;
                if let Some(waiting) = self.waiting_for_place.take() {
                    waiting.abort();
                }
            }
            Effect::Erase => {
                let (shared, loopback) = (Arc::clone(&self.shared), self.loopback.clone());
                let id = self.state.id().to_owned();
                tokio::spawn(async move {
                    let event = match shared.backend.erase(&id).await {
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

    fn order(&self, generation: Generation, order: Order) {
        // A client that is gone has sent its end, which says the same.
        if let Some((running, orders)) = &self.orders
            && *running == generation
        {
            let _ = orders.try_send(order);
        }
    }

    fn start(&mut self, start: Start) {
        let generation = start.generation;
        // An unlink and a stop are all a client is ever told.
        let (orders, told) = mpsc::channel(4);
        self.orders = Some((generation, orders));
        let (shared, loopback) = (Arc::clone(&self.shared), self.loopback.clone());
        let id = self.state.id().to_owned();
        tokio::spawn(async move {
            let end = supervise(&shared, &id, start, told, &loopback).await;
            let _ = loopback.send(Input::Event(Box::new(Event::ClientEnded(generation, end))));
        });
    }

    async fn close(mut self) {
        let Some((generation, orders)) = self.orders.take() else { return };
        let _ = orders.try_send(Order::Stop);
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

/// Runs a client, and drops it when it does not stop in time after it was told to.
async fn supervise(
    shared: &Shared,
    id: &str,
    start: Start,
    mut told: mpsc::Receiver<Order>,
    loopback: &mpsc::UnboundedSender<Input>,
) -> End {
    let generation = start.generation;
    let (pass_on, orders) = mpsc::channel(4);
    let listener = loopback.clone();
    let news = News::to(move |event| {
        let _ = listener.send(Input::Event(Box::new(Event::Client(generation, event))));
    });
    let client = shared.backend.run(id, start, orders, news);
    tokio::pin!(client);
    let mut deadline = None;
    loop {
        tokio::select! {
            end = &mut client => return end,
            order = told.recv(), if deadline.is_none() => {
                let order = order.unwrap_or(Order::Stop);
                let _ = pass_on.try_send(order);
                if order == Order::Stop {
                    deadline = Some(tokio::time::Instant::now() + STOP_TIMEOUT);
                }
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                tracing::warn!(session = id, "the client did not stop in time and is dropped");
                return End::Stopped;
            }
        }
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
