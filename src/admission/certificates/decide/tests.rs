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
    assert_eq!((count(Due::IntroduceAuthority), count(Due::SwitchAuthority), count(Due::RetireAuthority)), (2, 2, 2));
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
