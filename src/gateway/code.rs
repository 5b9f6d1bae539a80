//! The closed list of error codes: what a program tells refusals apart by. Answers, the OpenAPI document and
//! docs/reference/errors.md are made from this one table.

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which.
    pub code: Code,
    /// The word in the answer; stable.
    pub word: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whether the same request may succeed later, without anybody changing it.
    pub retryable: bool,
    /// After how many seconds to try again, when no better figure is known.
    pub retry_after: Option<u64>,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($code:ident $status:literal $(retry $after:literal)?: $meaning:literal, $remedy:literal;)+) => {
        /// One refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the table below says it, and the reference is made from it
        pub enum Code { $($code),+ }

        /// The whole list.
        pub const ALL: &[Entry] = &[$(Entry {
            code: Code::$code,
            word: stringify!($code),
            status: $status,
            retryable: codes!(@retryable $($after)?),
            retry_after: codes!(@after $($after)?),
            meaning: $meaning,
            remedy: $remedy,
        }),+];
    };
    (@retryable) => { false };
    (@retryable $after:literal) => { true };
    (@after) => { None };
    (@after $after:literal) => { Some($after) };
}

codes! {
    BadRequest 400: "The request cannot be read: its path, query, headers or JSON are malformed, hold something unknown, or say something twice.", "Correct what the message names.";
    Unauthorized 401: "There is no bearer token, or the API server does not accept it: unknown, expired, or made for another audience.", "Send `Authorization: Bearer TOKEN` with a token that the API server accepts, for example from `kubectl create token`.";
    CrossSite 403: "A browser made the request for a page of another site, or with the dashboard's cookie and not for a page of this gateway.", "Use the dashboard; or have the page's origin allowed (--cors-origins), and send the token as a bearer token.";
    AnotherUser 409: "The page that asked was shown to somebody else: another person has signed in with this browser since.", "Nothing; the page begins anew as whoever is signed in.";
    LimitExceeded 403: "The owner has as many instances as allowed.", "Delete one, or have an administrator raise spec.maxInstances of the WhatsAppOwner.";
    OwnerNotAllowed 403: "The request names another owner, or a name among another owner's, which takes the verb assign-owner.", "Leave owner out, or have an administrator grant the verb.";
    QuotaExceeded 403: "A ResourceQuota of the namespace is used up.", "Delete something, or have an administrator raise the quota.";
    Refused 403: "Another rule of the cluster refused it; the message is that rule's.", "Do what the message says.";
    NotFound 404: "There is no such session, or the caller may not see it.", "Check the id, the namespace and the caller's rights.";
    NotAllowed 404: "The caller may not do this: RBAC does not grant the verb that the message names.", "Have an administrator grant the verb.";
    MessageNotFound 404: "There is no such message, or the caller may not see it.", "Check the id and the caller's rights.";
    NoSuchRoute 404: "The gateway has no such path.", "See /api/v1/openapi.json.";
    MethodNotAllowed 405: "The path exists, the method does not.", "Use a method of the header Allow.";
    NotAcceptable 406: "The code cannot be given in any form that Accept names.", "Accept application/json, image/svg+xml or image/png.";
    NameTaken 409: "The owner has an instance of this name already.", "Choose another name.";
    AlreadyConnected 409: "The session is connected, so there is no code and none to ask for.", "Nothing; or unlink the session's device (sessions/unlink) to link another account.";
    NoCode 409 retry 2: "There is no code to show now; the message says where the session stands.", "Ask again, or for a new code with refresh-qr.";
    NoPrimary 409: "The owner has no session to send through.", "Create one, or name one with session_id.";
    NotPaired 409: "No device is linked to the session.", "Scan its QR code, or send through another.";
    NoneReady 409 retry 10: "None of the owner's sessions can send now.", "Connect one, or send through the primary one, where messages wait.";
    SessionGone 409: "The session that this idempotency key was used with is gone or being deleted, and its bridge never accepted the message.", "Send it again with a new key.";
    TooLate 409: "The message was handed to WhatsApp already, or is over.", "Nothing; it cannot be called back.";
    NotSupported 409: "The session's bridge is of a kind that sends no messages.", "Send through another session.";
    ChangeUnderWay 409 retry 60: "Another change of the same session's name is under way.", "Try again in a minute.";
    Conflict 409 retry 1: "The session was changed or replaced by somebody else at the same time.", "Look at it, then try again.";
    Terminating 409: "The session is being deleted.", "Wait until it is gone, or create another.";
    OwnerObjectForeign 409: "The WhatsAppOwner under this owner's name belongs to somebody else.", "Have an administrator delete it.";
    LinkTaken 409: "The linking link was opened in another browser before.", "Go on there, or have a new link made.";
    LinkOver 410: "The linking link does not work any more, or never did: it has expired, was used, or was taken back.", "Have a new one made.";
    TooLarge 413: "The body is larger than the gateway reads.", "Send less.";
    UnsupportedMediaType 415: "The body is not said to be JSON.", "Send `Content-Type: application/json`.";
    KeyReused 422: "The idempotency key was used for another message, or for one that was never accepted and whose time is over.", "Repeat the request as it was, the recipient written alike; a new message needs a new key.";
    Invalid 422: "A field has a value that it must not have; the message names the field and the rule.", "Correct the field.";
    NameBlank 422: "The name shows nothing.", "Give 1 to 100 visible characters.";
    NameUnprintable 422: "The name holds control characters or characters that change the direction of text.", "Remove them.";
    OwnerUnprintable 422: "The owner holds such characters, or begins or ends with white space.", "Give the user's exact name.";
    OwnerMissing 422: "The session has no owner.", "Check that the operator's webhooks are installed.";
    NotConnected 422: "Only a connected session can be made the primary one.", "Wait until its status is connected.";
    RateLimited 429 retry 1: "The caller sent more requests than allowed.", "Wait as long as Retry-After says.";
    QueueFull 429 retry 30: "As many messages wait as may, or this one would expire before its turn.", "Wait as long as Retry-After says.";
    TooManyStreams 429 retry 10: "The caller, or everybody together, has as many event streams open as allowed.", "Close one.";
    Internal 500: "The gateway failed; its log has the request id.", "Report it with the request id.";
    Unavailable 503 retry 5: "The API server does not answer the gateway, or has too much to do.", "Try again.";
    BridgeUnavailable 503 retry 5: "The session's bridge cannot be reached, or has failed; the message says which.", "Try again; have an administrator look at the WhatsAppBridge.";
    KeysUnavailable 503 retry 5: "Idempotency keys cannot be checked now, so nothing was sent.", "Try again with the same key.";
    NotInstalled 503 retry 60: "The API server does not know WhatsAppInstances.", "Have an administrator install the definitions.";
    AdmissionUnavailable 503 retry 5: "The operator's admission webhook does not answer, so nothing may be written.", "Try again; have an administrator look at the operator.";
    LedgerUnavailable 503 retry 5: "The rules cannot be checked now.", "Try again.";
    AccessUnknown 503 retry 5: "Whether the caller may name another owner cannot be checked now.", "Try again.";
    StorageFull 507 retry 60: "The bridge's disk takes no more messages.", "Have an administrator give it more room; messages are taken again as soon as there is some.";
    Timeout 504 retry 5: "The answer did not come in time; a change may have been made all the same.", "Look at the session, then try again.";
}

