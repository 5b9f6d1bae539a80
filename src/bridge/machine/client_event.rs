//! What a client tells.

use std::time::Duration;

use jiff::Timestamp;
use whatsapp_operator::{
    bridge_api::{PairingMethod, Restriction, SessionReason},
    model::Sensitive,
};

use super::presented::Presented;
use crate::keys::LostKeys;

/// News from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// A code to show; valid for this long from now.
    Code {
        /// QR or pairing code.
        method: PairingMethod,
        /// The code.
        code: Sensitive,
        /// How long WhatsApp accepts it.
        valid_for: Duration,
        /// How many codes the server gave references for, when it says so.
        of: Option<u32>,
    },
    /// The server's codes are used up.
    WindowPassed,
    /// No device was linked, or no code can be shown, for this reason.
    PairingFailed(SessionReason),
    /// No pairing code comes, or the one that is shown is of no use any more.
    NoCode {
        /// Why the server refused. Without a reason it has not answered, or could not be asked.
        refused: Option<SessionReason>,
        /// For how long it does not want to be asked again, when it says so.
        pause: Option<Duration>,
    },
    /// The pairing code that is shown is of no use any more.
    CodeStale {
        /// The client asks for another one. If not, that is for a person to do.
        another: bool,
    },
    /// WhatsApp wants a passkey.
    PasskeyWanted,
    /// The phone used the code: the keys belong to a linked device from here on.
    Paired {
        /// The account's number in international form, if it was told.
        phone_number: Option<Sensitive>,
    },
    /// Logged in and ready.
    Connected {
        /// The account's number in international form.
        phone_number: Option<Sensitive>,
        /// The account's name.
        push_name: Option<Sensitive>,
    },
    /// The account's name changed.
    PushName(Sensitive),
    /// Something other than keep-alive came or went. Told at most once a minute.
    Traffic,
    /// The device was unlinked by the phone or the server.
    LoggedOut,
    /// The server does not know the device. It has said so of devices that were linked all the same.
    Unauthorized,
    /// The login is under way and something arrives.
    Progress,
    /// Another client uses the keys.
    Replaced,
    /// WhatsApp does not accept any more what the client presented.
    Outdated(Presented),
    /// WhatsApp has locked the account, or banned it without an end: no device of it is let in.
    Barred(SessionReason),
    /// The account is banned for a time.
    Banned {
        /// WhatsApp's code for the cause.
        code: i64,
        /// For how long from now.
        for_: Duration,
    },
    /// What the account may not do while it is connected; `None` lifts it.
    Restricted(Option<Restriction>),
    /// The answer to [`Effect::Unlink`]: the server removed the device, or why not.
    Unlinked(Result<(), SessionReason>),
    /// News of a message that was sent; nothing about the session.
    Message(MessageNews),
}

/// What a device of the recipient tells of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The phone has it.
    Delivered,
    /// A linked device of the recipient has it.
    CompanionDelivered,
    /// It was read.
    Read,
}

impl Receipt {
    /// Whether it proves that the recipient's phone has the message.
    pub fn is_proof(self) -> bool {
        matches!(self, Self::Delivered | Self::Read)
    }
}

/// News of a message that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageNews {
    /// The server has it, or refused it with a code.
    Answered {
        /// The message's id.
        id: String,
        /// The code of a refusal.
        refused: Option<i64>,
        /// When, by the server's clock.
        at: Option<Timestamp>,
    },
    /// A device of the recipient tells of messages.
    Receipt {
        /// Their ids.
        ids: Vec<String>,
        /// What it tells.
        receipt: Receipt,
        /// When.
        at: Timestamp,
    },
}

/// How a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// By itself.
    Failed(SessionReason),
    /// It could not start: the keys of the linked device are lost, for good.
    KeysLost(LostKeys),
}
