//! Carries out what the state machine asks for. Nothing here waits: what takes time comes back as an event.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use whatsapp_operator::bridge_api::SessionReason;

use super::{
    client,
    session::{Actor, Input},
};
use crate::{
    backend::{ClientHandle, EventSink, Refused, commands},
    machine::{ClientEvent, Effect, End, Event, Generation, Start},
};

impl Actor {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start(start) => self.start(start),
            Effect::Stop(generation) => {
                if let Some(client) = self.client(generation) {
                    client.stop();
                }
            }
            Effect::Unlink(generation) => self.unlink(generation),
            Effect::ShowOnline(generation, online) => {
                if let Some(client) = self.client(generation) {
                    client.show_online(online);
                }
            }
            Effect::RequestPermit => {
                let (permits, loopback) = (Arc::clone(&self.shared.permits), self.loopback.clone());
                let waiting = tokio::spawn(async move {
                    if let Ok(permit) = permits.acquire().await {
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
            Effect::Erase => self.erase(),
            Effect::Forget => {}
        }
    }

    /// The client, unless it is gone: then it has sent its end, which says enough.
    pub(super) fn client(&self, generation: Generation) -> Option<&ClientHandle> {
        self.client.as_ref().filter(|(running, _)| *running == generation).map(|(_, client)| client)
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
        let (id, one_client) = (self.state.id().to_owned(), Arc::clone(&self.one_client));
        self.shared.clients.spawn(async move {
            // The one before it has told of its end and is about to give this up.
            let _running = one_client.acquire_owned().await;
            let run = client::run(&shared, &id, start, (handle, commands), events);
            let end = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
                tracing::error!(
                    session = id,
                    "the session's client panicked, which is a bug; another one connects anew"
                );
                End::Failed(SessionReason::ConnectionLost)
            });
            let _ = loopback.send(Input::Event(Box::new(Event::ClientEnded(generation, end))));
        });
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
            let event = Event::Client(generation, ClientEvent::Unlinked(unlinked));
            let _ = loopback.send(Input::Event(Box::new(event)));
        });
    }

    fn erase(&self) {
        let (shared, loopback) = (Arc::clone(&self.shared), self.loopback.clone());
        let (id, all) = (self.state.id().to_owned(), self.state.is_deleting());
        tokio::spawn(async move {
            let event = match shared.keys.erase(&id, all).await {
                Ok(()) => Event::Erased,
                Err(error) => {
                    tracing::error!(session = id, %error, "the session's keys cannot be deleted; trying again");
                    Event::EraseFailed
                }
            };
            let _ = loopback.send(Input::Event(Box::new(event)));
        });
    }
}
