//! A message as the REST API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    bridge_api::{Content, MessageState, MessageStatus, Open},
    gateway::{answer::moment, code::Code, failure::Failure},
};

/// A message.
#[derive(Serialize, ToSchema)]
pub struct Message {
    /// Names the message; what `messages/{id}/` takes.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10.3EB0C431D2F4A6B8907A")]
    pub id: String,
    /// The id it has at WhatsApp.
    #[schema(example = "3EB0C431D2F4A6B8907A")]
    pub whatsapp_id: String,
    /// The session that sends it.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub session_id: String,
    /// Who is to get it, as the caller wrote it, but for what is neither number nor layout (`tel:`, digits of other scripts).
    #[schema(example = "+15551234567")]
    pub recipient: String,
    /// What it says.
    #[schema(example = "Your order is on its way.")]
    pub message: String,
    /// How far it has come. `sent` means that WhatsApp's server has it and the recipient's phone can read it.
    pub status: Status,
    /// What a queued message waits for: Turn, Connection, Pairing, Pacing, Restriction or Acknowledgement.
    #[schema(example = "Connection")]
    pub waits_for: Option<String>,
    /// Why a message failed: NotOnWhatsApp, RecipientUnreachable, RefusedByServer, NotUnderstood, OutsideWindow, SessionDeleted, AccountChanged or Unsendable.
    #[schema(example = json!(null))]
    pub cause: Option<String>,
    /// WhatsApp's own code of a refusal.
    #[schema(example = json!(null))]
    pub code: Option<i64>,
    /// When it was accepted, which is when it was on the bridge's disk.
    #[schema(example = "2026-01-01T12:00:00.000Z")]
    pub accepted_at: String,
    /// Until when it may be handed to WhatsApp.
    #[schema(example = "2026-01-02T12:00:00.000Z")]
    pub expires_at: String,
    /// When a queued message is expected to be sent, by the pace and by what waits before it; where it waits for a connection or the end
    /// of a restriction, not before then.
    #[schema(example = "2026-01-01T12:00:03.000Z")]
    pub estimated_send_at: Option<String>,
    /// When WhatsApp's server took it.
    #[schema(example = json!(null))]
    pub sent_at: Option<String>,
    /// When the recipient's phone had it.
    #[schema(example = json!(null))]
    pub delivered_at: Option<String>,
    /// When a linked device of the recipient had it. While `delivered_at` is null, their phone has not.
    #[schema(example = json!(null))]
    pub companion_delivered_at: Option<String>,
    /// When it was read.
    #[schema(example = json!(null))]
    pub read_at: Option<String>,
    /// When it failed, expired or was cancelled.
    #[schema(example = json!(null))]
    pub ended_at: Option<String>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MessageStatus)]
pub enum Status {
    /// Accepted, and kept until it is sent.
    Queued,
    /// With WhatsApp's server.
    Sent,
    /// On the recipient's phone.
    Delivered,
    /// Read.
    Read,
    /// It will not be sent.
    Failed,
    /// It could not be sent in time.
    Expired,
    /// Called back in time.
    Cancelled,
}

impl Message {
    /// What a bridge tells of a message.
    pub fn of(message: &crate::bridge_api::Message) -> Self {
        Self::at(message, &message.status)
    }

    /// A message when it had come as far as `status` says.
    pub fn at(message: &crate::bridge_api::Message, status: &MessageStatus) -> Self {
        let MessageStatus { id, session, waits_for, cause, code, accepted_at, expires_at, estimated_send_at, .. } =
            status;
        let time = |at: Option<jiff::Timestamp>| at.map(moment);
        let Content::Text { text } = &message.content;
        Self {
            id: public_id(session, id),
            whatsapp_id: id.clone(),
            session_id: session.clone(),
            recipient: message.to.reveal().to_owned(),
            message: text.reveal().to_owned(),
            status: Status::of(&status.state),
            waits_for: waits_for.as_ref().map(word),
            cause: cause.as_ref().map(word),
            code: *code,
            accepted_at: moment(*accepted_at),
            expires_at: moment(*expires_at),
            estimated_send_at: time(*estimated_send_at),
            sent_at: time(status.sent_at),
            delivered_at: time(status.delivered_at),
            companion_delivered_at: time(status.companion_delivered_at),
            read_at: time(status.read_at),
            ended_at: time(status.ended_at),
        }
    }

    /// Whether nothing is left to wait for.
    pub fn is_settled(&self) -> bool {
        self.status != Status::Queued
    }
}

impl Status {
    /// A state of a later release is further than any known one: not queued any more, and nothing is promised.
    fn of(state: &Open<MessageState>) -> Self {
        match state.known() {
            Some(MessageState::Queued) => Self::Queued,
            Some(MessageState::Sent) | None => Self::Sent,
            Some(MessageState::Delivered) => Self::Delivered,
            Some(MessageState::Read) => Self::Read,
            Some(MessageState::Failed) => Self::Failed,
            Some(MessageState::Expired) => Self::Expired,
            Some(MessageState::Cancelled) => Self::Cancelled,
        }
    }
}

fn word<T: std::fmt::Debug>(word: &Open<T>) -> String {
    match word {
        Open::Known(word) => format!("{word:?}"),
        Open::Unknown(text) => text.to_string(),
    }
}

/// The id of a message for callers: it says where the message is, so that any replica finds it.
pub fn public_id(session: &str, message: &str) -> String {
    format!("{session}.{message}")
}

/// Session and message of a public id.
///
/// # Errors
/// When it cannot be one.
pub fn parts(id: &str) -> Result<(&str, &str), Failure> {
    let fits = |text: &str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    id.split_once('.').filter(|(session, message)| fits(session) && fits(message)).ok_or_else(|| {
        Failure::new(
            Code::MessageNotFound,
            "there is no such message, or you may not see it; an id looks like SESSION.MESSAGE, as the answer to send gave it",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_times_that_a_bridge_tells_are_shown() {
        let names =
            ["accepted", "expires", "estimatedSend", "sent", "delivered", "companionDelivered", "read", "ended"];
        let mut told = json!({"id": "3EB0AB", "session": "s", "sequence": 1, "state": "Sent", "to": "+15550001", "content": {"type": "text", "text": "Hi"}});
        for (second, name) in names.iter().enumerate() {
            told[format!("{name}At")] = format!("2026-01-01T00:00:0{second}Z").into();
        }
        let shown = serde_json::to_value(Message::of(&serde_json::from_value(told).unwrap())).unwrap();
        let fields =
            ["accepted", "expires", "estimated_send", "sent", "delivered", "companion_delivered", "read", "ended"];
        for (second, field) in fields.iter().enumerate() {
            assert_eq!(shown[format!("{field}_at")], format!("2026-01-01T00:00:0{second}.000Z"), "{field}");
        }
    }

    #[test]
    fn a_public_id_says_where_the_message_is() {
        assert_eq!(parts(&public_id("7f0c-1", "3EB0AB")).unwrap(), ("7f0c-1", "3EB0AB"));
        for bad in ["", ".", "a.", ".a", "a", "a/b.c", "a.b.c", &"x".repeat(200)] {
            assert_eq!(parts(bad).err().unwrap().code, Code::MessageNotFound, "{bad}");
        }
    }
}
