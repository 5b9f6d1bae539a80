//! The session's state is stored before anything follows from it.

use std::time::Duration;

use tokio::time::Instant;
use whatsapp_operator::bridge_api::MessageCause;

use super::{
    clock,
    owed::{Owed, Unstored},
    session::Actor,
};
use crate::{
    machine::{Effect, Event, Kept, State, step},
    store::{Change, StoreError},
};

/// First wait before what could not be stored is stored again; doubles up to `STORE_RETRY_MAX`.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// The longest such wait. A full disk stays full until an operator frees space, and then the session should recover soon.
const STORE_RETRY_MAX: Duration = Duration::from_secs(8);

impl Actor {
    /// The error of the store, while it fails.
    pub(super) fn failing(&self) -> Option<StoreError> {
        self.unstored.as_ref().map(|unstored| unstored.error.clone())
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

    /// Stores what the event changes, then carries out what follows from it. On an error nothing has changed.
    pub(super) async fn try_take(&mut self, event: Event) -> Result<(), StoreError> {
        if let Event::ClientEnded(generation, _) = &event
            && self.client.as_ref().is_some_and(|(running, _)| running == generation)
        {
            self.client = None;
        }
        let ahead = clock::step();
        self.state.set_wall_ahead(ahead);
        let (next, effects) = step(&self.state, clock::event_in_our_time(event, ahead), clock::now());
        let was = (self.state.phase(), self.state.reason());
        self.store(&next, effects.contains(&Effect::Forget)).await?;
        self.state = next;
        if effects.contains(&Effect::RequestPermit)
            && let Ok(permit) = self.shared.permits.try_acquire()
        {
            // Given at once, so the session is not shown as queued.
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
        self.log_change(was);
        self.show();
        Ok(())
    }

    pub(super) async fn store(&mut self, next: &State, forget: bool) -> Result<(), StoreError> {
        let set = clock::was_set_since(self.step);
        let step = if set { clock::step() } else { self.step };
        if !forget && next.kept == self.state.kept && !set {
            return Ok(());
        }
        let (change, cause) = if forget {
            (Change::remove(next.id()), Some(MessageCause::SessionDeleted))
        } else {
            // What waits was accepted for the session's account as it was; it is not sent from another account.
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
            self.outgoing = None;
            self.handed.clear();
        }
        self.step = step;
        Ok(())
    }

    /// What is to be stored of the session as it is now.
    pub(super) fn kept_on_disk(&self) -> Kept {
        clock::for_disk(&self.state.kept, clock::step()).into_owned()
    }

    pub(super) async fn store_again(&mut self) {
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
        }
    }

    /// Stops the client when too many of its events wait for the store. Its end waits behind them, and the state machine then connects
    /// anew.
    pub(super) fn bound_inputs(&mut self) {
        if self.crowd.lasts(self.inputs.len(), Instant::now())
            && let Some((_, client)) = &self.client
            && !client.is_stopped()
        {
            tracing::warn!(
                session = self.state.id(),
                "too much waits for the store; disconnecting from WhatsApp until it can be written"
            );
            client.stop();
            self.show();
        }
    }
}
