//! What a bridge tells of a session.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Open, SessionSpec};
use crate::{api::conditions::reason, model::Sensitive};

/// A session as the bridge sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The id it was created with.
    pub id: String,
    /// What is wanted of it, as last put.
    pub spec: SessionSpec,
    /// Where it stands.
    pub phase: Open<SessionPhase>,
    /// Why it is not connected, when there is something to say beyond the phase; or what keeps a connected one from sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<SessionReason>>,
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
    /// Waits for one of the bridge's pairing permits, or for its turn after a restart.
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
    /// Ended: see the reason. Replaced by another client, it does not come back by itself; outdated, it does when the bridge is
    /// another one, or WhatsApp has moved on.
    Ended,
    /// Temporarily banned; connects again when the ban ends.
    Banned,
    /// Unlinked; the keys are deleted.
    LoggedOut,
    /// Offline by wish, and the device is being removed from the account.
    Unlinking,
    /// Being deleted: the device is being unlinked.
    Deleting,
}

/// Why a session is not connected, or cannot send although it is.
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
    /// WhatsApp has locked the account (403). The device stays linked.
    AccountLocked,
    /// WhatsApp has banned the account, and not for a time (406). The device stays linked.
    AccountBanned,
    /// The phone or the server unlinked the device.
    LoggedOut,
    /// The keys of the linked device are gone or cannot be used; only a new pairing heals it.
    SessionLost,
    /// The account is also used through WhatsApp's hosted Business API; this version cannot link it.
    CoexistenceNotSupported,
    /// The phone used the code, but the link was not completed: a signature, an HMAC or an identity was wrong. Or the server
    /// refused a pairing code.
    PairingFailed,
    /// The server gave no references to make codes of, or unreadable ones.
    PairingCodesUnusable,
    /// The server asked for fewer requests (429).
    TooManyRequests,
    /// Connected, and the server answers, but acknowledges no message.
    MessagesNotAcknowledged,
}

impl Session {
    /// Whether it is neither being deleted nor unlinked, after which nothing of it is left.
    pub fn stays(&self) -> bool {
        self.phase != SessionPhase::Deleting && self.phase != SessionPhase::Unlinking
    }
}

impl SessionReason {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::ConnectionLost,
        Self::ServerUnreachable,
        Self::ServerNotAnswering,
        Self::ServerNotTrusted,
        Self::ServerRefused,
        Self::StreamReplaced,
        Self::ClientOutdated,
        Self::TemporaryBan,
        Self::AccountLocked,
        Self::AccountBanned,
        Self::LoggedOut,
        Self::SessionLost,
        Self::CoexistenceNotSupported,
        Self::PairingFailed,
        Self::PairingCodesUnusable,
        Self::TooManyRequests,
        Self::MessagesNotAcknowledged,
    ];

    /// Whether it says why no device is linked, and not only why there is no connection.
    pub fn is_about_the_link(self) -> bool {
        matches!(
            self,
            Self::SessionLost | Self::CoexistenceNotSupported | Self::PairingFailed | Self::PairingCodesUnusable
        )
    }

    /// Whether WhatsApp lets nobody log in to the account, until it changes its mind.
    pub fn is_about_the_account(self) -> bool {
        matches!(self, Self::AccountLocked | Self::AccountBanned)
    }

    /// The condition reason of the same meaning (`api::conditions::reason`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionLost => reason::CONNECTION_LOST,
            Self::ServerUnreachable => reason::SERVER_UNREACHABLE,
            Self::ServerNotAnswering => reason::SERVER_NOT_ANSWERING,
            Self::ServerNotTrusted => reason::SERVER_NOT_TRUSTED,
            Self::ServerRefused => reason::SERVER_REFUSED,
            Self::StreamReplaced => reason::STREAM_REPLACED,
            Self::ClientOutdated => reason::CLIENT_OUTDATED,
            Self::TemporaryBan => reason::TEMPORARY_BAN,
            Self::AccountLocked => reason::ACCOUNT_LOCKED,
            Self::AccountBanned => reason::ACCOUNT_BANNED,
            Self::LoggedOut => reason::LOGGED_OUT,
            Self::SessionLost => reason::SESSION_LOST,
            Self::CoexistenceNotSupported => reason::COEXISTENCE_NOT_SUPPORTED,
            Self::PairingFailed => reason::PAIRING_FAILED,
            Self::PairingCodesUnusable => reason::PAIRING_CODES_UNUSABLE,
            Self::TooManyRequests => reason::TOO_MANY_REQUESTS,
            Self::MessagesNotAcknowledged => reason::MESSAGES_NOT_ACKNOWLEDGED,
        }
    }
}

impl Open<SessionReason> {
    /// The condition reason that tells it; a word of a later release is passed on.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(why) => why.as_str(),
            Self::Unknown(text) => presentable(text),
        }
    }
}

impl Open<RestrictionKind> {
    /// The name it has in an instance's status; a word of a later release is passed on.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(RestrictionKind::TemporaryBan) => reason::TEMPORARY_BAN,
            Self::Known(RestrictionKind::ReachoutTimelock) => reason::REACHOUT_TIMELOCK,
            Self::Unknown(text) => presentable(text),
        }
    }
}

/// The text, if it is a word as all condition reasons are: Kubernetes refuses others, and a terminal may obey them.
fn presentable(text: &str) -> &str {
    let is_word = text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word { text } else { reason::UNKNOWN }
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
    pub kind: Open<RestrictionKind>,
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
    pub reason: Open<SessionReason>,
    /// When.
    pub at: Timestamp,
}
