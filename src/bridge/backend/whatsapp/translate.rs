//! What the library's events say, in our words.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use whatsapp_operator::{
    bridge_api::{PairingMethod, SessionReason},
    model::Sensitive,
};
use whatsapp_rust::{
    Jid,
    pair_code::PairCodeRejection,
    types::{
        events::{self, ConnectFailureReason, Event, LoggedOut, ServerAck},
        presence::ReceiptType,
    },
};

use crate::{
    backend::stanzas::Stanzas,
    machine::{ClientEvent, MessageNews, Receipt},
};

/// The reason of a `<failure>` that asks for fewer logins: the status code of HTTP.
const TOO_MANY_REQUESTS: i32 = 429;

/// The reason of a `<failure>` that bans an account for a time.
pub(super) const BANNED: i32 = 402;

/// The longest code that is shown, in bytes. Real ones have about 250; a QR code of any size holds 2,953.
const LONGEST_CODE: usize = 1024;

/// The code of the stream error that follows the removal of a device.
const DEVICE_REMOVED: &str = "516";

/// The kind of conflict that says the same.
const REMOVAL: &str = "device_removed";

/// What an event of pairing says; `None` for any other event.
pub(super) fn pairing(event: &Event, stanzas: &Stanzas) -> Option<ClientEvent> {
    Some(match event {
        Event::PairingQrCode(qr) if !can_be_shown(&qr.code) => {
            ClientEvent::PairingFailed(SessionReason::PairingCodesUnusable)
        }
        Event::PairingQrCode(qr) => ClientEvent::Code {
            method: PairingMethod::Qr,
            code: Sensitive::new(qr.code.clone()),
            valid_for: qr.timeout,
            of: stanzas.references(),
        },
        Event::PairingCode(code) => ClientEvent::Code {
            method: PairingMethod::Code,
            code: Sensitive::new(code.code.clone()),
            valid_for: code.timeout,
            of: None,
        },
        // While a pairing code is out the window is as long as that code; the state machine ends it.
        Event::PairingQrCodesExhausted(over) if over.disconnected => ClientEvent::WindowPassed,
        Event::PairSuccess(linked) => {
            ClientEvent::Paired { phone_number: linked.id.is_pn().then(|| number(&linked.id)) }
        }
        // What the phone answered did not prove genuine, or could not be read. The code is used up all the same.
        Event::PairError(_) if stanzas.is_coexistence() => {
            ClientEvent::PairingFailed(SessionReason::CoexistenceNotSupported)
        }
        Event::PairError(_) => ClientEvent::PairingFailed(SessionReason::PairingFailed),
        // Either the server gave no code, or it refused what the phone made of it: the library has dropped that code.
        Event::PairingCodeError(error) => {
            ClientEvent::NoCode { refused: error.rejection.map(refusal), pause: error.backoff }
        }
        Event::PairingCodeRefresh(refresh) => ClientEvent::CodeStale { another: !refresh.force_manual },
        Event::PairPasskeyRequest(_) => ClientEvent::PasskeyWanted,
        _ => return None,
    })
}

/// Why a device is logged out.
pub(super) fn logged_out(told: &LoggedOut) -> ClientEvent {
    match told.reason {
        ConnectFailureReason::AccountLocked => ClientEvent::Barred(SessionReason::AccountLocked),
        // WhatsApp's own client calls it "banned".
        ConnectFailureReason::UnknownLogout => ClientEvent::Barred(SessionReason::AccountBanned),
        _ if is_certain(told) => ClientEvent::LoggedOut,
        _ => ClientEvent::Unauthorized,
    }
}

/// What the reason of a `<failure>` says, or why the connection will have ended.
pub(super) fn refusal_of_login(reason: i32) -> Result<ClientEvent, SessionReason> {
    match reason {
        // A ban that says neither why nor for how long is one all the same.
        BANNED => Ok(ClientEvent::Banned { code: i64::from(BANNED), for_: Duration::ZERO }),
        TOO_MANY_REQUESTS => Err(SessionReason::TooManyRequests),
        _ => Err(SessionReason::ServerRefused),
    }
}

/// The code with which the server refuses a stanza, where it is a number.
pub(super) fn refused_with(ack: &ServerAck) -> Option<i64> {
    ack.error.as_ref()?.parse().ok()
}

