//! What is due with the certificates, given what there is and the time. Pure but for the making of keys.
//!
//! A change of authority takes three steps, so that no client ever meets a certificate it cannot check: the new authority
//! joins the bundle that clients trust; an overlap after that bundle was seen in the webhook configurations, the
//! certificate is signed by it; another overlap later the old authority leaves the bundle.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::authority::{MakeError, Pair};
use crate::platform::later;

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An authority.
    pub authority: Duration,
    /// A certificate.
    pub leaf: Duration,
    /// How long a change needs to have reached every replica and the webhook configurations.
    pub overlap: Duration,
}

impl Default for Lifetimes {
    /// A year, a week, an hour: what cert-manager takes for its own webhook.
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self { authority: hours(365 * 24), leaf: hours(7 * 24), overlap: hours(1) }
    }
}

/// Everything the webhook's TLS needs, as kept in the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// The authority that signs.
    pub authority: Pair,
    /// The one that will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Pair>,
    /// When the next authority was first seen in the webhook configurations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_published: Option<Timestamp>,
    /// The one that did, as long as it is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Retired>,
    /// What the server shows.
    pub leaf: Pair,
    /// Whom the leaf was made for.
    pub hosts: Vec<String>,
}

/// An authority that signs no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Since when.
    pub since: Timestamp,
}

impl Certificates {
    /// Whether no client whose clock is right takes what the server shows, because it is not valid yet.
    pub fn are_to_come(&self, now: Timestamp) -> bool {
        self.authority.is_to_come(now) || self.leaf.is_to_come(now)
    }

    /// What clients are to trust, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let previous = self.previous.as_ref().map(|previous| previous.certificate.as_str());
        [Some(self.authority.certificate.as_str()), next, previous].into_iter().flatten().collect()
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing until then.
    Nothing(Timestamp),
    /// There is nothing of use: begin with a new authority.
    StartAnew,
    /// A new authority joins the bundle, in place of one that is not valid yet.
    IntroduceAuthority,
    /// Clients have been told of the new authority: from now on the overlap counts.
    NotePublished,
    /// The new authority signs.
    SwitchAuthority,
    /// When the old authority signed last was noted by a clock that was ahead: from now on the overlap counts.
    NoteRetired,
    /// The old authority leaves the bundle.
    RetireAuthority,
    /// A new leaf by the same authority.
    RenewLeaf,
}

/// What is due at `now`; `published` says whether the webhook configurations hold the next authority, if there is one.
pub fn due(
    certificates: Option<&Certificates>,
    hosts: &[String],
    lifetimes: &Lifetimes,
    published: bool,
    now: Timestamp,
) -> Due {
    let is_of_use = |authority: &Pair| now < authority.ends && !authority.is_to_come(now);
    let Some(certificates) = certificates.filter(|certificates| is_of_use(&certificates.authority)) else {
        return Due::StartAnew;
    };
    let authority = &certificates.authority;
    if certificates.next.as_ref().is_some_and(|next| next.is_to_come(now)) {
        return Due::IntroduceAuthority;
    }
    // As long as clients have not been told of the next authority, it may sign nothing; the old one goes on.
    let change = certificates.next.as_ref().filter(|_| published).map(|_| match certificates.next_published {
        // Noted by a clock that was ahead, it would count from then only.
        None => (now, Due::NotePublished),
        Some(since) if since > now => (now, Due::NotePublished),
        Some(since) => (later(since, lifetimes.overlap), Due::SwitchAuthority),
    });
    let retirement = certificates.previous.as_ref().map(|previous| match previous.since {
        since if since > now => (now, Due::NoteRetired),
        since => (later(since, lifetimes.overlap), Due::RetireAuthority),
    });
    let steps = [
        change,
        retirement,
        // One change of authority at a time.
        (certificates.next.is_none() && certificates.previous.is_none())
            .then(|| (two_thirds(authority), Due::IntroduceAuthority)),
        Some((two_thirds(&certificates.leaf), Due::RenewLeaf)),
    ];
    if lacks(certificates, hosts) || certificates.leaf.is_to_come(now) {
        return Due::RenewLeaf;
    }
    let soonest = steps.into_iter().flatten().min_by_key(|(at, _)| *at);
    match soonest {
        Some((at, step)) if at <= now => step,
        Some((at, _)) => Due::Nothing(at),
        None => Due::Nothing(later(now, lifetimes.overlap)),
    }
}

/// The certificates after `step`.
///
/// # Errors
/// When a certificate cannot be made.
pub fn carry_out(
    step: Due,
    certificates: Option<&Certificates>,
    hosts: &[String],
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Result<Certificates, MakeError> {
    let hosts = wanted_hosts(certificates, hosts);
    // A leaf never outlives its authority: no client could verify it.
    let signed = |authority: &Pair| {
        let left = Duration::try_from(authority.ends.duration_since(now)).unwrap_or_default();
        authority.sign(&hosts, lifetimes.leaf.min(left), now)
    };
    let Some(mut new) = certificates.cloned().filter(|_| step != Due::StartAnew) else {
        let authority = Pair::authority(lifetimes.authority, now)?;
        return Ok(Certificates {
            leaf: signed(&authority)?,
            authority,
            next: None,
            next_published: None,
            previous: None,
            hosts: hosts.clone(),
        });
    };
    match step {
        Due::Nothing(_) | Due::StartAnew => {}
        Due::IntroduceAuthority => {
            (new.next, new.next_published) = (Some(Pair::authority(lifetimes.authority, now)?), None);
        }
        Due::NotePublished => new.next_published = Some(now),
        Due::NoteRetired => new.previous = new.previous.map(|previous| Retired { since: now, ..previous }),
        Due::RetireAuthority => new.previous = None,
        Due::RenewLeaf => (new.leaf, new.hosts) = (signed(&new.authority)?, hosts.clone()),
        Due::SwitchAuthority => {
            if let Some(next) = new.next.take() {
                new.next_published = None;
                let old = std::mem::replace(&mut new.authority, next);
                new.previous = Some(Retired { certificate: old.certificate, since: now });
                (new.leaf, new.hosts) = (signed(&new.authority)?, hosts.clone());
            }
        }
    }
    Ok(new)
}

/// Whether a replica asks for a host that the leaf is not for.
fn lacks(certificates: &Certificates, hosts: &[String]) -> bool {
    hosts.iter().any(|host| !certificates.hosts.contains(host))
}

/// Whom a new leaf is for. While replicas differ, as they do during an update, it is for all of them, lest each replaces the
/// other's for ever; at the next ordinary renewal only for those of the replica that is first.
fn wanted_hosts(certificates: Option<&Certificates>, hosts: &[String]) -> Vec<String> {
    let others = certificates.filter(|certificates| lacks(certificates, hosts));
    let others = others.into_iter().flat_map(|certificates| &certificates.hosts);
    hosts.iter().chain(others.filter(|host| !hosts.contains(host))).cloned().collect()
}

fn two_thirds(pair: &Pair) -> Timestamp {
    let life = pair.ends.duration_since(pair.made);
    pair.made.saturating_add(life * 2 / 3).unwrap_or(pair.ends)
}

#[cfg(test)]
mod tests;
