//! What conditions and phase an instance has, given what is known about its session. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    facts::{Acceptance, BridgeFault},
    finding::Finding,
};
use crate::{
    api::{Phase, WhatsAppInstance, WhatsAppInstanceStatus, conditions as kinds, conditions::reason},
    bridge_api::{Open, RestrictionKind, Session, SessionPhase, SessionReason},
    rules::Denial,
};

/// What is said of a session that is offline by wish and has no device.
const OFFLINE_UNLINKED: &str =
    "Offline by wish, and no device is linked; set spec.desiredState to Connected to link one.";
/// Appended to what is said of a code when the bridge gives impossible times for it.
const CLOCKS_DIFFER: &str = " The clocks of bridge and operator differ, so the end that is told of the code is wrong for some; \
                             have the clocks of both nodes set.";

/// Phase and the conditions that carry it; `Ready` is derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The phase.
    pub phase: Phase,
    bridge: Finding,
    paired: Finding,
    connected: Finding,
    /// What holds Ready back although everything else is True.
    limited: Option<Finding>,
}

impl Reading {
    /// All five conditions, keeping the time of those whose status stays; and behind them those that are not ours.
    pub fn conditions(
        &self,
        accepted: Finding,
        old: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let ready = self.ready(&accepted);
        let findings = [accepted, self.bridge.clone(), self.paired.clone(), self.connected.clone(), ready];
        let each = kinds::ALL.into_iter().zip(findings);
        let ours = each.map(|(kind, finding)| finding.condition(kind, old, generation, now));
        let foreign = old.iter().filter(|condition| !kinds::ALL.contains(&condition.type_.as_str()));
        ours.chain(foreign.cloned()).collect()
    }

    /// The first that is False speaks for all; Unknown speaks only when none is.
    fn ready(&self, accepted: &Finding) -> Finding {
        // What holds a deletion up matters less than that there is one.
        let ending = self.limited.as_ref().filter(|_| self.phase == Phase::Terminating);
        let holds = [ending, Some(accepted), Some(&self.bridge), Some(&self.connected), self.limited.as_ref()];
        let by = |status| holds.iter().flatten().find(|finding| finding.status == status);
        match by("False").or_else(|| by("Unknown")) {
            Some(finding) => Finding { status: "False", ..(*finding).clone() },
            None => Finding::yes(reason::CONNECTED),
        }
    }
}

/// Whether the rules let it run. While that is undecided, the previous condition is kept; an instance is never promoted.
pub fn accepted(instance: &WhatsAppInstance, acceptance: &Acceptance) -> Finding {
    match acceptance {
        Acceptance::Waiting(denial) => Finding::new("False", denial.reason, sentence(&denial.message)),
        Acceptance::Accepted if instance.owner().is_none() => Finding::yes(reason::NO_OWNER),
        Acceptance::Accepted => Finding::yes(reason::ACCEPTED),
        Acceptance::Undecided => {
            let before = instance.status.as_ref().and_then(|status| kept(status, kinds::ACCEPTED));
            before.unwrap_or_else(|| Finding::unknown(reason::UNKNOWN))
        }
    }
}

/// It breaks a rule: it is not brought up, and a device that was linked stays linked.
pub fn rejected(old: &WhatsAppInstanceStatus, denial: &Denial) -> Reading {
    const IDLE: &str = "Not brought up while the instance is not accepted.";
    Reading {
        phase: Phase::Rejected,
        bridge: Finding::new("Unknown", reason::UNKNOWN, IDLE),
        paired: kept(old, kinds::PAIRED).unwrap_or_else(|| Finding::new("False", reason::NOT_STARTED, IDLE)),
        connected: Finding::new("False", denial.reason, IDLE),
        limited: None,
    }
}

/// A refusal as condition messages are written.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}. It is accepted by itself once all rules are met.", letters.as_str())
}

/// Nothing could be decided for some time; `bridge` says what of the bridge is waited for.
pub fn waiting(bridge: &str) -> Reading {
    Reading {
        phase: Phase::Pending,
        bridge: Finding::new("Unknown", reason::UNKNOWN, bridge),
        paired: Finding::unknown(reason::UNKNOWN),
        connected: Finding::unknown(reason::UNKNOWN),
        limited: None,
    }
}

/// No bridge could be chosen.
pub fn unbound(fault: &BridgeFault) -> Reading {
    const IDLE: &str = "Not begun while there is no bridge for the session.";
    Reading {
        phase: Phase::BridgeUnavailable,
        bridge: Finding::new("False", fault.reason, &*fault.message),
        paired: Finding::new("False", reason::NOT_STARTED, IDLE),
        connected: Finding::new("False", reason::NOT_STARTED, IDLE),
        limited: None,
    }
}