/// What the server says of a message; `None` where it is about something else.
pub(super) fn acknowledgement(ack: &ServerAck) -> Option<MessageNews> {
    if ack.class.as_deref().is_some_and(|class| class != "message") {
        return None;
    }
    Some(MessageNews::Answered {
        id: ack.id.clone(),
        // A refusal whose code is no number is one all the same.
        refused: ack.error.as_ref().map(|_| refused_with(ack).unwrap_or(0)),
        at: ack.timestamp.and_then(|at| within_the_second(at.timestamp(), Timestamp::now())),
    })
}

/// What a device of the recipient tells of messages.
pub(super) fn receipt(told: &events::Receipt) -> Option<MessageNews> {
    // Devices of this account say nothing about the recipient.
    if told.source.is_from_me {
        return None;
    }
    let phone = told.source.sender.device == 0;
    let receipt = match told.r#type {
        ReceiptType::Delivered if phone => Receipt::Delivered,
        // `inactive` from a companion means that it has the message. From a phone it does not count as delivery in any WhatsApp client.
        ReceiptType::Delivered | ReceiptType::Inactive if !phone => Receipt::CompanionDelivered,
        ReceiptType::Read | ReceiptType::Played => Receipt::Read,
        // Other types include receipts of this account's own devices (`sender`, `read-self`), which say nothing about the recipient.
        _ => return None,
    };
    Some(MessageNews::Receipt {
        ids: told.message_ids.iter().map(ToString::to_string).collect(),
        receipt,
        at: within_the_second(told.timestamp.timestamp(), Timestamp::now()).unwrap_or_else(Timestamp::now),
    })
}

/// WhatsApp's times are whole seconds. Within its second a thing happened when it was heard of at the latest: so what follows on each other
/// is told in that order, and nothing was sent before it was accepted.
fn within_the_second(second: i64, heard: Timestamp) -> Option<Timestamp> {
    let begin = Timestamp::from_second(second).ok()?;
    let end = begin.saturating_add(SignedDuration::from_millis(999)).ok()?;
    Some(heard.clamp(begin, end))
}

/// Why the server refused a pairing code. Its 400 may mean too many requests, too, and may not.
fn refusal(rejection: PairCodeRejection) -> SessionReason {
    match rejection {
        PairCodeRejection::RateOverlimit => SessionReason::TooManyRequests,
        _ => SessionReason::PairingFailed,
    }
}

/// The number of an account, in international form.
pub(super) fn number(account: &Jid) -> Sensitive {
    Sensitive::new(format!("+{}", account.user))
}

/// Whether a phone could read the code from a screen, and a terminal could print it.
fn can_be_shown(code: &str) -> bool {
    (1..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the server says that the device is removed, rather than only that it does not know who this is: it has said the
/// latter of devices that are linked. The library reports every other kind of conflict than `replaced` as a logout, too, those
/// that nobody knows yet included: keys are not deleted for a word that may mean anything.
fn is_certain(told: &LoggedOut) -> bool {
    told.raw.as_ref().is_some_and(|stanza| {
        let conflict = stanza.get_optional_child("conflict");
        conflict.is_some_and(|kind| kind.attrs().optional_string("type").as_deref() == Some(REMOVAL))
            || stanza.attrs().optional_string("code").as_deref() == Some(DEVICE_REMOVED)
    })
}

#[cfg(test)]
mod tests {
    use whatsapp_rust::NodeBuilder;

    use super::*;

    #[test]
    fn only_a_removed_device_is_certainly_logged_out() {
        let told = |code: Option<&str>, conflict: Option<&str>| {
            let mut error = NodeBuilder::new("stream:error");
            if let Some(code) = code {
                error = error.attr("code", code);
            }
            let conflict = conflict.map(|kind| NodeBuilder::new("conflict").attr("type", kind).build());
            let raw = error.children(conflict).build();
            LoggedOut::builder().on_connect(false).reason(ConnectFailureReason::LoggedOut).raw(raw).build()
        };
        for (code, conflict, certain) in [
            (Some("401"), Some("device_removed"), true),
            (None, Some("device_removed"), true),
            (Some("516"), None, true),
            (Some("401"), Some("account_sync_timeout"), false),
            (None, Some(""), false),
            (Some("401"), None, false),
        ] {
            assert_eq!(is_certain(&told(code, conflict)), certain, "{code:?} {conflict:?}");
        }
    }
}
