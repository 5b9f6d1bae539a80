//! A message that a caller wants to send: what is checked of it, and how it is written first.

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::{
    bridge_api::{Content, Message, MessageSpec, MessageState, MessageStatus, check_text},
    platform::trace,
};

use super::{refusal::Refusal, request::NewMessage};
use crate::outbox::Recipient;

/// The longest time it may wait.
const LONGEST_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Checks what a caller wants to send.
pub fn check(id: &str, spec: MessageSpec) -> Result<NewMessage, Refusal> {
    let good =
        (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !good {
        return Err(Refusal::BadMessageId);
    }
    let recipient = Recipient::parse(spec.to.reveal())?;
    let Content::Text { text } = &spec.content;
    check_text(text.reveal())?;
    let now = Timestamp::now();
    if spec.expires_at.is_some_and(|at| at <= now || at.duration_since(now) > LONGEST_EXPIRY) {
        return Err(Refusal::BadExpiry);
    }
    Ok(NewMessage { id: id.to_owned(), spec, recipient, trace: trace::current() })
}

/// A message as it is written first.
pub(super) fn queued(
    new: &NewMessage,
    session: &str,
    sequence: u64,
    accepted_at: Timestamp,
    expires_at: Timestamp,
) -> Message {
    let status = MessageStatus {
        id: new.id.clone(),
        session: session.to_owned(),
        sequence,
        state: MessageState::Queued.into(),
        waits_for: None,
        cause: None,
        code: None,
        accepted_at,
        expires_at,
        estimated_send_at: None,
        sent_at: None,
        delivered_at: None,
        companion_delivered_at: None,
        read_at: None,
        ended_at: None,
    };
    Message { status, to: new.spec.to.clone(), content: new.spec.content.clone() }
}

/// The message that was accepted before under this id, if it is the same.
pub fn same(before: Message, new: &NewMessage) -> Result<Message, Refusal> {
    let recipient = Recipient::parse(before.to.reveal());
    if recipient.as_ref() == Ok(&new.recipient) && before.content == new.spec.content {
        Ok(before)
    } else {
        Err(Refusal::OtherMessage)
    }
}