/// Bound, and the bridge has not shown the session yet.
pub fn not_started(bridge_answers: bool) -> Reading {
    Reading {
        phase: Phase::Pending,
        bridge: if bridge_answers { Finding::yes(reason::BRIDGE_READY) } else { Finding::unknown(reason::UNKNOWN) },
        paired: Finding::no(reason::NOT_STARTED),
        connected: Finding::no(reason::NOT_STARTED),
        limited: None,
    }
}

/// The bridge cannot be used: `Paired` keeps its last value, `Connected` becomes Unknown.
pub fn unusable(old: &WhatsAppInstanceStatus, fault: &BridgeFault) -> Reading {
    let unknown = || Finding::new("Unknown", fault.reason, "Not known while the bridge cannot be used.");
    Reading {
        phase: Phase::BridgeUnavailable,
        bridge: Finding::new("False", fault.reason, &*fault.message),
        paired: kept(old, kinds::PAIRED).unwrap_or_else(unknown),
        connected: unknown(),
        limited: None,
    }
}

/// The bridge no longer knows a session that had been paired.
pub fn lost() -> Reading {
    Reading {
        phase: Phase::Pending,
        bridge: Finding::yes(reason::BRIDGE_READY),
        paired: Finding::no(reason::SESSION_LOST),
        connected: Finding::no(reason::SESSION_LOST),
        limited: None,
    }
}

/// Being deleted, and not quickly. `unlinks`: there may be a device, and it is to be unlinked.
pub fn terminating(
    old: &WhatsAppInstanceStatus,
    until: Timestamp,
    unlinks: bool,
    fault: Option<&BridgeFault>,
) -> Reading {
    let until = super::times::seconds(until).0;
    let (doing, without) = if unlinks {
        ("The device is being unlinked.", "without unlinking the device")
    } else {
        ("The session is being deleted.", "without the bridge's word")
    };
    let cause = fault.map_or(doing, |fault| &fault.message);
    let text = format!("{cause} Deletion is retried until {until}, then goes on {without}.");
    Reading {
        phase: Phase::Terminating,
        bridge: fault
            .map_or_else(|| Finding::yes(reason::BRIDGE_READY), |t| Finding::new("False", t.reason, &*t.message)),
        paired: kept(old, kinds::PAIRED).unwrap_or_else(|| {
            Finding::new("Unknown", reason::TERMINATING, "Not known; the session is being deleted.")
        }),
        connected: Finding::new("Unknown", reason::TERMINATING, &*text),
        limited: Some(Finding::new("False", reason::TERMINATING, text)),
    }
}

/// Let go by this operator, and held by these finalizers of others.
pub fn ended(holders: &[String]) -> Reading {
    let text = format!(
        "Being deleted: this operator has let go of it. The object stays until its other finalizers are removed: {}.",
        holders.join(", ")
    );
    let no = || Finding::new("False", reason::TERMINATING, &*text);
    Reading {
        phase: Phase::Terminating,
        bridge: Finding::new("Unknown", reason::TERMINATING, "Not asked any more."),
        paired: Finding::new(
            "Unknown",
            reason::TERMINATING,
            "Not known any more; Events say it where the device may still be linked.",
        ),
        connected: no(),
        limited: Some(no()),
    }
}

