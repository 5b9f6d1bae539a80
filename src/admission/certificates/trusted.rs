//! Which authorities a webhook is to trust. Pure.
//!
//! Our own, and for a while those that were found beside them: when an installation changes from other certificates to the
//! operator's own, pods that show one of the others answer reviews until the last of them has ended, and the operator cannot see
//! when that is. So the leader keeps what it finds for a day by its own clock, longer than an update takes; the next leader begins
//! to count again. An authority that is put back after that day is kept for another day instead of being removed at once; and only
//! what is found is kept, so nothing grows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// The others of one webhook take no more than this, DER: an object that is too big would not be written at all, and our own
/// would not be published either. All authorities of the web are a little less.
const MOST: usize = 256 * 1024;

/// A certificate, DER.
pub type Certificate = Vec<u8>;

/// The certificates of a bundle, PEM. Whatever else is in it is passed over, as the API server does; it has parsed the
/// certificates that it keeps.
pub fn certificates(bundle: &str) -> Vec<Certificate> {
    let (mut found, mut open) = (Vec::new(), None);
    for line in bundle.lines().map(str::trim_end) {
        match (&mut open, line) {
            (_, BEGIN) => open = Some(String::new()),
            (Some(text), END) => {
                found.extend(STANDARD.decode(text).ok().filter(|certificate| !certificate.is_empty()));
                open = None;
            }
            (Some(text), line) => text.push_str(line),
            (None, _) => {}
        }
    }
    found
}

/// Whether a bundle holds the authority that signs, which is the first of ours.
pub fn knows_signer(found: &str, ours: &str) -> bool {
    certificates(ours).first().is_none_or(|signer| certificates(found).contains(signer))
}

/// Our bundle, and behind it the others of what was found that are to be kept.
pub fn with_others(ours: &str, found: &str, keeps: impl Fn(&Certificate) -> bool) -> String {
    let (mut there, mut room, mut bundle) = (certificates(ours), MOST, ours.to_owned());
    for other in certificates(found) {
        if !there.contains(&other) && keeps(&other) && other.len() <= room {
            room -= other.len();
            bundle.push_str(&pem(&other));
            there.push(other);
        }
    }
    bundle
}

fn pem(certificate: &Certificate) -> String {
    let text = STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    [format!("{BEGIN}\n"), lines.collect(), format!("{END}\n")].concat()
}

/// What a leader remembers of the certificates it has found.
#[derive(Debug, Default)]
pub struct Memory {
    /// Those that are or were ours: they leave with our bundle.
    ours: BTreeSet<Certificate>,
    /// Since when it has seen each of the others.
    others: BTreeMap<Certificate, Instant>,
}

impl Memory {
    /// Learns what is ours.
    pub fn own(&mut self, bundle: &str) {
        self.ours.extend(certificates(bundle));
    }

    /// Sees what the webhooks trust now: the time of what is not among it any more is over.
    pub fn see<'a>(&mut self, bundles: impl Iterator<Item = &'a str>, now: Instant) {
        let found: BTreeSet<_> = bundles.flat_map(certificates).filter(|found| !self.ours.contains(found)).collect();
        self.others.retain(|other, _| found.contains(other));
        for other in found {
            self.others.entry(other).or_insert(now);
        }
    }

    /// Forgets the others, since another replica may lead now.
    pub fn forget(&mut self) {
        self.others.clear();
    }

    /// Whether any certificate is to be kept that is not in our own bundle.
    pub fn keeps(&self, certificate: &Certificate, keep: Duration, now: Instant) -> bool {
        let is_new = |since: &Instant| now.saturating_duration_since(*since) < keep;
        !self.ours.contains(certificate) && self.others.get(certificate).is_none_or(is_new)
    }

    /// How long until the next of the others has been kept for long enough.
    pub fn next(&self, keep: Duration, now: Instant) -> Option<Duration> {
        self.others.values().map(|since| keep.saturating_sub(now.saturating_duration_since(*since))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn authority(name: &str) -> String {
        pem(&name.as_bytes().to_vec())
    }

    /// What the leader writes at `now`, given what it finds.
    fn written(memory: &mut Memory, ours: &str, found: &str, now: Instant) -> String {
        memory.own(ours);
        memory.see([found].into_iter(), now);
        with_others(ours, found, |other| memory.keeps(other, DAY, now))
    }

    #[test]
    fn anothers_authority_stays_for_a_day_and_then_leaves() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let (ours, both) = (authority("ours"), authority("ours") + &authority("cert-manager"));
        assert_eq!(written(&mut memory, &ours, &authority("cert-manager"), start), both);
        assert_eq!(memory.next(DAY, start), Some(DAY));
        let soon = start + Duration::from_secs(24 * 3600 - 1);
        assert_eq!(written(&mut memory, &ours, &both, soon), both);
        assert_eq!(memory.next(DAY, soon), Some(Duration::from_secs(1)));
        let later = start + DAY;
        // Also when the write came to nothing.
        assert_eq!(written(&mut memory, &ours, &both, later), ours);
        assert_eq!(written(&mut memory, &ours, &both, later), ours);
        assert_eq!(written(&mut memory, &ours, &ours, later), ours);
        assert_eq!(memory.next(DAY, later), None);
        // One that is put back is kept again.
        assert_eq!(written(&mut memory, &ours, &both, later), both);
    }

    #[test]
    fn a_new_leader_counts_anew() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let both = authority("ours") + &authority("cert-manager");
        assert_eq!(written(&mut memory, &authority("ours"), &both, start), both);
        memory.forget();
        assert_eq!(written(&mut memory, &authority("ours"), &both, start + DAY), both);
        assert_eq!(written(&mut Memory::default(), &authority("ours"), &both, start + DAY), both);
    }

    #[test]
    fn an_authority_of_ours_leaves_with_our_bundle() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let both = authority("new") + &authority("old");
        assert_eq!(written(&mut memory, &both, &authority("old"), now), both);
        assert_eq!(written(&mut memory, &authority("new"), &both, now), authority("new"));
    }

    #[test]
    fn what_is_no_certificate_is_not_kept_and_hides_none() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let other = authority("cert-manager");
        let garbage = [
            "garbage".to_owned(),
            BEGIN.to_owned(),
            format!("{BEGIN}\n%%%\n{END}"),
            format!("{BEGIN}\n{END}"),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".to_owned(),
        ];
        for garbage in garbage {
            let found = format!("{garbage}\n{}", other.replace('\n', "\r\n")).repeat(2);
            assert_eq!(written(&mut memory, &authority("ours"), &found, now), authority("ours") + &other, "{garbage}");
        }
        assert_eq!(written(&mut memory, &authority("ours"), "", now), authority("ours"));
    }

    #[test]
    fn a_bundle_does_not_grow_until_it_cannot_be_written() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let many: String = (0..200).map(|n| pem(&vec![n; 4000])).collect();
        let written = written(&mut memory, &authority("ours"), &many, now);
        assert!(written.starts_with(&authority("ours")) && written.len() < 2 * MOST, "{}", written.len());
        assert!(certificates(&written).len() > 60);
    }

    #[test]
    fn the_signer_is_the_first_of_ours_however_it_is_written() {
        let (ours, other) = (authority("signs") + &authority("next"), authority("other"));
        assert!(knows_signer(&(other.clone() + &authority("signs").replace('\n', "\r\n")), &ours));
        assert!(!knows_signer(&(other + &authority("next")), &ours));
        assert!(!knows_signer("", &ours));
    }
}
