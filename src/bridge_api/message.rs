//! What travels about messages.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ErrorDetail, Extra, Open};
use crate::model::Sensitive;

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSpec {
    /// Who is to get it: a phone number in international form (`+`, spaces, dots, dashes and brackets do not matter), or a
    /// WhatsApp address of a person (`…@s.whatsapp.net`, `…@c.us`, `…@lid`).
    pub to: Sensitive,
    /// What it says.
    pub content: Content,
    /// Until when it may be handed to the server; later it is [`MessageState::Expired`]. Left out: 24 hours from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What a later release wants besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a message says. A kind that a bridge does not know is refused: it could not be sent as it was meant. `template` is
/// reserved for drivers of business APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Content {
    /// Plain text.
    Text {
        /// 1 to 65,536 characters, the most that WhatsApp's own clients send; what else it may be says [`check_text`](super::check_text).
        text: Sensitive,
    },
}

/// Several messages that are to be sent, each as by a request of its own: in this order where they are of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageBatch {
    /// The messages, at most [`MOST_IN_BATCH`].
    pub items: Vec<Submission>,
}

/// How many messages a batch may have.
pub const MOST_IN_BATCH: usize = 64;
/// How long the body of a batch may be, in bytes.
pub const LONGEST_BATCH: usize = 4 << 20;

/// One message of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// The session that is to send it.
    pub session: String,
    /// The id it is to have.
    pub id: String,
    /// The message.
    pub message: MessageSpec,
    /// The caller's step of a trace, as the header of that name says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What became of the messages of a batch, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswer {
    /// One for each message.
    pub items: Vec<Outcome>,
}

/// What became of one message of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The HTTP status that the message would have been answered with alone.
    pub status: u16,
    /// The message, where it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Why it was not; with neither, its session did not answer in time, and it may be accepted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// How far it has come.
    #[serde(flatten)]
    pub status: MessageStatus,
    /// Who is to get it, as the caller wrote it.
    pub to: Sensitive,
    /// What it says.
    pub content: Content,
}

/// How far a message has come. Holds neither number nor text: this is what events tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatus {
    /// The id it has at WhatsApp, fixed when it was accepted; unique within its session.
    pub id: String,
    /// The session that sends it.
    pub session: String,
    /// Its place among the messages of its session, growing in the order in which they were accepted.
    pub sequence: u64,
    /// How far it has come. Only ever moves forward: from failed too, when the recipient's phone says that it has the message.
    pub state: Open<MessageState>,
    /// What a queued message waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Open<WaitsFor>>,
    /// Why a message failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Open<MessageCause>>,
    /// The code the server refused it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// When it was accepted, which is when it was on the disk.
    pub accepted_at: Timestamp,
    /// Until when it may be handed to the server.
    pub expires_at: Timestamp,
    /// When a queued message is expected to be sent, by the pace and by what waits before it; not before then, where it waits for
    /// something of which nobody knows the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_send_at: Option<Timestamp>,
    /// When the server acknowledged it, by the server's clock where it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When the recipient's phone had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// When a linked device of the recipient had it; that alone is not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion_delivered_at: Option<Timestamp>,
    /// When it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// When it failed, expired or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MessageState {
    /// Accepted and on the disk.
    Queued,
    /// The server acknowledged it.
    Sent,
    /// The recipient's phone has it.
    Delivered,
    /// The recipient has read it.
    Read,
    /// It will not be sent any more: see the cause.
    Failed,
    /// It could not be sent in time.
    Expired,
    /// It was called back before it was handed to the server.
    Cancelled,
}

/// What a queued message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WaitsFor {
    /// Messages before it in its session.
    Turn,
    /// The session to be connected.
    Connection,
    /// A device to be linked.
    Pairing,
    /// The pace of the session, or of its recipient.
    Pacing,
    /// The end of a restriction or ban of the account.
    Restriction,
    /// The server's acknowledgement: it was handed over.
    Acknowledgement,
}

/// Why a message failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MessageCause {
    /// The recipient has no WhatsApp account.
    NotOnWhatsApp,
    /// It could not be encrypted for the recipient's phone, or the server did not say where the recipient's devices are, however often
    /// it was tried.
    RecipientUnreachable,
    /// The server refused it, with the code beside this.
    RefusedByServer,
    /// The server could not read it, or does not support what it is, as this bridge made it; the code stands beside this.
    NotUnderstood,
    /// Reserved: business APIs take free text only within a time after the recipient's last message.
    OutsideWindow,
    /// Its session was deleted. Whether WhatsApp got it is not known when it had been handed over.
    SessionDeleted,
    /// Another account was linked to its session before it was sent. Whether WhatsApp got it is not known when it had been handed over.
    AccountChanged,
    /// It could not be made into a message, though it was accepted.
    Unsendable,
}

/// Messages of a session, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageList {
    /// The messages.
    pub items: Vec<Message>,
    /// What `before` has to be for the next page; none when there is none. A page ends early where the texts are long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What is asked of a bridge before one of several sessions is chosen to send to somebody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadQuery {
    /// Who is to get the message, as in [`MessageSpec::to`]; nobody when only counting is asked for. A bridge of an earlier release
    /// refuses a question about nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Sensitive>,
    /// The sessions that could send it.
    pub sessions: Vec<String>,
}

/// How many sessions may be asked about at once.
pub const MOST_LOADS: usize = 500;

/// How busy a session is, and whether the recipient knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The session.
    pub session: String,
    /// How many messages wait in it; counted up to 1000.
    #[serde(default)]
    pub waiting: u64,
    /// Whether it has sent a message to this recipient, or one waits.
    #[serde(default)]
    pub knows_recipient: bool,
}

/// An answer to [`LoadQuery`]: one for each session that the bridge has, in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadList {
    /// The sessions.
    pub items: Vec<Load>,
}

/// How long a claim counts after its message has expired; so long a bridge knows a message again that it accepted.
pub const CLAIM_OUTLASTS: SignedDuration = SignedDuration::from_hours(24);

/// Whether a text can be an idempotency key: 1 to 255 visible ASCII characters, which is what the header of that name may hold.
pub fn is_idempotency_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where a message with an idempotency key went: asked for at one shard, the same for every caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// A digest of what was asked for: another one under the same key is another message.
    pub fingerprint: String,
    /// The session that sends it.
    pub session: String,
    /// Which of the bridges that session is on, as the caller names it.
    #[serde(default)]
    pub place: String,
    /// The message's id.
    pub message: String,
    /// Until when the key counts.
    pub expires_at: Timestamp,
}