/// The bridge knows the session. `lost`: it replaces one whose keys the bridge lost, and no device is linked to it yet.
/// `clocks_differ`: its times are not those of our clock.
pub fn of_session(session: &Session, lost: bool, clocks_differ: bool, now: Timestamp) -> Reading {
    use SessionPhase as P;
    let Some(session_phase) = session.phase.known() else { return unknown_phase(session) };
    let because = session.reason.as_ref().map(Open::<SessionReason>::as_str);
    let (phase, unpaired, offline) = match session_phase {
        P::Unlinking => (Phase::Disconnected, reason::UNLINKING, because.unwrap_or(reason::UNLINKING)),
        P::Stopped if session.spec.wants_unlinked() => (Phase::Unlinked, reason::UNLINKED, reason::UNLINKED),
        P::Stopped => (Phase::Disconnected, reason::NOT_STARTED, reason::STOPPED),
        P::Queued if session.paired => (Phase::Connecting, reason::NOT_STARTED, because.unwrap_or(reason::CONNECTING)),
        P::Queued => (Phase::Pending, reason::PAIRING_QUEUED, because.unwrap_or(reason::PAIRING_QUEUED)),
        P::Opening | P::Deleting => (Phase::Pending, reason::NOT_STARTED, because.unwrap_or(reason::NOT_STARTED)),
        P::AwaitingPairing | P::Linking => {
            (Phase::AwaitingPairing, reason::AWAITING_PAIRING, because.unwrap_or(reason::AWAITING_PAIRING))
        }
        P::PairingExpired => {
            (Phase::PairingExpired, reason::PAIRING_EXPIRED, because.unwrap_or(reason::PAIRING_EXPIRED))
        }
        P::AwaitingPasskey => (Phase::AwaitingPasskey, reason::AWAITING_PASSKEY, reason::AWAITING_PASSKEY),
        P::Connecting => (Phase::Connecting, reason::NOT_STARTED, because.unwrap_or(reason::CONNECTING)),
        P::Connected => (Phase::Connected, reason::NOT_STARTED, reason::CONNECTED),
        P::Reconnecting => (Phase::Reconnecting, reason::NOT_STARTED, because.unwrap_or(reason::CONNECTING)),
        P::Ended => (Phase::Disconnected, reason::NOT_STARTED, because.unwrap_or(reason::STOPPED)),
        P::Banned => (Phase::Restricted, reason::NOT_STARTED, reason::TEMPORARY_BAN),
        P::LoggedOut => (Phase::LoggedOut, reason::LOGGED_OUT, reason::LOGGED_OUT),
    };
    // Why no device is linked says more than how far linking one has come.
    let unpaired = match session.reason.as_ref().and_then(Open::known).filter(|why| why.is_about_the_link()) {
        Some(why) => why.as_str(),
        None if lost && phase != Phase::LoggedOut && phase != Phase::Unlinked => reason::SESSION_LOST,
        None => unpaired,
    };
    // A session that says it is connected but holds no keys is not connected.
    let connected = session_phase == P::Connected && session.paired;
    let never_linked = session_phase == P::Stopped && !session.paired;
    let no = |because: &str| {
        if never_linked && [reason::NOT_STARTED, reason::STOPPED].contains(&because) {
            return Finding::new("False", because, OFFLINE_UNLINKED);
        }
        let mut finding = Finding::no(because);
        if clocks_differ && because == reason::AWAITING_PAIRING {
            finding.message.push_str(CLOCKS_DIFFER);
        }
        finding
    };
    let timelocked = connected && timelocked(session, now);
    let unacknowledged = session.reason.as_ref().is_some_and(|why| *why == SessionReason::MessagesNotAcknowledged);
    let limited = match (timelocked, connected && unacknowledged) {
        (true, _) => Some(Finding::no(reason::REACHOUT_TIMELOCK)),
        (_, true) => Some(Finding::no(reason::MESSAGES_NOT_ACKNOWLEDGED)),
        (false, false) => None,
    };
    Reading {
        phase: match phase {
            Phase::Connected if timelocked => Phase::Restricted,
            Phase::Connected if !connected => Phase::Pending,
            phase => phase,
        },
        bridge: Finding::yes(reason::BRIDGE_READY),
        paired: if session.paired { Finding::yes(reason::PAIRED) } else { no(unpaired) },
        connected: if connected {
            Finding::yes(reason::CONNECTED)
        } else {
            no(if session_phase == P::Connected { reason::NOT_STARTED } else { offline })
        },
        limited,
    }
}

/// A later release of the bridge uses a phase that this one does not know.
fn unknown_phase(session: &Session) -> Reading {
    let text = "The bridge tells of a state of the session that this version of the operator does not know; upgrade the operator.";
    Reading {
        phase: Phase::Pending,
        bridge: Finding::yes(reason::BRIDGE_READY),
        paired: if session.paired { Finding::yes(reason::PAIRED) } else { Finding::no(reason::NOT_STARTED) },
        connected: Finding::new("Unknown", reason::UNKNOWN, text),
        limited: None,
    }
}

fn timelocked(session: &Session, now: Timestamp) -> bool {
    session.restriction.as_ref().is_some_and(|restriction| {
        restriction.kind == RestrictionKind::ReachoutTimelock
            && restriction.expires_at.is_none_or(|end| super::times::seconds(end).0 > now)
    })
}

fn kept(old: &WhatsAppInstanceStatus, kind: &str) -> Option<Finding> {
    let condition = old.conditions.iter().find(|condition| condition.type_ == kind)?;
    let status = match condition.status.as_str() {
        "True" => "True",
        "False" => "False",
        _ => "Unknown",
    };
    Some(Finding::new(status, &condition.reason, &*condition.message))
}

#[cfg(test)]
mod tests {
    use super::{kinds, not_started, reason};
    use crate::controller::{decide::finding::Finding, fixtures::now};

    #[test]
    fn conditions_that_are_not_ours_stay() {
        let foreign = Finding::yes(reason::UNKNOWN).condition("example.com/Audited", &[], Some(1), now());
        let old = [foreign.clone(), Finding::yes(reason::ACCEPTED).condition(kinds::ACCEPTED, &[], Some(1), now())];
        let conditions = not_started(true).conditions(Finding::yes(reason::ACCEPTED), &old, Some(2), now());
        let named: Vec<&str> = conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(named, [&kinds::ALL[..], &["example.com/Audited"]].concat());
        assert_eq!(conditions.last(), Some(&foreign));
    }
}
