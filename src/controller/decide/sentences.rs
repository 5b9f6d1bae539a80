//! What each condition reason means to the reader, and what to do about it.

use crate::api::conditions::reason;

/// The sentence that goes with a reason; those that name objects are written where the object is known.
pub fn of(because: &str) -> &'static str {
    match because {
        reason::ACCEPTED => "All ownership rules are met.",
        reason::NO_OWNER => "Nobody's instance: it has no limit and is never primary; set spec.owner to change that.",
        reason::BRIDGE_READY => "The bridge answers.",
        reason::PAIRED => "A device is linked.",
        reason::NOT_STARTED => "No device is linked yet; the session is being started.",
        reason::PAIRING_QUEUED => "Waits for one of the bridge's pairing permits; nothing to do.",
        reason::AWAITING_PAIRING => "A code waits for the phone: `kubectl whatsapp qr NAME` shows it.",
        reason::PAIRING_EXPIRED => {
            "The pairing window passed unused; ask for a new one: `kubectl whatsapp refresh NAME`."
        }
        reason::AWAITING_PASSKEY => {
            "WhatsApp wants a passkey, which only its own app or website can give; confirm there, then refresh."
        }
        reason::LOGGED_OUT => {
            "The device was unlinked and its keys are deleted; link it again: `kubectl whatsapp refresh NAME`."
        }
        reason::UNLINKED => {
            "No device is linked, by wish, and there are no keys; set spec.desiredState to Connected to link one."
        }
        reason::UNLINKING => {
            "Offline by wish; the device is being removed from the WhatsApp account, and that is tried until it works."
        }
        reason::SESSION_LOST => {
            "The bridge lost this session and its keys; scan again, and remove the old entry under Linked devices on the phone."
        }
        reason::PAIRING_FAILED => {
            "WhatsApp refused a pairing code, or the phone used the code and the link could not be completed; remove the entry \
             under Linked devices on the phone if there is one, then ask for a new code: `kubectl whatsapp refresh NAME`."
        }
        reason::PAIRING_CODES_UNUSABLE => {
            "WhatsApp gave nothing that a code could be made of; ask again later: `kubectl whatsapp refresh NAME`."
        }
        reason::COEXISTENCE_NOT_SUPPORTED => {
            "This account is also used through WhatsApp's hosted Business API, and this version of the bridge cannot link such \
             an account; link another account, or upgrade the bridge."
        }
        reason::CONNECTED => "Connected to WhatsApp.",
        reason::CONNECTING => "The connection to WhatsApp is being made.",
        reason::STOPPED => "Offline by wish, the device stays linked; set spec.desiredState to Connected to go online.",
        reason::CONNECTION_LOST => "The connection to WhatsApp was lost and is being made again.",
        reason::SERVER_UNREACHABLE => {
            "WhatsApp cannot be reached; check the bridge's way to the internet. It keeps trying."
        }
        reason::SERVER_NOT_ANSWERING => "WhatsApp accepts the connection but does not answer. The bridge keeps trying.",
        reason::SERVER_NOT_TRUSTED => {
            "The server could not prove that it is WhatsApp; check for a proxy that intercepts TLS, or a wrong server address."
        }
        reason::SERVER_REFUSED => "WhatsApp refused the connection for now. The bridge keeps trying.",
        reason::TOO_MANY_REQUESTS => {
            "WhatsApp received too many requests and asked the bridge to wait. It tries again, less often; nothing to do."
        }
        reason::STREAM_REPLACED => {
            "Another client uses the same keys; stop it, then take over again: `kubectl whatsapp connect NAME`."
        }
        reason::CLIENT_OUTDATED => "WhatsApp no longer accepts this version of the bridge; upgrade it.",
        reason::TEMPORARY_BAN => {
            "WhatsApp has banned the account for a time (status.restriction); the bridge connects again when the ban ends."
        }
        reason::ACCOUNT_LOCKED => {
            "WhatsApp has locked the account; unlock it in WhatsApp on the phone, then `kubectl whatsapp connect NAME`. The device stays linked, and \
             the bridge tries once a day."
        }
        reason::ACCOUNT_BANNED => {
            "WhatsApp has banned the account; ask for a review in WhatsApp on the phone, and once the ban is lifted: `kubectl whatsapp connect \
             NAME`. The device stays linked, and the bridge tries once a day."
        }
        reason::REACHOUT_TIMELOCK => {
            "Connected, but WhatsApp forbids this account to start new chats for a time (status.restriction)."
        }
        reason::MESSAGES_NOT_ACKNOWLEDGED => {
            "Connected, but WhatsApp does not acknowledge messages; those that wait are kept, and the bridge keeps trying."
        }
        reason::UNKNOWN => "Not known yet.",
        _ => "The bridge gives a reason that this version of the operator does not know; upgrade the operator.",
    }
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::bridge_api::SessionReason;

    #[test]
    fn every_reason_of_a_session_has_a_sentence_of_its_own() {
        let sentences: Vec<&str> = SessionReason::ALL.into_iter().map(|reason| of(reason.as_str())).collect();
        assert!(!sentences.contains(&of("no such reason")), "{sentences:?}");
        let different: std::collections::BTreeSet<&str> = sentences.iter().copied().collect();
        assert_eq!(different.len(), sentences.len());
    }
}
