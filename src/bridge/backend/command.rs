//! What a running client can be told, and how it answers.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use whatsapp_operator::bridge_api::Content;

use crate::outbox::{Obstacle, Recipient, RecipientKey};

/// Commands that may wait for a client to take them up.
const QUEUE: usize = 4;
/// The library gives an answer of the server this long, too.
const ANSWER: Duration = Duration::from_secs(75);

/// A command to a client.
#[derive(Debug)]
pub enum Command {
    /// Have the device removed from the account.
    Unlink(Answer<()>),
    /// Show the account as online, or not, from now on. Nothing to answer: it holds for the next connection in any case.
    ShowOnline(bool),
    /// Hand a message to the server.
    Send(Box<Outgoing>, Answer<Delivery>),
    /// Ask the server who a recipient is.
    Identify(Box<Recipient>, Answer<Identity>),
    /// The server acknowledges nothing any more: end, as with a server that does not answer.
    GiveUp,
    /// Close the connection and end. Said once; nothing comes after it.
    Stop,
}

/// A message for the server.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The id it has and keeps.
    pub id: String,
    /// Who is to get it.
    pub to: Recipient,
    /// What it says.
    pub content: Content,
    /// The recipient's devices are to be asked for anew.
    pub fresh: bool,
}

/// What became of a message that was to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is on its way, encrypted for the recipient's phone, or for none but other devices.
    HandedOver {
        /// For the phone.
        keyed: bool,
        /// Who the recipient is.
        identity: Identity,
    },
    /// It is not, for this reason.
    Hindered(Obstacle),
}

/// Who a recipient is, however they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key of the address that the server has for them.
    pub person: RecipientKey,
    /// The same person by their linked id, where the server named it.
    pub lid: Option<RecipientKey>,
}

/// Where the answer to a command goes. Dropped without one, it says that the client is over.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Sender<Result<T, Refused>>);

impl<T> Answer<T> {
    /// Answers. The task that asked may be gone.
    pub fn give(self, answer: Result<T, Refused>) {
        let _ = self.0.send(answer);
    }
}

/// Why a client did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It ended first, or was ending.
    #[error("the client is over")]
    Over,
    /// Too many commands wait already.
    #[error("the client has too much to do")]
    Busy,
    /// It is not logged in, so there is no server to ask.
    #[error("the client is not logged in")]
    NotLoggedIn,
    /// The server did not answer.
    #[error("the server did not answer")]
    NotAnswered,
    /// The server said no.
    #[error("the server refused")]
    ByServer,
}

/// The handle to a running client.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    queue: mpsc::Sender<Command>,
    stop: CancellationToken,
    given_up: CancellationToken,
}

/// A client's side of the handle.
#[derive(Debug)]
pub struct Commands {
    queue: mpsc::Receiver<Command>,
    stop: CancellationToken,
    given_up: CancellationToken,
}

/// A handle, and the client's side of it.
pub fn commands() -> (ClientHandle, Commands) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (stop, given_up) = (CancellationToken::new(), CancellationToken::new());
    let handle = ClientHandle { queue: sender, stop: stop.clone(), given_up: given_up.clone() };
    (handle, Commands { queue: receiver, stop, given_up })
}

impl ClientHandle {
    /// Tells it to stop. Always heard, whatever else waits; its end says that it did.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends when it was told to stop.
    pub async fn told_to_stop(&self) {
        self.stop.cancelled().await;
    }

    /// Has it remove the device from the account.
    pub async fn unlink(&self) -> Result<(), Refused> {
        self.ask(Command::Unlink).await
    }

    /// Has it show the account as online, or not.
    pub fn show_online(&self, online: bool) {
        // A client that is over shows nothing; one whose queue is full is being unlinked.
        let _ = self.queue.try_send(Command::ShowOnline(online));
    }

    /// Has it hand a message to the server.
    pub async fn send(&self, message: Outgoing) -> Result<Delivery, Refused> {
        self.ask(|answer| Command::Send(Box::new(message), answer)).await
    }

    /// Has it ask the server who a recipient is.
    pub async fn identify(&self, recipient: Recipient) -> Result<Identity, Refused> {
        self.ask(|answer| Command::Identify(Box::new(recipient), answer)).await
    }

    /// Has it give up a server that acknowledges nothing any more. Heard before whatever else waits.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        if self.stop.is_cancelled() {
            return Err(Refused::Over);
        }
        self.queue.try_send(command(Answer(answer))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Over,
        })?;
        match timeout(ANSWER, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refused::Over),
            Err(_) => Err(Refused::NotAnswered),
        }
    }
}

impl Commands {
    /// The next command. Once told to stop, that is all it is ever told; so is a client to which there is no handle any more.
    pub async fn next(&mut self) -> Command {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Command::Stop,
            () = self.given_up.cancelled() => Command::GiveUp,
            command = self.queue.recv() => command.unwrap_or(Command::Stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_answered_or_refused_with_the_reason() {
        let (client, mut told) = commands();
        let answering = async {
            let Command::Unlink(answer) = told.next().await else { panic!("not told to unlink") };
            answer.give(Err(Refused::ByServer));
        };
        assert_eq!(tokio::join!(client.unlink(), answering).0, Err(Refused::ByServer));
        let dropping = async { drop(told.next().await) };
        assert_eq!(tokio::join!(client.unlink(), dropping).0, Err(Refused::Over));
        drop(told);
        assert_eq!(client.unlink().await, Err(Refused::Over));
    }

    #[tokio::test]
    async fn stop_and_giving_up_are_heard_before_what_waits_and_stop_by_a_client_without_a_handle() {
        let (client, mut told) = commands();
        let asked: Vec<_> = (0..QUEUE)
            .map(|_| {
                tokio::spawn({
                    let client = client.clone();
                    async move { client.unlink().await }
                })
            })
            .collect();
        while client.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.unlink().await, Err(Refused::Busy));
        client.give_up();
        assert!(matches!(told.next().await, Command::GiveUp));
        client.stop();
        assert!(matches!(told.next().await, Command::Stop));
        assert_eq!(client.unlink().await, Err(Refused::Over));
        drop(told);
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Err(Refused::Over));
        }
        let (client, mut told) = commands();
        drop(client);
        assert!(matches!(told.next().await, Command::Stop));
    }
}
