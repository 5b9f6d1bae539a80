//! The clients that run, by session: for questions to the server that no session's task asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use whatsapp_operator::platform::lock;

use crate::backend::ClientHandle;

/// The clients that run. Clones share them.
#[derive(Clone, Default)]
pub struct RunningClients(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    by_session: HashMap<String, (u64, ClientHandle)>,
    /// How many there have been.
    so_far: u64,
}

/// A client runs for as long as this lives.
pub(super) struct Runs {
    clients: RunningClients,
    session: String,
    number: u64,
}

impl RunningClients {
    /// From here on this is the client of the session.
    pub(super) fn note(&self, session: &str, client: &ClientHandle) -> Runs {
        let mut running = lock(&self.0);
        running.so_far += 1;
        let number = running.so_far;
        running.by_session.insert(session.to_owned(), (number, client.clone()));
        Runs { clients: self.clone(), session: session.to_owned(), number }
    }

    /// The client of a session.
    pub(super) fn of(&self, session: &str) -> Option<ClientHandle> {
        lock(&self.0).by_session.get(session).map(|(_, client)| client.clone())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let mut running = lock(&self.clients.0);
        // The next one may run already, when this one was dropped instead of being told to stop.
        if running.by_session.get(&self.session).is_some_and(|(number, _)| *number == self.number) {
            running.by_session.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::commands;

    #[test]
    fn a_client_that_is_over_leaves_the_next_one_alone() {
        let clients = RunningClients::default();
        assert!(clients.of("a").is_none());
        let ((former, _told), (next, _told_next)) = (commands(), commands());
        let runs = clients.note("a", &former);
        let runs_next = clients.note("a", &next);
        drop(runs);
        next.stop();
        assert!(clients.of("a").is_some_and(|client| client.is_stopped()));
        drop(runs_next);
        assert!(clients.of("a").is_none());
    }
}
