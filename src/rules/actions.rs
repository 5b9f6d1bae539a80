//! What may be asked of an instance as it is now: one table for everything that offers buttons or verbs.

use crate::api::{DesiredState, Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions};

/// Something that may be asked of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There is a code to show.
    ShowCode,
    /// A new pairing window.
    RefreshCode,
    /// Bring it online.
    Connect,
    /// Take it offline; the device stays linked.
    Disconnect,
    /// Remove the device from the account; the instance stays.
    Unlink,
    /// Make it its owner's primary instance.
    SetPrimary,
    /// Another display name.
    Rename,
    /// Unlink the device and remove the instance.
    Delete,
}

/// What may be asked of an instance now, in the order people expect.
pub fn actions(instance: &WhatsAppInstance) -> Vec<Action> {
    use Action::{Connect, Delete, Disconnect, Rename};
    if instance.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let status = instance.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or(Phase::Pending);
    let wished = instance.spec.desired_state == DesiredState::Connected;
    let has_code = status.is_some_and(|status| status.qr.is_some() || status.pairing_code.is_some());
    let table: &[Action] = match (phase, wished) {
        (Phase::Terminating, _) => return Vec::new(),
        (Phase::Rejected, _) => &[Rename, Delete],
        (_, false) => &[Connect, Rename, Delete],
        (Phase::AwaitingPairing, true) => &[Action::RefreshCode, Disconnect, Rename, Delete],
        (Phase::PairingExpired | Phase::LoggedOut | Phase::AwaitingPasskey, true) => {
            &[Action::RefreshCode, Connect, Disconnect, Rename, Delete]
        }
        (Phase::Disconnected, true) => &[Connect, Disconnect, Rename, Delete],
        (
            Phase::Pending
            | Phase::Unlinked
            | Phase::Connecting
            | Phase::Connected
            | Phase::Reconnecting
            | Phase::Restricted
            | Phase::BridgeUnavailable,
            true,
        ) => &[Disconnect, Rename, Delete],
    };
    let is_connected = status.is_some_and(WhatsAppInstanceStatus::is_connected);
    let is_primary = status.is_some_and(|status| status.primary) && instance.spec.primary;
    let first = [
        (phase == Phase::AwaitingPairing && has_code).then_some(Action::ShowCode),
        (is_connected && instance.owner().is_some() && !is_primary).then_some(Action::SetPrimary),
    ];
    // Only what is linked can be unlinked. It stands beside what takes it offline, or brings it back.
    let may_unlink = status.is_some_and(|status| status.true_because(conditions::PAIRED).is_some())
        && phase != Phase::Rejected
        && instance.spec.desired_state != DesiredState::Unlinked;
    let (before, after) = table.split_at(table.iter().position(|action| *action == Rename).unwrap_or(table.len()));
    let unlink = may_unlink.then_some(Action::Unlink);
    first.into_iter().flatten().chain(before.iter().copied()).chain(unlink).chain(after.iter().copied()).collect()
}

/// Whether the wish to be connected is not enough, because it was there when the session ended: then a new start has to be
/// asked for as well.
pub fn starts_again(instance: &WhatsAppInstance) -> bool {
    match instance.status.as_ref().and_then(|status| status.phase) {
        Some(Phase::PairingExpired | Phase::LoggedOut | Phase::AwaitingPasskey) => true,
        Some(Phase::Disconnected) => instance.spec.desired_state == DesiredState::Connected,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Action, actions};
    use crate::api::WhatsAppInstance;

    fn instance(spec: Value, status: Value) -> WhatsAppInstance {
        let mut all = json!({"name": "A", "owner": "alice"});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": all, "status": status})).unwrap()
    }

    #[test]
    fn every_phase_offers_what_helps_there() {
        use Action::{Connect, Delete, Disconnect, RefreshCode, Rename};
        for (phase, wished, unwished) in [
            ("Pending", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("AwaitingPairing", vec![RefreshCode, Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("PairingExpired", vec![RefreshCode, Connect, Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("AwaitingPasskey", vec![RefreshCode, Connect, Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Connecting", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Connected", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Reconnecting", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Disconnected", vec![Connect, Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("LoggedOut", vec![RefreshCode, Connect, Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Unlinked", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Restricted", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Rejected", vec![Rename, Delete], vec![Rename, Delete]),
            ("BridgeUnavailable", vec![Disconnect, Rename, Delete], vec![Connect, Rename, Delete]),
            ("Terminating", vec![], vec![]),
        ] {
            for (state, expected) in [("Connected", wished), ("Disconnected", unwished)] {
                let found = actions(&instance(json!({"desiredState": state}), json!({"phase": phase})));
                assert_eq!(found, expected, "{phase}, {state} wished");
            }
        }
    }

    #[test]
    fn what_is_linked_can_be_unlinked_once() {
        use Action::{Connect, Delete, Disconnect, Rename, Unlink};
        let paired = |status: &str| {
            json!([{"type": "Paired", "status": status, "reason": "Paired", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}])
        };
        for (phase, wish, is_paired, offered) in [
            ("Connected", "Connected", "True", vec![Disconnect, Unlink, Rename, Delete]),
            ("Disconnected", "Disconnected", "True", vec![Connect, Unlink, Rename, Delete]),
            ("Disconnected", "Disconnected", "False", vec![Connect, Rename, Delete]),
            ("Disconnected", "Unlinked", "True", vec![Connect, Rename, Delete]),
            ("Unlinked", "Unlinked", "False", vec![Connect, Rename, Delete]),
            ("Rejected", "Connected", "True", vec![Rename, Delete]),
            ("Terminating", "Connected", "True", vec![]),
        ] {
            let status = json!({"phase": phase, "conditions": paired(is_paired)});
            assert_eq!(
                actions(&instance(json!({"desiredState": wish}), status)),
                offered,
                "{phase}, {wish}, {is_paired}"
            );
        }
    }

    #[test]
    fn a_code_is_offered_while_there_is_one_and_the_primary_needs_no_other_wish() {
        let qr = json!({"code": "2@x", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
        let waiting = instance(json!({}), json!({"phase": "AwaitingPairing", "qr": qr}));
        assert_eq!(actions(&waiting)[0], Action::ShowCode);
        let connected = |primary: bool, owner: Value| {
            let connected = json!([{"type": "Connected", "status": "True", "reason": "Connected", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
            let status = json!({"phase": "Connected", "primary": primary, "conditions": connected});
            actions(&instance(json!({"primary": primary, "owner": owner}), status)).contains(&Action::SetPrimary)
        };
        assert!(connected(false, json!("alice")) && !connected(true, json!("alice")) && !connected(false, Value::Null));
    }
}
