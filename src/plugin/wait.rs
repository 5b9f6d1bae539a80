//! `--wait`: following an instance until what was asked for has come about. The decisions are pure.

use std::pin::pin;

use futures::StreamExt;
use tokio::time::timeout;

use super::{
    args::{InstanceName, Limit},
    client::Cluster,
    error::PluginError,
    output,
    screen::{Screen, because, command},
};
pub use crate::rules::progress::Gate;
use crate::{
    api::{Phase, WhatsAppInstance},
    rules::progress::lags_behind,
};

/// Refusals in a row that a watch which has worked before puts up with; with the watcher's back-off about half a minute.
const REFUSALS: u32 = 5;

/// Which errors of a watch to sit out. A server that restarts refuses connections, and for a moment also people and
/// resources it knows. One that never answered is not worth waiting for, nor is a right that was missing from the start.
#[derive(Debug)]
pub struct Patience {
    /// The server has answered something in this run.
    answered: bool,
    /// The watch itself has worked.
    watched: bool,
    refusals: u32,
}

impl Patience {
    /// `answered` when the cluster has already answered a request of this run.
    pub fn new(answered: bool) -> Self {
        Self { answered, watched: false, refusals: 0 }
    }

    /// The watch works.
    pub fn renew(&mut self) {
        *self = Self { answered: true, watched: true, refusals: 0 };
    }

