//! What happens to an outbox, and what it answers: has written, and done.

use jiff::Timestamp;
use whatsapp_operator::bridge_api::{MessageCause, MessageState, RecipientKey, Sending, WaitsFor};

use crate::machine::Generation;

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place among the messages of the session.
    pub sequence: u64,
    /// Who is to get it.
    pub recipient: RecipientKey,
    /// Whether this person has got a message of this session before.
    pub known: bool,
    /// Until when it may be handed over.
    pub expires_at: Timestamp,
    /// It was handed over, and the server has not said anything about that: it may have arrived, so it neither expires nor can it
    /// be called back.
    pub handed_over: bool,
}

/// Whether messages can be handed to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They cannot, and this is what they wait for.
    Down(WaitsFor),
    /// They can.
    Up {
        /// By this client.
        client: Generation,
        /// The account may not start chats.
        timelocked: bool,
    },
}

impl Reach {
    /// The client that messages are handed to.
    pub fn client(self) -> Option<Generation> {
        if let Self::Up { client, .. } = self { Some(client) } else { None }
    }

    /// Whether it is known that the account may not start chats.
    pub fn is_timelocked(self) -> bool {
        matches!(self, Self::Up { timelocked: true, .. })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A message is accepted.
    Accepted(Waiting),
    /// It is called back, if it is not too late.
    CallBack(u64),
    /// Whether messages can be handed over.
    Reach(Reach),
    /// Another pace.
    Pace(Sending),
    /// The server, asked, says that the account may start chats.
    Unrestricted,
    /// [`Outbox::wake_at`](super::Outbox::wake_at) has come. Harmless at any other time.
    Tick,
    /// The client handed it to the server, and could or could not encrypt it for the recipient's phone.
    HandedOver {
        /// Which.
        sequence: u64,
        /// Whether the phone can read it.
        keyed: bool,
    },
    /// The client could not hand it over.
    NotHandedOver {
        /// Which.
        sequence: u64,
        /// Why.
        why: Obstacle,
    },
    /// The server has it.
    Acknowledged {
        /// Which.
        sequence: u64,
        /// When, by the server's clock.
        at: Option<Timestamp>,
    },
    /// The recipient's phone tells that it has it, or it was read. So the server had it, whether or not it says so, and the phone could
    /// read it.
    Arrived {
        /// Which.
        sequence: u64,
        /// When, by the server's clock.
        at: Timestamp,
    },
    /// The server does not want it.
    Refused {
        /// Which.
        sequence: u64,
        /// Its code.
        code: i64,
    },
}

/// Why a client could not hand a message over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The server says that the recipient has no account.
    NotOnWhatsApp,
    /// The server answered, and said nothing about the recipient. Nothing was sent.
    NotMentioned,
    /// The server does not say which devices the recipient has, or does not give their keys. Nothing was sent.
    Recipient,
    /// Nothing was sent, for a reason that may pass and is not the recipient's: the server is busy, or a disk is full.
    Passing,
    /// It cannot be made into a message.
    Unsendable,
    /// The connection is gone or going; whether something was sent is not known.
    Connection,
}

/// How a message was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Sent, or one of the states that end it.
    pub state: MessageState,
    /// Why it failed.
    pub cause: Option<MessageCause>,
    /// The server's code.
    pub code: Option<i64>,
    /// When.
    pub at: Timestamp,
    /// That is the server's time, and not ours.
    pub by_server: bool,
}

impl Settled {
    pub(super) fn ended(state: MessageState, cause: Option<MessageCause>, at: Timestamp) -> Self {
        Self { state, cause, code: None, at, by_server: false }
    }
}

/// What has to be on the disk before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The message is handed over from here on.
    HandOver(u64),
    /// Nothing came of handing it over, and that is certain: it may expire and be called back again.
    TakeBack(u64),
    /// The message is settled.
    Settle(u64, Settled),
}

impl Write {
    /// The message it is about.
    pub fn sequence(&self) -> u64 {
        let (Self::HandOver(sequence) | Self::TakeBack(sequence) | Self::Settle(sequence, _)) = self;
        *sequence
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have this client hand the message over.
    Send {
        /// Which client.
        client: Generation,
        /// Which message.
        sequence: u64,
        /// The recipient's devices are to be asked for anew.
        fresh: bool,
    },
    /// The server acknowledges nothing any more: this connection is to be replaced.
    Suspect(Generation),
}

impl Effect {
    /// Whether it has this message handed over.
    pub fn sends(&self, message: u64) -> bool {
        matches!(self, Self::Send { sequence, .. } if *sequence == message)
    }
}
