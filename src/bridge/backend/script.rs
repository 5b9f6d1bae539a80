//! A backend for tests: what its clients say and when they end is decided by the test.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Backend, Command, EraseError, EventSink};
use crate::machine::{ClientEvent, End, Start};

/// A client that runs.
pub struct Running {
    /// How it was started.
    pub start: Start,
    /// What it was told so far and will be told.
    pub commands: mpsc::UnboundedReceiver<Command>,
    events: EventSink,
    end: oneshot::Sender<End>,
}

impl Running {
    /// It says something.
    pub fn says(&self, event: ClientEvent) {
        self.events.tell(event);
    }

    /// It ends.
    pub fn ends(self, end: End) {
        let _ = self.end.send(end);
    }
}

/// Hands every client that is started to the test, and notes every deletion of keys.
pub struct Script {
    started: mpsc::UnboundedSender<Running>,
    /// The sessions whose keys were deleted, in order.
    pub erased: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// A backend, and where its clients appear.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Running>) {
        let (started, running) = mpsc::unbounded_channel();
        (Self { started, erased: Arc::default() }, running)
    }
}

#[async_trait]
impl Backend for Script {
    async fn run(&self, _id: &str, start: Start, mut commands: mpsc::Receiver<Command>, events: EventSink) -> End {
        let (told, commands_seen) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        self.started.send(Running { start, commands: commands_seen, events, end }).unwrap();
        let pass_on = async move {
            while let Some(command) = commands.recv().await {
                let _ = told.send(command);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = ended => end.unwrap_or(End::Stopped),
            () = pass_on => End::Stopped,
        }
    }

    async fn erase(&self, id: &str) -> Result<(), EraseError> {
        self.erased.lock().unwrap().push(id.to_owned());
        Ok(())
    }
}
