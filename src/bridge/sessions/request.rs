//! What a session's task can be asked for.

use jiff::Timestamp;
use tokio::sync::oneshot;
use whatsapp_operator::{
    bridge_api::{Message, MessageSpec, Session, SessionSpec, WaitsFor},
    platform::trace::Trace,
};

use super::refusal::Refusal;
use crate::{outbox::Recipient, store::StoreError};

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
    /// Give everything but the keys to the session of this id, and end; answered when that is on the disk, with `false` when the session
    /// is being deleted and stays.
    HandOver {
        /// Which session gets it.
        to: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<bool, StoreError>>,
    },
    /// About its messages.
    Message(MessageRequest),
    /// Panic.
    #[cfg(test)]
    Panic,
}

/// A message that is to be accepted.
#[derive(Clone)]
pub struct NewMessage {
    /// Its id.
    pub id: String,
    /// What the caller wants.
    pub spec: MessageSpec,
    /// Who that is for.
    pub recipient: Recipient,
    /// The step of a trace in which it was asked for.
    pub trace: Option<Trace>,
}

/// A message that a caller asks to accept.
pub struct Asked {
    /// The message.
    pub message: Box<NewMessage>,
    /// Answered when it is on the disk, with whether it is new.
    pub answer: oneshot::Sender<Result<(Message, bool), Refusal>>,
}

/// What can be asked about the messages of a session.
pub enum MessageRequest {
    /// Accept one.
    Accept(Asked),
    /// Call one back.
    CallBack(String, oneshot::Sender<Result<Option<Message>, Refusal>>),
    /// Say of the message of each of these sequences what it waits for.
    Waits(Vec<u64>, oneshot::Sender<Vec<Option<Wait>>>),
}

/// What a message waits for, and when it is expected to be sent at the earliest.
pub type Wait = (WaitsFor, Timestamp);
