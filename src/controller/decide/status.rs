//! The status an instance should show. Pure: facts in, status out, together with the moment it would go stale.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::{
    facts::{BridgeFault, Facts, Leaving, LinkState},
    finding::Finding,
    readings::{self, Reading},
    times::{after, seconds},
};
use crate::{
    api::{
        BridgeBinding, DeletionPolicy, Disconnection, PairingCodeStatus, Phase, QrStatus, RestrictionStatus,
        WhatsAppInstance, WhatsAppInstanceStatus,
        conditions::{self, reason},
    },
    bridge_api::{Open, Session, SessionPhase, SessionReason},
    drivers::session_id,
    rules::Denial,
};

/// States a session passes through on its way elsewhere are not worth a write unless they last.
const PASSING: SignedDuration = SignedDuration::from_secs(5);
/// A connection that comes back this fast was hardly gone.
const BLIP: SignedDuration = SignedDuration::from_secs(3);
/// A code this long past its end is removed although the bridge has not said that it ended. Clocks of two nodes that differ by more
/// are reported.
const STALE_CODE: SignedDuration = SignedDuration::from_secs(5);
/// How long WhatsApp takes the first QR code, each further one, and a code that is typed (wacore's pair_code.rs).
const FIRST_QR: SignedDuration = SignedDuration::from_secs(60);
const NEXT_QR: SignedDuration = SignedDuration::from_secs(20);
const PAIRING_CODE: SignedDuration = SignedDuration::from_secs(180);
/// `lastActiveAt` is written at most this often: a status that ticks would be a write for each message.
const ACTIVITY: SignedDuration = SignedDuration::from_mins(15);
/// How long a deletion may take before it shows in the status.
const QUICK_DELETION: SignedDuration = SignedDuration::from_secs(5);

/// How long an instance may show nothing at all while nothing can be decided about it.
pub const QUICK_DECISION: SignedDuration = SignedDuration::from_secs(10);