impl Code {
    /// Its line of the list.
    pub fn entry(self) -> &'static Entry {
        // The list is made from the same words as the enum, in the same order.
        ALL.get(self as usize).unwrap_or(&ALL[0])
    }

    /// The code of a refusal by the rules, which are told by their reason.
    pub fn of_reason(reason: &str) -> Option<Self> {
        const OF_RULES: &[Code] = &[
            Code::LimitExceeded,
            Code::NameTaken,
            Code::NameBlank,
            Code::NameUnprintable,
            Code::OwnerUnprintable,
            Code::OwnerNotAllowed,
            Code::OwnerMissing,
            Code::OwnerObjectForeign,
            Code::ChangeUnderWay,
            Code::NotConnected,
            Code::LedgerUnavailable,
            Code::AccessUnknown,
            Code::Timeout,
        ];
        OF_RULES.iter().copied().find(|code| code.entry().word == reason)
    }
}

/// The list as a page of the reference.
pub fn page() -> String {
    let mut text = String::from(
        "<!-- Written by `make generate` from `whatsapp-operator openapi --errors`; do not edit. -->\n\n# Errors of the REST API\n\n\
         Every refusal is `{\"success\":false,\"error\":{code,message,retryable,retryAfter,requestId}}`. `code` is one of this closed list, \
         `message` one sentence for people, `retryAfter` seconds or null (also in the header Retry-After). A code keeps its meaning and its status.\n\n\
         | code | status | retryable | meaning | what to do |\n| --- | --- | --- | --- | --- |\n",
    );
    for Entry { word, status, retryable, meaning, remedy, .. } in ALL {
        let retryable = if *retryable { "yes" } else { "no" };
        text.push_str(&format!("| `{word}` | {status} | {retryable} | {meaning} | {remedy} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_finds_its_own_line() {
        let words: BTreeSet<_> = ALL.iter().map(|entry| entry.word).collect();
        assert_eq!(words.len(), ALL.len());
        for entry in ALL {
            assert_eq!(entry.code.entry().word, entry.word);
            assert!((400..600).contains(&entry.status) && entry.retryable == entry.retry_after.is_some());
        }
    }

    #[test]
    fn whatever_admission_says_of_an_instance_is_in_the_list() {
        // Said of WhatsAppOwners, or of requests that the gateway does not make.
        let others = ["WrongObjectName", "LimitInUse", "NameMissing"];
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = 0;
        for folder in ["rules", "admission"] {
            for file in std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
                let text = if file.is_file() { std::fs::read_to_string(file).unwrap() } else { continue };
                let text = text.split("#[cfg(test)]").next().unwrap();
                for said in text.split("Denial::new(").skip(1) {
                    let Some(reason) = said.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
                    else {
                        continue;
                    };
                    found += 1;
                    assert!(others.contains(&reason) || Code::of_reason(reason).is_some(), "{reason}");
                }
            }
        }
        assert!(found > 8, "only {found} refusals were found");
    }

    /// Whatever is documented was provoked over HTTP: a test of the gateway names it after its status, as `refused` takes them. What
    /// it takes a broken cluster for, an object that changes between two calls, or another kind of bridge, unit tests meet.
    #[test]
    fn no_code_is_without_a_test() {
        const IN_UNIT_TESTS: &[Code] = &[Code::Conflict, Code::Internal, Code::NotInstalled, Code::NotSupported];
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |folder: &str, of: fn(&str) -> bool| -> Vec<String> {
            let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap());
            let files = files.filter(|file| file.path().is_file() && of(&file.file_name().to_string_lossy()));
            files.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
        };
        let of_gateway =
            |name: &str| ["gateway", "dashboard", "linking"].iter().any(|beginning| name.starts_with(beginning));
        let (over_http, units) = (read("tests/acceptance", of_gateway).join("\n"), read("src/gateway", |_| true));
        let units: String =
            units.iter().filter_map(|text| text.split_once("#[cfg(test)]")).map(|(_, tests)| tests).collect();
        for Entry { code, word, status, .. } in ALL {
            if IN_UNIT_TESTS.contains(code) {
                assert!(units.contains(&format!("Code::{word}")), "no unit test meets {word}");
            } else {
                assert!(over_http.contains(&format!("{status}, \"{word}\"")), "no test meets {status} {word}");
            }
        }
    }

    #[test]
    fn the_committed_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/errors.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page(), "docs/reference/errors.md is out of date: run `make generate`");
    }
}
