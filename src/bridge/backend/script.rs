//! A backend for tests: what its clients say and when they end is decided by the test.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Backend, Command, Commands, EventSink};
use crate::{
    keys::Keys,
    machine::{ClientEvent, End, Start},
};

/// A client that runs.
pub struct Running {
    /// How it was started.
    pub start: Start,
    /// What it was told so far and will be told.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// What it keeps its keys in.
    pub keys: Arc<dyn Keys>,
    events: EventSink,
    end: oneshot::Sender<Option<End>>,
}

impl Running {
    /// It says something.
    pub fn says(&self, event: ClientEvent) {
        self.events.tell(event);
    }

    /// It ends.
    pub fn ends(self, end: End) {
        let _ = self.end.send(Some(end));
    }

    /// It panics.
    pub fn panics(self) {
        let _ = self.end.send(None);
    }
}

/// Hands every client that is started to the test.
pub struct Script {
    started: mpsc::UnboundedSender<Running>,
}

impl Script {
    /// A backend, and where its clients appear.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Running>) {
        let (started, running) = mpsc::unbounded_channel();
        (Self { started }, running)
    }
}

#[async_trait]
impl Backend for Script {
    async fn run(&self, _: &str, start: Start, keys: Arc<dyn Keys>, mut commands: Commands, events: EventSink) -> End {
        let (tell, told) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        self.started.send(Running { start, commands: told, keys, events, end }).unwrap();
        let pass_on = async move {
            loop {
                let command = commands.next().await;
                let stop = matches!(command, Command::Stop);
                let _ = tell.send(command);
                if stop {
                    return std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            end = ended => end.unwrap_or(Some(End::Stopped)).unwrap_or_else(|| std::panic::panic_any("a test asked for it")),
            () = pass_on => End::Stopped,
        }
    }
}
