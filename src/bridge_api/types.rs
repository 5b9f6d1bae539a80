//! The values that travel between a bridge and its callers.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::api::{DesiredState, PairingMethod, Presence};
use crate::model::Sensitive;

/// What is wanted of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionSpec {
    /// Online or offline; offline keeps the link.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// Whether the account's contacts see it online because of this session. Not written when it is the default: a bridge
    /// of the release before refuses fields it does not know.
    #[serde(default, skip_serializing_if = "is_default")]
    pub presence: Presence,
    /// How the device gets linked.
    #[serde(default)]
    pub pairing: PairingSpec,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How the device gets linked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairingSpec {
    /// QR or pairing code.
    #[serde(default)]
    pub method: PairingMethod,
    /// The account's number in international form; required for [`PairingMethod::Code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Sensitive>,
    /// Whether windows reopen by themselves, at growing intervals.
    #[serde(default)]
    pub auto_refresh: bool,
    /// Names the pairing window that is wanted. A value the session has not seen yet opens a new window when the session
    /// is not paired, and starts it afresh when it ended for another reason (replaced, outdated, banned). The same value again does nothing.
    #[serde(default)]
    pub window: String,
}

/// A session as the bridge sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The id it was created with.
    pub id: String,
    /// What is wanted of it, as last put.
    pub spec: SessionSpec,
    /// Where it stands.
    pub phase: SessionPhase,
    /// Why it is not connected, when there is something to say beyond the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<SessionReason>,
    /// Since when it has been in this phase.
    pub phase_since: Timestamp,
    /// Whether the bridge holds keys of a linked device.
    pub paired: bool,
    /// The linked account's number in international form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Sensitive>,
    /// The name the account shows to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_name: Option<Sensitive>,
    /// Since when connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<Timestamp>,
    /// Last traffic other than keep-alive, coarse (15 minutes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Timestamp>,
    /// The QR code valid now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr: Option<Qr>,
    /// The pairing code valid now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing_code: Option<PairingCode>,
    /// What WhatsApp forbids for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restriction: Option<Restriction>,
    /// Why and when it last stopped being connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_disconnect: Option<LastDisconnect>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionPhase {
    /// Offline by wish.
    Stopped,
    /// Waits for one of the bridge's pairing places, or for its turn after a restart.
    Queued,
    /// Not paired, no code yet: a pairing window is being opened.
    Opening,
    /// A code waits for the phone.
    AwaitingPairing,
    /// The phone used the code; the link is being completed. Takes well under a second; the code is still shown.
    Linking,
    /// The window passed unused.
    PairingExpired,
    /// WhatsApp wants a passkey.
    AwaitingPasskey,
    /// Paired, connecting for the first time since start.
    Connecting,
    /// Connected.
    Connected,
    /// Connection lost, coming back by itself.
    Reconnecting,
    /// Ended and not coming back by itself: see the reason (replaced, outdated).
    Ended,
    /// Temporarily banned; connects again when the ban ends.
    Banned,
    /// Unlinked; the keys are deleted.
    LoggedOut,
    /// Being deleted: the device is being unlinked.
    Deleting,
}

/// Why a session is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionReason {
    /// The connection broke; no more is known.
    ConnectionLost,
    /// No connection to the server.
    ServerUnreachable,
    /// The server accepts the connection and does not answer.
    ServerNotAnswering,
    /// The server's certificate chain is not WhatsApp's.
    ServerNotTrusted,
    /// The server refused the login for a reason that may pass.
    ServerRefused,
    /// Another client uses the same keys.
    StreamReplaced,
    /// This version of the client is no longer accepted.
    ClientOutdated,
    /// The account is banned for a time.
    TemporaryBan,
    /// The phone or the server unlinked the device.
    LoggedOut,
    /// The keys of the linked device are gone or cannot be used; only a new pairing heals it.
    SessionLost,
    /// The account is also used through WhatsApp's hosted Business API; this version cannot link it.
    CoexistenceNotSupported,
    /// The phone used the code, but the link was not completed: a signature, an HMAC or an identity was wrong.
    PairingFailed,
    /// The server gave no references to make codes of, or unreadable ones.
    PairingCodesUnusable,
    /// The server asked for fewer requests (429).
    TooManyRequests,
}