/// What is known about the session.
#[derive(Clone, Copy, Debug)]
pub enum Outlook<'a> {
    /// No bridge could be chosen.
    Unbound(&'a BridgeFault),
    /// The bridge cannot be used.
    Unusable(&'a BridgeFault),
    /// The link is being made.
    Unknown,
    /// The bridge answers and does not know the session.
    Absent,
    /// The bridge knows the session. The flag: it already has the wanted spec.
    Known(&'a Session, bool),
}

/// A status, and when to look again because time alone will change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The status to show.
    pub status: WhatsAppInstanceStatus,
    /// When it may go stale.
    pub recheck: Option<Timestamp>,
}

/// The status to show now.
pub fn next(facts: &Facts<'_>, binding: Option<&BridgeBinding>, outlook: Outlook<'_>) -> Next {
    let old = facts.instance.status.clone().unwrap_or_default();
    let (status, recheck) = match passing(facts, &old, outlook) {
        Some(until) => {
            let conditions = with_acceptance(facts, &old.conditions);
            (WhatsAppInstanceStatus { bridge: binding.cloned(), primary: facts.primary, conditions, ..old }, until)
        }
        None => (settled(facts, &old, binding, outlook), None),
    };
    without_stale(status, recheck, facts)
}

/// The status of an instance that breaks a rule: no codes, nothing connected, and where it was bound it stays bound.
pub fn rejected(facts: &Facts<'_>, denial: &Denial) -> WhatsAppInstanceStatus {
    let old = facts.instance.status.clone().unwrap_or_default();
    let reading = readings::rejected(&old, denial);
    WhatsAppInstanceStatus {
        qr: None,
        pairing_code: None,
        connected_at: None,
        primary: false,
        ..assemble(facts, &old, &reading)
    }
}

/// The status of an instance whose deletion takes long enough to be seen; `None` while it is quick.
pub fn terminating(
    facts: &Facts<'_>,
    leaving: Leaving,
    patience: SignedDuration,
    fault: Option<&BridgeFault>,
) -> Option<WhatsAppInstanceStatus> {
    if fault.is_none() && leaving.lasted < QUICK_DELETION {
        return None;
    }
    let old = facts.instance.status.clone().unwrap_or_default();
    let reading = readings::terminating(&old, after(leaving.since, patience), is_to_unlink(facts.instance), fault);
    Some(WhatsAppInstanceStatus { qr: None, pairing_code: None, ..assemble(facts, &old, &reading) })
}

/// The status of an instance that this operator has let go, for as long as others hold the object: nothing of it is in use. Whose the
/// device was stays, for it may be linked yet where the deletion was given up.
pub fn ended(facts: &Facts<'_>) -> WhatsAppInstanceStatus {
    let old = facts.instance.status.clone().unwrap_or_default();
    let reading = readings::ended(facts.instance.finalizers());
    WhatsAppInstanceStatus {
        primary: false,
        connected_at: None,
        restriction: None,
        qr: None,
        pairing_code: None,
        ..assemble(facts, &old, &reading)
    }
}

/// The status of an instance that waits for its owner's ledger, and has for so long that it must be said.
pub fn awaiting_ledger(facts: &Facts<'_>) -> WhatsAppInstanceStatus {
    let text = match &facts.trouble {
        Some(trouble) => {
            format!("Waits for the ledger of its owner, which cannot be settled: {trouble}. It is tried again.")
        }
        None => "Waits for the ledger of its owner to be settled.".into(),
    };
    waiting(facts, Finding::new("Unknown", reason::UNKNOWN, text), "Not looked at before the instance is accepted.")
}

/// The status of an instance whose session may be on a shard that is not heard of.
pub fn awaiting_shard(facts: &Facts<'_>, awaited: &BridgeBinding) -> WhatsAppInstanceStatus {
    let BridgeBinding { name, shard } = awaited;
    let text = format!(
        "Waits to hear from shard {shard} of WhatsAppBridge {name}, which may have its session; look at that bridge."
    );
    waiting(facts, readings::accepted(facts.instance, &facts.acceptance), &text)
}

fn waiting(facts: &Facts<'_>, accepted: Finding, bridge: &str) -> WhatsAppInstanceStatus {
    let old = facts.instance.status.clone().unwrap_or_default();
    let reading = readings::waiting(bridge);
    let conditions = reading.conditions(accepted, &old.conditions, facts.instance.metadata.generation, facts.now);
    WhatsAppInstanceStatus { conditions, ..assemble(facts, &old, &reading) }
}

/// The status there is, with the binding that it lost.
pub fn rebound(facts: &Facts<'_>) -> WhatsAppInstanceStatus {
    let old = facts.instance.status.clone().unwrap_or_default();
    WhatsAppInstanceStatus { bridge: facts.binding().cloned(), ..old }
}

/// The conditions there are, with what the ledger says: that is kept, since it does not depend on the session.
fn with_acceptance(facts: &Facts<'_>, old: &[Condition]) -> Vec<Condition> {
    let accepted = readings::accepted(facts.instance, &facts.acceptance);
    let is_new = |shown: &Condition| shown.type_ == conditions::ACCEPTED && !accepted.is_shown_by(shown);
    let generation = facts.instance.metadata.generation;
    let renewed = || accepted.clone().condition(conditions::ACCEPTED, old, generation, facts.now);
    old.iter().map(|shown| if is_new(shown) { renewed() } else { shown.clone() }).collect()
}

/// Whether the status should stay as it is for now, and if so until when at most.
#[allow(clippy::option_option)] // "keep it, until told" and "do not keep it" are different answers
fn passing(facts: &Facts<'_>, old: &WhatsAppInstanceStatus, outlook: Outlook<'_>) -> Option<Option<Timestamp>> {
    let is_true = |kind| old.true_because(kind).is_some();
    if !is_true(conditions::ACCEPTED) {
        return None;
    }
    // Unknown is what an instance bound while its link was being made says; a link that comes up does not contradict it.
    let bridge_stood = !old.conditions.iter().any(|c| c.type_ == conditions::BRIDGE_AVAILABLE && c.status == "False");
    #[allow(clippy::match_same_arms)] // the order of the arms is the argument
    match outlook {
        Outlook::Unknown => Some(None),
        // The session is about to be put; what it then says counts.
        Outlook::Absent => (bridge_stood && !was_paired(old)).then_some(None),
        Outlook::Known(..) if !bridge_stood => None,
        // Not linked any more, whatever comes next: that must be seen.
        Outlook::Known(session, _) if is_true(conditions::PAIRED) && !session.paired => None,
        Outlook::Known(_, false) => Some(None),
        Outlook::Known(session, true) => {
            use SessionPhase as P;
            let phase = session.phase.known()?;
            let turning = if session.spec.wants_online() {
                phase == P::Stopped
            } else {
                matches!(phase, P::Connected | P::Connecting | P::Reconnecting | P::AwaitingPairing | P::Linking)
                    || matches!(phase, P::Opening | P::Queued)
            };
            if turning || phase == P::Deleting {
                return Some(None);
            }
            let grace = match (phase, session.reason.as_ref().map(Open::known)) {
                (P::Opening | P::Queued | P::Connecting | P::Linking, None) => PASSING,
                (P::Reconnecting, None | Some(Some(SessionReason::ConnectionLost))) => BLIP,
                _ => return None,
            };
            let until = after(facts.session_since, grace);
            (facts.now < until).then_some(Some(until))
        }
        Outlook::Unbound(_) | Outlook::Unusable(_) => None,
    }
}

/// Whether a device is linked to the session of this instance, as far as its status knows.
pub fn is_linked(instance: &WhatsAppInstance) -> bool {
    instance.status.as_ref().is_some_and(|status| status.true_because(conditions::PAIRED).is_some())
}

/// Whether a device may be linked, as far as its status knows, that the deletion of this instance is to unlink.
pub fn is_to_unlink(instance: &WhatsAppInstance) -> bool {
    let mut shown = instance.status.iter().flat_map(|status| &status.conditions);
    let paired = shown.find(|condition| condition.type_ == conditions::PAIRED);
    let may_be = paired.is_none_or(|paired| paired.status != "False" || paired.reason == reason::SESSION_LOST);
    instance.spec.deletion_policy == DeletionPolicy::Unlink && may_be
}

/// Whether the status claims a linked device.
fn was_paired(old: &WhatsAppInstanceStatus) -> bool {
    old.phone_number.is_some() || old.true_because(conditions::PAIRED).is_some()
}

/// Whether the status says that the bridge lost the linked device. It says so until a device is linked again.
fn is_lost(old: &WhatsAppInstanceStatus) -> bool {
    let lost = |c: &Condition| c.type_ == conditions::PAIRED && c.status == "False" && c.reason == reason::SESSION_LOST;
    old.conditions.iter().any(lost)
}

fn settled(
    facts: &Facts<'_>,
    old: &WhatsAppInstanceStatus,
    binding: Option<&BridgeBinding>,
    outlook: Outlook<'_>,
) -> WhatsAppInstanceStatus {
    let reading = match outlook {
        Outlook::Unbound(fault) => readings::unbound(fault),
        Outlook::Unusable(fault) => readings::unusable(old, fault),
        Outlook::Unknown => readings::not_started(false),
        Outlook::Absent if was_paired(old) => readings::lost(),
        Outlook::Absent => readings::not_started(true),
        Outlook::Known(session, _) => readings::of_session(session, is_lost(old), clocks_differ(facts), facts.now),
    };
    let base = WhatsAppInstanceStatus {
        bridge: binding.cloned(),
        session_id: binding
            .and(facts.instance.uid())
            .map(|uid| session_id(&uid).to_owned())
            .or_else(|| old.session_id.clone()),
        ..assemble(facts, old, &reading)
    };
    match outlook {
        Outlook::Known(session, _) => with_session(base, old, session, reading.phase),
        Outlook::Absent if was_paired(old) => WhatsAppInstanceStatus {
            phone_number: None,
            push_name: None,
            connected_at: None,
            restriction: None,
            qr: None,
            pairing_code: None,
            last_disconnect: Some(Disconnection { reason: reason::SESSION_LOST.into(), at: seconds(facts.now) }),
            ..base
        },
        _ => WhatsAppInstanceStatus { qr: None, pairing_code: None, ..base },
    }
}

fn assemble(facts: &Facts<'_>, old: &WhatsAppInstanceStatus, reading: &Reading) -> WhatsAppInstanceStatus {
    let generation = facts.instance.metadata.generation;
    WhatsAppInstanceStatus {
        observed_generation: generation,
        phase: Some(reading.phase),
        conditions: reading.conditions(
            readings::accepted(facts.instance, &facts.acceptance),
            &old.conditions,
            generation,
            facts.now,
        ),
        primary: facts.primary,
        bridge: facts.binding().cloned(),
        ..old.clone()
    }
}

fn with_session(
    base: WhatsAppInstanceStatus,
    old: &WhatsAppInstanceStatus,
    session: &Session,
    phase: Phase,
) -> WhatsAppInstanceStatus {
    let awaiting = phase == Phase::AwaitingPairing;
    let connected_at = session.connected_at.filter(|_| session.phase == SessionPhase::Connected).map(seconds);
    WhatsAppInstanceStatus {
        phone_number: session.phone_number.clone().filter(|_| session.paired),
        push_name: session.push_name.clone().filter(|_| session.paired),
        last_active_at: last_active(old, connected_at.as_ref(), session.last_active_at),
        connected_at,
        qr: session.qr.as_ref().filter(|_| awaiting).map(|qr| QrStatus {
            code: qr.code.clone(),
            expires_at: seconds(qr.expires_at),
            attempt: qr.attempt,
            attempts: qr.attempts,
        }),
        pairing_code: session
            .pairing_code
            .as_ref()
            .filter(|_| awaiting)
            .map(|code| PairingCodeStatus { code: code.code.clone(), expires_at: seconds(code.expires_at) }),
        restriction: session.restriction.as_ref().map(|restriction| RestrictionStatus {
            kind: restriction.kind.as_str().into(),
            code: restriction.code,
            expires_at: restriction.expires_at.map(seconds),
        }),
        last_disconnect: latest(old.last_disconnect.clone(), session),
        ..base
    }
}

/// The bridge forgets with a lost session what the status still knows; the later of the two counts.
fn latest(old: Option<Disconnection>, session: &Session) -> Option<Disconnection> {
    let seen = session.last_disconnect.as_ref();
    let seen = seen.map(|last| Disconnection { reason: last.reason.as_str().into(), at: seconds(last.at) });
    match (old, seen) {
        (Some(old), Some(seen)) if old.at > seen.at => Some(old),
        (old, seen) => seen.or(old),
    }
}

/// Coarse on purpose, and not worth a write of its own soon after connecting.
fn last_active(old: &WhatsAppInstanceStatus, connected_at: Option<&Time>, seen: Option<Timestamp>) -> Option<Time> {
    let known = old.last_active_at.as_ref();
    let from = known.max(connected_at).map(|time| time.0);
    match (seen, from) {
        (Some(seen), Some(from)) if seen >= after(from, ACTIVITY) => Some(seconds(seen)),
        _ => known.cloned(),
    }
}

fn qr_lasts(attempt: u32) -> SignedDuration {
    if attempt <= 1 { FIRST_QR } else { NEXT_QR }
}

/// Whether a code that was new to us had ended already by our clock, or was to last longer than any does.
fn clocks_differ(facts: &Facts<'_>) -> bool {
    let session = facts.session.as_deref();
    let qr = session.and_then(|session| session.qr.as_ref()).map(|qr| (qr.expires_at, FIRST_QR));
    let code = session.and_then(|session| session.pairing_code.as_ref()).map(|code| (code.expires_at, PAIRING_CODE));
    let differs = |(expires_at, lasts): (Timestamp, SignedDuration)| {
        let left = expires_at.duration_since(facts.code_since);
        left < -STALE_CODE || left > lasts + STALE_CODE
    };
    qr.into_iter().chain(code).any(differs)
}

/// Removes codes and restrictions past their end, and says when the next one will be.
fn without_stale(mut status: WhatsAppInstanceStatus, recheck: Option<Timestamp>, facts: &Facts<'_>) -> Next {
    let now = facts.now;
    let session = facts.session.as_deref().filter(|_| facts.link == LinkState::Up);
    // The bridge says by its own clock when a code ends. One that it shows now was good when we first saw it, whatever ours says.
    let end = |expires_at: &Time, shown: Option<SignedDuration>| {
        let by_ours = shown.map(|lasts| after(facts.code_since, lasts));
        after(by_ours.map_or(expires_at.0, |ours| ours.max(expires_at.0)), STALE_CODE)
    };
    let qr_end = status.qr.as_ref().map(|qr| {
        let shown = session.and_then(|session| session.qr.as_ref()).filter(|shown| shown.code == qr.code);
        end(&qr.expires_at, shown.map(|shown| qr_lasts(shown.attempt)))
    });
    let pairing_end = status.pairing_code.as_ref().map(|code| {
        let shown = session.and_then(|session| session.pairing_code.as_ref()).filter(|shown| shown.code == code.code);
        end(&code.expires_at, shown.map(|_| PAIRING_CODE))
    });
    let alive = |end: &Timestamp| *end > now;
    let (qr_end, pairing_end) = (qr_end.filter(alive), pairing_end.filter(alive));
    status.qr = status.qr.filter(|_| qr_end.is_some());
    status.pairing_code = status.pairing_code.filter(|_| pairing_end.is_some());
    status.restriction = status.restriction.filter(|one| one.expires_at.as_ref().is_none_or(|end| end.0 > now));
    let lifted = status.restriction.as_ref().and_then(|restriction| restriction.expires_at.as_ref()).map(|end| end.0);
    let recheck = qr_end.into_iter().chain(pairing_end).chain(recheck).chain(lifted).min();
    Next { status, recheck }
}
