//! Following a session until what was asked for has come about, or the caller's time is up. The API server is watched, never
//! asked over and over. Whether it is there yet is pure.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use kube::{ResourceExt as _, runtime::watcher};

use super::{caller::Caller, instances::beside, session::phase, state::Gateway};
use crate::{
    api::{Phase, WhatsAppInstance},
    platform::watch::watch_object,
    rules::progress::{Gate, lags_behind, needs_somebody},
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A code to scan or type, or no need for one.
    Code,
    /// Online.
    Connected,
    /// Offline.
    Disconnected,
    /// No device is linked any more.
    Unlinked,
    /// The owner's primary one.
    Primary,
    /// Removed.
    Gone,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There.
    Reached,
    /// On its way.
    Pending,
    /// It will not come about by itself.
    Over,
}

/// How far an instance is on its way to a goal.
pub fn standing(goal: Goal, instance: &WhatsAppInstance) -> Standing {
    use Standing::{Over, Pending, Reached};
    let Some(status) = &instance.status else { return Pending };
    let phase = phase(instance);
    if phase == Phase::Terminating {
        return if goal == Goal::Gone { Pending } else { Over };
    }
    if goal == Goal::Primary {
        return if status.primary { Reached } else { Pending };
    }
    if lags_behind(instance, status) {
        return Pending;
    }
    let connected = status.is_connected();
    let has_code = status.qr.is_some() || status.pairing_code.is_some();
    match (goal, phase) {
        (Goal::Gone | Goal::Primary, _) => Pending,
        (_, Phase::Terminating | Phase::Rejected) => Over,
        (Goal::Code | Goal::Connected, Phase::Connected) => Reached,
        (Goal::Code | Goal::Connected, Phase::Restricted) => {
            if connected {
                Reached
            } else {
                Over
            }
        }
        (Goal::Code | Goal::Connected, Phase::Disconnected | Phase::AwaitingPasskey) => Over,
        (Goal::Code, Phase::AwaitingPairing) if has_code => Reached,
        // A person has to scan the code first.
        (Goal::Connected, Phase::AwaitingPairing) if has_code => Over,
        (Goal::Code | Goal::Connected, _) if needs_somebody(status) => Over,
        // Not linked is offline as well.
        (Goal::Disconnected, Phase::Disconnected | Phase::LoggedOut | Phase::PairingExpired) => Reached,
        (Goal::Unlinked, Phase::Unlinked) => Reached,
        _ => Pending,
    }
}

/// Follows `instance` to a goal; how it is then (none when it is gone), and how far that is, once messages are routed by it. A
/// caller that may not watch is told at once how it stands.
pub async fn until(
    gateway: &Gateway,
    caller: &Caller,
    instance: WhatsAppInstance,
    mut gate: Gate,
    goal: Goal,
    limit: Duration,
) -> (Option<WhatsAppInstance>, Standing) {
    let (api, name, uid) = (beside(caller, &instance), instance.name_any(), instance.uid());
    let mut last = instance;
    let mut reached = Standing::Pending;
    let following = async {
        let mut changes = pin!(watch_object(api, &name));
        while let Some(change) = changes.next().await {
            match change {
                Ok(Some(now)) if now.uid() == uid => {
                    let far = if gate.lets_through(&now) { standing(goal, &now) } else { Standing::Pending };
                    last = now;
                    if far != Standing::Pending {
                        return Some(far);
                    }
                }
                Ok(_) => return None,
                Err(error) if is_refused(&error) => return Some(Standing::Pending),
                // It is made again by itself.
                Err(_) => {}
            }
        }
        Some(Standing::Pending)
    };
    tokio::select! {
        far = following => match far {
            Some(far) => reached = far,
            None => {
                gateway.index.forget(&uid.unwrap_or_default()).await;
                return (None, if goal == Goal::Gone { Standing::Reached } else { Standing::Over });
            }
        },
        () = tokio::time::sleep_until(caller.story.until(limit)) => {}
        () = gateway.closing.cancelled() => {}
    }
    gateway.catch_up([&last]).await;
    (Some(last), reached)
}

fn is_refused(error: &watcher::Error) -> bool {
    let source = match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => source,
        watcher::Error::WatchError(status) => return matches!(status.code, 401 | 403),
        watcher::Error::NoResourceVersion => return false,
    };
    matches!(source, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::testing::instance;

    fn far(goal: Goal, status: Value) -> Standing {
        standing(goal, &instance(json!({}), status))
    }

    #[test]
    fn a_code_is_there_or_on_its_way_or_will_not_come() {
        let qr = json!({"code": "2@x", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
        let ready = |reason: &str| json!([{"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        assert_eq!(far(Goal::Code, json!({"phase": "AwaitingPairing", "qr": qr})), Standing::Reached);
        assert_eq!(far(Goal::Connected, json!({"phase": "AwaitingPairing", "qr": qr})), Standing::Over);
        assert_eq!(far(Goal::Code, json!({"phase": "AwaitingPairing"})), Standing::Pending);
        assert_eq!(far(Goal::Code, json!({"phase": "PairingExpired"})), Standing::Pending);
        assert_eq!(far(Goal::Code, json!({"phase": "Rejected"})), Standing::Over);
        assert_eq!(
            far(Goal::Code, json!({"phase": "Pending", "conditions": ready("NoDefaultBridge")})),
            Standing::Over
        );
        assert_eq!(
            far(Goal::Code, json!({"phase": "Pending", "conditions": ready("PairingQueued")})),
            Standing::Pending
        );
        assert_eq!(far(Goal::Code, Value::Null), Standing::Pending);
    }

    #[test]
    fn the_other_goals_are_reached_by_phase_or_mirror() {
        assert_eq!(far(Goal::Connected, json!({"phase": "Connected"})), Standing::Reached);
        assert_eq!(far(Goal::Connected, json!({"phase": "Reconnecting"})), Standing::Pending);
        assert_eq!(far(Goal::Disconnected, json!({"phase": "Connected"})), Standing::Pending);
        assert_eq!(far(Goal::Disconnected, json!({"phase": "Disconnected"})), Standing::Reached);
        assert_eq!(far(Goal::Primary, json!({"phase": "Connected"})), Standing::Pending);
        assert_eq!(far(Goal::Primary, json!({"phase": "Connected", "primary": true})), Standing::Reached);
        assert_eq!(far(Goal::Gone, json!({"phase": "Terminating"})), Standing::Pending);
        let mut old = instance(json!({}), json!({"phase": "Connected", "observedGeneration": 1}));
        old.metadata.generation = Some(2);
        assert_eq!(standing(Goal::Connected, &old), Standing::Pending);
    }
}
