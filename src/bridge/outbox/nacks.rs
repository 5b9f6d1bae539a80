//! What the codes mean with which WhatsApp's server refuses a message. Their names are those of whatsapp-rust's `NackReason`.

use whatsapp_operator::bridge_api::MessageCause;

/// The code for a message that starts a chat while the account may not.
pub const TIMELOCKED: i64 = 463;
/// The code for one that starts a chat when the account has started as many as it may.
pub const NEW_CHATS_CAPPED: i64 = 475;

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NackMeaning {
    /// The account may not start this chat now.
    NewChat,
    /// It may pass: the message goes again.
    Passing,
    /// It stays, so the message fails.
    Final(MessageCause),
}

/// What the server's code says. Most codes say no more than that.
pub(super) fn meaning(code: i64) -> NackMeaning {
    match code {
        TIMELOCKED | NEW_CHATS_CAPPED => NackMeaning::NewChat,
        // Parsing error, unrecognised stanza, its class and its type, invalid protobuf, invalid hosted companion stanza, missing message
        // secret; unsupported admin revoke and LID group, which do not pass as other 5xx do.
        487..=491 | 493 | 495 | 550 | 551 => NackMeaning::Final(MessageCause::NotUnderstood),
        429 | 500..=599 => NackMeaning::Passing,
        _ => NackMeaning::Final(MessageCause::RefusedByServer),
    }
}

#[cfg(test)]
mod tests {
    use wacore::protocol::nack::NackReason as Nack;

    use super::*;

    #[test]
    fn every_code_that_the_library_names_has_its_meaning() {
        let not_understood = NackMeaning::Final(MessageCause::NotUnderstood);
        let refused = NackMeaning::Final(MessageCause::RefusedByServer);
        for (nack, means) in [
            (Nack::StaleGroupAddressingMode, refused),
            (Nack::NewChatMessagesCapped, NackMeaning::NewChat),
            (Nack::ParsingError, not_understood),
            (Nack::UnrecognizedStanza, not_understood),
            (Nack::UnrecognizedStanzaClass, not_understood),
            (Nack::UnrecognizedStanzaType, not_understood),
            (Nack::InvalidProtobuf, not_understood),
            (Nack::InvalidHostedCompanionStanza, not_understood),
            (Nack::MissingMessageSecret, not_understood),
            (Nack::SignalErrorOldCounter, refused),
            (Nack::MessageDeletedOnPeer, refused),
            (Nack::UnhandledError, NackMeaning::Passing),
            (Nack::UnsupportedAdminRevoke, not_understood),
            (Nack::UnsupportedLIDGroup, not_understood),
            (Nack::DBOperationFailed, NackMeaning::Passing),
            (Nack::Unknown(429), NackMeaning::Passing),
            (Nack::Unknown(463), NackMeaning::NewChat),
            (Nack::Unknown(479), refused),
            (Nack::Unknown(0), refused),
        ] {
            assert_eq!(meaning(i64::from(nack.code())), means, "{nack:?}");
        }
    }
}
