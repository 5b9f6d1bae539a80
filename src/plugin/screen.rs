//! What `qr` shows next: a pure function of the instance.

use jiff::Timestamp;

use crate::{
    api::{DesiredState, PairingMethod, Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions},
    model::Sensitive,
    rules::progress::{lags_behind, needs_somebody},
};

/// What the person should see now.
#[derive(Debug, Clone, PartialEq)]
pub enum Screen {
    /// A code for the phone.
    Code(Code),
    /// Nothing to scan at the moment, for this reason.
    Waiting(String),
    /// Nothing will come any more.
    Ended(End),
}

/// A code and how long it lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    /// Scanned or typed.
    pub method: PairingMethod,
    /// The code itself.
    pub text: Sensitive,
    /// When WhatsApp stops accepting it.
    pub expires_at: Timestamp,
    /// Which code of how many.
    pub attempt: Option<(u32, u32)>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The phone scanned it.
    Connected {
        /// The linked number, once known.
        phone: Option<Sensitive>,
    },
    /// The window passed unused.
    Expired,
    /// The device was unlinked and nobody asked for a new window.
    LoggedOut,
    /// Anything else, with what to do.
    Stopped(String),
}

/// What to show for an instance in this state.
pub fn next(instance: &WhatsAppInstance) -> Screen {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let connect = command("connect", instance);
    if instance.metadata.deletion_timestamp.is_some() {
        return Screen::Ended(End::Stopped(format!("\"{name}\" is being deleted; there is nothing to pair")));
    }
    let Some((status, phase)) = instance.status.as_ref().and_then(|status| Some((status, status.phase?))) else {
        return Screen::Waiting("the operator has not looked at the instance yet; is it running?".to_owned());
    };
    if lags_behind(instance, status) {
        return Screen::Waiting("the operator has not taken up the last change yet".to_owned());
    }
    match phase {
        Phase::AwaitingPairing => code(instance, status).map_or_else(|| waiting(status, phase), Screen::Code),
        Phase::Connected => Screen::Ended(End::Connected { phone: status.phone_number.clone() }),
        // A connected session that may not start new chats is paired all the same.
        Phase::Restricted if status.is_connected() => {
            Screen::Ended(End::Connected { phone: status.phone_number.clone() })
        }
        Phase::PairingExpired => Screen::Ended(End::Expired),
        Phase::LoggedOut => Screen::Ended(End::LoggedOut),
        Phase::Unlinked => stopped(format!("\"{name}\" is kept without a device; link one with `{connect}`")),
        Phase::Disconnected if instance.spec.desired_state != DesiredState::Connected => {
            stopped(format!("\"{name}\" is kept offline; bring it online with `{connect}`"))
        }
        Phase::Disconnected => {
            stopped(format!("\"{name}\" went offline{}; start it again with `{connect}`", because(status)))
        }
        Phase::AwaitingPasskey => stopped(format!(
            "WhatsApp wants a passkey that only its own website can give, so \"{name}\" cannot be paired now{}",
            because(status)
        )),
        Phase::Restricted => stopped(format!("WhatsApp does not let \"{name}\" connect for now{}", because(status))),
        Phase::Rejected => stopped(format!("\"{name}\" is not accepted{}", because(status))),
        Phase::Terminating => stopped(format!("\"{name}\" is being deleted; there is nothing to pair")),
        Phase::Pending | Phase::BridgeUnavailable if needs_somebody(status) => {
            stopped(format!("no code can appear for \"{name}\"{}", because(status)))
        }
        Phase::Pending | Phase::Connecting | Phase::Reconnecting | Phase::BridgeUnavailable => waiting(status, phase),
    }
}

/// A command line for this instance that works whatever namespace the reader's context has.
pub fn command(verb: &str, instance: &WhatsAppInstance) -> String {
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    match &instance.metadata.namespace {
        Some(namespace) => format!("kubectl whatsapp {verb} {name} -n {namespace}"),
        None => format!("kubectl whatsapp {verb} {name}"),
    }
}

/// What the condition that holds the instance back says, as the end of a sentence.
pub fn because(status: &WhatsAppInstanceStatus) -> String {
    let ready = status.conditions.iter().find(|condition| condition.type_ == conditions::READY);
    let Some(ready) = ready.filter(|ready| ready.status != "True") else { return String::new() };
    let words = if ready.message.is_empty() { &ready.reason } else { &ready.message };
    format!(": {}", words.trim_end_matches('.'))
}

fn code(instance: &WhatsAppInstance, status: &WhatsAppInstanceStatus) -> Option<Code> {
    let typed = || {
        let code = status.pairing_code.as_ref()?;
        Some(Code {
            method: PairingMethod::Code,
            text: code.code.clone(),
            expires_at: code.expires_at.0,
            attempt: None,
        })
    };
    let scanned = || {
        let qr = status.qr.as_ref()?;
        Some(Code {
            method: PairingMethod::Qr,
            text: qr.code.clone(),
            expires_at: qr.expires_at.0,
            attempt: Some((qr.attempt, qr.attempts)),
        })
    };
    match instance.spec.pairing.method {
        PairingMethod::Code => typed(),
        PairingMethod::Qr => scanned(),
    }
}

fn waiting(status: &WhatsAppInstanceStatus, phase: Phase) -> Screen {
    let what = match phase {
        Phase::AwaitingPairing => "the code is on its way",
        Phase::Connecting => "linked, connecting",
        Phase::Reconnecting => "linked, connecting again",
        Phase::BridgeUnavailable => "the bridge cannot be used",
        _ => "the session is being brought up",
    };
    Screen::Waiting(format!("{what}{}", because(status)))
}

