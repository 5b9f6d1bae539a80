//! The certificate chain a WhatsApp server shows inside the Noise handshake: root -> intermediate -> leaf, where the
//! leaf key is the server's Noise static key. The root here is our own; its public half is announced.

use crate::keys::{Bytes, Key};
use buffa::Message as _;
use serde::{Deserialize, Serialize};
use wacore_libsignal::protocol::CurveError;
use waproto::whatsapp::{CertChain, cert_chain::NoiseCertificate, cert_chain::noise_certificate::Details};

/// Serial of the root, which WhatsApp's clients require as the issuer of the intermediate.
const ROOT_SERIAL: u32 = 0;
const INTERMEDIATE_SERIAL: u32 = 1;
const LEAF_SERIAL: u32 = 2;
/// Certificates are valid from a day ago, for clocks that differ, to ten years ahead.
const SKEW_SECONDS: u64 = 86_400;
const VALIDITY_SECONDS: u64 = 10 * 365 * 86_400;

/// The server's long-lived keys. Losing them makes every paired client fall back from IK to XX.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerIdentity {
    /// Signs the intermediate; what a client must trust.
    pub root: Key,
    /// The Noise static key.
    pub noise: Key,
    /// The encoded `CertChain` sent in every handshake.
    pub chain: Bytes,
}

impl ServerIdentity {
    /// New keys and a chain valid around `now` (unix seconds).
    ///
    /// # Errors
    /// When signing fails.
    pub fn generate(now: u64) -> Result<Self, CurveError> {
        let (root, intermediate, noise) = (Key::generate(), Key::generate(), Key::generate());
        let chain = CertChain {
            intermediate: buffa::MessageField::some(certificate(
                &root,
                ROOT_SERIAL,
                INTERMEDIATE_SERIAL,
                &intermediate,
                now,
            )?),
            leaf: buffa::MessageField::some(certificate(&intermediate, INTERMEDIATE_SERIAL, LEAF_SERIAL, &noise, now)?),
        };
        Ok(Self { root, noise, chain: Bytes(chain.encode_to_vec()) })
    }
}

fn certificate(
    issuer: &Key,
    issuer_serial: u32,
    serial: u32,
    subject: &Key,
    now: u64,
) -> Result<NoiseCertificate, CurveError> {
    let details = Details {
        serial: Some(serial),
        issuer_serial: Some(issuer_serial),
        key: Some(subject.public().to_vec()),
        not_before: Some(now.saturating_sub(SKEW_SECONDS)),
        not_after: Some(now + VALIDITY_SECONDS),
    }
    .encode_to_vec();
    let signature = issuer.sign(&details)?.to_vec();
    Ok(NoiseCertificate { details: Some(details), signature: Some(signature) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_libsignal::protocol::PublicKey;

    fn signed_by(key: &[u8], certificate: &NoiseCertificate) -> bool {
        PublicKey::from_djb_public_key_bytes(key)
            .unwrap()
            .verify_signature(certificate.details.as_ref().unwrap(), certificate.signature.as_ref().unwrap())
    }

    #[test]
    fn every_step_of_the_chain_is_signed_by_the_one_above() {
        let identity = ServerIdentity::generate(1_800_000_000).unwrap();
        let chain = CertChain::decode_from_slice(&identity.chain.0).unwrap();
        let (intermediate, leaf) = (chain.intermediate.into_option().unwrap(), chain.leaf.into_option().unwrap());
        let above = Details::decode_from_slice(intermediate.details.as_ref().unwrap()).unwrap();
        let below = Details::decode_from_slice(leaf.details.as_ref().unwrap()).unwrap();
        assert!(signed_by(&identity.root.public(), &intermediate));
        assert!(signed_by(above.key.as_ref().unwrap(), &leaf));
        assert!(!signed_by(&identity.root.public(), &leaf), "the leaf must not be signed by the root directly");
        assert_eq!(above.issuer_serial, Some(0));
        assert_eq!(below.issuer_serial, above.serial);
        assert_eq!(below.key.as_deref(), Some(&identity.noise.public()[..]));
    }

    #[test]
    fn wacore_reads_the_same_chain() {
        // In this workspace the check against Meta's root constant is switched off; the structure is still checked.
        let identity = ServerIdentity::generate(1_800_000_000).unwrap();
        let read =
            wacore_noise::HandshakeUtils::verify_server_cert(&identity.chain.0, &identity.noise.public()).unwrap();
        assert_eq!(read.leaf_key, identity.noise.public());
        assert!(read.leaf_not_before < 1_800_000_000 && read.leaf_not_after > 1_800_000_000);
        assert!(wacore_noise::HandshakeUtils::verify_server_cert(&identity.chain.0, &[7; 32]).is_err());
    }
}