    /// Whether to go on watching after this error.
    pub fn bears(&mut self, error: &PluginError) -> bool {
        // A gateway that was there has no pod for a moment when it is replaced.
        if error.is_passing() || matches!(error, PluginError::NoGateway(_)) {
            return self.answered;
        }
        self.refusals += 1;
        self.watched && self.refusals < REFUSALS
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Online.
    Connected,
    /// Offline.
    Disconnected,
    /// No device is linked any more.
    Unlinked,
    /// A code to scan, or no need for one.
    Code,
}

/// How far it is.
#[derive(Debug)]
pub enum Progress {
    /// There.
    Reached(&'static str),
    /// Not yet; where it stands.
    Pending(String),
    /// It will not come about by itself.
    Failed(PluginError),
}

/// How far an instance is on its way to a goal.
pub fn progress(goal: Goal, instance: &WhatsAppInstance) -> Progress {
    let Some((status, phase)) = instance.status.as_ref().and_then(|status| Some((status, status.phase?))) else {
        return Progress::Pending("the operator has not looked at the instance yet; is it running?".to_owned());
    };
    if lags_behind(instance, status) {
        return Progress::Pending("the operator has not taken up the change yet; is it running?".to_owned());
    }
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    let stands = || format!("\"{name}\" is {phase}{}", because(status));
    let pair = |how: &str| {
        let words = format!("\"{name}\" has to be paired first: `{}{how}`", command("qr", instance));
        Progress::Failed(PluginError::NeedsPairing(words))
    };
    let over = || Progress::Failed(PluginError::Ended(stands()));
    match (goal, phase) {
        (_, Phase::Terminating | Phase::Rejected) => over(),
        (Goal::Connected | Goal::Code, Phase::Connected) => Progress::Reached("connected"),
        // One that may only not start new chats is online all the same.
        (Goal::Connected | Goal::Code, Phase::Restricted) if status.is_connected() => Progress::Reached("connected"),
        (Goal::Connected, Phase::AwaitingPairing) => pair(""),
        (Goal::Connected, Phase::PairingExpired | Phase::LoggedOut) => pair(" --refresh"),
        (Goal::Connected, Phase::Restricted | Phase::AwaitingPasskey | Phase::Disconnected) => over(),
        // Not linked is offline as well: there is nothing left to disconnect.
        (Goal::Disconnected, Phase::Disconnected | Phase::LoggedOut | Phase::PairingExpired) => {
            Progress::Reached("disconnected")
        }
        (Goal::Unlinked, Phase::Unlinked) => Progress::Reached("unlinked"),
        (Goal::Code, Phase::AwaitingPairing) if matches!(super::screen::next(instance), Screen::Code(_)) => {
            Progress::Reached("waiting for the phone")
        }
        (Goal::Code, Phase::Restricted | Phase::Disconnected | Phase::AwaitingPasskey) => over(),
        _ => Progress::Pending(stands()),
    }
}

/// Follows an instance to a goal; returns what it reached.
///
/// # Errors
/// When time is up, when the goal cannot be reached any more, and see [`PluginError`].
pub async fn until(
    cluster: &Cluster,
    name: &InstanceName,
    mut gate: Gate,
    goal: Goal,
    limit: Limit,
) -> Result<&'static str, PluginError> {
    let mut last = "the operator has not reacted yet; is it running?".to_owned();
    let following = async {
        let mut changes = pin!(cluster.watch(name));
        let (mut patience, mut lost) = (Patience::new(true), false);
        while let Some(change) = changes.next().await {
            if change.is_ok() {
                patience.renew();
                lost = false;
            }
            match change {
                Ok(Some(instance)) if gate.lets_through(&instance) => match progress(goal, &instance) {
                    Progress::Reached(what) => return Ok(what),
                    Progress::Pending(words) => last = words,
                    Progress::Failed(error) => return Err(error),
                },
                Ok(Some(_)) => {}
                Ok(None) => return Err(cluster.not_found(name)),
                Err(error) if patience.bears(&error) => {
                    last = error.to_string();
                    if !std::mem::replace(&mut lost, true) {
                        output::note(&format!("lost the connection and keeps trying: {last}"))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(PluginError::Ended("the API server ended the watch; try again".to_owned()))
    };
    match limit.0 {
        None => following.await,
        Some(limit) => match timeout(limit, following).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PluginError::TimedOut { after: limit.as_secs(), last }),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Gate, Goal, Patience, Progress, REFUSALS, progress};
    use crate::plugin::{error::PluginError, fixtures::instance};

    fn code(goal: Goal, status: Value) -> Option<u8> {
        match progress(goal, &instance(json!({}), status)) {
            Progress::Reached(_) => Some(0),
            Progress::Pending(_) => None,
            Progress::Failed(error) => Some(error.exit_code()),
        }
    }

    #[test]
    fn connecting_ends_online_or_with_what_stands_in_the_way() {
        for (phase, expected) in [
            ("Connected", Some(0)),
            ("Connecting", None),
            ("Reconnecting", None),
            ("Pending", None),
            ("BridgeUnavailable", None),
            ("AwaitingPairing", Some(5)),
            ("PairingExpired", Some(5)),
            ("LoggedOut", Some(5)),
            ("Rejected", Some(1)),
            ("Restricted", Some(1)),
            ("Terminating", Some(1)),
        ] {
            assert_eq!(code(Goal::Connected, json!({"phase": phase})), expected, "{phase}");
        }
        assert_eq!(code(Goal::Connected, Value::Null), None);
    }

    #[test]
    fn a_session_that_may_only_answer_is_online_and_a_banned_one_is_not() {
        let connected = json!([{"type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        for goal in [Goal::Connected, Goal::Code] {
            assert_eq!(code(goal, json!({"phase": "Restricted", "conditions": connected})), Some(0), "{goal:?}");
            assert_eq!(code(goal, json!({"phase": "Restricted"})), Some(1), "{goal:?}");
        }
    }

    #[test]
    fn disconnecting_ends_offline() {
        for (phase, expected) in
            [("Disconnected", Some(0)), ("LoggedOut", Some(0)), ("Connected", None), ("Reconnecting", None)]
        {
            assert_eq!(code(Goal::Disconnected, json!({"phase": phase})), expected, "{phase}");
        }
    }

    #[test]
    fn a_refresh_ends_with_a_code_and_not_before() {
        let qr = json!({"code": "2@x", "expiresAt": "2026-01-01T00:00:20Z", "attempt": 1, "attempts": 6});
        assert_eq!(code(Goal::Code, json!({"phase": "AwaitingPairing"})), None);
        assert_eq!(code(Goal::Code, json!({"phase": "AwaitingPairing", "qr": qr})), Some(0));
        assert_eq!(code(Goal::Code, json!({"phase": "PairingExpired"})), None);
        assert_eq!(code(Goal::Code, json!({"phase": "Connected"})), Some(0));
    }

    #[test]
    fn a_broken_connection_is_sat_out_and_a_lasting_refusal_is_not() {
        let broken = PluginError::Unreachable { context: String::new(), server: String::new(), cause: String::new() };
        let refused = PluginError::NotInstalled { context: String::new() };
        assert!(!Patience::new(false).bears(&broken), "it never worked");
        let mut patience = Patience::new(true);
        assert!((0..100).all(|_| patience.bears(&broken)));
        assert!(!patience.bears(&refused), "the right to watch was never there");
        patience.renew();
        assert!((1..REFUSALS).all(|_| patience.bears(&refused)) && !patience.bears(&refused));
        patience.renew();
        assert!(patience.bears(&refused));
    }

    #[test]
    fn the_status_from_before_a_refresh_is_no_answer_to_it() {
        let expired = instance(json!({}), json!({"phase": "PairingExpired"}));
        let mut gate = Gate::after_refresh(&expired);
        assert!(!gate.lets_through(&expired));
        assert!(gate.lets_through(&instance(json!({}), json!({"phase": "AwaitingPairing"}))));
        assert!(gate.lets_through(&expired), "expired again, after the new window");
    }

    #[test]
    fn the_status_of_the_spec_before_a_change_is_no_answer_to_it() {
        let mut changed = instance(json!({}), json!({"phase": "Connected", "observedGeneration": 1}));
        changed.metadata.generation = Some(2);
        let mut gate = Gate::after_change(&changed);
        assert!(!gate.lets_through(&changed));
        assert!(gate.lets_through(&instance(json!({}), json!({"phase": "Connected", "observedGeneration": 2}))));
    }
}