fn stopped(words: String) -> Screen {
    Screen::Ended(End::Stopped(words))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{End, Screen, next};
    use crate::{
        api::{PairingMethod, Phase},
        plugin::fixtures::instance,
    };

    fn screen(spec: Value, status: Value) -> Screen {
        next(&instance(spec, status))
    }

    fn stopped(screen: Screen) -> String {
        match screen {
            Screen::Ended(End::Stopped(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_observed_yet_is_waiting() {
        assert!(matches!(screen(json!({}), Value::Null), Screen::Waiting(words) if words.contains("is it running")));
    }

    #[test]
    fn a_qr_code_is_shown_with_its_place_in_the_window() {
        let qr = json!({"code": "2@x", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 2, "attempts": 6});
        let Screen::Code(code) = screen(json!({}), json!({"phase": "AwaitingPairing", "qr": qr})) else { panic!() };
        assert_eq!((code.method, code.text.reveal(), code.attempt), (PairingMethod::Qr, "2@x", Some((2, 6))));
    }

    #[test]
    fn a_pairing_code_is_shown_when_that_is_the_method() {
        let spec = json!({"pairing": {"method": "Code", "phoneNumber": "+15551234567"}});
        let status = json!({"phase": "AwaitingPairing", "pairingCode": {"code": "ABCD1234", "expiresAt": "2026-01-01T00:00:20Z"}});
        let Screen::Code(code) = screen(spec.clone(), status) else { panic!() };
        assert_eq!((code.method, code.text.reveal()), (PairingMethod::Code, "ABCD1234"));
        assert!(matches!(screen(spec, json!({"phase": "AwaitingPairing"})), Screen::Waiting(_)));
    }

    #[test]
    fn the_phone_ends_it() {
        let status = json!({"phase": "Connected", "phoneNumber": "+15550001"});
        let Screen::Ended(End::Connected { phone: Some(phone) }) = screen(json!({}), status) else { panic!() };
        assert_eq!(phone.reveal(), "+15550001");
    }

    #[test]
    fn a_status_of_an_older_spec_decides_nothing() {
        let mut old = instance(json!({}), json!({"phase": "Disconnected", "observedGeneration": 1}));
        old.metadata.generation = Some(2);
        assert!(matches!(next(&old), Screen::Waiting(_)));
    }

    #[test]
    fn offline_by_wish_and_by_accident_say_what_to_do() {
        let wish = stopped(screen(json!({"desiredState": "Disconnected"}), json!({"phase": "Disconnected"})));
        assert!(wish.contains("kept offline") && wish.contains("kubectl whatsapp connect shop -n team"), "{wish}");
        let ready = json!([{"type": "Ready", "status": "False", "reason": "StreamReplaced", "message": "Another client took over.", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let accident = stopped(screen(json!({}), json!({"phase": "Disconnected", "conditions": ready})));
        assert!(accident.contains("went offline: Another client took over; start it again"), "{accident}");
    }

    #[test]
    fn what_somebody_has_to_change_first_is_said_at_once_and_what_passes_is_waited_for() {
        let held_back = |phase: Phase, reason: &str| {
            let ready = json!([{"type": "Ready", "status": "False", "reason": reason, "message": "Because.", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            screen(json!({}), json!({"phase": phase, "conditions": ready}))
        };
        for reason in ["BridgeNotFound", "NoDefaultBridge", "NamespaceNotAllowed", "ShardNotFound", "BridgeFull"] {
            let words = stopped(held_back(Phase::Pending, reason));
            assert_eq!(words, "no code can appear for \"shop\": Because", "{reason}");
        }
        for (phase, reason) in [
            (Phase::BridgeUnavailable, "BridgeUnreachable"),
            (Phase::Pending, "PairingQueued"),
            (Phase::Pending, "ServerUnreachable"),
        ] {
            assert!(
                matches!(held_back(phase, reason), Screen::Waiting(words) if words.contains("Because")),
                "{reason}"
            );
        }
        for reason in ["LimitExceeded", "NameTaken"] {
            assert!(stopped(held_back(Phase::Rejected, reason)).contains("Because"), "{reason}");
        }
    }

    #[test]
    fn a_session_that_may_only_answer_is_paired_a_banned_one_is_not() {
        let connected = json!([{"type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let limited = screen(json!({}), json!({"phase": "Restricted", "conditions": connected}));
        assert!(matches!(limited, Screen::Ended(End::Connected { .. })));
        stopped(screen(json!({}), json!({"phase": "Restricted"})));
    }

    #[test]
    fn every_phase_has_a_screen_and_no_debug_output_shows_a_code() {
        let phases = [
            Phase::Pending,
            Phase::AwaitingPairing,
            Phase::PairingExpired,
            Phase::AwaitingPasskey,
            Phase::Connecting,
            Phase::Connected,
            Phase::Reconnecting,
            Phase::Disconnected,
            Phase::LoggedOut,
            Phase::Restricted,
            Phase::Rejected,
            Phase::BridgeUnavailable,
            Phase::Terminating,
        ];
        for phase in phases {
            let qr = json!({"code": "2@secret", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
            let screen = screen(json!({}), json!({"phase": phase, "phoneNumber": "+1999", "qr": qr}));
            let debug = format!("{screen:?}");
            assert!(!debug.contains("secret") && !debug.contains("+1999"), "{debug}");
            let waits =
                matches!(phase, Phase::Pending | Phase::Connecting | Phase::Reconnecting | Phase::BridgeUnavailable);
            assert_eq!(matches!(screen, Screen::Waiting(_)), waits, "{phase}");
        }
    }
}