impl SessionReason {
    /// Whether it says why no device is linked, and not only why there is no connection.
    pub fn is_about_the_link(self) -> bool {
        matches!(
            self,
            Self::SessionLost | Self::CoexistenceNotSupported | Self::PairingFailed | Self::PairingCodesUnusable
        )
    }

    /// The condition reason of the same meaning (`api::conditions::reason`).
    pub fn as_str(self) -> &'static str {
        use crate::api::conditions::reason;
        match self {
            Self::ConnectionLost => reason::CONNECTION_LOST,
            Self::ServerUnreachable => reason::SERVER_UNREACHABLE,
            Self::ServerNotAnswering => reason::SERVER_NOT_ANSWERING,
            Self::ServerNotTrusted => reason::SERVER_NOT_TRUSTED,
            Self::ServerRefused => reason::SERVER_REFUSED,
            Self::StreamReplaced => reason::STREAM_REPLACED,
            Self::ClientOutdated => reason::CLIENT_OUTDATED,
            Self::TemporaryBan => reason::TEMPORARY_BAN,
            Self::LoggedOut => reason::LOGGED_OUT,
            Self::SessionLost => reason::SESSION_LOST,
            Self::CoexistenceNotSupported => reason::COEXISTENCE_NOT_SUPPORTED,
            Self::PairingFailed => reason::PAIRING_FAILED,
            Self::PairingCodesUnusable => reason::PAIRING_CODES_UNUSABLE,
            Self::TooManyRequests => reason::TOO_MANY_REQUESTS,
        }
    }
}

/// A QR code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Qr {
    /// The text to draw.
    pub code: Sensitive,
    /// When WhatsApp stops accepting it.
    pub expires_at: Timestamp,
    /// Which code of the window this is, from 1.
    pub attempt: u32,
    /// How many codes the window has.
    pub attempts: u32,
}

/// A pairing code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingCode {
    /// Eight characters.
    pub code: Sensitive,
    /// When WhatsApp stops accepting it.
    pub expires_at: Timestamp,
}

/// What WhatsApp forbids an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restriction {
    /// Which restriction.
    pub kind: RestrictionKind,
    /// WhatsApp's own code, when it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// When it ends. Where WhatsApp gave no end: when the bridge stops believing in it, if nothing more was heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Kinds of restriction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestrictionKind {
    /// Cannot connect.
    TemporaryBan,
    /// Connected, cannot start new chats (server error 463).
    ReachoutTimelock,
}

/// Why and when a session stopped being connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDisconnect {
    /// Why.
    pub reason: SessionReason,
    /// When.
    pub at: Timestamp,
}

/// All sessions of a bridge process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionList {
    /// The sessions, by id.
    pub items: Vec<Session>,
    /// Events after this list start here.
    pub cursor: Cursor,
}

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// The session is now like this.
    Session {
        /// The whole session.
        session: Box<Session>,
    },
    /// The session is gone, keys and all.
    Deleted {
        /// The session's id.
        id: String,
    },
    /// Events were missed (the cursor is too old or of another process): list again.
    Reset,
}

impl Event {
    /// The SSE event name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Session { .. } => "session",
            Self::Deleted { .. } => "deleted",
            Self::Reset => "reset",
        }
    }
}

/// A place in a bridge's event stream: `INCARNATION-SEQUENCE`. The incarnation changes with every start of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// Which run of the bridge process.
    pub incarnation: String,
    /// How many events it had sent.
    pub sequence: u64,
}

/// A text that is not a cursor.
#[derive(Debug, Error)]
#[error("a cursor must look like INCARNATION-SEQUENCE")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (incarnation, sequence) = text.rsplit_once('-').ok_or(NotACursor)?;
        let sequence = sequence.parse().map_err(|_| NotACursor)?;
        Ok(Self { incarnation: incarnation.to_owned(), sequence })
    }
}

impl TryFrom<String> for Cursor {
    type Error = NotACursor;

    fn try_from(text: String) -> Result<Self, NotACursor> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.incarnation, self.sequence)
    }
}

/// What a bridge process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of the program.
    pub version: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// How many sessions it holds.
    pub sessions: u32,
}

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people: one sentence.
    pub message: String,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// No token or the wrong one (401).
    Unauthorized,
    /// No such session or path (404).
    NotFound,
    /// The request is not valid (400).
    Invalid,
    /// The session is being deleted (409).
    Deleting,
    /// The bridge holds as many sessions as it may (503).
    Full,
    /// The bridge failed (500).
    Internal,
}
