//! Which refusals each operation may meet.

use crate::gateway::code::Code;

/// Refusals that any operation may meet.
const ANY: &[Code] = &[
    Code::BadRequest,
    Code::Unauthorized,
    Code::NotFound,
    Code::NotAllowed,
    Code::RateLimited,
    Code::Internal,
    Code::Unavailable,
    Code::NotInstalled,
    Code::Timeout,
];
/// Refusals of operations that read a body.
const BODY: &[Code] = &[Code::TooLarge, Code::UnsupportedMediaType];
/// Refusals of operations that write.
const WRITE: &[Code] = &[
    Code::CrossSite,
    Code::AnotherUser,
    Code::Refused,
    Code::Terminating,
    Code::Conflict,
    Code::Invalid,
    Code::AdmissionUnavailable,
    Code::LedgerUnavailable,
    Code::AccessUnknown,
];
/// Refusals that depend on names and owners.
const NAMES: &[Code] = &[
    Code::OwnerNotAllowed,
    Code::NameTaken,
    Code::ChangeUnderWay,
    Code::OwnerObjectForeign,
    Code::NameBlank,
    Code::NameUnprintable,
];

/// Refusals of operations that ask a bridge.
const BRIDGE: &[Code] = &[Code::MessageNotFound, Code::AccessUnknown, Code::BridgeUnavailable, Code::NotSupported];
/// Refusals of sending.
const SEND: &[Code] = &[
    Code::CrossSite,
    Code::AnotherUser,
    Code::Invalid,
    Code::NoPrimary,
    Code::NotPaired,
    Code::NoneReady,
    Code::SessionGone,
    Code::Terminating,
    Code::KeyReused,
    Code::KeysUnavailable,
    Code::QueueFull,
    Code::StorageFull,
];

/// The refusals of an operation, those that any may meet among them.
pub fn codes(operation: &str) -> Vec<Code> {
    let own: &[&[Code]] = match operation {
        "init" => &[
            BODY,
            WRITE,
            NAMES,
            &[Code::LimitExceeded, Code::QuotaExceeded, Code::OwnerUnprintable, Code::OwnerMissing],
        ],
        "rename" => &[BODY, WRITE, NAMES],
        "set-primary" => &[BODY, WRITE, &[Code::NotConnected, Code::OwnerMissing]],
        "link" => &[BODY, WRITE, &[Code::AlreadyConnected, Code::NoCode]],
        "linking-code" => &[
            BODY,
            &[
                Code::Invalid,
                Code::LinkTaken,
                Code::LinkOver,
                Code::TooManyStreams,
                Code::BridgeUnavailable,
                Code::NotSupported,
            ],
        ],
        "refresh-qr" => &[BODY, WRITE, &[Code::AlreadyConnected]],
        "connect" | "disconnect" | "unlink" | "delete" | "revoke-link" => &[BODY, WRITE],
        "qr" => &[&[Code::NotAcceptable, Code::AlreadyConnected, Code::NoCode]],
        "events" => &[&[Code::TooManyStreams]],
        "send" => &[BODY, BRIDGE, SEND],
        "message" | "messages" => &[BRIDGE],
        "waiting" => &[&[Code::AccessUnknown]],
        "cancel" => &[BODY, BRIDGE, &[Code::TooLate, Code::StorageFull, Code::CrossSite, Code::AnotherUser]],
        // What is refused for one of many stands in its outcome.
        "bulk" => &[BODY, &[Code::CrossSite, Code::AnotherUser, Code::Invalid]],
        "sign-in" => &[BODY, &[Code::CrossSite, Code::Invalid]],
        "sign-out" => &[BODY, &[Code::CrossSite]],
        _ => &[],
    };
    [ANY].iter().chain(own).flat_map(|codes| codes.iter().copied()).collect()
}
