//! Making certificates: an authority of our own, and a leaf signed by it.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::Sensitive;

/// Clocks differ, and may be wrong by days: a certificate is valid from long before it was made. That gives nobody anything, since its key is
/// new.
const BACKDATE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Common name of the subject.
    pub subject: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM (PKCS #8).
    pub key: Sensitive,
    /// When it was made.
    pub made: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

/// Why a certificate could not be made.
#[derive(Debug, Error)]
#[error("make a certificate for {subject}: {source}; check --webhook-hosts and --bridge-hosts")]
pub struct MakeError {
    subject: String,
    #[source]
    source: rcgen::Error,
}

impl Pair {
    /// Whether it is not valid yet at `now`: it was made by a clock that was ahead, or the clock has been set back since.
    pub fn is_to_come(&self, now: Timestamp) -> bool {
        now < begin(self.made)
    }

    /// A new authority.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn authority(life: Duration, now: Timestamp) -> Result<Self, MakeError> {
        // Two authorities in one bundle must be told apart by name.
        let subject = format!("whatsapp-operator {}", now.as_nanosecond());
        make(&subject, life, now, |params| {
            let key = KeyPair::generate()?;
            Ok((authority_params(params).self_signed(&key)?.pem(), key))
        })
    }

    /// A certificate for `hosts` (DNS names and IP addresses), signed by this authority.
    ///
    /// # Errors
    /// When a host is none.
    pub fn sign(&self, hosts: &[String], life: Duration, now: Timestamp) -> Result<Self, MakeError> {
        let subject = hosts.first().cloned().unwrap_or_else(|| "whatsapp-operator".to_owned());
        make(&subject, life, now, |mut params| {
            let mut issuer = CertificateParams::default();
            issuer.distinguished_name = name(&self.subject);
            let issuer = authority_params(issuer);
            let issuer = Issuer::new(issuer, KeyPair::from_pem(self.key.reveal())?);
            params.subject_alt_names = CertificateParams::new(hosts)?.subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key))
        })
    }
}

/// From when on a certificate is valid that is made then.
fn begin(made: Timestamp) -> Timestamp {
    made.saturating_sub(BACKDATE).unwrap_or(made)
}

fn make(
    subject: &str,
    life: Duration,
    now: Timestamp,
    sign: impl FnOnce(CertificateParams) -> Result<(String, KeyPair), rcgen::Error>,
) -> Result<Pair, MakeError> {
    let ends =
        now.saturating_add(SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
    let mut params = CertificateParams::default();
    params.distinguished_name = name(subject);
    // rcgen speaks another crate's time; with its own helper for dates we need not.
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(begin(now));
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(ends);
    let failed = |source| MakeError { subject: subject.to_owned(), source };
    let (certificate, key) = sign(params).map_err(failed)?;
    Ok(Pair { subject: subject.to_owned(), certificate, key: Sensitive::new(key.serialize_pem()), made: now, ends })
}

fn authority_params(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}
