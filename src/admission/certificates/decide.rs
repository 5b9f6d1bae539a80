//! What is due with the certificates, given what there is and the time. Pure but for the making of keys.
//!
//! A change of authority takes three steps, so that no client ever meets a certificate it cannot check: the new authority
//! joins the bundle that clients trust; an overlap after that bundle was seen in the webhook configurations, the
//! certificate is signed by it; another overlap later the old authority leaves the bundle.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::authority::{MakeError, Pair};

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
        Some(since) => (after(since, lifetimes.overlap), Due::SwitchAuthority),
    });
    let retirement = certificates.previous.as_ref().map(|previous| match previous.since {
        since if since > now => (now, Due::NoteRetired),
        since => (after(since, lifetimes.overlap), Due::RetireAuthority),
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
        None => Due::Nothing(after(now, lifetimes.overlap)),
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

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| at.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use super::{Certificates, Due, Lifetimes, carry_out, due};
    use crate::admission::certificates::testing::trusts;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn hosts() -> Vec<String> {
        vec!["webhook.whatsapp.svc".into(), "127.0.0.1".into()]
    }

    fn fresh() -> Certificates {
        carry_out(Due::StartAnew, None, &hosts(), &Lifetimes::default(), start()).unwrap()
    }

    #[test]
    fn nothing_there_or_an_authority_that_ended_means_to_start_anew() {
        assert_eq!(due(None, &hosts(), &Lifetimes::default(), true, start()), Due::StartAnew);
        let later = start() + SignedDuration::from_hours(366 * 24);
        assert_eq!(due(Some(&fresh()), &hosts(), &Lifetimes::default(), true, later), Due::StartAnew);
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_of_its_life_or_for_other_hosts() {
        let certificates = fresh();
        let at = start() + SignedDuration::from_hours(7 * 24 * 2 / 3);
        assert_eq!(due(Some(&certificates), &hosts(), &Lifetimes::default(), true, start()), Due::Nothing(at));
        assert_eq!(due(Some(&certificates), &hosts(), &Lifetimes::default(), true, at), Due::RenewLeaf);
        assert_eq!(due(Some(&certificates), &["other".into()], &Lifetimes::default(), true, start()), Due::RenewLeaf);
    }

    #[test]
    fn replicas_that_differ_in_their_hosts_agree_on_all_of_them() {
        let lifetimes = Lifetimes::default();
        let host = |name: &str| vec![name.to_owned()];
        let (old, new, both) = (host("old"), host("new"), vec!["new".to_owned(), "old".to_owned()]);
        let settled = |certificates: &Certificates| {
            [&old, &new, &both]
                .map(|hosts| due(Some(certificates), hosts, &lifetimes, true, start()))
                .iter()
                .all(|due| matches!(due, Due::Nothing(_)))
        };
        let before = carry_out(Due::StartAnew, None, &old, &lifetimes, start()).unwrap();
        assert_eq!(due(Some(&before), &new, &lifetimes, true, start()), Due::RenewLeaf);
        let after = carry_out(Due::RenewLeaf, Some(&before), &new, &lifetimes, start()).unwrap();
        assert!(settled(&after), "{:?}", after.hosts);
        assert!(["old", "new"].iter().all(|host| trusts(&after.bundle(), &after.leaf.certificate, host, start())));
        // Once the old one is not asked for any more.
        let renewed = carry_out(Due::RenewLeaf, Some(&after), &new, &lifetimes, start()).unwrap();
        assert_eq!(renewed.hosts, new);
    }

    /// Two years, step by step: at each, a client with the bundle from before the step trusts the leaf after it, and one
    /// with the bundle after it the leaf from before.
    #[test]
    fn no_client_ever_meets_a_certificate_it_cannot_check() {
        let lifetimes = Lifetimes::default();
        let (mut certificates, mut now, mut steps) = (fresh(), start(), Vec::new());
        while now < start() + SignedDuration::from_hours(2 * 365 * 24) {
            match due(Some(&certificates), &hosts(), &lifetimes, true, now) {
                Due::Nothing(until) => {
                    assert!(until > now);
                    now = until;
                }
                step => {
                    let after = carry_out(step, Some(&certificates), &hosts(), &lifetimes, now).unwrap();
                    assert!(
                        trusts(&certificates.bundle(), &after.leaf.certificate, "webhook.whatsapp.svc", now),
                        "{step:?}"
                    );
                    assert!(trusts(&after.bundle(), &certificates.leaf.certificate, "127.0.0.1", now), "{step:?}");
                    steps.push(step);
                    certificates = after;
                }
            }
        }
        let count = |step| steps.iter().filter(|&&taken| taken == step).count();
        assert_eq!(count(Due::StartAnew), 0);
        assert_eq!(
            (count(Due::IntroduceAuthority), count(Due::SwitchAuthority), count(Due::RetireAuthority)),
            (2, 2, 2)
        );
        assert!(count(Due::RenewLeaf) > 140);
    }

    #[test]
    fn a_new_authority_is_trusted_for_an_overlap_before_it_signs_and_the_old_one_after() {
        let lifetimes = Lifetimes { leaf: Duration::from_secs(400 * 24 * 3600), ..Lifetimes::default() };
        let mut certificates = carry_out(Due::StartAnew, None, &hosts(), &lifetimes, start()).unwrap();
        let at = start() + SignedDuration::from_hours(365 * 24 * 2 / 3);
        certificates.leaf.ends = Timestamp::MAX;
        assert_eq!(due(Some(&certificates), &hosts(), &lifetimes, true, at), Due::IntroduceAuthority);
        let introduced = carry_out(Due::IntroduceAuthority, Some(&certificates), &hosts(), &lifetimes, at).unwrap();
        assert_eq!(introduced.leaf, certificates.leaf);
        let hour = SignedDuration::from_hours(1);
        assert_eq!(due(Some(&introduced), &hosts(), &lifetimes, true, at), Due::NotePublished);
        let noted = carry_out(Due::NotePublished, Some(&introduced), &hosts(), &lifetimes, at).unwrap();
        assert_eq!(due(Some(&noted), &hosts(), &lifetimes, true, at), Due::Nothing(at + hour));
        let switched = carry_out(Due::SwitchAuthority, Some(&noted), &hosts(), &lifetimes, at + hour).unwrap();
        assert!(switched.bundle().contains(&certificates.authority.certificate));
        assert_eq!(due(Some(&switched), &hosts(), &lifetimes, true, at + hour * 2), Due::RetireAuthority);
    }

    #[test]
    fn an_authority_that_clients_were_not_told_of_signs_nothing_and_the_old_one_goes_on() {
        let lifetimes = Lifetimes::default();
        let certificates = fresh();
        let at = start() + SignedDuration::from_hours(365 * 24 * 2 / 3);
        let introduced = carry_out(Due::IntroduceAuthority, Some(&certificates), &hosts(), &lifetimes, at).unwrap();
        let renewed = carry_out(Due::RenewLeaf, Some(&introduced), &hosts(), &lifetimes, at).unwrap();
        let later = at + SignedDuration::from_hours(24);
        assert!(matches!(due(Some(&renewed), &hosts(), &lifetimes, false, later), Due::Nothing(_)));
        let renewal = at + SignedDuration::from_hours(7 * 24 * 2 / 3);
        assert_eq!(due(Some(&renewed), &hosts(), &lifetimes, false, renewal), Due::RenewLeaf);
        assert!(trusts(&certificates.bundle(), &renewed.leaf.certificate, "127.0.0.1", at));
        // It was there once, and has been taken out.
        let noted = carry_out(Due::NotePublished, Some(&renewed), &hosts(), &lifetimes, at).unwrap();
        assert!(matches!(due(Some(&noted), &hosts(), &lifetimes, false, later), Due::Nothing(_)));
        assert_eq!(due(Some(&noted), &hosts(), &lifetimes, true, later), Due::SwitchAuthority);
    }

    /// Every step at every offset of a clock that was ahead when the step was taken, and is right afterwards: from then on, what is shown is
    /// valid at once, and a change that is under way comes to its end.
    #[test]
    fn what_a_clock_that_was_ahead_has_made_is_made_again_when_the_clock_is_right() {
        let lifetimes = Lifetimes::default();
        let start_of_change = start() + SignedDuration::from_hours(365 * 24 * 2 / 3);
        let taken = |before: &Certificates, step, at| carry_out(step, Some(before), &hosts(), &lifetimes, at).unwrap();
        for ahead in [1, 48, 10 * 365 * 24].map(SignedDuration::from_hours) {
            for wrong in [
                Due::StartAnew,
                Due::RenewLeaf,
                Due::IntroduceAuthority,
                Due::NotePublished,
                Due::SwitchAuthority,
                Due::NoteRetired,
            ] {
                let (mut certificates, mut now) = (fresh(), start_of_change);
                certificates = taken(&certificates, Due::RenewLeaf, now);
                for step in [Due::IntroduceAuthority, Due::NotePublished, Due::SwitchAuthority, Due::NoteRetired] {
                    if wrong == step || matches!(wrong, Due::StartAnew | Due::RenewLeaf) {
                        break;
                    }
                    certificates = taken(&certificates, step, now);
                }
                certificates = taken(&certificates, wrong, now + ahead);
                let mut steps = 0;
                let settled = now + SignedDuration::from_hours(3);
                while now < settled {
                    match due(Some(&certificates), &hosts(), &lifetimes, true, now) {
                        Due::Nothing(until) => {
                            assert!(trusts(&certificates.bundle(), &certificates.leaf.certificate, "127.0.0.1", now));
                            assert!(until > now);
                            now = until;
                        }
                        step => {
                            steps += 1;
                            certificates = taken(&certificates, step, now);
                        }
                    }
                }
                assert!(steps < 10, "{wrong:?} {ahead}: {steps}");
                let left = (certificates.next.is_some(), certificates.previous.is_some());
                // One that was introduced ahead of time is published, signs, and is the authority.
                assert_eq!(left, (false, false), "{wrong:?} {ahead}");
                assert!(!certificates.are_to_come(now));
            }
        }
    }

    #[test]
    fn a_client_whose_clock_is_weeks_behind_takes_what_was_made_now() {
        let (certificates, behind) = (fresh(), start() - SignedDuration::from_hours(29 * 24));
        assert!(trusts(&certificates.bundle(), &certificates.leaf.certificate, "127.0.0.1", behind));
        assert!(!certificates.are_to_come(behind));
        let further = behind - SignedDuration::from_hours(48);
        assert!(!trusts(&certificates.bundle(), &certificates.leaf.certificate, "127.0.0.1", further));
        assert!(certificates.are_to_come(further));
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", fresh()).contains("PRIVATE"));
    }
}
